"""A budget of milliseconds in a run: what was measured is kept, and decides on any processes and when resumed."""

import json
import shutil
from dataclasses import replace

import torch

from pruning_lit.channels import cost, load, trace
from pruning_lit.measure.stopwatch import seconds_in_turns
from pruning_lit.records.latency import Timing
from tests.commands import TINY, run_command
from tests.conftest import read_report
from tests.sparsity.test_latency import EXAMPLE, built, proportional_to_macs

WORDS = (
    *(word for word in TINY if "num_images" not in word),
    "phases=finetune",
    "method=magnitude",
    "sparsity=latency",
    "sparsity.reduction=0.3",
    "sparsity.round_to=1",
)


def cuts_of(folder) -> list[dict]:
    checkpoint = torch.load(folder / "phases/1-finetune/last.ckpt", weights_only=True)
    return [cut["kept"] for cut in checkpoint["callbacks"]["ScheduledPruning"]["cuts"]]


def test_the_table_of_a_run_decides_alike_on_two_processes_and_behind_an_interruption(tmp_path):
    net, graph = built()
    here = Timing.of(seconds_in_turns([net], torch.zeros(64, 3, 32, 32), 5, 1)[0]).median_ms
    table = proportional_to_macs(graph)
    dense = [{**table.networks[0], "ms": here}]  # or the first measurement would say that the table is of another world
    replace(table, networks=dense, factor=here / table.dense_ms).write(tmp_path / "given.json")
    words = [*WORDS, "finetune.callbacks.prune.epochs=[0,1]", "dataset.batch_size=16"]
    run_command(*words, f"sparsity.table={tmp_path / 'given.json'}", f"hydra.run.dir={tmp_path / 'one'}")
    table, kept = tmp_path / "one" / "latency_table.json", cuts_of(tmp_path / "one")
    measured = json.loads(table.read_text())["networks"]
    assert len(measured) >= 3  # dense, and what each of two cuts has chosen
    notes = [note for note in read_report(tmp_path / "one")["notes"] if "Latency of a batch of 64" in note]
    assert notes
    assert all("predicted" in note and "measured" in note for note in notes)
    net = load(tmp_path / "one" / "pruned" / "model.safetensors")
    assert cost(trace(net, EXAMPLE)).macs < cost(graph).macs
    two = [*words, "trainer=ddp_fork", "dataset.batch_size=8", f"sparsity.table={table}"]
    run_command(*two, f"hydra.run.dir={tmp_path / 'two'}")
    assert cuts_of(tmp_path / "two") == kept
    assert (tmp_path / "two" / "latency_table.json").read_text() == table.read_text()
    for gone in ("phases", "pruned"):
        shutil.rmtree(tmp_path / "one" / gone)
    (tmp_path / "one" / "report.json").unlink()
    before = table.read_text()
    run_command(f"resume={tmp_path / 'one'}")
    assert cuts_of(tmp_path / "one") == kept
    assert table.read_text() == before
