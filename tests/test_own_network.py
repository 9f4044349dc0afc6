"""Any importable constructor can be ``arch=``."""

import re
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from omegaconf import OmegaConf

from pruning_lit.channels import load
from pruning_lit.command_line.custom_network import as_typed, with_own_code
from pruning_lit.runs.builder import build, constructor_call, own_call
from pruning_lit.runs.export import export
from pruning_lit.tasks.base import forward_once
from tests.commands import TINY, run_command
from tests.conftest import read_report
from tests.stopping import stop
from tests.test_faults import assert_same_end

CODE = """
    import torch
    from torch import nn


    class Net(nn.Module):
        def __init__(self, width=16, num_classes=10):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU())
            self.left, self.right = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 5, padding=2)
            self.width = width
            self.head = nn.Linear(2 * width, num_classes)

        def forward(self, x):
            left, right = torch.split(self.stem(x), self.width, dim=1)
            return self.head(torch.cat([self.left(left), self.right(right)], dim=1).relu().mean((2, 3)))


    class Fixed(Net):
        def __init__(self):
            super().__init__(4, 10)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A name under which the code can be imported from the current folder."""
    (tmp_path / "mynet_for_tests.py").write_text(dedent(CODE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "mynet_for_tests"


def test_a_configured_network_is_left_as_it_is():
    for arguments in (["arch=resnet20", "+arch.width=3"], ["arch=resnet56", "arch._target_=a.Net"], ["arch.stem=tied"]):
        assert with_own_code(arguments) == arguments == as_typed(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["arch._target_=a.Net", "+arch.width=32", "seed=3"],
        ["arch._target_=a.Net", "arch.width=32", "seed=3"],
        ["arch={_target_: a.Net, width: 32}", "seed=3"],
    ],
)
def test_a_constructor_takes_the_place_of_the_default_network(arguments):
    rewritten = with_own_code(arguments)
    assert "arch=[]" in rewritten
    assert "seed=3" in rewritten
    assert all(word.startswith(("++arch", "arch=[]", "seed", "name=")) for word in rewritten)
    assert with_own_code(rewritten) == rewritten  # as when a run is resumed
    assert [word.lstrip("+") for word in arguments] == as_typed(rewritten)


def test_a_name_given_is_kept():
    assert not [w for w in with_own_code(["arch._target_=a.Net", "name=mine"]) if w.startswith("name=$")]


def test_classes_are_passed_to_constructors_that_take_them(module):
    arch = OmegaConf.create({"_target_": f"{module}.Net", "width": 4})
    assert constructor_call(arch, 7) == {"_target_": f"{module}.Net", "width": 4, "num_classes": 7}
    assert build(arch, 7).head.out_features == 7
    assert build(arch, None).head.out_features == 10
    assert constructor_call(OmegaConf.create({"_target_": f"{module}.Fixed"}), 7) == {"_target_": f"{module}.Fixed"}
    assert own_call(constructor_call(arch, 7)) == f"{module}.Net(width=4, num_classes=7)"
    assert own_call({"_target_": "torchvision.models.resnet18"}) == ""


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nowhere.Net", "cannot be imported: No module named 'nowhere'"),
        ("torch.nn.Nope", "cannot be imported"),
        ("collections.abc", "is a module; expected a constructor in it"),
        ("torch.nn", "is a module"),
        ("math.pi", "is of type float; expected a class or a function"),
        ("collections.OrderedDict", "makes a OrderedDict, expected a torch.nn.Module"),
    ],
)
def test_what_is_no_network_is_refused_by_name(target, told):
    with pytest.raises(ValueError, match=f"arch._target_={target} {told}"):
        build(OmegaConf.create({"_target_": target}), 10)


def test_a_network_for_other_classes_is_refused_before_any_training(cli, module, tmp_path):
    code, printed = cli(
        *TINY[1:],
        f"arch._target_={module}.Net",
        "++arch.nonsense=1",
        f"allow_targets=[{module}]",
        f"hydra.run.dir={tmp_path / 'x'}",
    )
    assert code == 1
    assert "unexpected keyword argument 'nonsense'" in printed
    assert "Traceback" not in printed


BROKEN = """
    import torch
    from torch import nn


    class Answers(nn.Module):
        def __init__(self, answer):
            super().__init__()
            self.layer, self.answer = nn.Linear(3, 10), answer

        def forward(self, x):
            logits = self.layer(x.mean((2, 3)))
            match self.answer:
                case "a KeyError":
                    return {}["missing"]
                case "an IndexError":
                    return [][0]
                case "an AssertionError":
                    assert logits is None
                case "an AttributeError":
                    return self.nowhere
                case "a NotImplementedError":
                    raise NotImplementedError
                case "an Exception":
                    raise Exception("went wrong")
                case "a ValueError":
                    one, two = logits.shape + (1,)
                case "a tuple":
                    return logits, x
                case "None":
                    return None
                case "a dict":
                    return {"logits": logits}
                case "a map":
                    return logits[:, :, None, None]
                case "a tuple while training":
                    return (logits, x) if self.training else logits
"""


@pytest.fixture
def broken(tmp_path, monkeypatch):
    (tmp_path / "broken_for_tests.py").write_text(dedent(BROKEN))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "broken_for_tests.Answers"


def refused(cli, *words: str) -> str:
    """What a run says that ends before any training."""
    code, printed = cli(*TINY[1:], *words, "hydra.run.dir=run")
    assert code == 1
    assert "Traceback" not in printed
    assert not Path("run/phases").exists(), "training had begun"
    return " ".join(printed.split())


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("a KeyError", "KeyError: 'missing' (broken_for_tests.py, line 15)"),
        ("an IndexError", "list index out of range (broken_for_tests.py, line 17)"),
        ("an AssertionError", "AssertionError (broken_for_tests.py, line 19)"),
        ("an AttributeError", "object has no attribute 'nowhere' (broken_for_tests.py, line 21)"),
        ("a NotImplementedError", "NotImplementedError (broken_for_tests.py, line 23)"),
        ("an Exception", "went wrong (broken_for_tests.py, line 25)"),
        ("a ValueError", "too many values to unpack (expected 2) (broken_for_tests.py, line 27)"),
    ],
)
def test_whatever_forward_raises_is_told_in_one_sentence(broken, answer, told):
    net = build(OmegaConf.create({"_target_": broken, "answer": answer}), 10)
    with pytest.raises(ValueError, match=re.escape("does not take images of shape (3, 32, 32): ")) as error:
        forward_once(net, torch.zeros(1, 3, 32, 32))
    assert str(error.value).endswith(told)
    assert "\n" not in str(error.value)


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("a KeyError", "does not take images of shape (3, 32, 32): KeyError: 'missing'"),
        ("a tuple", "the network returns a tuple; classification needs one tensor of shape (N, 10)"),
        ("None", "the network returns None; classification needs one tensor of shape (N, 10)"),
        ("a dict", "the network returns a dict; classification needs one tensor of shape (N, 10)"),
        ("a map", "shape (1, 10, 1, 1) for 1 image(s); classification needs shape (1, 10)"),
    ],
)
def test_a_network_that_does_not_classify_is_refused_before_any_training(cli, broken, answer, told):
    assert told in refused(cli, f"arch._target_={broken}", f"allow_targets=[{broken}]", f"arch.answer='{answer}'")


def test_a_network_that_answers_otherwise_while_training_is_refused_at_its_first_step(cli, broken):
    words = (
        f"arch._target_={broken}",
        f"allow_targets=[{broken}]",
        "arch.answer='a tuple while training'",
        "method=dense",
    )
    code, printed = cli(*[word for word in TINY[1:] if not re.match("criterion|finetune", word)], *words)
    assert code == 1
    assert "the network returns a tuple" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def broken(:\n", "invalid syntax (damaged_for_tests.py, line 1)"),
        ("raise RuntimeError('no licence')\n", "no licence (damaged_for_tests.py, line 1)"),
        ("{}['key']\n", "KeyError: 'key' (damaged_for_tests.py, line 1)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_in_one_sentence(tmp_path, monkeypatch, code, told):
    (tmp_path / "damaged_for_tests.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"arch\._target_=damaged_for_tests.Net cannot be imported: ") as error:
        build(OmegaConf.create({"_target_": "damaged_for_tests.Net"}), 10)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"width": "x"}, "Net(width='x', num_classes=10) cannot be built (it takes (width=16, num_classes=10)): "),
        ({"width": -1}, "Net(width=-1, num_classes=10) cannot be built (it takes (width=16, num_classes=10)): "),
        ({"depth": 3}, "unexpected keyword argument 'depth'"),
    ],
)
def test_arguments_that_do_not_fit_are_told_beside_those_that_do(module, settings, told):
    with pytest.raises(ValueError, match=r"^arch: ") as error:
        build(OmegaConf.create({"_target_": f"{module}.Net", **settings}), 10)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_function_may_be_called_like_its_module():
    assert (
        build(OmegaConf.create({"_target_": "pruning_lit.models.cifar_resnet", "depth": 8}), 7).linear.out_features == 7
    )


def test_a_module_in_the_place_of_a_constructor_is_answered_with_a_network_in_it(module):
    with pytest.raises(ValueError, match=f"{module} is a module; expected a constructor in it, such as {module}.Net$"):
        build(OmegaConf.create({"_target_": module}), 10)


@pytest.mark.slow
def test_a_network_from_the_current_folder_is_pruned_and_reported(module, tmp_path):
    folder = tmp_path / "run"
    allowed = f"allow_targets=[{module}]"
    given = [f"arch._target_={module}.Net", "arch.width=8", "method=magnitude", "latency.batch_size=4", allowed]
    few = [word for word in TINY[1:] if not word.startswith(("criterion", "train."))]
    given += ["phases=[finetune]", "latency.repeats=3"]
    run_command(*few, *given, f"hydra.run.dir={folder}")
    report = read_report(folder)
    assert report["reduction"]["macs"] >= 0.5
    assert report["choices"]["arch"] == f"{module}.Net"
    assert f"arch._target_={module}.Net arch.width=8 method=magnitude" in report["command"]
    assert [(each["batch_size"], each["repeats"]) for each in report["latency"]] == [(4, 3)]
    dense = build(OmegaConf.create({"_target_": f"{module}.Net", "width": 8}), 10)
    net = load(folder / "pruned" / "model.safetensors", dense)
    assert sum(each.numel() for each in net.parameters()) == report["after"]["params"]
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert (
        f'load("pruned/model.safetensors", {module}.Net(width=8, num_classes=10))' in (folder / "report.md").read_text()
    )
    assert net.width < 8
    assert "is finished" in run_command(f"resume={folder}", allowed)
    stopped, both = tmp_path / "stopped", f"allow_targets=[{module},tests.stopping]"
    words = [word for word in (*few, *given, *stop(step=4)) if not word.startswith("allow_targets")]
    run_command(*words, both, f"hydra.run.dir={stopped}")
    assert not (stopped / "report.json").exists()
    run_command(f"resume={stopped}", both)
    assert_same_end(stopped, folder)
    ((file, difference),) = export(stopped, ["pt2"], allowed=[module]).items()
    assert file.is_file()
    assert difference < 1e-5
