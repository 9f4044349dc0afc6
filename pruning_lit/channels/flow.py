"""Who consumes what: enough of the data flow to find the map that the next consumer of a layer sees."""

from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor

from pruning_lit.channels.beside import Beside


class Role(Enum):
    """What an operation is to a channel that flows through it."""

    MAKES = "convolution or linear layer"
    PASSES = "normalisation, activation, pooling, addition: the channel goes on as itself"
    OTHER = "anything else: a walk along the flow ends in front of it"


@dataclass
class Node:
    """One operation: its role, who consumes its result, and the channels in it (None: no plain channel dimension)."""

    role: Role
    channels: Tensor | None
    consumers: list[int] = field(default_factory=list)


class Flow:
    """The operations of a forward pass as nodes."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.producer: Beside[int] = Beside()

    def add(self, index: int, role: Role, inputs: list[Tensor], output: Tensor, channels: Tensor | None) -> None:
        """Record operation ``index``."""
        for source in {self.producer[tensor] for tensor in inputs if tensor in self.producer}:
            self.nodes[source].consumers.append(index)
        self.nodes[index] = Node(role, channels)
        self.producer[output] = index

    def makes(self, output: Tensor, channels: Tensor) -> None:
        """The operation that made ``output`` is a layer, as seen from outside."""
        node = self.nodes[self.producer[output]]
        node.role, node.channels = Role.MAKES, channels

    def seen_by_consumer(self, index: int) -> int:
        """The map that is judged for the layer whose operation is ``index``.

        Walks through normalisation, activation, pooling and addition as long as there is exactly one consumer, and
        stops before the first convolution, linear layer, global pooling, flattening or fan-out.

        Source: Sui et al. 2021 (CHIP), as released: scores are taken after normalisation, activation and pooling, and
        after the addition at the end of a residual block.
        """
        while len(consumers := self.nodes[index].consumers) == 1 and self.nodes[consumers[0]].role is Role.PASSES:
            index = consumers[0]
        return index
