"""What is asked for twice comes out twice, and a report has all that is needed to ask for it again."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.commands import TINY, run_command
from tests.conftest import read_report

SAME = (*TINY, "deterministic=true", "latency.repeats=2", "latency.batch_size=1")


def weights(folder):
    return load_file(folder / "pruned" / "model.safetensors")


@pytest.mark.slow
def test_a_deterministic_run_asks_torch_for_deterministic_algorithms(tmp_path):
    """In a process of its own: Lightning sets it for the whole program."""
    code = "import torch; from pruning_lit.__main__ import main; main(); print('asked', {})"
    code = code.format("torch.are_deterministic_algorithms_enabled()")
    short = (*TINY, "phases=[finetune]", "finetune.epochs=1", "finetune.schedule.warmup_epochs=0")
    for value in ("true", "false"):
        words = [*short, f"deterministic={value}"]
        done = subprocess.run(
            [sys.executable, "-c", code, *words, f"hydra.run.dir={tmp_path / value}"],
            capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=200,
        )  # fmt: skip
        assert f"asked {value == 'true'}" in done.stdout


@pytest.mark.slow
def test_the_command_and_the_configuration_of_a_report_repeat_the_run(tmp_path):
    run_command(*SAME, "sparsity=macs_30", "seed=3", f"hydra.run.dir={tmp_path / 'first'}")
    report = read_report(tmp_path / "first")
    program, *words = report["command"].split(" -m pruning_lit ")[1:]
    assert words == []
    run_command(*program.split(), f"hydra.run.dir={tmp_path / 'second'}")
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert [name for name, tensor in first.items() if not torch.equal(second[name], tensor)] == []
    config = report["config"]
    assert config["seed"] == 3
    assert config["sparsity"]["reduction"] == 0.3
    assert config["trainer"]["deterministic"] is True
    assert "${" not in str(config)
    assert report["hardware"]
    assert report["versions"]["torch"] == torch.__version__.partition("+")[0]
