"""Loggers by names of one's own, several at once, and what is told of those that cannot work."""

import importlib.util
from pathlib import Path

import pytest
from omegaconf import DictConfig

from pruning_lit.command_line.configs import compose
from pruning_lit.runs.loggers import build_loggers, has_event_files

RUN = ("name=mine",)


def config_with(*words: str) -> DictConfig:
    return compose(*RUN, *words)


def test_several_loggers_have_places_of_their_own(tmp_path):
    config = config_with("logger=[tensorboard,csv]", "+logger.other._target_=pytorch_lightning.loggers.CSVLogger")
    event_files, csv, other = build_loggers(config, tmp_path, "2-finetune", "accuracy", first_step=7)
    assert Path(event_files.log_dir) == tmp_path / "tensorboard"
    assert event_files.first_step == 7
    assert Path(csv.log_dir) == tmp_path / "csv" / "2-finetune"
    assert Path(other.log_dir) == tmp_path / "other" / "2-finetune"
    assert has_event_files(config)
    resumed = build_loggers(config, tmp_path, "2-finetune", "accuracy", begun_step=3)[1]
    assert Path(resumed.log_dir) == tmp_path / "csv" / "2-finetune_from_3"  # what was logged before stays


def test_what_the_config_says_goes_before(tmp_path):
    config = config_with("logger=csv", "+logger.csv.name=tables", f"+logger.csv.save_dir={tmp_path}/elsewhere")
    (csv,) = build_loggers(config, tmp_path / "run", "1-train", "accuracy")
    assert Path(csv.log_dir) == tmp_path / "elsewhere" / "tables" / "1-train"
    assert not has_event_files(config)


def test_no_logger_is_none(tmp_path):
    config = config_with("logger=none")
    assert build_loggers(config, tmp_path, "1-train", "accuracy") == []
    assert not has_event_files(config)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_logger_whose_package_is_missing_is_told_before_any_training(tmp_path, name):
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    with pytest.raises(ValueError, match=rf"^logger.{name} needs a package that is not installed: pip install {name}$"):
        build_loggers(config_with(f"logger={name}"), tmp_path, "1-train", "accuracy")


def test_what_is_no_logger_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"logger.mine makes a Identity, expected a logger"):
        build_loggers(config_with("+logger.mine._target_=torch.nn.Identity"), tmp_path, "1-train", "accuracy")
