"""Sensitivity of the groups of a trained network: config -> data, network -> trial cuts -> table, picture, files."""

import csv
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig

from pruning_lit.callbacks import Recalibration
from pruning_lit.channels import Cost, cost_of_widths, trace
from pruning_lit.command_line.targets import allowed
from pruning_lit.criteria import Criterion, Scoring, timed_scores
from pruning_lit.records.primary import Primary
from pruning_lit.reports.console import open_console
from pruning_lit.reports.sensitivity import sensitivity_figure, sensitivity_table
from pruning_lit.runs.evaluation import chosen_device
from pruning_lit.runs.experiment import build_network, build_task, open_data
from pruning_lit.runs.settings import comes_trained, require_seed
from pruning_lit.runs.stored import open_if_ours
from pruning_lit.runs.threads import stay_within_quota
from pruning_lit.runs.weights_data import fit_data, settle_arch, settle_data
from pruning_lit.sparsity import DenseCost, Sparsity, parse_rates
from pruning_lit.sparsity.rates import width_after
from pruning_lit.sparsity.sensitivity import Drops, Probe, Sensitivity, at_shares
from pruning_lit.sparsity.trials import Trial, Trials
from pruning_lit.system.atomic import replacing, write_text
from pruning_lit.system.durations import in_words

log = logging.getLogger(__name__)


def measure(config: DictConfig, folder: Path, typed: Sequence[str] = ()) -> None:
    """Measure, and write ``sensitivity.csv``, ``.json`` and ``.png`` into ``folder``; go on with what is there.

    Args:
        config: see ``conf/sensitivity.yaml``; where it has no data set, that of the weights' run is looked at.
        folder: for the files.
        typed: the overrides as they were typed.

    Raises:
        ValueError, FileNotFoundError: one sentence on what a user can mend.
    """
    stay_within_quota()
    if (threads := config.trainer.get("threads")) is not None:
        torch.set_num_threads(threads)
    require_seed(config.seed)
    if not comes_trained(config):
        raise ValueError("weights=… is missing: the sensitivity of a network that was never trained says nothing")
    rates = asked_rates(config.rates)
    if not 0 < config.stop_at <= 1:
        raise ValueError(f"stop_at must be a share above 0, up to 1, got {config.stop_at}")
    if not isinstance(config.num_examples, int) or config.num_examples < 1:
        raise ValueError(f"num_examples must be a whole number of at least 1, got {config.num_examples!r}")
    stored = open_if_ours(config.weights, allowed(config, typed))
    assumed = settle_data(config, stored)
    settle_arch(config, stored, typed)
    data: Any = open_data(config)
    for note in fit_data(data, config.weights, stored, config.normalisation, assumed):
        log.warning("%s", note)
    task = build_task(config.task, data)
    net = build_network(config, data, task).eval().to(chosen_device(config.trainer.accelerator, "trainer.accelerator"))
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
    allow = partial(sparsity.allowed_widths, graph, dense)
    _tell(trials, [allow({each.name: width_after(each.size, rate)}) for rate in rates for each in groups])
    (whole,) = trials.of([{}])
    drops = Drops(whole, task.primary)
    found = at_shares(Probe(trials, groups, allow, drops), rates, config.stop_at)
    rows = as_rows(found, whole, task.primary, partial(cost_of_widths, graph))
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
    console.print(f"On {trials.num_examples:,} {seen} examples of {data.title}. Channels go by {about['criterion']}.")
    console.print(f"written: {folder / 'sensitivity.csv'}, sensitivity.json, sensitivity.png", soft_wrap=True)


def asked_rates(rates: Any) -> list[Fraction]:
    """Shares that are removed, ascending, of a list or of a single one; ValueError where there is none, or no share."""
    listed = sorted({*parse_rates([*rates] if isinstance(rates, ListConfig) else [rates])})
    if not listed:
        raise ValueError("rates=[] names no share that is to be removed: rates=0.5, or several, 'rates=[0.25,0.5]'")
    return listed


def _tell(trials: Trials, cuts: Sequence[Mapping[str, int]]) -> None:
    """Say how many trials there are at most, and how long those take that are left, by making the first of them."""
    named = trials.named([{}, *cuts])  # the whole network is tried, too
    left = [widths for name, widths in named.items() if name not in trials.known]
    if not left:
        log.info("all %d trials are made", len(named))
        return
    began = time.monotonic()
    trials.of(left[:1])
    seconds = time.monotonic() - began
    done = f", {len(named) - len(left)} of which are made" if len(left) < len(named) else ""
    times = in_words(seconds), len(left), in_words(len(left) * seconds)
    log.info("at most %d trials%s; each takes about %s, the %d that are left together %s", len(named), done, *times)


def as_rows(
    found: Mapping[str, Sensitivity], whole: Trial, primary: Primary, cost_at: Callable[[Mapping[str, int]], Cost]
) -> list[dict[str, Any]]:
    """A row of plain data per group and width, the whole width first, with the cost of the whole network there.

    Args:
        found: by group.
        whole: outcome of the whole network.
        primary: the metric.
        cost_at: cost of the network narrowed to widths.
    """
    rows = []
    for name, each in found.items():
        for width, trial in ((each.size, whole), *((point.width, point.trial) for point in each.points)):
            cost = cost_at({name: width})
            rows.append(
                {
                    "group": name,
                    "channels": each.size,
                    "width": width,
                    "macs": cost.macs,
                    "params": cost.params,
                    primary.name: trial.metric,
                    "loss": trial.loss,
                }
            )
    return rows


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of the same keys as a table."""
    with replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
