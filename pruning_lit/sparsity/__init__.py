"""Sparsity budgets: from the scores of channels to the positions that are kept."""

from pruning_lit.sparsity.base import Scores, Sparsity
from pruning_lit.sparsity.dense import DenseCost
from pruning_lit.sparsity.global_budgets import Global, Macs, Params
from pruning_lit.sparsity.latency import Latency
from pruning_lit.sparsity.layerwise import Layerwise
from pruning_lit.sparsity.limits import Limits
from pruning_lit.sparsity.plan import Plan
from pruning_lit.sparsity.rates import parse_rates
from pruning_lit.sparsity.search import LatencySearch, Search
from pruning_lit.sparsity.similarity import Similarity, SimilarityMacs
from pruning_lit.sparsity.uniform import Uniform

__all__ = [
    "DenseCost",
    "Global",
    "Latency",
    "LatencySearch",
    "Layerwise",
    "Limits",
    "Macs",
    "Params",
    "Plan",
    "Scores",
    "Search",
    "Similarity",
    "SimilarityMacs",
    "Sparsity",
    "Uniform",
    "parse_rates",
]
