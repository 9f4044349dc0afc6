"""Files that would run code are refused by name, with what they would call, and nothing of them is run.

Every one of them would make the file ``executed`` if it were read carelessly; that they would is tested as well.
"""

import json
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pruning_lit import evaluate, export
from pruning_lit.channels import load
from pruning_lit.models import cifar_resnet, load_weights
from pruning_lit.system.plain_data import WantsToRunCode, code_in, read_plain
from tests.commands import TINY

SYSTEM = f"{os.name}.system"  # the name under which os.system is pickled
FIXED = tuple(word for word in TINY if not word.startswith(("train.epochs", "finetune")))


class Bomb:
    """Unpickled without care, it makes a file in the current folder."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch executed",)


WRITERS = {
    "zip": lambda content, path: torch.save(content, path),
    "zip of protocol 4": lambda content, path: torch.save(content, path, pickle_protocol=4),
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    **{
        f"pickle of protocol {number}": lambda content, path, number=number: Path(path).write_bytes(
            pickle.dumps(content, protocol=number)
        )
        for number in (0, 2, 4, 5)
    },
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """In a folder of its own, in which nothing is executed."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not Path("executed").exists(), "the code was run"


def exploded() -> bool:
    was = Path("executed").exists()
    Path("executed").unlink(missing_ok=True)
    return was


def told_by(command, monkeypatch, capfd, *words: str) -> str:
    """What a command says that must end in one sentence."""
    monkeypatch.setattr(sys, "argv", ["command", *words])
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        command.main()
    printed = "".join(capfd.readouterr()) + str(stop.value.code)
    assert stop.value.code
    assert "Traceback" not in printed
    return " ".join(printed.split())


@pytest.mark.parametrize("kind", WRITERS)
def test_the_files_of_these_tests_do_run_code_when_they_are_read_carelessly(kind):
    WRITERS[kind]({"state_dict": Bomb()}, "evil.pt")
    if kind.startswith("pickle"):
        pickle.loads(Path("evil.pt").read_bytes())
    else:
        torch.load("evil.pt", weights_only=False)
    assert exploded()


@pytest.mark.parametrize("name", ["evil.pt", "evil.ckpt", "evil.safetensors"])
@pytest.mark.parametrize("kind", WRITERS)
def test_weights_that_want_to_run_code_are_refused_by_name(kind, name):
    WRITERS[kind]({"state_dict": {**cifar_resnet(8).state_dict(), "x": Bomb()}}, name)
    with pytest.raises(
        WantsToRunCode, match=rf"'{name}' wants to run code when it is read: it holds a pickled {SYSTEM}"
    ):
        load_weights(cifar_resnet(8), name)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_network_file_that_is_a_pickle_is_refused_by_name(kind):
    WRITERS[kind](Bomb(), "model.safetensors")
    with pytest.raises(
        WantsToRunCode, match=rf"'model.safetensors' wants to run code .*{SYSTEM}.*expected a network file"
    ):
        load("model.safetensors")


def gateways() -> dict[str, object]:
    """Calls that lead on to others, by what is told of them."""

    def calling(function: object, *arguments: object) -> object:
        return type("Evil", (), {"__reduce__": lambda self: (function, arguments)})()

    from functools import partial

    from hydra.utils import get_method

    return {
        "__builtin__.eval": calling(eval, "open('executed', 'w')"),
        "__builtin__.getattr": calling(getattr, "", "join"),
        "functools.partial": calling(partial, print),
        "hydra._internal.utils._locate": calling(get_method, "os.system"),
        "torch.hub.load": calling(torch.hub.load, "x", "y"),
        "torch.nn.modules.linear.Linear": nn.Linear(1, 1),
    }


def test_what_is_called_by_another_name_is_told_too():
    for name, content in gateways().items():
        torch.save({"net": content}, "evil.pt")
        if name.startswith("hydra"):
            name = "hydra."
        with pytest.raises(WantsToRunCode, match=f"a pickled {name}"):
            read_plain("evil.pt", "leave it")


def test_a_torchscript_program_is_code():
    with zipfile.ZipFile("script.pt", "w") as archive:  # as torch.jit.save arranges it
        archive.writestr("script/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("script/code/__torch__.py", "def forward(self): ...")
        archive.writestr("script/constants.pkl", pickle.dumps((), protocol=2))
    with pytest.raises(WantsToRunCode, match=r"'script.pt' wants to run code when it is read: it holds a TorchScript"):
        load_weights(cifar_resnet(8), "script.pt")


@pytest.mark.parametrize("content", [b"", b"cat\ndog\n", b"config: x\ny z\n.", b"<html></html>", bytes(range(256)) * 9])
def test_what_is_only_damaged_is_not_accused(content):
    torch.save({"a": torch.zeros(1000), "b": torch.Size([1]), "c": torch.float16, "d": {1}}, "net.pt")
    whole = Path("net.pt").read_bytes()
    for text in (content, whole[:700], whole[:-100], whole[:2000] + content + whole[2000:]):
        Path("net.pt").write_bytes(text)
        assert code_in("net.pt") is None


def test_plain_data_of_all_kinds_is_not_accused():
    weights = {**nn.BatchNorm2d(3).half().state_dict(), "p": nn.Parameter(torch.zeros(2)), "b": torch.zeros(2) > 0}
    for legacy in (False, True):
        content = {
            "w": weights,
            "s": torch.Size([1]),
            "d": torch.device("cpu"),
            "t": torch.bfloat16,
            "set": {1},
            "c": 1j,
        }
        torch.save(content, "plain.pt", _use_new_zipfile_serialization=not legacy)
        assert code_in("plain.pt") is None
        assert read_plain("plain.pt", "")["s"] == torch.Size([1])


# What a header of safetensors can say


@pytest.mark.at_once(2)
@pytest.mark.parametrize(
    "arch",
    [
        {"_target_": "os.system", "command": "touch executed"},
        {"_target_": "pathlib.Path.touch", "self": "executed"},
        {"_target_": "pruning_lit.models.torchvision.inspect.os.system", "command": "touch executed"},
        {
            "_target_": "pruning_lit.runs.builder.build",
            "arch": {"_target_": "os.system", "command": "touch executed"},
        },
        {"_target_": "builtins.eval", "_args_": ["open('executed', 'w')"]},
        {"_target_": "functools.partial", "_args_": ["os.system"], "_partial_": True},
        {"_target_": "hydra.utils.get_method", "path": "os.system"},
        {"_target_": "${oc.decode:os.system}", "command": "touch executed"},
        {"_target_": "torchvision.models.resnet.partial", "func": "os.system"},
        {"_target_": "pruning_lit.models.load_weights", "model": {"_target_": "os.system"}, "source": "x"},
        {
            "_target_": "pruning_lit.models.cifar_resnet",
            "depth": {"_target_": "os.system", "command": "touch executed"},
        },
        {"_target_": ["os.system"]},
        ["os.system"],
        "os.system",
    ],
)
def test_a_header_runs_nothing(monkeypatch, capfd, arch):
    header = {"format": "pruning_lit/1", "arch": arch}
    save_file({"weight": torch.zeros(1)}, "evil.safetensors", metadata={"pruning_lit": json.dumps(header)})
    with pytest.raises(
        ValueError, match=r"^'evil.safetensors' (wants to be built by|cannot be built by|is not a readable)"
    ):
        load("evil.safetensors")
    for command, words in ((export, ["format=pt2"]), (evaluate, ["dataset=digits"])):
        assert "'evil.safetensors' " in told_by(command, monkeypatch, capfd, "path=evil.safetensors", *words)


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("pruning_lit.models.cifar_resnet", {"depth": 60_000_002}),
        ("pruning_lit.models.cifar_resnet", {"depth": 8, "num_classes": 10**11}),
        ("torchvision.models.resnet50", {"width_per_group": 10**8}),
    ],
)
def test_a_header_that_asks_for_an_absurd_network_is_refused_before_it_is_built(here, target, arguments):
    header = {"format": "pruning_lit/1", "arch": {"_target_": target, **arguments}}
    save_file(cifar_resnet(8).state_dict(), "evil.safetensors", metadata={"pruning_lit": json.dumps(header)})
    with pytest.raises(ValueError, match=r"far larger network than the one in the file \(47 tensors of 75,889 weights"):
        load("evil.safetensors")


@pytest.mark.at_once(2)
@pytest.mark.parametrize(
    "text", ["[]", "3", '"x"', "{", '{"pictures": 3}', '{"arch": {"_target_": "a.b"}, "pictures": "x"}']
)
def test_a_header_that_is_none_is_told_in_one_sentence(monkeypatch, capfd, text):
    save_file({"weight": torch.zeros(1)}, "evil.safetensors", metadata={"pruning_lit": text})
    for command, words in ((export, ["format=pt2"]), (evaluate, ["dataset=digits"])):
        told = told_by(command, monkeypatch, capfd, "path=evil.safetensors", *words)
        assert "'evil.safetensors' is not a readable network file" in told


# The commands


def test_a_run_refuses_weights_that_want_to_run_code(cli):
    for number, (kind, write) in enumerate(WRITERS.items()):
        if kind in ("zip", "pickle of protocol 4"):
            write(Bomb(), "evil.pt")
            code, printed = cli(*TINY, "weights=evil.pt", f"hydra.run.dir=run{number}")
            assert code == 1
            assert f"'evil.pt' wants to run code when it is read: it holds a pickled {SYSTEM}" in " ".join(
                printed.split()
            )
            assert "Traceback" not in printed


@pytest.mark.parametrize("name", ["evil.pt", "evil.ckpt", "evil.safetensors"])
def test_evaluate_and_export_refuse_files_that_want_to_run_code(monkeypatch, capfd, name):
    for kind in ("zip", "pickle of protocol 4"):
        WRITERS[kind]({"pruning_lit": Bomb()}, name)
        for command, words in ((export, ["format=pt2"]), (evaluate, ["dataset=digits"])):
            told = told_by(command, monkeypatch, capfd, f"path={name}", *words)
            assert f"'{name}' wants to run code when it is read: it holds a pickled {SYSTEM}" in told
            assert "damaged" not in told


def test_the_config_beside_a_network_cannot_become_code(monkeypatch, capfd):
    """Text that is resolved twice: the file's own resolution leaves an interpolation, which makes what it likes."""
    save_file({"weight": torch.zeros(1)}, "run.safetensors")
    header = {"format": "pruning_lit/1", "arch": {"_target_": "pruning_lit.models.cifar_resnet", "depth": 8}}
    file = Path("run/pruned/model.safetensors")
    file.parent.mkdir(parents=True)
    save_file(cifar_resnet(8).state_dict(), file, metadata={"pruning_lit": json.dumps(header)})
    (file.parent.parent / ".hydra").mkdir()
    hidden = r"""'\${oc.create:"{_targ\x65t_: pathlib.Path.touch, _args_: [executed]}"}'"""
    text = f"dataset: {{_target_: pruning_lit.data.Digits, batch_size: {hidden}}}\n"
    (file.parent.parent / ".hydra" / "config.yaml").write_text(text)
    told = told_by(evaluate, monkeypatch, capfd, "path=run")
    assert "model.safetensors' describes its images by interpolations, not by values: add dataset=…" in told


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """The folder of a run with two checkpoints of its only phase."""
    from tests.commands import run_command

    folder = tmp_path_factory.mktemp("begun") / "run"
    run_command(*FIXED, "phases=[finetune]", "finetune.epochs=2", "finetune.schedule.warmup_epochs=1",
                "finetune.callbacks.prune.epochs=[0]", f"hydra.run.dir={folder}")  # fmt: skip
    return folder


@pytest.mark.at_once(1)
@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle of protocol 4"])
def test_a_malicious_checkpoint_stops_a_resumed_run_and_is_neither_damage_nor_replaced(
    cli, begun, here, kind, finished
):
    shutil.copytree(begun, "run")
    place = Path("run/phases/1-finetune")
    if not finished:
        (place / "finished.json").unlink()
    assert (place / "previous.ckpt").is_file()  # which is there to take the place of a damaged one
    content = torch.load(place / "last.ckpt", weights_only=True)
    WRITERS[kind]({**content, "x": Bomb()}, place / "last.ckpt")
    evil = (place / "last.ckpt").read_bytes()
    code, printed = cli("resume=run")
    assert code == 1
    told = " ".join(printed.split())
    assert f"last.ckpt' wants to run code when it is read: it holds a pickled {SYSTEM}" in told
    assert "damaged" not in told
    assert "going on from" not in told
    assert "Traceback" not in printed
    assert (place / "last.ckpt").read_bytes() == evil


def test_the_one_before_a_damaged_checkpoint_is_looked_at_as_carefully(cli, begun, here):
    shutil.copytree(begun, "run")
    place = Path("run/phases/1-finetune")
    (place / "last.ckpt").write_bytes(b"")
    WRITERS["zip"](Bomb(), place / "previous.ckpt")
    code, printed = cli("resume=run")
    assert code == 1
    assert f"previous.ckpt' wants to run code when it is read: it holds a pickled {SYSTEM}" in " ".join(printed.split())
