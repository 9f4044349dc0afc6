"""Forward passes that are followed: on a replica of the model, in a mode, with random numbers that are always alike."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_map_only

from pruning_lit.channels.tracing.modes import changes_with_mode, mode_reads, still
from pruning_lit.channels.tracing.operations import evaluating, tensors_of, without_gradients
from pruning_lit.channels.tracing.outputs import Outputs, chosen, settle
from pruning_lit.channels.tracing.randomness import same_randomness
from pruning_lit.channels.tracing.reach import Exits
from pruning_lit.channels.tracing.replica import own_state, replica
from pruning_lit.channels.tracing.tracer import Tracer

AnyTracer = TypeVar("AnyTracer", bound=Tracer)


def follow(
    make: Callable[[nn.Module], AnyTracer], model: nn.Module, example_input: Any, outputs: Outputs | None = None
) -> AnyTracer:
    """Run ``model`` once, in eval mode and without gradients, under a tracer; nothing in it is changed.

    Args:
        make: a replica of the model to its tracer.
        model: any module.
        example_input: as for ``trace``.
        outputs: as for ``trace``.

    Returns:
        The tracer, after the pass.

    Raises:
        ValueError: it does not run on ``example_input``, or it is, or contains, a compiled module.
    """
    require_python(model)
    arguments = arguments_of(example_input)
    twin = twin_of(model)
    tracer = make(twin)
    tracer.transcript.arguments = arguments
    try:
        with still(model):  # parts of it may be run through functions that know it
            result = run(tracer, twin, arguments)
    except Exception as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors_of(arguments))
        raise ValueError(
            f"the model does not run on the example input {shapes}: {failure_of(tracer, error)}"
        ) from error
    finally:
        tracer.close()
    tracer.transcript.depends_on_mode = tracer.asked or changes_with_mode(model)
    result = chosen(result, outputs)
    settle(tracer, result)
    return tracer


def require_python(model: nn.Module) -> None:
    """ValueError where a model is no module, or a part has no weights yet or operations that Python does not run."""
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"expected a torch.nn.Module, got {type(model).__name__}; of an exported program, its .module()"
        )
    for path, module in model.named_modules():
        # torch.compile's own class is not asked for: loading it takes seconds
        if isinstance(module, torch.jit.ScriptModule) or "_orig_mod" in module._modules:
            place = f"{path!r} is" if path else "the model is"
            raise ValueError(
                f"{place} compiled ({type(module).__name__}), so that nobody sees what it does to channels; give the "
                "module that it was made from, and compile that once it is narrow"
            )
        if any(map(is_lazy, [*module._parameters.values(), *module._buffers.values()])):
            raise ValueError(f"{path!r} ({type(module).__name__}) has no weights yet: run the model once beforehand")


def arguments_of(example_input: Any) -> tuple[Any, ...]:
    """The arguments that an example stands for; ValueError where it has no tensor, or no picture."""
    arguments = example_input if isinstance(example_input, tuple) else (example_input,)
    tensors = tensors_of(arguments)
    if not tensors:
        raise ValueError(f"example_input must be a tensor or a tuple of arguments, got {example_input!r}")
    if not tensors[0].numel():
        raise ValueError(f"example_input has no pictures, its shape is {tuple(tensors[0].shape)}; give one or more")
    return arguments


def twin_of(model: nn.Module) -> nn.Module:
    """A replica of a model, that shares its parameters as long as setting its mode may not change them."""
    return replica(model, owned if changes_with_mode(model) else own_state)


def owned(tensor: Tensor) -> Tensor:
    """A copy of a parameter, buffer or remembered tensor."""
    copy = tensor.detach().clone()
    return nn.Parameter(copy, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copy


def run(tracer: Tracer, twin: nn.Module, arguments: tuple[Any, ...]) -> Any:
    """Run a replica under its tracer, in the tracer's mode."""
    mode, home = tracer.mode, next(twin.parameters(), torch.empty(0))
    arguments = tree_map_only(Tensor, lambda one: one.detach().clone(), arguments)  # some are written over
    for one in tensors_of(arguments):
        tracer.provenances.forget(one)
    with evaluating(), same_randomness(mode.draws, home.device) as numbers, without_gradients():
        mode.set(twin)
        try:
            with mode_reads() as reads, Exits(tracer.left), tracer:
                return twin(*arguments)
        finally:
            tracer.asked = reads.asked
            tracer.drew = numbers.asked() or (tracer.drew and tracer.looked)


def failure_of(tracer: Tracer, error: Exception) -> str:
    """The first line of an error, and the module in which it arose."""
    place = f" (in {tracer.module_path[-1]!r})" if tracer.module_path[-1] else ""
    return (str(error).splitlines() or [type(error).__name__])[0] + place
