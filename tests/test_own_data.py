"""The examples of docs/own_data.md run as they are written there."""

import re
import shlex

import pytest
import torch

from tests.commands import command, run_command
from tests.conftest import read_report
from tests.places import ROOT

QUICK = ("debug=quick", "callbacks=quiet", "logger=none")
PRIMARY = {"classification": "accuracy", "multi_label": "average_precision", "semantic_segmentation": "mean_iou"}
TEXT = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", TEXT, re.DOTALL))
COMMANDS = [
    shlex.split(each.replace("\\\n", " "))
    for each in re.findall(r"^    python (.*(?:\n {8}.*)*)", TEXT, re.MULTILINE)
    if "dataset=coco" not in each  # on folders of one's own
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("words", [COMMANDS[0], *(pytest.param(each, marks=pytest.mark.slow) for each in COMMANDS[1:])])
def test_an_example_of_the_documentation_runs(folder, words):
    assert len(COMMANDS) == len(FILES) == 4
    small = [] if any(word.startswith("arch=") for word in words) else ["arch=resnet8"]
    run_command(*words[2:], *small, *QUICK, f"hydra.run.dir={folder / 'run'}")
    report = read_report(folder / "run")
    assert 0 < report["after"]["macs"] < report["before"]["macs"]
    (task,) = [word[5:] for word in words if word.startswith("task=")] or ["classification"]
    assert 0 <= report["after"]["metrics"][PRIMARY[task]] <= 1
    (last,) = (folder / "run" / "phases").glob("2-*/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 3
    assert shlex.join(command(*words[2:])).split(" ", 1)[1].replace("'", "") in report["command"].replace("'", "")


def test_what_is_no_data_is_refused_in_one_sentence(folder, cli):
    (folder / "mywrong.py").write_text("def number(): return 3\n")
    code, printed = cli("dataset._target_=mywrong.number", "allow_targets=[mywrong]", f"hydra.run.dir={folder / 'run'}")
    assert code == 1
    assert "dataset._target_=mywrong.number makes a int, not a LightningDataModule" in printed
    assert "Traceback" not in printed
