"""Trial cuts: how good a network would be at given widths, right after the cut and before any further training."""

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch.distributed as dist
from torch import nn

from pruning_lit.channels import narrow
from pruning_lit.channels.inputs import first_tensor
from pruning_lit.criteria import Scoring
from pruning_lit.criteria.base import NeedsData
from pruning_lit.criteria.ranks import rank_and_world_size
from pruning_lit.sparsity.base import Scores, best
from pruning_lit.system.checksum import checksum
from pruning_lit.system.preemption import asked, leave_together
from pruning_lit.tasks import Task
from pruning_lit.tasks.base import like
from pruning_lit.tasks.evaluation import evaluate_on

Widths = Mapping[str, int]  # positions that stay, by group; groups that are not named stay whole


class Trial(NamedTuple):
    """Outcome of a trial cut.

    Attributes:
        metric: the primary metric of the task.
        loss: its loss; None where networks of the task have none in eval mode.
    """

    metric: float
    loss: float | None


class Renewal(Protocol):
    """Norm recalibration of a network that was cut, see ``callbacks.Recalibration``."""

    def renewer(self, data: Any, task: Task) -> Callable[[nn.Module], object]:
        """A function that renews the statistics of a network in place, always on the same images."""
        ...


class Trials:
    """Trial cuts of one network, each remembered: in memory, and in a file for a search that is killed and goes on.

    A copy is narrowed to the best channels of each group, its norms are recalibrated, and it is evaluated on training
    examples: those held out for validation where there are some, else some of those that were trained on. Network and
    data stay as they are. Every process makes its share of the trials, so that all have the same outcomes.

    Args:
        scoring: network, graph, data and task.
        scores: by which the channels of a group are chosen.
        renewal: of the norms' statistics; None: none, and what is seen is mainly their error, which training mends.
        file: JSON lines, one per trial; lines of other networks, scores, examples and settings are passed over.
        num_examples: that a copy is evaluated on; fewer where there are fewer.
        seed: of their choice.

    Raises:
        NeedsData: there are no data, or no task.
    """

    def __init__(
        self,
        scoring: Scoring,
        scores: Scores,
        renewal: Renewal | None,
        file: Path | None,
        num_examples: int,
        seed: int,
    ) -> None:
        data: Any = scoring.data
        task = scoring.task
        if task is None or not hasattr(data, "held_out"):
            raise NeedsData("trial cuts are evaluated on examples of a data module, and there is none")
        self.scoring, self.scores, self.task, self.file = scoring, scores, task, file
        self.renew = renewal.renewer(data, task) if renewal else lambda net: None
        size = data.batch_size * rank_and_world_size()[1]  # as large as a training step's, on however many processes
        self.batches = [*data.held_out(num_examples, seed, size)]
        self.num_examples = sum(task.size(batch) for batch in self.batches)
        self.part = "validation" if data.has_validation else "training"
        settings = f"{num_examples} {seed} {vars(renewal) if renewal else None}"
        weights = {f"net.{name}": each for name, each in scoring.net.state_dict().items()}
        # of another data set, or normalised in another way
        seen = {f"examples.{number}": first_tensor(each) for number, (each, _) in enumerate(self.batches[:1])}
        self.key = checksum(weights | seen | {f"scores.{name}": each for name, each in scores.items()}, settings)
        self.known = self._read()

    @cached_property
    def rough(self) -> "Trials":
        """Trials of the same network on half of the examples."""
        half = copy.copy(self)
        half.batches = self.batches[: math.ceil(len(self.batches) / 2)]
        half.num_examples = sum(self.task.size(batch) for batch in half.batches)
        half.key = f"{self.key}/2"
        half.known = half._read()
        return half

    def _read(self) -> dict[str, Trial]:
        """Trials that are in the file, by their widths."""
        if self.file is None or not self.file.exists():
            return {}
        return {line["widths"]: Trial(line["metric"], line["loss"]) for line in read_lines(self.file, self.key)}

    def of(self, candidates: Sequence[Widths]) -> list[Trial]:
        """Outcomes of cuts to these widths, in their order, the same on all ranks.

        Raises:
            Preempted: a signal has come to one of the ranks.
        """
        wanted = self.named(candidates)
        new = [name for name in wanted if name not in self.known]
        rank, world_size = rank_and_world_size()
        for first in range(0, len(new), world_size):  # in rounds, so that little is lost where the run ends
            mine = new[first : first + world_size][rank : rank + 1]
            made = [(name, self._make(wanted[name])) for name in mine]
            of_all = gathered((made, asked()))
            for name, trial in [each for of_rank, _ in of_all for each in of_rank]:
                self.known[name] = trial
                self._remember(name, trial)
            if any(to_leave for _, to_leave in of_all):  # what is made is kept, and nothing was trained meanwhile
                leave_together()
        return [self.known[self._name(widths)] for widths in candidates]

    def named(self, candidates: Sequence[Widths]) -> dict[str, Widths]:
        """Cuts by the names under which their trials are ``known``, each once."""
        return {self._name(widths): widths for widths in candidates}

    def _name(self, widths: Widths) -> str:
        """Widths as text; those of whole groups do not count."""
        graph = self.scoring.graph
        return json.dumps({name: width for name, width in sorted(widths.items()) if width < graph[name].size})

    def _make(self, widths: Widths) -> Trial:
        net = copy.deepcopy(self.scoring.net)
        kept = {name: best(self.scores[name], width) for name, width in widths.items()}
        narrow(self.task.view(net), self.scoring.graph, kept, rehearse=False)  # the cut that is made is rehearsed
        self.renew(net)
        from lightning_fabric.utilities import move_data_to_device  # late: loads most of Lightning

        weights = next(net.parameters())
        moved = ((like(inputs, weights), move_data_to_device(each, weights.device)) for inputs, each in self.batches)
        values = evaluate_on(net, moved, self.task)
        return Trial(values[self.task.primary.name], values.get("loss"))

    def _remember(self, name: str, trial: Trial) -> None:
        if self.file is not None and rank_and_world_size()[0] == 0:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"key": self.key, "widths": name, **trial._asdict()}) + "\n")


def read_lines(file: Path, key: str) -> list[dict[str, Any]]:
    """Lines of a file of trials that have the key; a last line that was cut off by a kill does not count."""
    lines = []
    for text in file.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line.get("key") == key:
            lines.append(line)
    return lines


def gathered(mine: Any) -> list[Any]:
    """Values of all ranks, in their order."""
    if not (dist.is_available() and dist.is_initialized()):
        return [mine]
    of_all: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(of_all, mine)
    return of_all


TrialMaker = Callable[[int, int], Trials]  # from the number of examples and the seed of their choice
