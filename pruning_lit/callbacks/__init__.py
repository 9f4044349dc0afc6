"""When things happen in a fit."""

from pruning_lit.callbacks.checkpoint_settings import CheckpointSettings, require_same_settings
from pruning_lit.callbacks.checkpoints import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from pruning_lit.callbacks.epoch_bar import EpochBar
from pruning_lit.callbacks.epoch_lines import EpochLines
from pruning_lit.callbacks.freezing import Freezing
from pruning_lit.callbacks.leave_on_signal import LeaveOnSignal
from pruning_lit.callbacks.masking import finish_execution
from pruning_lit.callbacks.metrics_file import MetricsFile
from pruning_lit.callbacks.missed_epoch_end import MissedEpochEnd
from pruning_lit.callbacks.nonfinite import NonFinite
from pruning_lit.callbacks.norm_momentum import NormMomentum
from pruning_lit.callbacks.pruning import Pruning
from pruning_lit.callbacks.randomness import StatelessRandomness
from pruning_lit.callbacks.recalibration import Recalibration
from pruning_lit.callbacks.scheduled_pruning import ScheduledPruning

__all__ = [
    "AtomicCheckpointIO",
    "BestCheckpoint",
    "CheckpointSettings",
    "EpochBar",
    "EpochLines",
    "Freezing",
    "LastCheckpoint",
    "LeaveOnSignal",
    "MetricsFile",
    "MissedEpochEnd",
    "NonFinite",
    "NormMomentum",
    "Pruning",
    "Recalibration",
    "ScheduledPruning",
    "StatelessRandomness",
    "finish_execution",
    "require_same_settings",
]
