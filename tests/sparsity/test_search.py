"""Search of widths: by made-up outcomes whose best answer is known, and by trial cuts of a real network."""

import copy
import json
from fractions import Fraction
from functools import cached_property

import pytest
import torch

from pruning_lit.callbacks import Recalibration
from pruning_lit.channels import cost_of_widths, narrow, trace
from pruning_lit.criteria import ColumnSubset, Magnitude, NeedsData, Scoring, Taylor
from pruning_lit.data import Digits
from pruning_lit.models import cifar_resnet
from pruning_lit.records.primary import Primary
from pruning_lit.sparsity import DenseCost, Macs, Search
from pruning_lit.sparsity.base import best
from pruning_lit.sparsity.search import Space
from pruning_lit.sparsity.sensitivity import Drops, Point, Sensitivity
from pruning_lit.sparsity.trials import Trial, Trials
from pruning_lit.tasks import Classification
from pruning_lit.tasks.evaluation import evaluate_on
from tests.sparsity.networks import noise, plain

WIDTHS = (16, 32, 16, 32)


class MadeUp:
    """Outcomes that a formula gives, in place of trial cuts: every group has a weight, and a width that suffices."""

    def __init__(self, weights, enough, sizes=WIDTHS):
        self.weights, self.enough, self.sizes = weights, enough, sizes
        self.known, self.rounds, self.num_examples, self.task = {}, [], 100, Classification(4)
        self.part = "training"

    @cached_property
    def rough(self):
        half = copy.copy(self)
        half.known = {}
        return half

    def loss(self, widths):
        lost = [max(0, self.enough[g] - widths.get(str(g), self.sizes[g])) / self.sizes[g] for g in range(4)]
        return 1 + sum(weight * share**2 for weight, share in zip(self.weights, lost, strict=True))

    def of(self, candidates):
        self.rounds.append(len(candidates))
        for widths in candidates:
            self.known[json.dumps(widths, sort_keys=True)] = None
        return [Trial(1 / self.loss(widths), self.loss(widths)) for widths in candidates]


def searched(trials, **settings):
    graph = plain(*WIDTHS)
    budget = Search(**{"reduction": 0.5, **settings}).with_trials(lambda num_examples, seed: trials)
    budget.check(graph)
    return graph, budget, budget.plan(graph, noise(graph))


def test_channels_go_where_they_are_missed_least():
    trials = MadeUp(weights=(100, 100, 0.1, 100), enough=(16, 8, 16, 32))
    graph, _, plan = searched(trials, reduction=0.7)
    assert plan.cost.macs <= 0.3 * cost_of_widths(graph, {}).macs
    assert plan.widths["0"] == 16
    assert plan.widths["3"] == 32
    assert plan.widths["1"] == 8  # the rest would be missed
    assert plan.widths["2"] < 8


def test_moves_only_ever_help_and_are_told():
    weights, enough = (3, 7, 2, 5), (16, 20, 16, 30)
    first, best = (searched(MadeUp(weights, enough), moves=moves) for moves in (0, 200))
    losses = [MadeUp(weights, enough).loss(plan.widths) for _, _, plan in (first, best)]
    assert losses[1] < losses[0]
    note = best[2].notes[0]
    assert f"(loss {losses[0]:.3g}) with the widths that follow from the sensitivity of each group alone" in note
    assert f"(loss {losses[1]:.3g}) with those found from there" in note


def test_a_search_begins_with_the_best_of_its_starts(monkeypatch):
    def loss_of(powers):
        monkeypatch.setattr("pruning_lit.sparsity.search.POWERS", powers)
        made_up = MadeUp((3, 7, 2, 5), (16, 20, 16, 30))
        return made_up.loss(searched(made_up, reduction=0.7, moves=0)[2].widths)

    losses = [loss_of((power,)) for power in (0.2, 1.0, 4.0)]
    assert losses[0] > min(losses)
    assert loss_of((0.2, 1.0, 4.0)) == min(losses)


def test_a_way_that_ends_above_the_target_is_no_start(monkeypatch):
    monkeypatch.setattr(Space, "narrowed", lambda self, found: dict(self.sizes))
    graph, _, plan = searched(MadeUp((3, 7, 2, 5), (16, 20, 16, 30)), moves=0)
    assert plan.cost.macs <= 0.5 * cost_of_widths(graph, {}).macs


def test_a_move_that_ends_above_the_target_is_none(monkeypatch):
    monkeypatch.setattr(Space, "moved", lambda self, *_: dict(self.sizes))  # which loses nothing
    trials = MadeUp(weights=(3, 7, 2, 5), enough=(16, 20, 16, 30))
    graph, _, plan = searched(trials, reduction=0.7, moves=8)
    assert plan.cost.macs <= 0.3 * cost_of_widths(graph, {}).macs


@pytest.mark.parametrize(("criterion", "scope"), [(Magnitude(), "layer"), (Taylor(), "knapsack")])
def test_it_is_never_worse_than_what_the_scores_alone_lead_to(criterion, scope):
    graph = plain(*WIDTHS)
    alone = Macs(0.5, scope).bind(criterion).plan(graph, noise(graph)).widths

    class OneIsBest(MadeUp):
        def loss(self, widths):
            return 0.5 if widths == alone else super().loss(widths)

    trials = OneIsBest((3, 7, 2, 5), (16, 20, 16, 30))
    budget = Search(0.5).bind(criterion).with_trials(lambda num_examples, seed: trials)
    plan = budget.plan(graph, noise(graph))
    assert plan.widths == alone
    assert "(loss 0.5) with the widths that follow from the scores alone" in plan.notes[0]


def test_the_number_of_trials_is_bounded_and_moves_are_shared_in_rounds():
    trials = MadeUp((3, 7, 2, 5), (16, 20, 16, 30))
    searched(trials, moves=10)
    assert trials.rounds == [1, 1, 4, 4, 4, 4, 4, 2]


def test_widths_keep_to_the_limits():
    settings = {"round_to": 8, "min_share": 0.5, "exclude": ["0"], "overrides": {"3": 0.25}, "reduction": 0.3}
    graph, budget, plan = searched(MadeUp((3, 7, 2, 5), (16, 20, 16, 30)), **settings)
    assert "0" not in plan.widths
    assert plan.widths["3"] == 24
    assert all(width % 8 == 0 and width >= size / 2 for width, size in ((plan.widths["1"], 32), (plan.widths["2"], 16)))
    assert budget.goal.met(graph, plan.widths, DenseCost.of(graph), Fraction(1))


def test_parameters_can_be_the_target():
    graph, _, plan = searched(MadeUp((3, 7, 2, 5), (16, 20, 16, 30)), of="params")
    assert 0.45 < plan.cost.params / cost_of_widths(graph, {}).params <= 0.5


def test_what_cannot_be_met_is_refused_before_any_training():
    with pytest.raises(ValueError, match=r"sparsity\.reduction=0\.9 cannot be met"):
        Search(0.9, min_share=0.9).check(plain(*WIDTHS))


def test_without_images_there_is_nothing_to_try():
    graph = plain(*WIDTHS)
    with pytest.raises(NeedsData, match="trial cuts, which need images"):
        Search(0.5).plan(graph, noise(graph))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"moves": -1}, r"sparsity\.moves must be a whole number of at least 0, got -1"),
        ({"of": "latency"}, r"sparsity\.of must be one of \['macs', 'params'\], got 'latency'"),
        ({"of": "params", "part": "backbone"}, "a budget of parameters is of whole networks"),
        ({"num_examples": 0}, r"sparsity\.num_examples must be a whole number of at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        Search(0.5, **settings)


def test_a_curve_that_dips_is_read_as_one_that_does_not():
    points = [Point(width, Trial(0.9, 1.0), drop, 0.1) for width, drop in ((12, 0.5), (8, 0.1), (4, 1.5))]
    curve = Sensitivity(16, points)
    assert [curve.drop(width) for width in (16, 14, 12, 8, 6, 4, 2)] == [0, 0.25, 0.5, 0.5, 1.0, 1.5, 2.0]
    assert Sensitivity(16, []).drop(12) == 0.25
    assert [Sensitivity(16, points, power=2).drop(width) for width in (16, 14, 12, 4)] == [0, 0.125, 0.25, 2.25]


def test_without_a_loss_the_metric_tells_in_its_direction():
    whole, worse = Trial(0.9, None), Trial(0.6, None)
    more_is_better, less_is_better = Primary("accuracy"), Primary("error", higher_is_better=False)
    assert Drops(whole, more_is_better).of(worse) == pytest.approx(0.3)
    assert Drops(whole, less_is_better).of(worse) == pytest.approx(-0.3)
    assert Drops(whole, more_is_better).lost(worse) == pytest.approx(1 / 3)
    assert Drops(Trial(0.9, 1.0), more_is_better).of(Trial(0.95, 3.0)) == 2.0


@pytest.fixture(scope="module")
def digits():
    data = Digits(batch_size=32, mean=[0.5] * 3, std=[0.5] * 3, val_fraction=0.2)
    data.setup()
    return data


def trials_of(data, file=None, num_examples=64, seed=0, criterion=None):
    torch.manual_seed(0)
    net = cifar_resnet(8).eval()
    graph = trace(net, data.example)
    scoring = Scoring(net, graph, graph.prunable, data, Classification(10))
    scores = (criterion or Magnitude()).scores(scoring)
    return Trials(scoring, scores, Recalibration(batches=1, batch_size=32), file, num_examples, seed)


def test_a_trial_is_the_cut_with_recalibrated_norms_on_validation_images(digits):
    trials = trials_of(digits)
    before = {name: value.clone() for name, value in trials.scoring.net.state_dict().items()}
    (found,) = trials.of([{"layer1.0.conv1": 5, "conv1": 9}])
    assert all(torch.equal(value, before[name]) for name, value in trials.scoring.net.state_dict().items())
    net, graph, scores = copy.deepcopy(trials.scoring.net), trials.scoring.graph, trials.scores
    narrow(net, graph, {name: best(scores[name], width) for name, width in {"layer1.0.conv1": 5, "conv1": 9}.items()})
    Recalibration(batches=1, batch_size=32).renew(net, digits, trials.task)
    chosen = [*digits.held_out(64, 0)]
    values = evaluate_on(net, chosen, trials.task)
    assert found == Trial(values["accuracy"], values["loss"])
    validation = digits.parts.validation
    every = torch.cat([digits.ready(batch)[0] for batch in digits.val_dataloader()])
    assert len(every) == len(validation)
    for images, _ in chosen:
        assert all(any(torch.equal(image, other) for other in every) for image in images[:5])


def test_trials_are_remembered_by_network_scores_and_settings(digits, tmp_path):
    file = tmp_path / "trials.jsonl"
    trials = trials_of(digits, file)
    candidates = [{"layer1.0.conv1": 5}, {"layer1.0.conv1": 16}, {}]
    outcomes = trials.of(candidates)
    assert outcomes[1] == outcomes[2]  # whole is whole
    assert len(file.read_text().splitlines()) == 2
    with file.open("a") as lines:
        lines.write('{"key": "')  # a kill while it was written
    again = trials_of(digits, file)
    again._make = None  # nothing is tried again
    assert again.of(candidates) == outcomes
    assert not trials_of(digits, file, seed=1).known
    assert not trials_of(digits, file, criterion=ColumnSubset()).known
    assert not trials_of(digits, file, num_examples=32).known
