"""Reach of what a model computes: whether it comes to matter for a result that can be seen."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

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
EXITS = ("numpy", "tolist", "__array__", "__dlpack__", "__reduce_ex__", "__deepcopy__")


class Exits:
    """Context that hands on every tensor whose values leave PyTorch's sight.

    It puts itself in front of a few methods of tensors. A mode for functions would do the same, and make every function
    of the pass, and every look at a shape, take a detour through Python.

    Args:
        left: is called with the tensor and a name for the way.
    """

    def __init__(self, left: Callable[[Tensor, str], None]) -> None:
        self.left = left
        self.own: dict[str, Any] = {}

    def __enter__(self) -> "Exits":
        self.own = {name: vars(Tensor).get(name) for name in EXITS}  # None: inherited
        for name in EXITS:
            setattr(Tensor, name, self._watched(name, getattr(Tensor, name)))
        return self

    def __exit__(self, *exception: object) -> None:
        for name, method in self.own.items():
            if method is None:
                delattr(Tensor, name)
            else:
                setattr(Tensor, name, method)

    def _watched(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def watched(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.left(tensor, name.strip("_"))
            return method(tensor, *args, **kwargs)

        return watched
