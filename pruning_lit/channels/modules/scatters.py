"""Former place of what is in ``relabel`` now."""

from torch import nn

from pruning_lit.channels.modules.relabel import SCATTER as _SCATTER

SCATTER, SOURCE = _SCATTER.name, f".{_SCATTER.name}.{_SCATTER.saved}"


def has_scatter(module: nn.Module) -> bool:
    """Whether a layer has a scatter of its own."""
    return _SCATTER.child(module) is not None
