"""Static quantization of a network to int8 for ONNX Runtime."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pruning_lit.measure.onnx_network import OnnxNetwork
from pruning_lit.runs.export import Exportable, write_onnx
from pruning_lit.runs.quantization import InInt8, kept_in_float

if TYPE_CHECKING:
    from onnx import ModelProto

#: Operations that move channels and pixels; between quantized layers they move int8, and cost what moving costs.
MOVES = ("Gather", "GatherElements", "GatherND", "Pad", "Slice", "ScatterElements", "ScatterND")


def onnx_int8(
    net: Exportable, batches: Iterable[Any], keep_float: Sequence[str], reduce_range: bool, target: Path
) -> InInt8:
    """Write an ONNX file in int8, see :func:`quantize`."""
    with TemporaryDirectory() as folder:
        source = Path(folder) / "float32.onnx"
        float32 = write_onnx(net.program, net.signature, source)
        in_float = quantize(source, target, batches, keep_float, reduce_range)
    bits = "weights of 7 bits" if reduce_range else ""
    return InInt8(float32, OnnxNetwork(target), in_float, bits, _count_moves(target))


def quantize(
    source: Path, target: Path, batches: Iterable[Any], keep_float: Sequence[str], reduce_range: bool
) -> list[str]:
    """Quantize an ONNX file: U8S8, weights per channel, ranges from minimum and maximum, as QDQ nodes.

    Args:
        source: a file in float32.
        target: for the file in int8.
        batches: inputs of the network, each a tensor or a tuple of them.
        keep_float: patterns of names of layers that are left in float32.
        reduce_range: weights of 7 bits, see :func:`~pruning_lit.measure.machine.lacks_vnni`.

    Returns:
        Names of the layers left in float32.

    Raises:
        ValueError: a pattern matches no layer.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization.quantize import quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, names: list[str]) -> None:
            self.feeds = (dict(zip(names, _arrays(each), strict=True)) for each in batches)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.feeds, None)

    prepared = source.with_name("prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    layers = layer_nodes(model)
    kept = kept_in_float(layers, keep_float)
    quantize_static(
        prepared,
        target,
        Reader([each.name for each in model.graph.input]),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=reduce_range,
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_exclude=[layers[layer] for layer in kept],
    )
    return kept


def layer_nodes(model: "ModelProto") -> dict[str, str]:
    """Names of the convolutions and linear layers of a network to those of their nodes, in execution order."""
    layers = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            weight = next((each for each in node.input if each.endswith(".weight")), node.name)
            layers[re.sub(r"\.weight$", "", weight)] = node.name
    return layers


def _arrays(inputs: Any) -> list[Any]:
    return [each.numpy() for each in (inputs if isinstance(inputs, tuple) else (inputs,)) if isinstance(each, Tensor)]


def _count_moves(file: Path) -> int:
    import onnx

    return sum(node.op_type in MOVES for node in onnx.load(file).graph.node)
