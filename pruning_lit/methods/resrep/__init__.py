"""ResRep: compactors whose rows are forgotten while the network keeps learning (Ding et al. 2021, arXiv 2007.03260).

``method=resrep`` has two phases: ``train``, and ``gradient_reset`` (``phase.py``), which puts compactors behind layers
(``placement.py``), pulls at their rows, and masks the gradients of a few more every so many steps (``row_masks.py``, by
``criterion.py`` and ``gradual.py``, at the pace of ``pace.py``) until the budget is met. When training is over,
``outcome.py`` says which rows are dead, and ``conversion.py`` folds compactors into their layers without them, exactly
(``constants.py``). ``section.py`` tells the report.
"""

from pruning_lit.methods.resrep.criterion import CompactorNorm
from pruning_lit.methods.resrep.phase import GradientReset
from pruning_lit.methods.resrep.row_masks import RowMasks

__all__ = ["CompactorNorm", "GradientReset", "RowMasks"]
