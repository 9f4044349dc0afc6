"""DepGraph: a decay that is strongest for weak groups of coupled weights (Fang et al. 2023, arXiv 2301.12900).

``method=depgraph`` has three phases: ``train``, the dense network to compare with; ``sparsify``, which goes on with it
under the decay (``phase.py``); ``finetune``, which begins with an ordinary scheduled cut by ``criterion=group_norm``.
"""

from pruning_lit.methods.depgraph.phase import GroupSparsityTraining

__all__ = ["GroupSparsityTraining"]
