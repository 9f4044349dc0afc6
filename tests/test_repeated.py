"""What is asked for twice comes out twice, and a report has all that is needed to ask for it again."""

import sys

import pytest
import torch
from pytorch_lightning import Trainer
from safetensors.torch import load_file

from tests.commands import TINY, run_command
from tests.conftest import read_report

SAME = (*TINY, "deterministic=true", "latency.repeats=2", "latency.batch_size=1")


def weights(folder):
    return load_file(folder / "pruned" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("value", ["true", "false"])
def test_a_deterministic_run_asks_torch_for_deterministic_algorithms(cli, tmp_path, monkeypatch, value):
    asked = [False]
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # which Lightning sets for the whole program, as this:
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode, **_: asked.append(mode))
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: sys.exit(0))
    code, printed = cli(*TINY, "phases=[finetune]", f"deterministic={value}", f"hydra.run.dir={tmp_path}")
    assert code == 0, printed
    assert asked[-1] is (value == "true")


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
