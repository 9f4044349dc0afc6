"""A budget of milliseconds: widths by a table of layer times, the same whenever they are chosen."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from pruning_lit.channels import cost_of_widths, macs_by_layer, trace
from pruning_lit.criteria import NeedsData
from pruning_lit.measure.layer_times import grid, layer_kinds
from pruning_lit.measure.onnx_network import has_onnx
from pruning_lit.models import cifar_resnet
from pruning_lit.records.latency import Timing
from pruning_lit.sparsity import DenseCost, Latency, LatencySearch, Macs, Search
from pruning_lit.sparsity import clock as clock_module
from pruning_lit.sparsity.clock import Clock, machine
from pruning_lit.sparsity.latency_table import LatencyTable
from pruning_lit.sparsity.trials import Trial
from pruning_lit.tasks import Classification
from tests.sparsity.networks import noise

EXAMPLE = torch.zeros(1, 3, 32, 32)
BATCH = 64


def built() -> tuple:
    torch.manual_seed(0)
    net = cifar_resnet(8).eval()
    return net, trace(net, EXAMPLE)


def proportional_to_macs(graph, **changes) -> LatencyTable:
    """A table in which every layer takes a millisecond for a thousand multiply-accumulates, at four pairs of widths."""
    kinds, times = {}, {}
    for layer, macs in macs_by_layer(graph).items():
        out, width = graph.shapes[f"{layer}.weight"][:2]
        each = macs / 1000 / out / width
        kinds[layer] = layer
        times[layer] = {a: {b: each * a * b for b in (1, width)} for a in (1, out)}
    groups = {group.name: group.size for group in graph.groups}
    whole = {group.name: group.size for group in graph.prunable}
    networks = [{"widths": whole, "ms": cost_of_widths(graph, {}).macs / 1000}]
    facts = {"machine": machine(torch.device("cpu"), BATCH, "3×32×32"), "networks": networks}
    return LatencyTable(**{**facts, "groups": groups, "kinds": kinds, "times": times, **changes})


@pytest.fixture
def untimed(monkeypatch):
    """No network is measured: passes are too far apart to tell."""
    monkeypatch.setattr(Clock, "_time", lambda *_: Timing(1.0, 0.5, 1.5))


@pytest.fixture
def clock_of(tmp_path):
    """A clock of a network with this table in its file."""

    def make(net, graph, table: LatencyTable | None) -> Clock:
        file = tmp_path / "latency_table.json"
        if table is not None:
            table.write(file)
        return Clock(net, graph, EXAMPLE, file)

    return make


@pytest.mark.parametrize("scope", ["layer", "global", "knapsack"])
@pytest.mark.parametrize("round_to", [1, 8])
def test_times_proportional_to_macs_choose_what_a_budget_of_macs_does(clock_of, untimed, scope, round_to):
    net, graph = built()
    scores, clock = noise(graph), clock_of(net, graph, proportional_to_macs(graph))
    for reduction in ("0.2", "0.45", "0.7"):
        limits = {"scope": scope, "round_to": round_to}
        by_time = Latency(reduction, **limits).with_clock(clock).kept(graph, scores)
        assert by_time == Macs(reduction, **limits).kept(graph, scores)


def test_a_search_by_such_times_finds_what_a_search_by_macs_does(clock_of, untimed):
    net, graph = built()
    scores, clock = noise(graph), clock_of(net, graph, proportional_to_macs(graph))

    class Trials:
        known, num_examples, part, task = {}, 10, "training", Classification(10)
        rough = property(lambda self: self)

        def of(self, candidates):
            loss = [sum(len(name) * (graph[name].size - width) / graph[name].size for name, width in each.items())
                    for each in candidates]  # fmt: skip
            return [Trial(1 / (1 + each), each) for each in loss]

    by_macs = Search("0.5").with_trials(lambda num_examples, seed: Trials()).plan(graph, scores)
    by_time = LatencySearch("0.5").with_clock(clock).with_trials(lambda num_examples, seed: Trials())
    found = by_time.plan(graph, scores)
    assert found.kept == by_macs.kept
    assert found.notes[0].startswith("Widths were searched by")
    assert found.notes[1].startswith("Latency of a batch of 64")


def test_half_of_the_milliseconds_are_half_of_the_latency(clock_of, untimed):
    net, graph = built()
    scores, table = noise(graph), proportional_to_macs(graph)
    clock = clock_of(net, graph, table)
    by_share = Latency(0.5).with_clock(clock).kept(graph, scores)
    assert Latency(0.1, milliseconds=table.dense_ms / 2).with_clock(clock).kept(graph, scores) == by_share
    whole = Latency(milliseconds=2 * table.dense_ms).with_clock(clock).plan(graph, scores)
    assert "The dense network takes no more than the" in whole.notes[0]
    with pytest.raises(ValueError, match=r"sparsity\.milliseconds=0\.001 cannot be met"):
        Latency(milliseconds=0.001).with_clock(clock).plan(graph, scores)
    assert whole.cost == whole.dense


@pytest.mark.parametrize("slower", [0.7, 1.5])
def test_a_prediction_that_is_far_off_is_corrected_and_the_file_repeats_the_choice(clock_of, monkeypatch, slower):
    net, graph = built()
    scores, table = noise(graph), proportional_to_macs(graph)
    asked = []

    def time(self, widths, *_):
        asked.append(dict(widths))
        milliseconds = slower * table.predicted_ms(graph, widths)
        return Timing(milliseconds, milliseconds, milliseconds)

    monkeypatch.setattr(Clock, "_time", time)
    clock = clock_of(net, graph, table)
    plan = Latency(0.5).with_clock(clock).plan(graph, scores)
    assert len(asked) == 2  # the first choice, and the corrected one, which is met
    reached = slower * table.predicted_ms(graph, plan.widths)
    assert reached <= table.dense_ms / 2
    assert reached > 0.4 * table.dense_ms
    told = next(each for each in plan.notes if each.startswith("Latency"))
    assert f"measured {reached:.3g} ms" in told
    again = Latency(0.5).with_clock(Clock(net, graph, EXAMPLE, clock.file)).plan(graph, scores)
    assert (again.kept, again.notes, len(asked)) == (plan.kept, plan.notes, 2)  # read, not measured


def test_a_schedule_goes_its_way_in_milliseconds(clock_of, untimed):
    net, graph = built()
    table, dense = proportional_to_macs(graph), DenseCost.of(graph)
    budget = Latency(0.5, round_to=1).with_clock(clock_of(net, graph, table))
    for progress in (Fraction(1, 2), Fraction(1)):
        widths = budget.widths(graph, noise(graph), dense, progress)
        most = table.dense_ms * float(1 - progress / 2)
        assert 0.9 * most < table.predicted_ms(graph, widths) <= most


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"device": "a toaster"}, "are of device a toaster, here it is"),
        ({"threads": 99}, "are of threads 99, here it is"),
        ({"batch size": 1}, "are of batch size 1, here it is 64"),
    ],
)
def test_a_table_of_another_machine_is_refused_by_name(clock_of, tmp_path, changes, expected):
    net, graph = built()
    here = machine(torch.device("cpu"), BATCH, "3×32×32")
    proportional_to_macs(graph, machine=here | changes).write(tmp_path / "given.json")
    budget = Latency(0.5, table=str(tmp_path / "given.json")).with_clock(clock_of(net, graph, None))
    with pytest.raises(ValueError, match=expected):
        budget.plan(graph, noise(graph))


def test_a_table_of_another_network_is_refused(clock_of, tmp_path):
    net, graph = built()
    proportional_to_macs(graph, groups={"conv1": 4}).write(tmp_path / "given.json")
    budget = Latency(0.5, table=str(tmp_path / "given.json")).with_clock(clock_of(net, graph, None))
    with pytest.raises(ValueError, match="are of another network, of 1 groups of channels with 4 channels"):
        budget.plan(graph, noise(graph))


def test_a_table_that_is_missing_or_none_is_refused_before_any_training(tmp_path):
    _, graph = built()
    with pytest.raises(FileNotFoundError, match=r"there is no table of layer times 'nowhere\.json'"):
        Latency(table="nowhere.json").check(graph)
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(ValueError, match="is no table of layer times"):
        Latency(table=str(tmp_path / "none.json")).check(graph)


def test_a_busy_machine_is_refused_as_no_table_could_be_made(clock_of, monkeypatch):
    net, graph = built()
    monkeypatch.setattr(Clock, "_time", lambda *_: Timing(10.0, 8.0, 12.0))
    monkeypatch.setattr(clock_module, "layer_kinds", lambda *_: layers_that_take_no_time(net, graph))
    clock = clock_of(net, graph, None)
    with pytest.raises(ValueError, match=r"the machine is busy: passes of one network take 8\.00 to 12\.0 ms|busy"):
        Latency(0.5).with_clock(clock).plan(graph, noise(graph))
    assert not clock.file.exists()


def layers_that_take_no_time(net, graph):
    found = layer_kinds(net, EXAMPLE, list(macs_by_layer(graph)))
    for kind in found.values():
        object.__setattr__(kind, "milliseconds", lambda *_: 1.0)
    return found


def test_a_table_is_measured_kept_and_fitted_on_whole_networks(clock_of, monkeypatch):
    net, graph = built()
    truth = proportional_to_macs(graph)

    def time(self, widths, *_):
        milliseconds = 5 + 3 * truth.layers_ms(graph, widths)
        return Timing(milliseconds, milliseconds, milliseconds)

    monkeypatch.setattr(Clock, "_time", time)
    kinds = layer_kinds(net, EXAMPLE, list(macs_by_layer(graph)))
    assert kinds.keys() == macs_by_layer(graph).keys()
    macs = {kind.name: macs_by_layer(graph)[name] / 1000 / kind.outs / kind.ins for name, kind in kinds.items()}
    for kind in kinds.values():
        object.__setattr__(kind, "milliseconds", lambda out, width, *_, kind=kind: macs[kind.name] * out * width)
    monkeypatch.setattr(clock_module, "layer_kinds", lambda *_: kinds)
    clock = clock_of(net, graph, None)
    table = clock.table(BATCH, 8, DenseCost.of(graph).sizes, None)
    assert (table.intercept, table.factor) == (pytest.approx(5, rel=1e-6), pytest.approx(3, rel=1e-6))
    assert LatencyTable.read(clock.file) == table
    assert json.loads(clock.file.read_text())["machine"]["batch size"] == BATCH


def test_layers_are_really_timed_and_grids_are_of_multiples():
    net, graph = built()
    kinds = layer_kinds(net, EXAMPLE, list(macs_by_layer(graph)))
    kind = kinds["layer2.0.conv1"]
    assert (kind.outs, kind.ins, kind.sample) == (32, 16, (32, 32))
    assert kind.milliseconds(8, 16, 2, torch.device("cpu")) > 0
    assert grid(64, 8) == [16, 24, 40, 48, 64]
    assert grid(3, 1) == [1, 2, 3]
    assert grid(10, 8) == [8, 10]


def test_without_a_run_there_is_nothing_to_measure():
    _, graph = built()
    with pytest.raises(NeedsData, match="a budget of milliseconds is met by the times of a network"):
        Latency(0.5).plan(graph, noise(graph))


@pytest.mark.skipif(not has_onnx(), reason="needs the extra 'onnx'")
def test_layers_and_networks_are_timed_in_onnx_runtime_where_it_is_asked_for(clock_of):
    net, graph = built()
    kind = layer_kinds(net, EXAMPLE, list(macs_by_layer(graph)))["layer2.0.conv1"]
    assert kind.milliseconds(8, 16, 2, torch.device("cpu"), onnx=True) > 0
    table = proportional_to_macs(graph, machine=machine(torch.device("cpu"), BATCH, "3×32×32", onnx=True))
    budget = Latency(0.5, runtime="onnx").with_clock(clock_of(net, graph, table))
    widths = {group.name: group.size // 2 for group in graph.prunable}
    assert budget.clock.onnx
    assert budget.clock.timed(table, widths).network(widths) is not None
    with pytest.raises(ValueError, match="are of runtime ONNX Runtime, here it is PyTorch"):
        clock_of(net, graph, table).timed(table, {**widths, "conv1": 3})


def test_onnx_runtime_that_is_not_there_is_told_before_any_training(monkeypatch):
    monkeypatch.setattr("pruning_lit.sparsity.latency.has_onnx", lambda: False)
    with pytest.raises(ValueError, match=r"pip install 'pruning_lit\[onnx\]'"):
        Latency(0.5, runtime="onnx").check(built()[1])


def test_work_beside_that_slows_all_alike_does_not_count(clock_of, monkeypatch):
    net, graph = built()
    table = proportional_to_macs(graph)
    monkeypatch.setattr(clock_module, "seconds_in_turns", lambda *_: [[0.2] * 5, [0.1] * 5])
    widths = {group.name: group.size // 2 for group in graph.prunable}
    timed = clock_of(net, graph, table).timed(table, widths)
    assert timed.network(widths)["ms"] == pytest.approx(table.dense_ms / 2)


@pytest.mark.parametrize(
    "words", [{"runtime": "tflite"}, {"milliseconds": 0}, {"milliseconds": -1.0}, {"batch_size": 0}, {"part": "layer1"}]
)
def test_settings_out_of_their_range_are_refused(words):
    with pytest.raises(ValueError, match=r"sparsity\.(runtime|milliseconds|batch_size|part)"):
        Latency(**words)


def test_a_kept_table_of_other_batches_is_measured_anew(clock_of, monkeypatch):
    net, graph = built()
    kept = proportional_to_macs(graph)
    clock = clock_of(net, graph, kept)
    measured = replace(kept, intercept=1.0)
    monkeypatch.setattr(Clock, "_measured", lambda *_: measured)
    assert clock.table(BATCH, 8, DenseCost.of(graph).sizes, None) == kept
    assert clock.table(BATCH + 1, 8, DenseCost.of(graph).sizes, None) == measured
    assert LatencyTable.read(clock.file) == measured
