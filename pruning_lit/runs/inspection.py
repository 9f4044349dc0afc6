"""A look at a network before it is pruned: config -> network -> channel groups -> what a cut would do.

Lightning is not loaded: it takes longer than all the rest, and nothing is trained.
"""

import re
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig
from torch import nn

from pruning_lit.channels import ChannelGraph, cost, insert_scatters, insert_selections, trace
from pruning_lit.channels.inputs import first_tensor
from pruning_lit.criteria import Criterion, Magnitude, NeedsData, NeedsTraining, Scoring
from pruning_lit.reports.console import open_console
from pruning_lit.reports.groups import (
    CONVENTION,
    TOGETHER,
    cost_table,
    layers_table,
    leave_together,
    planned_groups,
    prediction_table,
    rewritten_numbers,
)
from pruning_lit.runs.builder import build
from pruning_lit.runs.expected import expected_input
from pruning_lit.runs.settings import asked_phases, require_seed
from pruning_lit.runs.stored import fill
from pruning_lit.sparsity import Plan, Sparsity
from pruning_lit.tasks.base import forward_once
from pruning_lit.tasks.kinds import task_kind

ORDINARY = "pruning_lit.phases.Training"  # of which nothing can be predicted


def inspect(config: DictConfig, folder: Path) -> None:
    """Print the groups, and with a sparsity the plan; write ``widths.png`` into ``folder``.

    Raises:
        ValueError, FileNotFoundError: one sentence on what a user can mend.
    """
    require_seed(config.seed)
    named = groups_named()
    torch.manual_seed(config.seed)
    images = expected_input(config, "dataset" in named)
    net = build(config.arch, images.num_classes)
    weights = config.weights if "weights" in named else None  # those of an experiment might have to be downloaded
    kind = task_kind(net, config.get("task") if named & {"dataset", "task"} else None)
    whole, net = net, kind.view(net)
    example = kind.view_example(whole, torch.zeros(1, *images.shape))
    forward_once(net, example)
    if config.channel_selection:
        insert_selections(net, example)
    if config.channel_scatter:
        insert_scatters(net, example)
    if weights is not None:
        fill(whole, weights, example, kind.view, bool(config.get("new_head")))
    graph = trace(net, example)
    sparsity: Sparsity | None = instantiate(config.sparsity) if "sparsity" in named else None
    if sparsity is not None or named & {"criterion", "method"}:
        criterion: Criterion = instantiate(config.criterion)
        criterion.require_task(kind)
        graph = criterion.protect(net, graph)
    plan, scored_by, refused, notes = None, "", None, []
    for recipe in filter(None, map(config.get, asked_phases(config))):
        if recipe._target_ != ORDINARY:
            preview = get_class(recipe._target_).preview  # type: ignore[attr-defined]
            graph, sparsity, more = preview(net, graph, instantiate(config.criterion), sparsity, recipe)
            notes += more
    if sparsity is not None:
        try:
            plan, scored_by = make_plan(config, sparsity, net, graph)
        except ValueError as error:
            refused = error  # told last: the tables say what could be asked for instead
    reasons = {group.name: sparsity.limits.why_whole(group) for group in graph.groups} if sparsity else None
    console, counted = open_console(), cost(graph)
    shape = "×".join(map(str, first_tensor(example).shape[1:]))
    arch = HydraConfig.get().runtime.choices.get("arch") or config.arch._target_  # one's own network is no choice
    console.print(f"{arch} for {kind.items} of {shape} ({images.source})")
    console.print(f"{counted.params:,} parameters, {counted.macs:,} MACs, {len(graph.groups)} groups of channels")
    console.print(cost_table(graph, plan.widths if plan else None))
    console.print(CONVENTION)
    if leave_together(graph):
        console.print(TOGETHER)
    console.print(layers_table(graph, reasons, console.width))
    if graph.not_followed:
        console.print(f"Not followed: {graph.not_followed}.", soft_wrap=True)
    if graph.numbers:
        console.print(rewritten_numbers(graph))
    if plan is not None:
        console.print(prediction_table(plan.dense, plan.cost))
        source = f"of {weights}" if weights is not None else "fresh; weights=<file> takes trained ones"
        for line in (f"Scores: {scored_by}. Weights: {source}.", *notes, *plan.notes):
            console.print(line)
    from pruning_lit.reports.plots import save, widths_figure  # late: what can be read is there before matplotlib is

    save(widths_figure(planned_groups(graph, plan.kept if plan else {}, reasons)), folder / "widths.png")
    console.print(f"widths: {folder / 'widths.png'}", soft_wrap=True)
    if refused is not None:
        raise refused


def groups_named() -> set[str]:
    """Keys that the command line sets itself, without the defaults; an experiment names its data and sparsity."""
    hydra = HydraConfig.get()
    named = {re.split(r"[.=@]", word.lstrip("+~/"))[0] for word in hydra.overrides.task}
    return named | ({"dataset", "sparsity"} if hydra.runtime.choices.get("experiment") else set())


def make_plan(config: DictConfig, sparsity: Sparsity, net: nn.Module, graph: ChannelGraph) -> tuple[Plan, str]:
    """Plan of the sparsity, and the scores it went by in words; ValueError where it cannot be met."""
    criterion: Criterion = instantiate(config.criterion)
    sparsity = sparsity.bind(criterion)
    sparsity.check(graph)
    scoring = Scoring(net, graph, sparsity.prunable_groups(graph))
    try:
        scores = criterion.scores(scoring)
        told = type(criterion).__name__
    except NeedsData:
        try:
            sparsity = sparsity.bind(Magnitude())
        except ValueError:
            raise ValueError(
                "what this sparsity keeps depends on images, which are not looked at here; choose one that goes by "
                "scores, such as sparsity=macs_50, or see what a run cuts: debug=quick makes a short one"
            ) from None
        scores = Magnitude().scores(scoring)
        name = type(criterion).__name__
        told = f"magnitude (sum of absolute weights), since {name} needs images; a run finds other widths"
    except NeedsTraining:
        scores = Magnitude().scores(scoring)
        sparsity = sparsity.bind(Magnitude())
        told = f"magnitude (sum of absolute weights), since {type(criterion).__name__} needs training"
    return sparsity.plan(graph, scores), told
