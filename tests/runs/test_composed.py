"""A run from Python, as in a notebook."""

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from pruning_lit.command_line.configs import CONF, compose
from pruning_lit.runs.composed import optimiser
from pruning_lit.runs.experiment import run
from pruning_lit.sweeps.objective import TRIES_ALL
from tests.commands import TINY
from tests.conftest import read_report

QUICK = (*TINY, "method=magnitude", "train.epochs=1", "finetune.epochs=1", "latency.repeats=1", "latency.batch_size=1")
SETTINGS = tuple(word for word in QUICK if not word.startswith("criterion."))


@pytest.fixture(autouse=True)
def no_command(monkeypatch):
    """As in a process in which no command has been called; ``--help`` leaves its config behind."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)


@pytest.mark.slow
def test_a_run_from_python_ends_as_one_from_the_command_line(tmp_path, cli):
    run(compose(*SETTINGS), tmp_path / "python")
    code, _ = cli(*SETTINGS, f"hydra.run.dir={tmp_path / 'command'}")
    assert code == 0
    one, other = (read_report(tmp_path / each) for each in ("python", "command"))
    same = ("experiment", "seed", "choices", "config", "groups", "notes")
    assert {key: one[key] for key in same} == {key: other[key] for key in same}
    assert one["command"] == other["command"].replace(f" hydra.run.dir={tmp_path / 'command'}", "")
    weights = [(tmp_path / each / "pruned" / "model.safetensors").read_bytes() for each in ("python", "command")]
    assert weights[0] == weights[1]
    assert not HydraConfig.initialized()


@pytest.mark.slow
def test_a_config_that_does_not_tell_its_choices_is_named_after_the_folder(tmp_path):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", list(SETTINGS))
    run(config, str(tmp_path / "mine"))
    report = read_report(tmp_path / "mine")
    assert report["experiment"] == "mine"
    assert report["choices"] == {"arch": "pruning_lit.models.cifar_resnet"}
    run(config, tmp_path / "mine")  # once more: all phases are finished


def test_hydras_own_sweeper_has_no_direction(monkeypatch):
    config = compose("seed=1")
    config.hydra.mode = RunMode.MULTIRUN
    monkeypatch.setattr(HydraConfig.instance(), "cfg", config)
    assert optimiser() == (TRIES_ALL, [])
    for directions, told in ((["maximize", "minimize"],) * 2, ("minimize", ["minimize"])):
        node = OmegaConf.create({"sweeper": {"_target_": "an.Optimiser", "direction": directions}, "mode": "MULTIRUN"})
        monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda node=node: node))
        node.mode = RunMode.MULTIRUN
        assert optimiser() == ("an.Optimiser", told)
