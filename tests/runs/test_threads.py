import json

import pytest
import torch
from torch import nn

from pruning_lit.runs import threads
from pruning_lit.runs.threads import settle_threads

NET = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 2))
EXAMPLE = torch.zeros(1, 3, 6, 6)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Four processors, nothing said in the environment, the number of threads put back."""
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "BY_DEFAULT", 8)
    monkeypatch.setattr(threads, "num_processors", lambda: 4)
    for name in threads.SAID_BY:
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    torch.set_num_threads(before)


def seconds_by(monkeypatch, by_threads):
    """Let a pass take so long, by the number of threads."""
    monkeypatch.setattr(threads, "_seconds", lambda net, inputs, number: by_threads[number])


@pytest.mark.parametrize(
    ("seconds", "number"),
    [
        ({1: 1.0, 2: 0.55, 4: 0.3}, 4),
        ({1: 1.0, 2: 0.55, 4: 0.5}, 2),
        ({1: 1.0, 2: 7.0}, 1),  # beside other work two wait for each other
        ({1: 1.0, 2: 0.9}, 1),
    ],
)
def test_as_many_threads_as_are_worth_it(machine, tmp_path, caplog, seconds, number):
    seconds_by(machine, seconds)
    caplog.set_level("INFO", "pruning_lit")
    settle_threads(tmp_path, NET, EXAMPLE, 16)
    assert torch.get_num_threads() == number
    assert f"threads of torch: {number}, " in caplog.text
    assert "trainer.threads=… sets their number" in caplog.text


def test_who_goes_on_has_the_threads_of_the_beginning(machine, tmp_path):
    seconds_by(machine, {1: 1.0, 2: 0.5, 4: 0.25})
    settle_threads(tmp_path, NET, EXAMPLE, 16)
    seconds_by(machine, {1: 1.0, 2: 7.0})
    torch.set_num_threads(1)
    settle_threads(tmp_path, NET, EXAMPLE, 16)
    assert torch.get_num_threads() == 4
    settle_threads(tmp_path, NET, EXAMPLE, 16, asked=3)
    assert torch.get_num_threads() == 3
    assert json.loads((tmp_path / "threads.json").read_text()) == {"threads": 3}


def test_a_run_of_an_earlier_version_goes_on_with_all(machine, tmp_path):
    (tmp_path / "phases").mkdir()
    settle_threads(tmp_path, NET, EXAMPLE, 16)
    assert torch.get_num_threads() == 8


@pytest.mark.parametrize(
    ("processes", "trying", "number"), [(2, True, 2), (8, True, 1), (None, True, 1), (1, False, 4)]
)
def test_processes_share_the_processors_and_nothing_is_tried(machine, tmp_path, processes, trying, number):
    machine.setattr(threads, "fastest", None)
    settle_threads(tmp_path, NET, EXAMPLE, 16, None, processes, trying)
    assert torch.get_num_threads() == number


@pytest.mark.parametrize("text", ["", "[]", '{"threads": 0}', '{"threads": "many"}', '{"threads": 1000000}'])
def test_a_damaged_note_is_made_anew(machine, tmp_path, text):
    seconds_by(machine, {1: 1.0, 2: 0.5, 4: 0.5})
    (tmp_path / "threads.json").write_text(text)
    settle_threads(tmp_path, NET, EXAMPLE, 16)
    assert json.loads((tmp_path / "threads.json").read_text()) == {"threads": 2}


def test_what_the_environment_says_holds(machine, tmp_path):
    machine.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(3)
    settle_threads(tmp_path, NET, EXAMPLE, 16)
    assert torch.get_num_threads() == 3


def test_trying_changes_neither_network_nor_random_state(machine):
    machine.setattr(torch, "set_num_threads", lambda number: None)  # others fork from this process
    net, random = NET.train(), torch.get_rng_state()
    assert threads.fastest(net, EXAMPLE, 2, most=2)[0] in (1, 2)
    assert net.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in net.parameters())
