"""Network Slimming: an L1 penalty on batch-norm scales, then one threshold (Liu et al. 2017, arXiv 1708.06519)."""

from pruning_lit.methods.network_slimming.phase import SparsityTraining
from pruning_lit.methods.network_slimming.scale_monitor import ScaleMonitor

__all__ = ["ScaleMonitor", "SparsityTraining"]
