"""Outputs of a model: what of its result matters, and what of its maps somebody still holds after the pass."""

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pruning_lit.channels.tracing.operations import tensors_of
from pruning_lit.channels.tracing.tracer import Tracer

#: A function of the result, or a key, an index or an attribute of it, or a list of these.
Outputs = Callable[[Any], Any] | str | int | Sequence[str | int]

LEAVES = "it leaves the model"
KEPT = "it is kept, or returned in an object that is not looked into"


def chosen(result: Any, outputs: Outputs | None) -> Any:
    """The part of a result that matters; ValueError where it is not there, or has no tensor."""
    if outputs is None:
        return result
    if callable(outputs):
        found = outputs(result)
    elif isinstance(outputs, str | int):
        found = _item(result, outputs)
    else:
        found = [_item(result, key) for key in outputs]
    if not tensors_of(found):
        raise ValueError(f"outputs={outputs!r} picks no tensor from the model's result")
    return found


def _item(result: Any, key: str | int) -> Any:
    if isinstance(key, str) and not isinstance(result, Mapping) and hasattr(result, key):
        return getattr(result, key)
    try:
        return result[key]
    except (LookupError, TypeError) as error:
        there = f" with {list(result)}" if isinstance(result, Mapping) else ""
        there = f" of {len(result)}" if isinstance(result, list | tuple) else there
        raise ValueError(f"outputs: the model's result, a {type(result).__name__}{there}, has no {key!r}") from error


def settle(tracer: Tracer, result: Any) -> None:
    """Protect what comes out of a pass, note what it depends on, and end the transcript.

    A map that outlives the pass is somebody's: it is in a set, an object, a closure, an array that shares its memory,
    or an attribute. Nobody has to look for it there.

    Args:
        tracer: after the pass.
        result: what of the model's result matters; the rest must be gone by now.
    """
    results = tensors_of(result)
    for tensor in results:
        tracer.freeze(tensor, LEAVES)
        tracer.flow.leaves(tensor)
    kept = _others_alive(tracer, results)
    if kept:
        del kept
        gc.collect()  # some may be garbage in a cycle
        kept = _others_alive(tracer, results)
    for tensor in kept:
        tracer.freeze(tensor, KEPT)
    tracer.reach.end(results + kept)
    tracer.finish([tracer.provenances.of(tensor) for tensor in results])


def _others_alive(tracer: Tracer, results: list[Tensor]) -> list[Tensor]:
    known = {id(tensor) for tensor in results}
    return [tensor for tensor, _ in tracer.shadows.items() if id(tensor) not in known]
