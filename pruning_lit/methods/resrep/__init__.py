"""ResRep: compactors whose rows are forgotten while the network keeps learning (Ding et al. 2021, arXiv 2007.03260)."""

from pruning_lit.methods.resrep.criterion import CompactorNorm
from pruning_lit.methods.resrep.phase import GradientReset
from pruning_lit.methods.resrep.row_masks import RowMasks

__all__ = ["CompactorNorm", "GradientReset", "RowMasks"]
