import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from pruning_lit.command_line.setting_types import describe, matches, require_types

DIGITS = {"_target_": "pruning_lit.data.Digits", "batch_size": 64, "mean": [0.3] * 3, "std": [0.3] * 3}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, int),
        (1, float),
        (0.5, float),
        (True, bool),
        ("a", str),
        (None, int | None),
        ([1, 2.5], Sequence[float]),
        ([], Sequence[float]),
        ({"a": 1}, Mapping[str, int]),
        ({"a": None}, Mapping[str, int]),
        ({"_target_": "any.thing"}, torch.nn.Module),
        ({"_target_": "any.thing"}, Callable[..., Any]),
        ("narrow", Literal["narrow", "mask"]),
        ("wide", Literal["narrow", "mask"]),  # of the right kind: what there is is told by the constructor
        ("nowhere", str | Path),
        (0.1, float | Tensor),
        (object(), Any),
    ],
)
def test_what_can_be_meant_fits(value, kind):
    assert matches(value, kind)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("1", int),
        (1.0, int),
        (True, int),
        (True, float),
        (float("nan"), float),
        ("yes", bool),
        (1, bool),
        (3, str),
        (None, int),
        (3, Sequence[float]),
        ("abc", Sequence[str]),
        ([1, "a"], Sequence[float]),
        ([1], Mapping[str, int]),
        ({"a": "b"}, Mapping[str, int]),
        ("adam", torch.nn.Module),
        (None, float | Tensor),
        (3, Literal["narrow", "mask"]),
        (3, str | Path),
    ],
)
def test_what_cannot_be_meant_does_not(value, kind):
    assert not matches(value, kind)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int | None, "a whole number or null"),
        (int | float | None, "a number or null"),
        (float | Tensor, "a number"),
        (Sequence[int] | None, "null or a list, each a whole number"),
        (Literal["narrow", "mask"], "'narrow' or 'mask'"),
        (torch.nn.Module, "a configuration with a _target_"),
    ],
)
def test_kinds_are_told_in_words(kind, words):
    assert describe(kind) == words


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dataset": {**DIGITS, "batch_size": "many"}}, "dataset.batch_size must be a whole number, got 'many'"),
        ({"dataset": {**DIGITS, "flip": "no"}}, "dataset.flip must be true or false, got 'no'"),
        ({"dataset": {**DIGITS, "batchsize": 3}}, "there is no setting dataset.batchsize; perhaps dataset.batch_size"),
        ({"dataset": {**DIGITS, "_partial_": 3}}, "dataset._partial_ must be true or false, got 3"),
        ({"seed": "abc"}, "seed must be a whole number, got 'abc'"),
        ({"checkpoint": {"every_n_steps": 0.5}}, "checkpoint.every_n_steps must be a whole number or null, got 0.5"),
        ({"callbacks": {"mine": 3}}, "callbacks.mine must be a mapping {name: value}, got 3"),
    ],
)
def test_a_setting_is_refused_by_the_name_that_sets_it(change, told):
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        require_types(OmegaConf.create({"seed": 1, "dataset": DIGITS, **change}))


def test_the_source_of_what_is_copied_is_named():
    config = {"dataset": {**DIGITS, "seed": "${train.epochs}"}, "train": {"_target_": "pruning_lit.phases.Training"}}
    config["train"]["epochs"] = "many"
    with pytest.raises(ValueError, match=r"train\.epochs must be a whole number, got 'many'"):
        require_types(OmegaConf.create(config))


def test_code_of_others_is_not_imported():
    require_types(OmegaConf.create({"arch": {"_target_": "nowhere.to.be.Found", "depth": "deep"}, "dataset": DIGITS}))


def test_what_has_no_value_yet_is_not_looked_at():
    require_types(OmegaConf.create({"dataset": {**DIGITS, "batch_size": "???", "seed": "${nothing}"}}))
