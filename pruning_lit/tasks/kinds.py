"""The task by which a network is looked at where none is trained."""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

from torch import nn

from pruning_lit.models.detector_views import is_detector
from pruning_lit.tasks.base import Task
from pruning_lit.tasks.detection import Detection


def task_kind(net: nn.Module, settings: Mapping[str, Any] | None = None) -> type[Task]:
    """The class of a task, for the view that it has of a network.

    Args:
        net: the network.
        settings: of the task, as a config has them; None: not known, and then a detector is looked at as one.
    """
    if settings:
        kind = resolve_name(str(settings["_target_"]))
        if isinstance(kind, type) and issubclass(kind, Task):
            return kind
    return Detection if is_detector(net) else Task
