"""Static quantization of an exported network to int8, and its check on the test part."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from pruning_lit.command_line.setting_types import require_types
from pruning_lit.data import DataModule, ImageData
from pruning_lit.measure.machine import lacks_vnni
from pruning_lit.measure.onnx_network import OnnxNetwork
from pruning_lit.records.primary import Primary
from pruning_lit.runs.evaluation import chosen_dataset, chosen_task, normalisations
from pruning_lit.runs.experiment import build_task, open_data
from pruning_lit.runs.export import Exportable, write_onnx
from pruning_lit.system.atomic import replacing
from pruning_lit.tasks import evaluate

if TYPE_CHECKING:
    from onnx import ModelProto

FORM = "onnx_int8"
#: Operations that move channels and pixels; between quantized layers they move int8, and cost what moving costs.
INDEXING = ("Gather", "GatherElements", "GatherND", "Pad", "Slice", "ScatterElements", "ScatterND")


@dataclass(frozen=True)
class Quantized:
    """A file in int8 that has passed its check.

    Attributes:
        file: the file.
        primary: the metric that stands for all.
        before, after: metrics of the file in float32 and of that in int8, on the test part.
        num_test: examples in it.
        reduced_range: weights have 7 bits.
        in_float: names of the layers that were left in float32.
        indexing: number of operations between layers that only move channels or pixels.
    """

    file: Path
    primary: Primary
    before: dict[str, float]
    after: dict[str, float]
    num_test: int
    reduced_range: bool
    in_float: list[str]
    indexing: int

    @property
    def drop(self) -> float:
        """Loss of the primary metric: in percentage points where it is a share, else as it is."""
        lost = self.before[self.primary.name] - self.after[self.primary.name]
        return (lost if self.primary.higher_is_better else -lost) * (100 if self.primary.percent else 1)

    def __str__(self) -> str:
        """Accuracy and form of the file in words."""
        name, bits = self.primary.name, 7 if self.reduced_range else 8
        before, after = (self.primary.format(each[name]) for each in (self.before, self.after))
        parts = [
            f"{self.primary.title} {after} on {self.num_test:,} test examples (in float32 {before})",
            f"weights of {bits} bits",
        ]
        if self.in_float:
            parts.append(f"in float32: {', '.join(self.in_float)}")
        if self.indexing:
            parts.append(f"{self.indexing} operations that only move channels or pixels")
        return "; ".join(parts)


def export_int8(net: Exportable, config: DictConfig) -> Quantized:
    """Write a network in int8 beside its file: static quantization, calibrated on its own training images.

    Activations are unsigned and weights signed, of each output channel at its own scale; batch norms are folded into
    the convolutions before. The same command writes the same file again.

    Args:
        net: the network.
        config: see ``conf/export.yaml``: ``dataset``, ``calibration``, ``keep_float``, ``reduce_range``, ``max_drop``.

    Raises:
        ValueError: there are no images to calibrate on, the outputs of the file are not what the task judges, a layer
            to be kept is unknown, or the file loses more than ``max_drop`` and is not written.
    """
    require_settings(config)
    if net.net is not net.whole:
        raise ValueError(
            f"{str(net.stored.file)!r} is a detector, whose files hold its raw view, of which no accuracy can be told: "
            f"format={FORM} is for networks whose answers the task judges as they are; choose format=onnx"
        )
    data = _open_images(net, config)
    task = build_task(OmegaConf.create(chosen_task(config, [net.stored])), data)
    task.require_fit(net.net, data)
    num_images = min(config.calibration.num_images, data.num_training)
    batches = data.calibration(num_images, config.seed, batch_size=config.calibration.batch_size)
    reduced = lacks_vnni() if config.reduce_range is None else config.reduce_range
    target = net.file(FORM)
    with TemporaryDirectory() as folder, replacing(target) as draft:
        source = Path(folder) / "float32.onnx"
        whole = write_onnx(net.program, net.signature, source)
        in_float = quantize(source, draft, (each for each, _ in batches), config.keep_float, reduced)
        before, after = (evaluate(each, data, task) for each in (whole, OnnxNetwork(draft)))
        quantized = Quantized(
            target, task.primary, before, after, len(data.parts.test), reduced, in_float, _count_indexing(draft)
        )
        if not quantized.drop <= config.max_drop:
            named = task.primary.title
            raise ValueError(
                f"{str(target)!r} was not written: {named} falls from {task.primary.format(before[task.primary.name])} "
                f"to {task.primary.format(after[task.primary.name])} on {len(data.parts.test):,} test examples, more "
                f"than max_drop={config.max_drop:g} allows; keep layers in float32 (keep_float=[…]), calibrate on more "
                "images (calibration.num_images=…), or allow more"
            )
    return quantized


def require_settings(config: DictConfig) -> None:
    """ValueError where a setting of the quantization is out of its range."""
    for key in ("num_images", "batch_size"):
        value = config.calibration[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"calibration.{key} is a whole number of at least 1, got {value!r}")


def _open_images(net: Exportable, config: DictConfig) -> DataModule:
    """The data set, normalised as for the training of the network."""
    path = str(config.path)
    try:
        dataset = chosen_dataset(config, [net.stored])
    except ValueError as error:
        raise ValueError(f"format={FORM} is calibrated on training images: {error}") from error
    require_types(OmegaConf.create({"dataset": dataset}))
    data = open_data(OmegaConf.create({"dataset": dataset}))
    net.stored.trained_on.require_alike(data, path)
    ((way,), notes) = normalisations([path], [net.stored.trained_on], data, "stored")
    if isinstance(data, ImageData) and way is not None:
        data.mean, data.std = way
    for note in notes:
        print(f"Note: {note}")
    return data


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
    for pattern in keep_float:
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            raise ValueError(f"keep_float: no layer is called {pattern!r}; the layers are {', '.join(layers)}")
    kept = [layer for layer in layers if any(fnmatchcase(layer, pattern) for pattern in keep_float)]
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


def _count_indexing(file: Path) -> int:
    import onnx

    return sum(node.op_type in INDEXING for node in onnx.load(file).graph.node)
