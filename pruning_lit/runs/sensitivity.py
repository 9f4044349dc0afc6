"""Sensitivity of the groups of a trained network: config -> data, network -> trial cuts -> table, picture, files."""

import csv
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from pruning_lit.callbacks import Recalibration
from pruning_lit.channels import trace
from pruning_lit.criteria import Criterion, Scoring, timed_scores
from pruning_lit.records.primary import Primary
from pruning_lit.reports.console import open_console
from pruning_lit.reports.sensitivity import sensitivity_figure, sensitivity_table
from pruning_lit.runs.evaluation import chosen_device
from pruning_lit.runs.experiment import build_network, build_task, open_data
from pruning_lit.runs.settings import comes_trained, require_seed
from pruning_lit.sparsity import DenseCost, Sparsity, parse_rates
from pruning_lit.sparsity.sensitivity import Drops, Probe, Sensitivity, at_shares
from pruning_lit.sparsity.trials import Trial, Trials
from pruning_lit.system.atomic import replacing, write_text
from pruning_lit.system.durations import in_words

log = logging.getLogger(__name__)


def measure(config: DictConfig, folder: Path) -> None:
    """Measure, and write ``sensitivity.csv``, ``.json`` and ``.png`` into ``folder``; go on with what is there.

    Raises:
        ValueError, FileNotFoundError: one sentence on what a user can mend.
    """
    require_seed(config.seed)
    if not comes_trained(config):
        raise ValueError("weights=… is missing: the sensitivity of a network that was never trained says nothing")
    rates = sorted(parse_rates([*config.rates]))
    if not 0 < config.stop_at <= 1:
        raise ValueError(f"stop_at must be a share above 0, up to 1, got {config.stop_at}")
    data: Any = open_data(config)
    task = build_task(config.task, data)
    net = build_network(config, data, task).eval().to(chosen_device(config.trainer.accelerator))
    criterion: Criterion = instantiate(config.criterion)
    sparsity: Sparsity = instantiate(config.sparsity)
    graph = criterion.protect(task.view(net), trace(task.view(net), data.example))
    groups, dense = sparsity.prunable_groups(graph), DenseCost.of(graph)
    if not groups:
        sparsity.check(graph)
    scoring = Scoring(net, graph, groups, data, task)
    renewal: Recalibration | None = instantiate(config.recalibrate)
    file = folder / "trials.jsonl"
    trials = Trials(scoring, timed_scores(criterion, scoring), renewal, file, config.num_examples, config.seed)
    began = time.monotonic()
    (whole,) = trials.of([{}])
    _tell(len(groups) * len(rates), len(trials.known), time.monotonic() - began)
    drops = Drops(whole, task.primary)
    probe = Probe(trials, groups, lambda widths: sparsity.allowed_widths(graph, dense, widths), drops)
    found = at_shares(probe, rates, config.stop_at)
    rows = as_rows(found, whole, task.primary)
    about = {
        "criterion": type(criterion).__name__,
        "weights": str(config.weights),
        "dataset": data.title,
        "num_examples": trials.num_examples,
        "held_out": data.has_validation,
        "seed": config.seed,
        "recalibrated": renewal is not None,
        "metric": task.primary.name,
        "whole": whole._asdict(),
    }
    write_text(folder / "sensitivity.json", json.dumps({**about, "points": rows}, indent=1) + "\n")
    write_csv(folder / "sensitivity.csv", rows)
    from pruning_lit.reports.plots import save  # late: what can be read is there before matplotlib is

    save(sensitivity_figure(found, whole, task.primary), folder / "sensitivity.png")
    console = open_console()
    console.print(sensitivity_table(found, whole, task.primary))
    seen = "validation" if data.has_validation else "training"
    console.print(f"On {trials.num_examples:,} {seen} examples. Channels go by {about['criterion']}.")
    console.print(f"written: {folder / 'sensitivity.csv'}, sensitivity.json, sensitivity.png", soft_wrap=True)


def _tell(most: int, made: int, seconds: float) -> None:
    done = f", {made - 1} of which are made" if made > 1 else ""
    times = in_words(seconds), in_words(most * seconds)
    log.info("at most %d trial cuts%s, each about %s, together %s", most, done, *times)


def as_rows(found: Mapping[str, Sensitivity], whole: Trial, primary: Primary) -> list[dict[str, Any]]:
    """A row of plain data per group and width, the whole width first."""
    rows = []
    for name, each in found.items():
        for width, trial in ((each.size, whole), *((point.width, point.trial) for point in each.points)):
            rows.append(
                {"group": name, "channels": each.size, "width": width, primary.name: trial.metric, "loss": trial.loss}
            )
    return rows


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of the same keys as a table."""
    with replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
