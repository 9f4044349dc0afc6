"""``python -m pruning_lit.export path=…``: a network in the formats that other programs run.

    path=         folder of a run, or a network file such as pruned/model.safetensors
    format=       onnx, pt2 (a torch.export program), or both, as by default: format=onnx,pt2
    input_shape=  of one input, without the batch, such as [3,32,32]; a run's file knows its own
    arch._target_=mynet.Net arch.width=32 allow_targets=[mynet]
                  the builder of a network of your own, in the current folder or installed, with its arguments, and
                  that its package may be run: no file runs such code by itself

The files are written beside the network, take batches of any size, and are there only if they compute what the network
does. Inputs are prepared (mean, standard deviation) as for the network itself.
"""

import importlib.util
import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from pruning_lit.channels.artefact import load, read
from pruning_lit.command_line.custom_network import import_from_current_folder
from pruning_lit.command_line.errors import ending_in_a_sentence
from pruning_lit.command_line.targets import names_allowed, require_allowed
from pruning_lit.runs.network_file import network_file, user_built
from pruning_lit.system.atomic import replacing
from pruning_lit.system.one_line import described

OPTIONS = ("path", "format", "input_shape", "allow_targets")  # and those of arch
CIFAR = (3, 32, 32)
BATCHES = (1, 5)  # sizes with which a file is tried, neither of them the one it was traced with
TOLERANCE = 1e-4  # of the largest output; kernels of other programs add up in another order

Run = Callable[[Tensor], Tensor]


def export(
    path: str | Path,
    formats: Iterable[str],
    input_shape: Sequence[int] | None = None,
    arch: Mapping[str, Any] | None = None,
) -> dict[Path, float]:
    """Write a network in other formats, beside its file.

    Args:
        path: folder of a run, or network file.
        formats: ``onnx``, ``pt2``.
        input_shape: of one input, without the batch; by default that in the file, else 3x32x32.
        arch: ``_target_`` (dotted name of the builder) and arguments of the dense network, where the file may not name
            its own; ``num_classes`` is that in the file, unless given.

    Returns:
        By file: its largest difference from the network's output, over the largest output.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no network file, the format, shape or builder does not fit, or a file computes something
            else.
    """
    formats = list(formats)
    _require_formats(formats)
    file = network_file(path)
    header, _ = read(file)
    net = load(file, user_built(header.get("arch") or {}, arch, file))
    shape = input_shape or (header.get("pictures") or {}).get("shape") or CIFAR
    _require_shape(shape)
    _require_packages(formats)
    program = _program(net, shape)
    differences = {}
    for name in formats:
        target = file.with_suffix(f".{name}")
        with replacing(target) as draft:
            differences[target] = _difference(FORMATS[name](program, draft), net, shape)
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


def _program(net: nn.Module, shape: Sequence[int]) -> ExportedProgram:
    """The operations of the network, for a batch of any size."""
    try:
        example = torch.zeros(2, *shape)
        with torch.no_grad():
            output = net(example)
    except Exception as error:  # whatever somebody's forward raises
        raise ValueError(
            f"the network does not take inputs of shape {list(shape)}: {described(error)}; give input_shape=[…]"
        ) from error
    if not isinstance(output, Tensor):
        raise ValueError(f"the network answers with a {type(output).__name__}; only single tensors can be exported")
    try:
        program = torch.export.export(net, (example,), dynamic_shapes=({0: Dim("batch")},))
    except Exception as error:  # whatever the tracer came upon in somebody's forward
        raise ValueError(f"torch.export cannot follow the network: {described(error)}") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _pt2(program: ExportedProgram, file: Path) -> Run:
    program.example_inputs = None  # they would be stored, at the size of two inputs
    buffer = io.BytesIO()  # inside, the archive would be named after the draft
    torch.export.save(program, buffer)
    file.write_bytes(buffer.getvalue())
    return torch.export.load(file).module()


def _onnx(program: ExportedProgram, file: Path) -> Run:
    import onnxruntime

    names: dict[str, Any] = {"input_names": ["pictures"], "output_names": ["logits"]}
    converted = torch.onnx.export(program, (), dynamo=True, verbose=False, dynamic_shapes=({0: "batch"},), **names)
    assert converted is not None
    converted.save(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"pictures": x.numpy()})[0])


FORMATS: dict[str, Callable[[ExportedProgram, Path], Run]] = {"onnx": _onnx, "pt2": _pt2}  # write, and read back


def _difference(run: Run, net: nn.Module, shape: Sequence[int]) -> float:
    random = torch.Generator().manual_seed(0)
    batches = [torch.randn(size, *shape, generator=random) for size in BATCHES]
    with torch.no_grad():
        pairs = [(run(x), net(x)) for x in batches]
    return max(float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30)) for got, wanted in pairs)


def _arguments(words: Sequence[str]) -> dict[str, Any]:
    """The command line, in Hydra's syntax, as arguments of ``export``."""
    given: dict[str, Any] = {"format": list(FORMATS), "input_shape": None}
    own = OmegaConf.create()
    for override in OverridesParser.create().parse_overrides(list(words)):
        key, several = override.key_or_group, override.is_sweep_override()  # format=onnx,pt2
        if key == "arch" or key.startswith("arch."):
            if several:
                raise ValueError(f"{key} takes one value; a list is written {key}=[…]")
            OmegaConf.update(own, key, override.value(), force_add=True)
            continue
        if key not in OPTIONS:
            raise ValueError(f"there is no option {key!r}; there are {', '.join(OPTIONS)}, arch._target_, arch.…")
        given[key] = list(override.sweep_iterator()) if several else override.value()
    if not isinstance(path := given.get("path"), str):
        raise ValueError(
            f"the folder of a run or a network file has to be given: path=…{'' if path is None else f', not {path}'}"
        )
    require_allowed(own, names_allowed(given.get("allow_targets")))
    formats = given["format"] if isinstance(given["format"], list) else [given["format"]]
    return {"path": path, "formats": formats, "input_shape": given["input_shape"], "arch": own.get("arch")}


def main() -> None:
    """Entry point of the command line: what a user can mend ends in one sentence and exit code 1."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return
    import_from_current_folder()
    with ending_in_a_sentence():
        for file, difference in export(**_arguments(sys.argv[1:])).items():
            sizes = " and ".join(map(str, BATCHES))
            kilobytes = file.stat().st_size // 1000
            print(f"{file}: {kilobytes} kB, differs by {difference:.1e} of the largest output (batches of {sizes})")


if __name__ == "__main__":
    main()
