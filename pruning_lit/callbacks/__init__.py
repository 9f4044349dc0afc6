"""When things happen in a fit."""

from pruning_lit.callbacks.checkpoints import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from pruning_lit.callbacks.exploration_stages import ExplorationStages
from pruning_lit.callbacks.identity import RunIdentity, require_same_settings
from pruning_lit.callbacks.leave_on_signal import LeaveOnSignal
from pruning_lit.callbacks.masking import finish_execution
from pruning_lit.callbacks.metrics_file import MetricsFile
from pruning_lit.callbacks.nonfinite import NonFinite
from pruning_lit.callbacks.pruning import Pruning
from pruning_lit.callbacks.randomness import StatelessRandomness
from pruning_lit.callbacks.row_masks import RowMasks
from pruning_lit.callbacks.scale_monitor import ScaleMonitor
from pruning_lit.callbacks.scheduled_pruning import ScheduledPruning

__all__ = [
    "AtomicCheckpointIO",
    "BestCheckpoint",
    "ExplorationStages",
    "LastCheckpoint",
    "LeaveOnSignal",
    "MetricsFile",
    "NonFinite",
    "Pruning",
    "RowMasks",
    "RunIdentity",
    "ScaleMonitor",
    "ScheduledPruning",
    "StatelessRandomness",
    "finish_execution",
    "require_same_settings",
]
