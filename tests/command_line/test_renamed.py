"""Former names: answered with the present one where they are typed, understood where a former run has left them."""

from pkgutil import resolve_name

import pytest
from omegaconf import OmegaConf

from pruning_lit.command_line import renamed
from pruning_lit.command_line.renamed import (
    GONE,
    KEYS,
    SINCE,
    TARGETS,
    VALUES,
    present_settings,
    present_word,
    present_words,
    require_present_names,
    require_present_settings,
)
from pruning_lit.command_line.resume import with_resume


@pytest.fixture
def tables(monkeypatch):
    """Names of a house that has never been."""
    monkeypatch.setattr(renamed, "KEYS", {"sparsity.rate": "sparsity.ratio", "masks": "row_masks", "a.b": "b"})
    monkeypatch.setattr(renamed, "VALUES", {"sparsity.rule": {"reference": "slimming"}, "fit": {"epochs": True}})
    monkeypatch.setattr(renamed, "GONE", {"stages.mirror": "zero"})
    monkeypatch.setattr(renamed, "SINCE", {"task": {"name": "classes"}, "stages.power": 1})
    monkeypatch.setattr(renamed, "TARGETS", {"old.Phase": "new.home.Phase"})


WORDS = {
    "sparsity.rate=0.5": "sparsity.ratio=0.5",
    "+finetune.callbacks.prune.sparsity.rate=0.5": "+finetune.callbacks.prune.sparsity.ratio=0.5",
    "train.callbacks.masks.start=3": "train.callbacks.row_masks.start=3",
    "~a.b": "~b",
    "sparsity.rule=reference": "sparsity.rule=slimming",
    "sparsity.rule=exact,reference": "sparsity.rule=exact,slimming",
    "train.fit=epochs": "train.fit=true",
    "train._target_=old.Phase": "train._target_=new.home.Phase",
    "'train={_target_: old.Phase, epochs: 2}'": "'train={_target_: new.home.Phase, epochs: 2}'",
    "seed=1": "seed=1",
    "name=sparsity.rate": "name=sparsity.rate",
    "sparsity.rates=[0.5]": "sparsity.rates=[0.5]",
    "mysparsity.rate=1": "mysparsity.rate=1",
    "arch._target_=older.Phase": "arch._target_=older.Phase",
    "-m": "-m",
    "--config-dir=masks": "--config-dir=masks",
}  # fmt: skip


@pytest.mark.parametrize(("old", "new"), WORDS.items())
def test_an_override_of_a_former_run_is_understood(old, new, tables):
    assert present_word(old) == new


@pytest.mark.parametrize("old", [old for old, new in WORDS.items() if old != new])
def test_a_former_name_that_is_typed_is_answered_with_the_present_one(old, tables):
    with pytest.raises(ValueError, match="has another name now") as caught:
        require_present_names(["seed=1", old])
    assert str(caught.value) == f"{old} has another name now: {WORDS[old]}"


def test_present_names_may_be_typed(tables):
    require_present_names([*WORDS.values(), "resume=old"])


def test_what_is_gone_is_left_out_where_it_was_what_is_done_now(tables):
    assert present_words(["x.stages.mirror=zero", "seed=1"]) == ["seed=1"]
    assert present_words(["x.stages.mirror=yes"]) == ["x.stages.mirror=yes"]
    for value in ("zero", "yes"):
        with pytest.raises(ValueError, match=rf"^x.stages.mirror={value}: there is no such setting any more"):
            require_present_names([f"x.stages.mirror={value}"])


FORMER = {
    "finetune": {
        "_target_": "old.Phase",
        "callbacks": {"masks": {"sparsity": {"rate": 0.5, "rule": "reference", "overrides": {"layer1.*": 1}}}},
        "stages": {"mirror": "zero", "fit": "epochs"},
        "steps": [{"_target_": "old.Phase"}, 3],
        "empty": {},
    },
    "seed": 1,
}


def test_settings_of_a_former_run_are_understood(tables):
    assert present_settings(FORMER) == {
        "finetune": {
            "_target_": "new.home.Phase",
            "callbacks": {"row_masks": {"sparsity": {"ratio": 0.5, "rule": "slimming", "overrides": {"layer1.*": 1}}}},
            "stages": {"fit": True, "power": 1},
            "steps": [{"_target_": "new.home.Phase"}, 3],
            "empty": {},
        },
        "seed": 1,
        "task": {"name": "classes"},
    }


def test_settings_under_present_names_stay_as_they_are(tables):
    now = present_settings(FORMER)
    assert present_settings(now) == now


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"train": {"sparsity": {"rate": 1}}}, "train.sparsity.rate has another name now: train.sparsity.ratio"),
        ({"sparsity": {"rule": "reference"}}, "sparsity.rule=reference has another name now: sparsity.rule=slimming"),
        ({"train": {"_target_": "old.Phase"}}, "train._target_=old.Phase has another name now: train._target_=new.ho"),
        ({"x": {"stages": {"mirror": "no"}}}, "x.stages.mirror: there is no such setting any more"),
    ],
)
def test_a_former_name_in_a_config_of_ones_own_is_answered_too(settings, told, tables):
    with pytest.raises(ValueError, match=f"^{told}"):
        require_present_settings(OmegaConf.create(settings))


def test_a_number_that_is_none_has_no_other_name(tables):
    require_present_settings(OmegaConf.create({"sparsity": {"reduction": float("nan")}}))


def test_the_commands_answer_former_names_in_one_sentence(cli):
    old, new = next(iter(TARGETS.items()))
    code, printed = cli(f"train._target_={old}")
    assert code == 1
    assert f"error: train._target_={old} has another name now: train._target_={new}" in printed


def test_the_configs_have_no_former_names(cli):
    code, printed = cli("--cfg", "job", "method=chex")
    assert code == 0
    require_present_settings(OmegaConf.create(printed.partition("\n")[2] if printed.startswith("#") else printed))


def test_the_folder_of_a_former_run_is_read_under_present_names(tmp_path, tables):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- sparsity.rate=0.5\n- x.stages.mirror=zero\n- seed=3\n")
    words = with_resume([f"resume={tmp_path}"])
    assert words[:2] == ["sparsity.ratio=0.5", "seed=3"]


@pytest.mark.parametrize("name", sorted(set(TARGETS.values())))
def test_present_names_are_names_of_something(name):
    assert callable(resolve_name(name))


def test_no_name_is_former_and_present():
    assert not TARGETS.keys() & TARGETS.values()
    for key, new in KEYS.items():
        assert present_word(f"{new}=1") == f"{new}=1", key
    assert not GONE.keys() & SINCE.keys()
    for values in VALUES.values():
        assert not values.keys() & set(values.values())


def test_a_value_that_is_two_settings_now_is_answered_with_both_and_understood():
    now = "channel_scatter=true remove_scatters=true"
    with pytest.raises(ValueError, match=f"^channel_scatter=masked has another name now: {now}$"):
        require_present_names(["seed=1", "channel_scatter=masked"])
    with pytest.raises(ValueError, match=f"^channel_scatter=masked has another name now: {now}$"):
        require_present_settings(OmegaConf.create({"channel_scatter": "masked"}))
    assert present_words(["seed=1", "channel_scatter=masked"]) == ["seed=1", *now.split()]
    for former, removed in (("masked", True), (True, False), (False, False)):
        settings = present_settings({"channel_scatter": former})
        assert settings.items() >= {"channel_scatter": bool(former), "remove_scatters": removed}.items()
