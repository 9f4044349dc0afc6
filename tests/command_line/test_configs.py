"""Configs are composed once where nothing but the package's own can be meant."""

import sys

import pytest
from hydra._internal.hydra import Hydra
from omegaconf import OmegaConf

from pruning_lit.command_line.configs import CONF, composed_once


@pytest.mark.slow
def test_no_file_of_ours_decides_between_run_and_sweep():
    files = [OmegaConf.load(path) for path in CONF.rglob("*.yaml")]
    assert len(files) > 100
    assert not any(OmegaConf.select(one, key) for one in files for key in ("hydra.mode", "hydra.searchpath"))


@pytest.mark.parametrize(
    ("word", "looked_for"),
    [
        ("seed=2", False),
        ("--config-dir=configs", True),
        ("-cd", True),
        ("hydra.mode=MULTIRUN", True),
        ("hydra.searchpath=[file://configs]", True),
    ],
)
def test_what_somebody_elses_file_says_about_run_or_sweep_is_looked_for(monkeypatch, word, looked_for):
    monkeypatch.setattr(sys, "argv", ["pruning_lit", "seed=1", word])
    whole = Hydra.get_mode
    with composed_once():
        assert (Hydra.get_mode is whole) == looked_for
    assert Hydra.get_mode is whole


@pytest.mark.slow
def test_a_sweep_of_somebody_elses_config_is_one(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs" / "experiment").mkdir(parents=True)
    (tmp_path / "configs" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {arch: 'nonsense1,nonsense2'}}}\n"
    )
    printed = cli("--config-dir=configs", "experiment=mine")[1]
    assert "nonsense1" in printed  # the first job's choice, not the list
    assert "nonsense1,nonsense2" not in printed
