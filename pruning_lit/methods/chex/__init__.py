"""CHEX: channels are pruned and regrown in one training from scratch (Hou et al. 2022, arXiv 2203.15794)."""

from pruning_lit.methods.chex.phase import Exploration
from pruning_lit.methods.chex.stages import ExplorationStages

__all__ = ["Exploration", "ExplorationStages"]
