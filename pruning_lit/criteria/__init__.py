"""Criteria for the importance of channels: one file per criterion."""

from pruning_lit.criteria.base import Calibration, Criterion, NeedsData, NeedsTraining, Scoring
from pruning_lit.criteria.bn_scale import BatchNormScale, global_threshold
from pruning_lit.criteria.channel_independence import ChannelIndependence, channel_independence
from pruning_lit.criteria.column_subset import ColumnSubset
from pruning_lit.criteria.fpgm import FPGM
from pruning_lit.criteria.group_norm import GroupNorm
from pruning_lit.criteria.hessian import Hessian
from pruning_lit.criteria.hrank import HRank
from pruning_lit.criteria.lamp import LAMP
from pruning_lit.criteria.magnitude import Magnitude, Random
from pruning_lit.criteria.redundancy_graph.criterion import RedundancyGraph, RedundancyScores
from pruning_lit.criteria.spatial_information import SpatialInformation
from pruning_lit.criteria.taylor import Taylor
from pruning_lit.criteria.timed import timed_scores

__all__ = [
    "FPGM",
    "LAMP",
    "BatchNormScale",
    "Calibration",
    "ChannelIndependence",
    "ColumnSubset",
    "Criterion",
    "GroupNorm",
    "HRank",
    "Hessian",
    "Magnitude",
    "NeedsData",
    "NeedsTraining",
    "Random",
    "RedundancyGraph",
    "RedundancyScores",
    "Scoring",
    "SpatialInformation",
    "Taylor",
    "channel_independence",
    "global_threshold",
    "timed_scores",
]
