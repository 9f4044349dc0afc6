"""What is learned: loss and metrics. A phase does not know which task it trains."""

from pruning_lit.tasks.classification import Classification, require_logits
from pruning_lit.tasks.evaluation import evaluate

__all__ = ["Classification", "evaluate", "require_logits"]
