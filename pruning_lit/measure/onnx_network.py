"""A network in an ONNX file, run by ONNX Runtime."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from pruning_lit.system.one_line import in_one_line

PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # those of the extra ``onnx``


def has_onnx() -> bool:
    """True where ONNX files can be written and run."""
    return all(importlib.util.find_spec(name) for name in PACKAGES)


class OnnxNetwork(nn.Module):
    """A network in an ONNX file, run by ONNX Runtime on the CPU, as a module for clocks and evaluation.

    It has as many threads as PyTorch has when it is opened. Its tensors are on the CPU and have no gradients.

    Args:
        file: an ONNX file; what is in it is checked by ONNX Runtime.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # or it slows whoever has the next turn
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.input_names = [each.name for each in self.session.get_inputs()]
        self.placeholder = nn.Parameter(torch.empty(0), requires_grad=False)  # evaluation asks for device and precision

    def forward(self, *inputs: Tensor) -> Tensor | list[Tensor]:
        """The output, or several in the order of the file."""
        feed = {name: each.numpy() for name, each in zip(self.input_names, inputs, strict=True)}
        outputs = [torch.from_numpy(each) for each in self.session.run(None, feed)]
        return outputs[0] if len(outputs) == 1 else outputs


def traced_program(net: nn.Module, arguments: tuple[Tensor, ...], strict: bool = False) -> ExportedProgram:
    """Trace the operations of the network, for a batch of any size; ``strict``: as ``torch.compile`` reads it."""
    example = tuple(each.expand(2, *each.shape[1:]).clone() for each in arguments)
    batch = Dim("batch")
    try:
        program = torch.export.export(net, example, dynamic_shapes=tuple({0: batch} for _ in example), strict=strict)
    except Exception as error:  # whatever the tracer came upon in somebody's forward
        raise ValueError(f"torch.export cannot follow the network: {in_one_line(error)}") from error
    for node in program.graph.nodes:
        for key in ("stack_trace", "from_node"):  # paths of this machine, and what passes made of what
            node.meta.pop(key, None)
    return program


def write_program(
    program: ExportedProgram,
    inputs: Sequence[str],
    outputs: Sequence[str],
    file: Path,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write an ONNX file of a traced network, for batches of any size.

    Args:
        program: as ``traced_program`` gives it.
        inputs: names of its inputs.
        outputs: names of its outputs.
        file: to be written.
        metadata: texts that are kept in it.
    """
    named: dict[str, Any] = {"input_names": inputs, "output_names": outputs}
    shapes = tuple({0: "batch"} for _ in inputs)
    converted = torch.onnx.export(program, (), dynamo=True, verbose=False, dynamic_shapes=shapes, **named)
    assert converted is not None
    converted.model.metadata_props.update(metadata or {})
    converted.save(file)


def in_onnx(net: nn.Module, example: Tensor | tuple[Tensor, ...]) -> OnnxNetwork:
    """The network in eval mode as ONNX Runtime runs it, from a file that does not stay."""
    arguments = tuple(each.cpu() for each in (example if isinstance(example, tuple) else (example,)))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        inputs = [f"input_{place}" for place, _ in enumerate(arguments)]
        write_program(traced_program(net.cpu().eval(), arguments), inputs, [], file)
        return OnnxNetwork(file)
