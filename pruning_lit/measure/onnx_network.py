"""A network in an ONNX file, run by ONNX Runtime."""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

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
