"""Options of Hydra's are read wherever they stand."""

import pytest

from pruning_lit.command_line.command import options_first


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("seed=1,2 -m", "-m seed=1,2"),
        ("seed=1 --config-dir mine lr=2", "--config-dir mine seed=1 lr=2"),
        ("seed=1 --config-dir=mine", "--config-dir=mine seed=1"),
        ("seed=1 -cd mine -m", "-cd mine -m seed=1"),
        ("seed=1 --cfg job --resolve", "--cfg job --resolve seed=1"),
        ("seed=1 --info config", "--info config seed=1"),
        ("seed=1 --info", "--info all seed=1"),
    ],
)
def test_options_come_before_settings_with_their_values(words, expected):
    assert options_first(words.split()) == expected.split()


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match=r"unrecognized arguments: --colour; settings are written key=value"):
        options_first(["seed=1", "--colour"])


def test_a_folder_of_configs_may_be_named_behind_a_setting(cli, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: wrong\n")
    code, printed = cli("experiment=mine", "--config-dir", str(tmp_path), f"hydra.run.dir={tmp_path}/run")
    assert code == 1
    assert "seed must be a whole number, got 'wrong'" in printed
