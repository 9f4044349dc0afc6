import torch
from torch import nn

from pruning_lit.callbacks.pruning import record_cut
from pruning_lit.channels import cost, trace
from pruning_lit.records.cut import CutRecord
from pruning_lit.sparsity.limits import Limits

COMMON = {
    "epoch": 3,
    "kept": {"a": [0]},
    "gone": {"a.weight": [1]},
    "groups": [],
    "macs": 5,
    "notes": ["x"],
    "error": 0.1,
}
#: Of former checkpoints: a scheduled cut, the end of an exploration, and a conversion, which had no parameters.
SCHEDULED = COMMON | {
    "params": 7, "scores": {"a": torch.tensor([1.0, 0.0])}, "threshold": 0.5, "evidence": {"a": {"decider": "a"}},
    "planned": {"macs": 5, "params": 7}, "accuracy_before": 0.9, "accuracy_after": 0.8,
}  # fmt: skip
EXPLORED = COMMON | {"params": 7, "accuracy_before": None, "accuracy_after": 0.8, "exploration": {"unit": "epochs"}}
CONVERTED = COMMON | {"accuracy_before": 0.9, "accuracy_after": 0.9, "compaction": {"forced": False}}


def test_cuts_of_former_checkpoints_are_read():
    scheduled, explored, converted = map(CutRecord.of_state, (SCHEDULED, EXPLORED, CONVERTED))
    for each in (scheduled, explored, converted):
        assert {key: getattr(each, key) for key in COMMON} == COMMON
    assert (scheduled.metrics_before, scheduled.metrics_after) == ({"accuracy": 0.9}, {"accuracy": 0.8})
    assert scheduled.details["scores"] == {"scores": SCHEDULED["scores"], "threshold": 0.5}
    assert scheduled.details["redundancy"] == {"a": {"decider": "a"}}
    assert (explored.metrics_before, explored.details) == (None, {"exploration": {"unit": "epochs"}})
    assert (converted.params, converted.details) == (None, {"compaction": {"forced": False}})


def test_a_cut_is_recorded_once_and_comes_back_from_a_checkpoint(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    graph = trace(net, torch.zeros(1, 1, 3, 3))
    made = record_cut(
        graph, {"0": [1, 3]}, Limits(exclude=["nothing"]), epoch=2, cost=cost(graph, {"0": [1, 3]}), error=1e-7,
        notes=["one"], after={"accuracy": 0.5}, scores={"scores": {"0": torch.rand(4)}, "threshold": None},
    )  # fmt: skip
    assert made.gone == {"0.weight": [0, 2]}
    assert [(each["name"], each["size"], each["protected"] is None) for each in made.groups] == [
        ("0", 4, True), ("2", 2, False),
    ]  # fmt: skip
    torch.save(made.state(), tmp_path / "cut.pt")
    assert CutRecord.of_state(torch.load(tmp_path / "cut.pt", weights_only=True)).state().keys() == made.state().keys()
    assert CutRecord.of_state(made.state()) == made
