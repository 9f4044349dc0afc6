"""Tasks that networks learn: their losses and metrics. A phase does not know which task it trains."""

from pruning_lit.tasks.base import Primary, Task
from pruning_lit.tasks.classification import Classification, require_logits
from pruning_lit.tasks.detection import Detection, InstanceSegmentation
from pruning_lit.tasks.evaluation import Comparison, compare, evaluate
from pruning_lit.tasks.mixup import dominant
from pruning_lit.tasks.multi_label import MultiLabel
from pruning_lit.tasks.part_segmentation import PartSegmentation
from pruning_lit.tasks.point_classification import PointClassification
from pruning_lit.tasks.semantic_segmentation import SemanticSegmentation

__all__ = [
    "Classification",
    "Comparison",
    "Detection",
    "InstanceSegmentation",
    "MultiLabel",
    "PartSegmentation",
    "PointClassification",
    "Primary",
    "SemanticSegmentation",
    "Task",
    "compare",
    "dominant",
    "evaluate",
    "require_logits",
]
