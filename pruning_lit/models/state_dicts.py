"""The state dict of a network, wherever in a checkpoint it lies and whatever its names begin with."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from torch import Tensor

NESTINGS = ("state_dict", "model", "net", "model_state_dict", "model_state", "network", "module", "weights", "params")
WRAPPERS = {"module", "_orig_mod", "_forward_module"}  # data parallel's, torch.compile's and Fabric's, at any place
PROFILER_KEYS = ("total_ops", "total_params")  # left behind by thop
DEEPEST = 3  # levels of dicts that are looked into
MAX_NAMED = 5


class StateDict(NamedTuple):
    """A state dict as the network names its tensors, and where it was found.

    Attributes:
        weights: the tensors, by the network's names as far as they are known.
        place: keys of the checkpoint that lead to it; empty where it is bare.
        prefix: of the names in the file, instead of which the network has ``own_prefix``.
        own_prefix: that all names of the network have in common.
        left_out: names in the file without the prefix.
        covered: how many of the names that were looked for are there.
    """

    weights: dict[str, Tensor]
    place: tuple[str, ...]
    prefix: str
    own_prefix: str
    left_out: list[str]
    covered: int

    @property
    def where(self) -> str:
        """In words; empty where there is nothing to say."""
        parts = [f"under {'.'.join(self.place)!r}"] if self.place else []
        if self.prefix != self.own_prefix:
            names = f"behind the prefix {self.prefix!r}" if self.prefix else "without a prefix"
            parts.append(names + (f", which is {self.own_prefix!r} in the network" if self.own_prefix else ""))
        return ", ".join(parts)

    @property
    def rank(self) -> tuple[int, int, bool, int]:
        """Smaller where it is more likely to be meant."""
        prefix = self.prefix.split(".")[:-1]
        return -self.covered, _usual(self.place), self.prefix != self.own_prefix, _usual(prefix)


def find_state_dict(content: Any, own: Sequence[str], source: Any) -> StateDict:
    """Find the tensors of a network in what a file holds.

    Dicts in it are looked into; parts of names that wrappers have added are dropped; and where all names of the network
    are there behind one prefix, be it another one than the network's own, they are taken from behind it.

    Args:
        content: of the file.
        own: names of the network's tensors, at least those that must be there.
        source: the file, for errors.

    Returns:
        The state dict with most of the names; of several with as many, the one in a usual place.

    Raises:
        ValueError: there are no tensors by name, or the network is there more than once, with different numbers.
    """
    common = _common_prefix(own)
    inner = [name.removeprefix(common) for name in own]
    found = [
        candidate for place, tensors in _mappings(content) for candidate in _candidates(place, tensors, inner, common)
    ]
    if not found:
        keys = ", ".join(map(str, list(content)[:MAX_NAMED])) if isinstance(content, Mapping) else ""
        holds = f"a dict of {keys}" if keys else f"a {type(content).__name__}"
        raise ValueError(f"'{source}' holds {holds}; expected a state dict, bare or under a key such as state_dict")
    best, *others = sorted(found, key=lambda each: each.rank)
    for other in others:
        if best.covered == len(own) and other.rank == best.rank and not _same(best, other, own):
            raise ValueError(
                f"'{source}' holds the network more than once, {best.where} and {other.where}: save the one that you "
                "want alone"
            )
    return best


def _common_prefix(names: Sequence[str]) -> str:
    """The modules that all names begin with, ``"net."``."""
    first, last = (name.split(".")[:-1] for name in (min(names, default=""), max(names, default="")))
    same = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))]
    return "".join(f"{module}." for module in same)


def _usual(names: Sequence[str]) -> int:
    """Smaller where the last name is more usual for what holds a state dict."""
    if not names:
        return 0
    return NESTINGS.index(names[-1]) if names[-1] in NESTINGS else len(NESTINGS)


def _mappings(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every dict with tensors by name, and the keys that lead to it."""
    if not isinstance(content, Mapping):
        return
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor) and key.rpartition(".")[2] not in PROFILER_KEYS
    }
    if tensors:
        yield place, tensors
    for key, value in content.items() if len(place) < DEEPEST else ():
        yield from _mappings(value, (*place, str(key)))


def _candidates(
    place: tuple[str, ...], tensors: dict[str, Tensor], inner: Sequence[str], common: str
) -> Iterator[StateDict]:
    """The state dict behind each prefix that some name of the network has in the file."""
    tensors = _unwrapped(tensors, {part for name in (common, *inner) for part in name.split(".")})
    for prefix in _prefixes(tensors, inner, common):
        weights = {common + name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
        covered = sum(common + name in weights for name in inner)
        if covered < len(inner) and prefix not in ("", common) and 2 * len(weights) < len(tensors):
            continue  # a block of the network: its layers have names as the network's first ones have
        left_out = [name for name in tensors if not name.startswith(prefix)]
        yield StateDict(weights, place, prefix, common, left_out, covered)


def _prefixes(names: Iterable[str], inner: Sequence[str], common: str) -> list[str]:
    anchors = (inner[0], inner[len(inner) // 2], inner[-1]) if inner else ()
    found = [name.removesuffix(anchor) for anchor in anchors for name in names if name.endswith(anchor)]
    return list(dict.fromkeys([common, "", *(prefix for prefix in found if prefix.endswith("."))]))


def _unwrapped(tensors: dict[str, Tensor], own_parts: set[str]) -> dict[str, Tensor]:
    """Names without the parts that wrappers add and the network does not have."""
    added = WRAPPERS - own_parts
    plain = {".".join(part for part in name.split(".") if part not in added): each for name, each in tensors.items()}
    return plain if len(plain) == len(tensors) else tensors


def _same(one: StateDict, other: StateDict, own: Sequence[str]) -> bool:
    return all(torch.equal(one.weights[name], other.weights[name]) for name in own)
