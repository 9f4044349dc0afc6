"""What is learned: loss and metrics. A phase does not know which task it trains."""

from pruning_lit.tasks.base import Primary, Task
from pruning_lit.tasks.classification import Classification, require_logits
from pruning_lit.tasks.evaluation import Comparison, compare, evaluate
from pruning_lit.tasks.mixup import dominant

__all__ = ["Classification", "Comparison", "Primary", "Task", "compare", "dominant", "evaluate", "require_logits"]
