"""Network Slimming: an L1 penalty on batch-norm scales, then one threshold (Liu et al. 2017, arXiv 1708.06519).

``method=network_slimming`` has three phases: ``train``, the dense network to compare with; ``sparsify``, from scratch
with the penalty (``phase.py``), watched by ``scale_monitor.py``; ``finetune``, which begins with an ordinary scheduled
cut by ``criterion=bn_scale``.
"""

from pruning_lit.methods.network_slimming.phase import SparsityTraining
from pruning_lit.methods.network_slimming.scale_monitor import ScaleMonitor

__all__ = ["ScaleMonitor", "SparsityTraining"]
