"""Export of a network to the formats that other programs run."""

import inspect
import io
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_leaves

from pruning_lit.measure.onnx_network import OnnxNetwork, has_onnx, traced_program, write_program
from pruning_lit.measure.program_network import require_torchao
from pruning_lit.runs.stored import open_stored
from pruning_lit.system.atomic import replacing
from pruning_lit.system.one_line import in_one_line
from pruning_lit.tasks.kinds import task_kind

CIFAR = (3, 32, 32)
BATCHES = (1, 5)  # sizes with which a file is tried, neither of them the one it was traced with
SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "onnx_int8": ".int8.onnx", "pt2_int8": ".int8.pt2"}
TOLERANCE = 1e-4  # of the largest output; kernels of other programs add up in another order

Arguments = tuple[Tensor, ...]  # of the network: images alone, or clouds and their categories
Run = Callable[..., Any]  # these to one tensor or several, nested


class Signature(NamedTuple):
    """Names of the inputs and the outputs of a file, and what is known of the images, for its header."""

    inputs: list[str]
    outputs: list[str]
    images: dict[str, Any]


class Exportable:
    """A network that is to be exported: the part of it that files hold, and the inputs that this takes.

    Args:
        path: folder of a run, network file or checkpoint.
        input_shape, arch, allowed: as for :func:`export`, like the errors.

    Attributes:
        stored: what it was read from.
        kind: of its task, as far as known.
        whole, net: the network, and the view of it that is exported.
        arguments: of the view, for a batch of one.
        signature: of the files.
    """

    def __init__(
        self,
        path: str | Path,
        input_shape: Sequence[int] | None = None,
        arch: Mapping[str, Any] | None = None,
        allowed: Sequence[str] = (),
    ) -> None:
        self.stored, self.arch = open_stored(str(path), allowed), arch
        shape = input_shape or self.stored.trained_on.shape or CIFAR
        _require_shape(shape)
        self.example = torch.zeros(1, *shape)
        self.whole = self.stored.network(arch, self.example, self.stored.trained_on.num_classes)
        self.kind = task_kind(self.whole, self.stored.task())
        self.net = self.kind.view(self.whole)
        inputs = self.kind.view_example(self.whole, self.example)
        self.arguments: Arguments = inputs if isinstance(inputs, tuple) else (inputs,)
        if getattr(self.net, "regions", None):
            raise ValueError(
                f"{str(self.stored.file)!r} is a detector in two stages, whose heads look at regions that it finds "
                "itself; no file of these formats holds that: SSD, RetinaNet and FCOS can be exported"
            )
        known = {key: value for key, value in asdict(self.stored.trained_on).items() if value is not None}
        self.signature = Signature(_input_names(self.net, self.arguments), _outputs(self.net, self.arguments), known)

    def require_judged(self, form: str) -> None:
        """ValueError for a detector, whose accuracy in a format of int8 nobody could tell."""
        if self.net is not self.whole:
            raise ValueError(
                f"{str(self.stored.file)!r} is a detector, whose files hold its raw view, of which no accuracy can be "
                f"told: format={form} is for networks whose answers the task judges as they are; choose format=onnx"
            )

    @cached_property
    def program(self) -> ExportedProgram:
        """The operations of the network."""
        return traced_program(self.net, self.arguments)

    def dense(self) -> nn.Module:
        """The view of the network before any cut, in eval mode, with weights that mean nothing."""
        return self.kind.view(self.stored.dense_network(self.arch, self.stored.trained_on.num_classes)).eval()

    def file(self, form: str) -> Path:
        """The file of a format, beside the network's own."""
        return self.stored.file.with_suffix(SUFFIXES[form])

    def write(self, form: str) -> float:
        """Write a file that computes what the network does; its largest difference, over the largest output.

        Raises:
            ValueError: it computes something else, and is not written.
        """
        target = self.file(form)
        with replacing(target) as draft:
            difference = _difference(FORMATS[form](self.program, self.signature, draft), self.net, self.arguments)
            if not difference <= TOLERANCE:
                raise ValueError(f"{str(target)!r} was not written: it differs by {difference:.1e} of the output")
        return difference


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
    require_formats(formats, FORMATS)
    net = Exportable(path, input_shape, arch, allowed)
    require_packages(formats)
    return {net.file(form): net.write(form) for form in formats}


def require_formats(formats: Sequence[str], known: Collection[str]) -> None:
    """ValueError where a format is not among those known."""
    if not formats or not set(formats) <= set(known):
        raise ValueError(
            f"format is one or several of {', '.join(known)}; got {', '.join(map(str, formats)) or 'none'}"
        )


def require_packages(formats: Sequence[str]) -> None:
    """ValueError where what a format needs is not installed."""
    if any(form.startswith("onnx") for form in formats) and not has_onnx():
        raise ValueError("ONNX files need further packages: pip install 'pruning_lit[onnx]', or choose format=pt2")
    if "pt2_int8" in formats:
        require_torchao()


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


def write_pt2(program: ExportedProgram, signature: Signature, file: Path) -> Run:
    """Write a program of ``torch.export``, and load it."""
    program.example_inputs = None  # they would be stored, at the size of two inputs
    buffer = io.BytesIO()  # inside, the archive would be named after the draft
    torch.export.save(program, buffer)
    file.write_bytes(buffer.getvalue())
    return torch.export.load(file).module()


def write_onnx(program: ExportedProgram, signature: Signature, file: Path) -> OnnxNetwork:
    """Write an ONNX file, with what is known of the images as JSON text in its metadata, and open it."""
    write_program(program, signature.inputs, signature.outputs, file, {"pruning_lit": json.dumps(signature.images)})
    return OnnxNetwork(file)


Write = Callable[[ExportedProgram, Signature, Path], Run]
FORMATS: dict[str, Write] = {"onnx": write_onnx, "pt2": write_pt2}


def _difference(run: Run, net: nn.Module, arguments: Arguments) -> float:
    random = torch.Generator().manual_seed(0)
    batches = [_batch(arguments, size, random) for size in BATCHES]
    with torch.no_grad():
        pairs = [pair for x in batches for pair in zip(tree_leaves(run(*x)), tree_leaves(net(*x)), strict=True)]
    return max(float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30)) for got, wanted in pairs)
