"""Static quantization of an exported network to int8, and its check on the test part."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pruning_lit.command_line.setting_types import require_types
from pruning_lit.data import DataModule, ImageData
from pruning_lit.measure.machine import lacks_vnni
from pruning_lit.records.primary import Primary
from pruning_lit.runs.evaluation import chosen_dataset, chosen_task
from pruning_lit.runs.experiment import build_task, open_data
from pruning_lit.runs.export import Exportable
from pruning_lit.runs.onnx_int8 import onnx_int8
from pruning_lit.runs.pt2_int8 import pt2_int8
from pruning_lit.runs.quantization import InInt8
from pruning_lit.system.atomic import replacing
from pruning_lit.tasks import evaluate

Quantize = Callable[[Exportable, Iterable[Any], Sequence[str], bool, Path], InInt8]
FORMS: dict[str, Quantize] = {"onnx_int8": onnx_int8, "pt2_int8": pt2_int8}


@dataclass(frozen=True)
class Quantized:
    """A file in int8 that has passed its check.

    Attributes:
        form: its format.
        file: the file.
        primary: the metric that stands for all.
        before, after: metrics of the file in float32 and of that in int8, on the test part.
        num_test: examples in it.
        bits: a reduced range in words; empty where weights and activations have 8 bits.
        in_float: names of the layers that were left in float32.
        moves: number of operations between layers that only move channels or pixels.
    """

    form: str
    file: Path
    primary: Primary
    before: dict[str, float]
    after: dict[str, float]
    num_test: int
    bits: str
    in_float: list[str]
    moves: int

    @property
    def drop(self) -> float:
        """Loss of the primary metric: in percentage points where it is a share, else as it is."""
        lost = self.before[self.primary.name] - self.after[self.primary.name]
        return (lost if self.primary.higher_is_better else -lost) * (100 if self.primary.percent else 1)

    def __str__(self) -> str:
        """Accuracy and form of the file in words."""
        name = self.primary.name
        before, after = (self.primary.format(each[name]) for each in (self.before, self.after))
        parts = [f"{self.primary.title} {after} on {self.num_test:,} test examples (in float32 {before})"]
        if self.bits:
            parts.append(self.bits)
        if self.in_float:
            parts.append(f"in float32: {', '.join(self.in_float)}")
        if self.moves:
            parts.append(f"{self.moves} operations that only move channels or pixels")
        return "; ".join(parts)


def export_int8(net: Exportable, form: str, config: DictConfig) -> Quantized:
    """Write a network in int8 beside its file: static quantization, calibrated on its own training images.

    Activations are unsigned and weights signed, of each output channel at its own scale; batch norms are folded into
    the convolutions before. The same command writes the same file again.

    Args:
        net: the network.
        form: ``onnx_int8``, or ``pt2_int8`` by PT2E of torchao.
        config: see ``conf/export.yaml``: ``dataset``, ``calibration``, ``keep_float``, ``reduce_range``, ``max_drop``.

    Raises:
        ValueError: there are no images to calibrate on, the outputs of the file are not what the task judges, a layer
            to be kept is unknown, or the file loses more than ``max_drop`` and is not written.
    """
    require_settings(config)
    data = _open_images(net, form, config)
    task = build_task(OmegaConf.create(chosen_task(config, [net.stored])), data)
    task.require_fit(net.net, data)
    num_images = min(config.calibration.num_images, data.num_training)
    batches = data.calibration(num_images, config.seed, batch_size=config.calibration.batch_size)
    reduced = lacks_vnni() if config.reduce_range is None else config.reduce_range
    target = net.file(form)
    with replacing(target) as draft:
        made = FORMS[form](net, (each for each, _ in batches), config.keep_float, reduced, draft)
        before, after = (evaluate(each, data, task) for each in (made.float32, made.int8))
        num_test = len(data.parts.test)
        quantized = Quantized(form, target, task.primary, before, after, num_test, made.bits, made.in_float, made.moves)
        if not quantized.drop <= config.max_drop:
            named = task.primary.title
            raise ValueError(
                f"{str(target)!r} was not written: {named} falls from {task.primary.format(before[task.primary.name])} "
                f"to {task.primary.format(after[task.primary.name])} on {num_test:,} test examples, more "
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


def _open_images(net: Exportable, form: str, config: DictConfig) -> DataModule:
    """The data set, normalised as for the training of the network."""
    path, trained_on = str(net.stored.file), net.stored.trained_on
    try:
        dataset = chosen_dataset(config, [net.stored])
    except ValueError as error:
        raise ValueError(f"format={form} is calibrated on training images: {error}") from error
    require_types(OmegaConf.create({"dataset": dataset}))
    data = open_data(OmegaConf.create({"dataset": dataset}))
    trained_on.require_alike(data, path)
    if isinstance(data, ImageData):
        (data.mean, data.std), note = trained_on.normalisation(data, path)
        for each in filter(None, (trained_on.note_on_names(data, path), note)):
            print(f"Note: {each}")
    return data
