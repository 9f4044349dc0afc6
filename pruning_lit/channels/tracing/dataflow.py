"""Data flow of a forward pass: enough of it to find the feature map that the next consumer of a layer sees."""

from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from pruning_lit.channels.tracing.weak import WeakIdMap


class Role(Enum):
    """Role of an operation for a channel that flows through it."""

    PRODUCES = "convolution or linear layer"
    FORWARDS = "normalisation, activation, pooling, addition: the channel goes on as itself"
    OTHER = "anything else: a walk along the flow ends in front of it"


@dataclass
class Node:
    """One operation: its role, the channels in its result (None: no plain channel dimension), and its neighbours.

    Attributes:
        sources: the operations whose results it consumes.
        consumers: those that consume its result.
        leaves: whether its result leaves the model.
    """

    role: Role
    channels: Tensor | None
    sources: list[int] = field(default_factory=list)
    consumers: list[int] = field(default_factory=list)
    leaves: bool = False


class DataFlow:
    """The operations of a forward pass as nodes."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.producer: WeakIdMap[int] = WeakIdMap()

    def add(self, index: int, role: Role, inputs: list[Tensor], outputs: list[Tensor], channels: Tensor | None) -> None:
        """Record operation ``index``; ``channels`` are those of its first result."""
        sources = sorted({self.producer[tensor] for tensor in inputs if tensor in self.producer})
        for source in sources:
            self.nodes[source].consumers.append(index)
        self.nodes[index] = Node(role, channels, sources)
        for output in outputs:
            self.producer[output] = index

    def depths(self) -> dict[int, int]:
        """For every operation the number of layers on the longest way that leads to its result, itself included."""
        depths: dict[int, int] = {}
        for index, node in self.nodes.items():  # in the order of execution
            before = max((depths[source] for source in node.sources), default=0)
            depths[index] = before + (node.role is Role.PRODUCES)
        return depths

    def produces(self, output: Tensor, channels: Tensor) -> None:
        """Treat the operation that made ``output`` as a layer that produces these channels."""
        node = self.nodes[self.producer[output]]
        node.role, node.channels = Role.PRODUCES, channels

    def leaves(self, output: Tensor) -> None:
        """Note that ``output`` is a result of the model."""
        if output in self.producer:
            self.nodes[self.producer[output]].leaves = True

    def is_stream(self, index: int) -> bool:
        """True where the result of operation ``index`` is more than the output of one layer for one reader.

        Walks back to the layer as long as each operation on the way has a single source and a single consumer. An
        addition or concatenation has several sources; and a layer that is used twice makes the same channels twice.
        """
        while len((node := self.nodes[index]).consumers) == 1 and not node.leaves:
            if node.role is Role.PRODUCES:
                return self._is_used_again(node)
            if len(node.sources) != 1:
                break
            (index,) = node.sources
        return True

    def _is_used_again(self, layer: Node) -> bool:
        if layer.channels is None:
            return False
        others = (node.channels for node in self.nodes.values() if node is not layer and node.role is Role.PRODUCES)
        return any(channels is not None and torch.equal(channels, layer.channels) for channels in others)

    def seen_by_consumer(self, index: int) -> int:
        """The operation with the feature map by which the layer of operation ``index`` is scored.

        Walks through normalisation, activation, pooling and addition as long as there is exactly one consumer, and
        stops before the first convolution, linear layer, global pooling, flattening or fan-out.

        Source: Sui et al. 2021 (CHIP), as released: scores are taken after normalisation, activation and pooling, and
        after the addition at the end of a residual block.
        """
        while len(consumers := self.nodes[index].consumers) == 1 and self.nodes[consumers[0]].role is Role.FORWARDS:
            index = consumers[0]
        return index
