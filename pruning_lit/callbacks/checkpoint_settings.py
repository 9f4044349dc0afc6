"""Settings in a checkpoint, by which it belongs to one experiment."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

KEY = "pruning_lit"
FORMERLY_WRITTEN = {"dataset.num_workers", "dataset.cache"}


class CheckpointSettings(Callback):
    """Write the settings that decide the result into every checkpoint.

    Args:
        settings: plain nested data; what may differ between two sittings of one run (trainer, logging) is not in it.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the settings to a checkpoint."""
        checkpoint[KEY] = self.settings


def require_same_settings(checkpoint: dict[str, Any], settings: dict[str, Any], path: Any) -> None:
    """Refuse a checkpoint of another experiment: ValueError that names the first settings that differ.

    What only the checkpoint has, group by group, belongs to later phases, and is not compared; nor what earlier
    versions have written there that decides nothing.
    """
    if KEY not in checkpoint:
        raise ValueError(f"{str(path)!r} was not written by an experiment of this kind; it cannot be continued")
    then = _flat({key: value for key, value in checkpoint[KEY].items() if key in settings})
    now = _flat(settings)
    names = sorted((then.keys() | now.keys()) - FORMERLY_WRITTEN)
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
