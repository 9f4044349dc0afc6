"""The command of a job in a process of its own."""

from types import SimpleNamespace

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from pruning_lit.runs import job_process


def test_a_job_finds_the_configs_of_its_sweep(monkeypatch, tmp_path):
    sources = [
        SimpleNamespace(provider="main", path="/conf"),
        SimpleNamespace(provider="command-line", path="/my conf"),
    ]
    task, hydra = (
        ["seed=1", "+arch=mine"],
        ["hydra.searchpath=[pkg://mine]", "hydra.sweep.dir=x", "hydra.mode=MULTIRUN"],
    )
    state = SimpleNamespace(
        runtime=SimpleNamespace(config_sources=sources), overrides=SimpleNamespace(task=task, hydra=hydra)
    )
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: state))
    monkeypatch.setattr(job_process, "shared_root", lambda config: None)
    begun: list[list[str]] = []

    def start(words, env):
        begun.append(words[3:])
        (tmp_path / "report.json").write_text("{}")
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(job_process.subprocess, "Popen", start)
    job_process.run_alone(OmegaConf.create({"shared": None}), tmp_path)
    (words,) = begun
    assert words[:2] == ["--config-dir", "/my conf"]
    assert words[2:] == ["hydra.searchpath=[pkg://mine]", *task, f"hydra.run.dir={tmp_path}"]
