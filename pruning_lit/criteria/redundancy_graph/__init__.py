"""Redundancy graphs: filters whose feature maps look alike (Li et al. 2024, doi 10.1016/j.neucom.2024.128108)."""

from pruning_lit.criteria.redundancy_graph.criterion import RedundancyGraph, RedundancyScores
from pruning_lit.criteria.redundancy_graph.decomposition import decompose, similarity

__all__ = ["RedundancyGraph", "RedundancyScores", "decompose", "similarity"]
