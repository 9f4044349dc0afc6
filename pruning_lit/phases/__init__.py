"""One LightningModule per kind of training."""

from pruning_lit.phases.parameter_groups import ParameterGroups
from pruning_lit.phases.schedules import Constant, Cosine, Exponential, MultiStep, Schedule
from pruning_lit.phases.training import Training

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "MultiStep",
    "ParameterGroups",
    "Schedule",
    "Training",
]
