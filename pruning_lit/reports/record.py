"""Report of a run as plain data, written to and read from JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict

from pruning_lit.records.latency import Latency
from pruning_lit.records.primary import FORMER_METRIC, Primary
from pruning_lit.reports.former import present

JSON_NAME = "report.json"
FORMER_PRIMARY = Primary(FORMER_METRIC)  # of reports of earlier versions, which do not name it
Metrics = Mapping[str, float | None]


@dataclass(frozen=True)
class Figures:
    """One network in numbers.

    Args:
        params: number of parameters.
        macs: multiply-accumulates of one forward pass of one image.
        metrics: those of the task on the test part, by name, and the mean ``loss``; None: not measured. Values that
            are not finite are None.
        latency_ms: median wall time of a forward pass of the smallest batch measured here, in milliseconds.
        throughput: images per second in the largest batch measured here.
    """

    params: int
    macs: int
    metrics: Metrics | None = None
    latency_ms: float | None = None
    throughput: float | None = None


@dataclass(frozen=True)
class GroupRecord:
    """One group of channels, before and after all cuts.

    Args:
        name: the layer that makes the channels.
        size: number of output channels of that layer before.
        kept: number of output channels that stayed.
        protected: why the group may not be pruned, in words; ``None`` when it may.
        positions: which positions of the group stayed, ascending, as ``channels.narrow`` takes them; each is one
            channel, or the several that leave together; ``None`` when that is not recorded.
    """

    name: str
    size: int
    kept: int
    protected: str | None = None
    positions: list[int] | None = None


class PhaseRecord(TypedDict):
    """One phase of training: its name, number of epochs and wall time in seconds.

    Metrics are those on the test part, or None: ``metrics_after_cut`` right after the last cut in the phase,
    ``metrics`` as its last epoch left the network. ``taken_over_from`` names the run that has trained the phase
    where that was another one, ``pictures_per_step`` says in words how many images an optimizer step saw, ``batch``
    in numbers. Reports of earlier versions do not have all of these.
    """

    name: str
    epochs: int
    seconds: float
    metrics_after_cut: NotRequired[Metrics | None]
    metrics: NotRequired[Metrics | None]
    batch: NotRequired[Mapping[str, object] | None]
    pictures_per_step: NotRequired[str | None]
    taken_over_from: NotRequired[str | None]


class Best(TypedDict):
    """The epoch at the final width that was best on the validation part, and its checkpoint.

    ``validation`` is the primary metric there, None where it is not known; ``metrics`` are those on the test part. The
    path is relative to the folder of the report.
    """

    epoch: int
    validation: float | None
    metrics: Metrics | None
    path: str


@dataclass(frozen=True)
class Report:
    """Report of a run: networks before and after, groups, phases, and all that repeats it.

    Args:
        experiment: name of the run.
        seed: seed of everything random.
        before: the dense network.
        after: the pruned network at the end of the last epoch.
        primary: the metric of the task that stands for all in tables and pictures.
        items: what examples are, in the plural: images, clouds.
        metrics_after_cut: between the last cut and the training that follows; ``None`` when not measured.
        metrics_recalibrated: the same with new statistics of the batch norms; ``None`` where they are the old ones.
        cut_error: how far the narrowed network was from the masked one, see ``channels.verify``, the largest of all
            cuts; ``None`` when nothing was cut.
        best: the best epoch beside the last one; ``None`` without validation data.
        groups: every group of channels, in the order of the network.
        sections: data of what methods and criteria tell, see ``Section``, by its name.
        latency: forward times before and after, by batch size.
        notes: sentences a reader has to know.
        missed: sentences on budgets that were not met.
        command: the command line that repeats the run.
        versions: library to version.
        commits: checkout to commit, of this package and of the folder the run was started in.
        config: all settings, resolved, as plain nested data; empty in reports of earlier versions.
        hardware: where the run comes from.
        phases: what was trained, in order.
        choices: names of the chosen configurations: ``method``, ``sparsity``, ``arch``, ``dataset``, ``criterion``.
        own_network: the call that builds the dense network, such as ``mynet.Net(width=32)``, where a weight file is
            not trusted to name it; empty otherwise.
        date: when the report was made, ISO 8601.

    Raises:
        ValueError: a primary metric in per cent is not between 0 and 1.
    """

    experiment: str
    seed: int
    before: Figures
    after: Figures
    primary: Primary = FORMER_PRIMARY
    items: str = "images"
    metrics_after_cut: Metrics | None = None
    metrics_recalibrated: Metrics | None = None
    cut_error: float | None = None
    best: Best | None = None
    groups: list[GroupRecord] = field(default_factory=list)
    sections: dict[str, Any] = field(default_factory=dict)
    latency: list[Latency] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    hardware: str = ""
    phases: list[PhaseRecord] = field(default_factory=list)
    choices: dict[str, str] = field(default_factory=dict)
    own_network: str = ""
    date: str = field(default_factory=lambda: datetime.now().isoformat(timespec="seconds"))

    def __post_init__(self) -> None:
        for metrics in (self.before.metrics, self.after.metrics, self.metrics_after_cut, self.metrics_recalibrated):
            value = self.value(metrics)
            if self.primary.percent and value is not None and not (math.isfinite(value) and 0 <= value <= 1):
                raise ValueError(f"{self.primary.name} is a share between 0 and 1, got {value}")

    def value(self, metrics: Metrics | None) -> float | None:
        """The primary metric among ``metrics``; None where it is not known."""
        return None if metrics is None else metrics.get(self.primary.name)

    @property
    def reduction(self) -> dict[str, float | None]:
        """The share that is gone, ``1 - after / before``, of ``params``, ``macs`` and ``latency``.

        None: unknown, or in the case of the latency too noisy to tell.
        """
        smallest = min(self.latency, key=lambda each: each.batch_size, default=None)  # of which the figures tell
        noisy = smallest is not None and smallest.speedup is None
        return {
            "params": _reduction(self.before.params, self.after.params),
            "macs": _reduction(self.before.macs, self.after.macs),
            "latency": None if noisy else _reduction(self.before.latency_ms, self.after.latency_ms),
        }

    def to_json(self) -> str:
        """The report as JSON text, the computed reductions and speedups included."""
        latency = [asdict(each) | {"speedup": each.speedup} for each in self.latency]
        data = asdict(self) | {"latency": latency, "reduction": self.reduction, "config": in_json(self.config)}
        return json.dumps(data, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The report back from :meth:`to_json`; keys it does not know are ignored.

        Raises:
            ValueError: the text is not JSON, or not a report.
        """
        try:
            data = present(json.loads(text))
            known = {key: data[key] for key in (each.name for each in fields(cls)) if key in data}
            known |= {"before": Figures(**data["before"]), "after": Figures(**data["after"])}
            known |= {"primary": Primary(**data["primary"])} if "primary" in data else {}
            known |= {"latency": [Latency.from_dict(each) for each in data.get("latency", [])]}
            return cls(**known | {"groups": [GroupRecord(**group) for group in data.get("groups", [])]})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"the JSON is not that of a report ({type(error).__name__}: {error})") from error

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a ``report.json``, or the one in a run's folder.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the file is damaged.
        """
        path = Path(path)
        path = path / JSON_NAME if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"no report at {path}; expected the folder of a finished run or its {JSON_NAME}")
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{path} cannot be read as a report: {error}; resume=<folder> of the run writes it again"
            ) from error


def in_json(settings: Any) -> Any:
    """Nested settings for JSON, which knows no infinite number: it becomes text, ``inf``."""
    if isinstance(settings, dict):
        return {key: in_json(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [in_json(value) for value in settings]
    return str(settings) if isinstance(settings, float) and not math.isfinite(settings) else settings


def _reduction(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None or before == 0 else 1 - after / before
