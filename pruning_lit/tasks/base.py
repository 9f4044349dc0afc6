"""A task: the only place that knows what a batch, a loss, a metric and an output are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
import torch.distributed as dist
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from pruning_lit.channels.inputs import first_tensor
from pruning_lit.channels.tracing.operations import evaluating
from pruning_lit.records.primary import Primary
from pruning_lit.system.one_line import in_one_line

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

View = Callable[[nn.Module], nn.Module]  # the part of a network that is traced and pruned, see ``Task.view``
Batch = Any  # (inputs, targets), each a tensor, or a tuple, list or dict of tensors


class TaskData(Protocol):
    """Facts of a data module that a task reads."""

    example: Any

    @property
    def num_training(self) -> int:
        """Examples that are trained on."""
        ...

    def sample_targets(self) -> Any:
        """Targets of some training examples."""
        ...


class Task(ABC):
    """Loss, metrics, and what is asked of batches and networks.

    A batch is a pair ``(inputs, targets)``; what either is made of only the task knows.

    Attributes:
        primary: the metric that stands for all.
        facts: names of the data module's attributes that the constructor takes by the same names.
        section: dotted name of the class of its section in the report, see ``reports.section.TaskSection``; None: the
            table says all.
        loss_in_evaluation: whether a network in eval mode gives what a loss can be computed from.
        items: what examples are, in the plural.
        has_logits: whether networks choose among classes that exclude each other, see ``logits`` and ``right_classes``.
        maps_are_images: whether neighbouring elements of a feature map are neighbours in the input, as pixels are;
            criteria that look at the shape of maps ask for it.
        threshold: probability from which a class is found, where there may be any number; None: classes exclude others.
    """

    primary: ClassVar[Primary]
    loss_in_evaluation: ClassVar[bool] = True
    items: ClassVar[str] = "images"
    has_logits: ClassVar[bool] = False
    maps_are_images: ClassVar[bool] = True
    threshold: float | None = None
    section: ClassVar[str | None] = None
    facts: ClassVar[tuple[str, ...]] = ("num_classes",)

    def learn_from(self, data: TaskData) -> None:  # noqa: B027 (most tasks learn from batches alone)
        """Take what the loss needs to know of the training examples as a whole."""

    def prepare(self, batch: Batch) -> Batch:
        """Change a batch of training in front of the step, as mixup does; by default it stays as it is."""
        return batch

    @property
    def changes_batches(self) -> bool:
        """True where ``prepare`` changes batches."""
        return type(self).prepare is not Task.prepare

    def inputs(self, batch: Batch) -> Any:
        """The inputs of a batch, as the network takes them."""
        return batch[0]

    def size(self, batch: Batch) -> int:
        """Number of examples in a batch: the length of the first tensor of its inputs."""
        return len(first_tensor(batch[0]))

    def outputs(self, net: nn.Module, batch: Batch) -> Any:
        """Forward pass of the network on a batch; a tuple of inputs becomes several arguments."""
        return forward(net, self.inputs(batch))

    @abstractmethod
    def losses(self, outputs: Any, targets: Any, training: bool) -> dict[str, Tensor]:
        """Terms of the loss, by name; a phase minimises their sum.

        Args:
            outputs: of the network.
            targets: of the same batch.
            training: false in evaluation, which knows no smoothing and the like.

        Returns:
            Scalars; none in evaluation where networks of this task have a loss in training only.

        Raises:
            ValueError: these are no outputs for this task; some networks return others while they are trained.
        """

    def loss(self, net: nn.Module, batch: Batch, training: bool) -> dict[str, Tensor]:
        """Forward pass and terms of the loss in one, for criteria that need gradients."""
        return self.losses(self.outputs(net, batch), batch[1], training)

    def logits(self, outputs: Any, targets: Any) -> Tensor:
        """Logits of all choices among classes that exclude each other, for distillation.

        Args:
            outputs: of the network.
            targets: of the same batch; they say which pixels or points do not count.

        Returns:
            Shape ``(choices, classes)``: a choice is made for an image, a pixel or a point.
        """
        raise NotImplementedError(f"{type(self).__name__} makes no such choices")

    def right_classes(self, targets: Any) -> Tensor:
        """The right class of every choice that ``logits`` has, shape ``(choices,)``."""
        raise NotImplementedError(f"{type(self).__name__} makes no such choices")

    @abstractmethod
    def metrics(self, prefix: str = "", over_ranks: bool = True) -> "MetricCollection":
        """Fresh metrics, the primary one among them.

        Args:
            prefix: in front of the metrics' names.
            over_ranks: the processes add up what they have seen; else each computes for itself.
        """

    def metric_names(self) -> list[str]:
        """Names of the metrics, in the order in which tables have them."""
        return [*self.metrics().keys()]  # type: ignore[list-item]

    def train_metrics(self, prefix: str) -> "MetricCollection":
        """Fresh metrics of training batches; none where a network gives nothing but losses while it is trained."""
        return self.metrics(prefix)

    def update(self, metrics: "MetricCollection", outputs: Any, targets: Any) -> None:
        """Count a batch."""
        metrics.update(outputs, targets)

    @abstractmethod
    def require_outputs(self, outputs: Any, inputs: Any) -> None:
        """ValueError where a network's outputs are none for this task.

        Args:
            outputs: of the network for ``inputs``.
            inputs: as in a batch.
        """

    def require_targets(self, targets: Any, inputs: Any) -> None:  # noqa: B027 (a task may take any)
        """ValueError where a data set's targets are none for this task; by default all are taken.

        Args:
            targets: of some training examples.
            inputs: a batch of one, for the size of what it holds.
        """

    def require_fit(self, net: nn.Module, data: TaskData) -> None:
        """ValueError where targets, inputs and network do not fit this task and each other."""
        self.require_targets(data.sample_targets(), data.example)
        self.require_outputs(forward_once(net, data.example), data.example)

    def require_precision(self, net: nn.Module, precision: str) -> None:  # noqa: B027 (most tasks take any)
        """ValueError where a network of this task goes wrong in silence in a precision of the trainer.

        Args:
            net: the network.
            precision: as Lightning calls it, such as ``bf16-mixed``.
        """

    @staticmethod
    def view(net: nn.Module) -> nn.Module:
        """The part of the network that trace, cost, criteria, verification, latency and export look at."""
        return net

    @staticmethod
    def view_inputs(net: nn.Module, inputs: Any) -> list[Any]:
        """Inputs of a batch as the view of the network takes them, in one part or more: some are of different sizes."""
        return [inputs]

    @staticmethod
    def view_example(net: nn.Module, example: Any) -> Any:
        """Inputs of a batch of one for the view, by which the network is traced, counted and timed.

        Args:
            net: the network.
            example: of the data set.
        """
        return example

    @abstractmethod
    def changed(self, before: Any, after: Any) -> int:
        """Number of examples whose answer differs between the outputs of two networks."""


NUMBERED = "number classes from 0, and give dataset.num_classes, or num_classes of a data module of your own"


def is_integral(targets: Any) -> bool:
    """True for a tensor of integers of any width, or of true and false."""
    return isinstance(targets, Tensor) and not targets.is_floating_point() and not targets.is_complex()


def as_classes(targets: Tensor) -> Tensor:
    """Classes of any integer type as int64; shares of classes, and what is int64, are passed on."""
    return targets.long() if is_integral(targets) else targets


def refused_targets(targets: Any, task: str, needed: str, mend: str) -> ValueError:
    """One sentence on targets that are none for a task.

    Args:
        targets: of the data set.
        task: the name that chooses the task.
        needed: by the task: dtype, shape and range.
        mend: advice, unless the shape is that of another task, which then is advised.
    """
    found = f"of type {type(targets).__name__}"
    if isinstance(targets, Tensor):
        shape = ", ".join(["N", *map(str, targets.shape[1:])]) if targets.ndim > 1 else "N,"
        found = f"{str(targets.dtype).removeprefix('torch.')} of shape ({shape})"
        if targets.numel() and not targets.is_complex():
            values = as_classes(targets)
            found += f", {values.min().item():g} to {values.max().item():g}"
        other = {1: "classification", 2: "multi_label", 3: "semantic_segmentation"}.get(targets.ndim, task)
        if targets.ndim > 1 and targets.shape[1] == 1:
            mend = "leave out the axis of length 1, as target[0] does"
        elif other != task and (targets.ndim == 2 or is_integral(targets)):
            mend = f"choose task={other}"
    elif isinstance(targets, list | tuple) and targets and isinstance(targets[0], dict) and "boxes" in targets[0]:
        mend = "choose task=detection"
    return ValueError(f"the data set gives targets {found}; task={task} needs {needed}: {mend}")


def mean_counted(losses: Tensor, num_counted: Tensor, training: bool) -> Tensor:
    """The mean of losses of pixels or points over those that count; 0 where none does.

    Args:
        losses: of all of a batch, 0 where they do not count.
        num_counted: how many count, a scalar.
        training: processes divide by what each of them has on average, so that the mean of their gradients, which they
            take, is the gradient of all their batches as one.
    """
    number = num_counted.to(torch.promote_types(losses.dtype, torch.float32))
    if training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(number)
        number = number / dist.get_world_size()
    return losses.sum() / number.clamp(min=torch.finfo(number.dtype).tiny)


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """Sum of the terms of a loss."""
    return reduce(torch.add, losses.values())


def like(inputs: Any, weights: Tensor) -> Any:
    """Inputs on the device of the weights, floating ones in their precision."""

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(weights) if tensor.is_floating_point() else tensor.to(weights.device)

    return apply_to_collection(inputs, Tensor, moved)


def forward(net: nn.Module, inputs: Any) -> Any:
    """Forward pass; a tuple of inputs becomes several arguments."""
    return net(*inputs) if isinstance(inputs, tuple) else net(inputs)


def forward_once(net: nn.Module, example: Any) -> Any:
    """The outputs for ``example``; ValueError where the network does not take inputs of that shape."""
    try:
        with torch.no_grad(), evaluating(net):
            return forward(net, example)
    except Exception as error:  # whatever somebody's forward raises
        shape = tuple(first_tensor(example).shape[1:])
        raise ValueError(f"the network does not take images of shape {shape}: {in_one_line(error)}") from error
