"""Settings in a checkpoint, by which it belongs to one experiment."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

KEY = "pruning_lit"
BATCH = "pruning_lit.batch"
CLASSES = "pruning_lit.num_classes"
FORMERLY_WRITTEN = {"dataset.num_workers", "dataset.cache"}
NOT_WRITTEN_FORMERLY = {"trainer", "callbacks"}
PART_OF_BATCH = {"dataset.batch_size"}  # that of one process


class CheckpointSettings(Callback):
    """Write the settings that decide the result, the images per step and the classes into every checkpoint.

    Args:
        settings: plain nested data; what may differ between two sittings of one run (devices, logging) is not in it.
        batch: images per optimizer step, and what makes them up, as plain data.
        num_classes: of the data set; None where there are none.
    """

    def __init__(self, settings: dict[str, Any], batch: Mapping[str, Any], num_classes: int | None = None) -> None:
        self.settings, self.batch, self.num_classes = settings, dict(batch), num_classes

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the settings to a checkpoint."""
        checkpoint[KEY] = self.settings
        checkpoint[BATCH] = self.batch
        checkpoint[CLASSES] = self.num_classes


def require_same_settings(checkpoint: dict[str, Any], settings: dict[str, Any], path: Any) -> None:
    """Refuse a checkpoint of another experiment: ValueError that names the first settings that differ.

    What only the checkpoint has, group by group, belongs to later phases, and is not compared; nor what earlier
    versions have written there that decides nothing, or have not written, nor the images per process where there are
    those per step.
    """
    if KEY not in checkpoint:
        raise ValueError(f"{str(path)!r} was not written by an experiment of this kind; it cannot be continued")
    then = _flat({key: value for key, value in checkpoint[KEY].items() if key in settings})
    now = _flat({key: value for key, value in settings.items() if key not in NOT_WRITTEN_FORMERLY - {*checkpoint[KEY]}})
    left_out = FORMERLY_WRITTEN | (PART_OF_BATCH if BATCH in checkpoint else set())
    unknown = {name for name in now.keys() - then.keys() if ".recalibrate" in name}  # to earlier versions
    names = sorted((then.keys() | now.keys()) - left_out - unknown)
    differing = [name for name in names if then.get(name) != now.get(name)]
    if differing:
        told = ", ".join(f"{name} was {then.get(name)!r} and is {now.get(name)!r}" for name in differing[:3])
        more = f" (and {len(differing) - 3} more)" if len(differing) > 3 else ""
        raise ValueError(f"{str(path)!r} belongs to a different experiment: {told}{more}")


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
