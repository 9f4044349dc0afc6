"""One LightningModule per kind of training."""

from pruning_lit.phases.exploration import Exploration
from pruning_lit.phases.gradient_reset import GradientReset
from pruning_lit.phases.parameter_groups import ParameterGroups
from pruning_lit.phases.schedules import Constant, Cosine, Exponential, MultiStep, Schedule
from pruning_lit.phases.sparsity_training import SparsityTraining
from pruning_lit.phases.training import Training

__all__ = [
    "Constant",
    "Cosine",
    "Exploration",
    "Exponential",
    "GradientReset",
    "MultiStep",
    "ParameterGroups",
    "Schedule",
    "SparsityTraining",
    "Training",
]
