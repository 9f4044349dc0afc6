"""Base of all distillation losses: a teacher, and one more term of the training loss."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pruning_lit.channels.state import state_tensors
from pruning_lit.phases.distillation.cache import OutputCache
from pruning_lit.tasks import Task
from pruning_lit.tasks.base import Batch, mean_counted

DENSE = "dense"  # the teacher that a run has anyway


class Distilled(NamedTuple):
    """A training step with a teacher.

    Attributes:
        outputs: of the network that learns.
        losses: terms of the loss by name, ``distillation`` the last; their sum is minimised.
        agreement: share of the choices among classes in which network and teacher are of one mind, a scalar.
    """

    outputs: Any
    losses: dict[str, Tensor]
    agreement: Tensor


class Distillation(ABC):
    """Knowledge distillation: a term of the training loss by which a network learns from a teacher.

    The teacher is in eval mode and gets no gradients. It is no part of the module that is trained: not of its
    parameters, its checkpoints, or averages of its weights.

    Args:
        teacher: ``dense``: the dense network of the run, as it was given by ``weights=`` or as its first phase has
            left it. Else whatever holds a network for the same classes: a network file, the folder of a run, a
            checkpoint, or weights of the network of the run.
        cache: ask the teacher once for every training example, when the phase begins, and keep what it answers, in
            float16; only where examples are the same in every epoch.

    Attributes:
        make_teacher: builds the teacher when the phase begins; set by the run.
        task_share: factor on the loss of the task.
    """

    task_share: float = 1.0

    def __init__(self, teacher: str = DENSE, cache: bool = False) -> None:
        self.teacher = teacher
        self.cache = cache
        self.make_teacher: Callable[[], nn.Module] | None = None
        self.net: nn.Module | None = None
        self.answers: OutputCache | None = None  # of the teacher, where they are kept
        self.digest: str | None = None  # of the teacher's weights; of the one before, in a phase that goes on

    def check(self, name: str, task: Task) -> None:
        """ValueError, before any training, where there is nothing to distil in a phase of that name."""
        if not task.has_logits:
            raise ValueError(
                f"{name}.distillation compares choices among classes, of images, pixels or points, and "
                f"task {type(task).__name__} makes none: leave it out, distillation=none"
            )

    def __str__(self) -> str:
        teacher = "the dense network" if self.teacher == DENSE else f"the network of {self.teacher}"
        return f"{teacher} as teacher (distillation={type(self).__name__.lower()})"

    def begin(self, device: torch.device, memory_format: torch.memory_format, dtype: torch.dtype) -> None:
        """Build the teacher, where and in the precision that the network is trained.

        Raises:
            ValueError: the phase was begun with another one.
        """
        assert self.make_teacher is not None, "a phase with distillation needs a teacher: set make_teacher"
        net = self.make_teacher().eval().requires_grad_(False)
        digest = weights_digest(net)
        if self.digest not in (None, digest):
            raise ValueError(
                f"distillation.teacher={self.teacher} is another network than the phase was begun with: put the former "
                "one back, or begin the phase again"
            )
        self.digest = digest
        self.net = net.to(device=device, dtype=dtype).to(memory_format=memory_format)

    def ask(self, examples: Iterable[tuple[Tensor, Batch]], num_examples: int, task: Task) -> None:
        """Keep what the teacher makes of all training examples, and let go of it; see ``OutputCache``."""
        assert self.net is not None
        self.answers = OutputCache(self.net, examples, num_examples, task)
        self.net = None

    def end(self) -> None:
        """Let go of the teacher, of what it has answered, and of their memory."""
        self.net = self.answers = None

    def step(self, net: nn.Module, batch: Batch, task: Task, positions: Tensor | None = None) -> Distilled:
        """Forward passes of network and teacher on a batch of training, and the terms of the loss.

        Args:
            net: the network that learns, in training mode.
            batch: as the network gets it, blended and augmented.
            task: knows what outputs are.
            positions: of the examples in the training part, ``(B,)``; needed where answers are kept.
        """
        teacher = self.net if self.answers is None or positions is None else self.answers.teacher(positions)
        assert teacher is not None
        outputs, learned = self.look(net, batch, task)
        with torch.no_grad():
            taught_outputs, taught = self.look(teacher, batch, task)
            logits = [task.logits(each, batch[1]) for each in (outputs, taught_outputs)]
            agreement = mean_of_rows(torch.eq(*(each.argmax(1) for each in logits)).float())
        losses = task.losses(outputs, batch[1], training=True)
        scaled = {name: self.task_share * loss for name, loss in losses.items()}
        return Distilled(outputs, scaled | {"distillation": self.loss(learned, taught)}, agreement)

    def look(self, net: nn.Module, batch: Batch, task: Task) -> tuple[Any, Any]:
        """Outputs of a network, and what of it is compared: its logits, in float32 at least."""
        outputs = task.outputs(net, batch)
        return outputs, precise(task.logits(outputs, batch[1]))

    @abstractmethod
    def loss(self, learned: Any, taught: Any) -> Tensor:
        """The term, a scalar, of what ``look`` has found in the network that learns, and in the teacher."""


def precise(values: Tensor) -> Tensor:
    """Values in float32, or in float64 where they are so: sums over classes or pixels go wrong in half precision."""
    return values if values.dtype == torch.float64 else values.float()


def mean_of_rows(values: Tensor) -> Tensor:
    """The mean over the rows of a batch of what lies in them added up, ``(N, …)``; 0 where there are none.

    Of pixels and points those have a row that count, so that processes have other numbers of them: they divide by what
    each has on average, as the losses of tasks do.
    """
    return mean_counted(values, values.new_tensor(float(len(values))), training=True)


def require_weight(name: str, value: float, least: float = 0.0, most: float = math.inf) -> float:
    """A finite number from ``least`` to ``most``; ValueError where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most or value == math.inf:
        bounds = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise ValueError(f"distillation.{name} must be a number {bounds}, got {value!r}")
    return float(value)


def require_temperature(value: float) -> float:
    """A finite number above 0; ValueError where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"distillation.temperature must be a number above 0, got {value!r}")
    return float(value)


def weights_digest(net: nn.Module) -> str:
    """SHA-256 of all parameters and buffers of a network, with their names and types."""
    found = hashlib.sha256()
    for name, values in state_tensors(net).items():
        found.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        found.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
