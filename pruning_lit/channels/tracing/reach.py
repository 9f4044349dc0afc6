"""Reach of what a model computes: whether it comes to matter for a result that can be seen."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from pruning_lit.channels.tracing.weak import WeakIdMap


class Reach:
    """Operations of a forward pass, and which of them read what another has written, into whatever memory.

    Attributes:
        live: after the pass, the operations without which something that can be seen would be another.
    """

    def __init__(self) -> None:
        self.sources: dict[int, tuple[int, ...]] = {}
        self.writers: WeakIdMap[int] = WeakIdMap()  # memory to the operation that has written into it last
        self.seen: list[int] = []
        self.live: set[int] = set()

    def add(self, index: int, given: list[Tensor], outputs: list[Tensor], writes: bool) -> None:
        """Record operation ``index``; ``writes``: it changes what it is given."""
        self.sources[index] = tuple(self._writers(given))
        for tensor in outputs:
            memory = memory_of(tensor)
            if memory is not None and (writes or memory not in self.writers):
                self.writers[memory] = index

    def look_at(self, tensors: Iterable[Tensor]) -> None:
        """Note that the values of these can be seen."""
        self.seen += self._writers(tensors)

    def end(self, results: Iterable[Tensor]) -> None:
        """Find out what these results, and what has been looked at, depend on."""
        self.look_at(results)
        ahead = list(self.seen)
        while ahead:
            if (index := ahead.pop()) not in self.live:
                self.live.add(index)
                ahead += self.sources[index]

    def _writers(self, tensors: Iterable[Tensor]) -> list[int]:
        memories = (memory_of(tensor) for tensor in tensors)
        return [self.writers[memory] for memory in memories if memory is not None and memory in self.writers]


def memory_of(tensor: Tensor) -> Any:
    """The storage of a tensor; None where there is none (sparse tensors)."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None


#: Ways of a tensor's values out of PyTorch's sight, as a list, an array, …
EXITS = frozenset(
    {Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__, Tensor.__reduce_ex__, Tensor.__deepcopy__}
)


class Exits(TorchFunctionMode):
    """Mode that hands on every tensor whose values leave PyTorch's sight.

    Args:
        left: is called with the tensor and a name for the way.
    """

    def __init__(self, left: Callable[[Tensor, str], None]) -> None:
        super().__init__()
        self.left = left

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in EXITS:
            self.left(args[0], func.__name__.strip("_"))
        return func(*args, **(kwargs or {}))
