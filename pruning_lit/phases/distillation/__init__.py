"""Knowledge distillation: what a network learns from a teacher, beside the task; a file per loss."""

from pruning_lit.phases.distillation.attention import Attention
from pruning_lit.phases.distillation.base import Distillation
from pruning_lit.phases.distillation.dist import Dist
from pruning_lit.phases.distillation.dkd import Dkd
from pruning_lit.phases.distillation.logits import Logits
from pruning_lit.phases.distillation.mse import Mse

__all__ = ["Attention", "Dist", "Distillation", "Dkd", "Logits", "Mse"]
