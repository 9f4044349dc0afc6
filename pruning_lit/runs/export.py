"""Export of a network to the formats that other programs run."""

import importlib.util
import inspect
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_leaves

from pruning_lit.runs.stored import open_stored
from pruning_lit.system.atomic import replacing
from pruning_lit.system.one_line import in_one_line
from pruning_lit.tasks.kinds import task_kind

CIFAR = (3, 32, 32)
BATCHES = (1, 5)  # sizes with which a file is tried, neither of them the one it was traced with
TOLERANCE = 1e-4  # of the largest output; kernels of other programs add up in another order

Arguments = tuple[Tensor, ...]  # of the network: images alone, or clouds and their categories
Run = Callable[..., Any]  # these to one tensor or several, nested
Names = tuple[list[str], list[str]]  # of inputs and of outputs


def export(
    path: str | Path,
    formats: Iterable[str],
    input_shape: Sequence[int] | None = None,
    arch: Mapping[str, Any] | None = None,
    allowed: Sequence[str] = (),
) -> dict[Path, float]:
    """Write a network in other formats, beside its file.

    Args:
        path: folder of a run, or network file.
        formats: ``onnx``, ``pt2``.
        input_shape: of one input, without the batch; by default that in the file, else 3x32x32.
        arch: ``_target_`` (dotted name of the builder) and arguments of the dense network, where the file may not name
            its own; ``num_classes`` is that in the file, unless given.
        allowed: packages, modules or full names of code of the user's own that the file may name.

    Returns:
        By file: its largest difference from the network's output, over the largest output.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no network file, the format, shape or builder does not fit, it is a detector in two stages,
            or a file computes something else.
    """
    formats = list(formats)
    _require_formats(formats)
    stored = open_stored(str(path), allowed)
    shape = input_shape or stored.trained_on.shape or CIFAR
    _require_shape(shape)
    _require_packages(formats)
    example = torch.zeros(1, *shape)
    net = stored.network(arch, example, stored.trained_on.num_classes)
    kind = task_kind(net, stored.task())
    inputs = kind.view_example(net, example)
    net, arguments = kind.view(net), inputs if isinstance(inputs, tuple) else (inputs,)
    if getattr(net, "regions", None):
        raise ValueError(
            f"{str(stored.file)!r} is a detector in two stages, whose heads look at regions that it finds itself; no "
            "file of these formats holds that: SSD, RetinaNet and FCOS can be exported"
        )
    names = (_input_names(net, arguments), _outputs(net, arguments))
    program = _program(net, arguments)
    differences = {}
    for name in formats:
        target = stored.file.with_suffix(f".{name}")
        with replacing(target) as draft:
            differences[target] = _difference(FORMATS[name](program, names, draft), net, arguments)
            if not differences[target] <= TOLERANCE:
                raise ValueError(
                    f"{str(target)!r} was not written: it differs by {differences[target]:.1e} of the output"
                )
    return differences


def _require_formats(formats: Sequence[str]) -> None:
    if not formats or not set(formats) <= FORMATS.keys():
        raise ValueError(
            f"format is one or several of {', '.join(FORMATS)}; got {', '.join(map(str, formats)) or 'none'}"
        )


def _require_packages(formats: Sequence[str]) -> None:
    if "onnx" in formats and not all(importlib.util.find_spec(one) for one in ("onnx", "onnxscript", "onnxruntime")):
        raise ValueError("ONNX files need further packages: pip install 'pruning_lit[onnx]', or choose format=pt2")


def _require_shape(shape: Any) -> None:
    if not isinstance(shape, Sequence) or not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(f"input_shape is a list of positive whole numbers, such as [3,32,32]; got {shape!r}")


def _batch(arguments: Arguments, size: int, random: torch.Generator) -> Arguments:
    """Arguments of that many examples: noise, and of whole numbers the given ones."""
    return tuple(
        torch.randn(size, *each.shape[1:], generator=random)
        if each.is_floating_point()
        else each[:1].expand(size, *each.shape[1:]).clone()
        for each in arguments
    )


def _input_names(net: nn.Module, arguments: Arguments) -> list[str]:
    """Names of the inputs: ``pictures`` of a single one, else those that ``forward`` has for them."""
    return ["pictures"] if len(arguments) == 1 else list(inspect.signature(net.forward).parameters)[: len(arguments)]


def _outputs(net: nn.Module, arguments: Arguments) -> list[str]:
    """Names of the tensors that the network answers with: ``logits`` of a single one, else where they are in it."""
    try:
        with torch.no_grad():
            outputs = net(*(each.expand(2, *each.shape[1:]) for each in arguments))
    except Exception as error:  # whatever somebody's forward raises
        raise ValueError(
            f"the network does not take inputs of shape {list(arguments[0].shape[1:])}: {in_one_line(error)}; "
            "give input_shape=[…]"
        ) from error
    leaves = tree_flatten_with_path(outputs)[0]
    if not leaves or not all(isinstance(leaf, Tensor) for _, leaf in leaves):
        raise ValueError(f"the network answers with a {type(outputs).__name__}; only tensors can be exported")
    return ["_".join(re.findall(r"\w+", keystr(path))) or "logits" for path, _ in leaves]


def _program(net: nn.Module, arguments: Arguments) -> ExportedProgram:
    """Trace the operations of the network, for a batch of any size."""
    example = tuple(each.expand(2, *each.shape[1:]).clone() for each in arguments)
    batch = Dim("batch")
    try:
        program = torch.export.export(net, example, dynamic_shapes=tuple({0: batch} for _ in example))
    except Exception as error:  # whatever the tracer came upon in somebody's forward
        raise ValueError(f"torch.export cannot follow the network: {in_one_line(error)}") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _pt2(program: ExportedProgram, names: Names, file: Path) -> Run:
    program.example_inputs = None  # they would be stored, at the size of two inputs
    buffer = io.BytesIO()  # inside, the archive would be named after the draft
    torch.export.save(program, buffer)
    file.write_bytes(buffer.getvalue())
    return torch.export.load(file).module()


def _onnx(program: ExportedProgram, names: Names, file: Path) -> Run:
    import onnxruntime

    inputs, outputs = names
    named: dict[str, Any] = {"input_names": inputs, "output_names": outputs}
    shapes = tuple({0: "batch"} for _ in inputs)
    converted = torch.onnx.export(program, (), dynamo=True, verbose=False, dynamic_shapes=shapes, **named)
    assert converted is not None
    converted.save(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(*arguments: Tensor) -> list[Tensor]:
        feed = {name: each.numpy() for name, each in zip(inputs, arguments, strict=True)}
        return [torch.from_numpy(each) for each in session.run(None, feed)]

    return run


Write = Callable[[ExportedProgram, Names, Path], Run]
FORMATS: dict[str, Write] = {"onnx": _onnx, "pt2": _pt2}


def _difference(run: Run, net: nn.Module, arguments: Arguments) -> float:
    random = torch.Generator().manual_seed(0)
    batches = [_batch(arguments, size, random) for size in BATCHES]
    with torch.no_grad():
        pairs = [pair for x in batches for pair in zip(tree_leaves(run(*x)), tree_leaves(net(*x)), strict=True)]
    return max(float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30)) for got, wanted in pairs)
