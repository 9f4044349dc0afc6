"""Values with any letters reach the config as they were typed."""

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning_lit.command_line.configs import compose
from pruning_lit.command_line.quoting import quoted, readable
from pruning_lit.system.preemption import Preempted
from pruning_lit.system.resume_hint import resuming

SIGNS = "aö中é'\"\\ ,=&#;~[]{}()$1.e\t"


def value(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@settings(deadline=None, max_examples=150)
@given(st.text(st.sampled_from(SIGNS), min_size=1).filter(lambda text: "${" not in text))
def test_a_quoted_text_is_read_as_this_very_text(text):
    assert value(f"key={quoted(text)}") == text


@pytest.mark.parametrize("text", ["null", "true", "NaN", "007", "1.", "1e3", "2026", "~", ""])
def test_a_text_that_looks_like_a_number_or_a_word_of_hydras_stays_a_text(text):
    assert value(f"key={quoted(text)}") == text


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("dataset.root=größe", "größe"),
        ("++dataset.root=/daten/größe (2)/中文", "/daten/größe (2)/中文"),
        ("weights=lr=0.1 it's/net.pt", "lr=0.1 it's/net.pt"),
        ("weights=~/net.pt", "~/net.pt"),
        ("path=[größe, b/c]", ["größe", "b/c"]),
        ("x={root: größe, parts: ['a ö', C:/ö]}", {"root": "größe", "parts": ["a ö", "C:/ö"]}),
        ("name=${seed}_größe", "${seed}_größe"),
        ("arch=net!", "net!"),
    ],
)
def test_what_hydra_cannot_read_gets_its_quotes(word, expected):
    assert value(readable(word)) == expected


def test_of_several_values_each_gets_quotes_of_its_own():
    assert readable("dataset.root=größe,b,ö ä") == "dataset.root='größe',b,'ö ä'"
    assert readable("name=${oc.select:a,b}ö") == "name='${oc.select:a,b}ö'"
    assert readable("x=choice(ö,b)") == "x=choice('ö',b)"


@pytest.mark.parametrize("word", ["seed=1", "phases=[train", "größe=1", "-m", "--config-dir=ö", "=", "x=range(1,"])
def test_other_words_stay_as_they_are(word):
    assert readable(word) == word


def test_a_name_of_a_setting_outside_ascii_is_told(cli):
    code, printed = cli("größe=3")
    assert code == 1
    assert "cannot read 'größe=3': names of settings have letters of ASCII only" in printed


@pytest.mark.at_once(1)
@pytest.mark.parametrize("folder", ["zwei wörter", "lr=0.1, it's (2)"])
def test_the_command_told_on_leaving_goes_on_in_the_same_folder(cli, tmp_path, monkeypatch, folder):
    places = []

    def leave(config: object, place: Path) -> None:
        places.append(place)
        raise Preempted

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pruning_lit.runs.experiment.run", leave)
    code, printed = cli("arch=resnet8", f"hydra.run.dir={quoted(folder) if ',' in folder else folder}")
    assert code == 0, printed
    told = resuming(tmp_path / places[0])
    assert told in " ".join(printed.split())
    code, printed = cli(*shlex.split(told)[3:])
    assert code == 0, printed
    assert places == [tmp_path / folder] * 2


def test_a_config_from_python_takes_any_letters():
    assert compose("dataset=image_folder", "dataset.root=größe").dataset.root == "größe"
