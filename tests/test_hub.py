"""Folders for the Hugging Face Hub: loaded again bit by bit, with a card that holds the figures of the report."""

import importlib.util
import json
import re
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml

import pruning_lit
from pruning_lit.channels import load, narrow, save, trace
from pruning_lit.models import cifar_resnet
from pruning_lit.runs.hub import _resizing
from tests.bad_inputs import sentences
from tests.places import ROOT

needs_hub = pytest.mark.skipif(importlib.util.find_spec("huggingface_hub") is None, reason="needs the extra 'hub'")


@pytest.fixture
def hub(monkeypatch, capfd, tmp_path, finished):
    """Run the command on a copy of a finished run; what was printed."""
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> str:
        from pruning_lit.hub import main

        monkeypatch.setattr(sys, "argv", ["hub", *words])
        capfd.readouterr()
        stopped = ""
        try:
            main()
        except SystemExit as stop:
            stopped = str(stop.code)
        return "".join(capfd.readouterr()) + stopped

    return call


def test_a_folder_gives_the_network_back_bit_by_bit(hub):
    hub("path=run", "to=there")
    assert sorted(file.name for file in Path("there").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert Path("there/model.safetensors").read_bytes() == Path("run/pruned/model.safetensors").read_bytes()
    images = torch.randn(3, 3, 32, 32)
    expected = load("run/pruned/model.safetensors")(images)
    assert torch.equal(pruning_lit.from_pretrained("there")(images), expected)


def test_the_config_has_the_widths_of_every_layer_and_how_inputs_are_prepared(hub):
    hub("path=run")
    config = json.loads(Path("run/hub/config.json").read_text())
    net = pruning_lit.from_pretrained("run/hub")
    weights = {name: list(each.shape[:2]) for name, each in net.state_dict().items() if each.ndim in (2, 4)}
    assert {f"{name}.weight": widths for name, widths in config["widths"].items()} == weights
    assert (config["library_name"], config["architecture"], config["num_classes"]) == ("pruning_lit", "resnet8", 10)
    assert config["label_names"] == [str(digit) for digit in range(10)]
    prepared = config["pretrained_cfg"]
    assert prepared["input_size"] == [3, 32, 32]
    assert prepared["mean"] == pytest.approx([0.3044] * 3)
    assert prepared["classifier"] == "linear"


def test_the_card_holds_the_figures_of_the_report_and_invents_no_licence(hub):
    hub("path=run")
    _, head, body = Path("run/hub/README.md").read_text().split("---\n", 2)
    card, report = yaml.safe_load(head), json.loads(Path("run/report.json").read_text())
    (results,) = card["model-index"][0]["results"]
    figures = {each["type"]: each["value"] for each in results["metrics"]}
    assert figures == report["after"]["metrics"] | {
        "macs": report["after"]["macs"],
        "parameters": report["after"]["params"],
    }
    assert card["tags"] == ["image-classification", "channel-pruning", "chip"]
    assert card["datasets"] == ["digits"]
    assert "license" not in card
    assert "not stated" in body
    assert f"{report['before']['macs']:,}" in body
    assert f"{report['after']['macs']:,}" in body
    assert report["command"] in body
    hub("path=run", "license=mit", "base_model=you/dense")
    card = yaml.safe_load(Path("run/hub/README.md").read_text().split("---\n", 2)[1])
    assert (card["license"], card["base_model"]) == ("mit", "you/dense")


@pytest.mark.parametrize("revision", [None, "v1"])
def test_a_repository_is_downloaded_weights_alone(monkeypatch, tmp_path, revision):
    asked = []

    def download(repo: str, file: str, revision: str | None = None) -> str:
        asked.append((repo, file, revision))
        return str(tmp_path / file)

    save(cifar_resnet(8), tmp_path / "model.safetensors", {"_target_": "pruning_lit.models.cifar_resnet", "depth": 8})
    offer(monkeypatch, hf_hub_download=download)
    net = pruning_lit.from_pretrained("you/net", revision)
    assert asked == [("you/net", "model.safetensors", revision)]
    assert not net.training


def offer(monkeypatch, **names: object) -> None:
    """A huggingface_hub that has these names and the errors, and reaches no network."""
    module, errors = types.ModuleType("huggingface_hub"), types.ModuleType("huggingface_hub.errors")
    module.__spec__ = importlib.util.spec_from_loader("huggingface_hub", None)
    for name, each in names.items():
        setattr(module, name, each)
    for name in ("EntryNotFoundError", "LocalEntryNotFoundError", "RepositoryNotFoundError"):
        setattr(errors, name, type(name, (Exception,), {}))
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)


@pytest.mark.parametrize("asked_for", [True, False])
def test_nothing_is_uploaded_unless_a_repository_is_named(hub, monkeypatch, asked_for):
    calls = []

    class HfApi:
        def __init__(self, **_: object) -> None: ...

        def create_repo(self, repo: str, exist_ok: bool) -> None:
            calls.append(("create", repo, exist_ok))

        def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> str:
            calls.append(("upload", repo_id, sorted(file.name for file in folder_path.iterdir())))
            return "the commit"

    offer(monkeypatch, HfApi=HfApi)
    printed = hub("path=run", *["repo=you/net"] * asked_for)
    files = ["README.md", "config.json", "model.safetensors"]
    assert calls == [("create", "you/net", True), ("upload", "you/net", files)] * asked_for
    assert ("uploaded: the commit" in printed) == asked_for


def test_without_the_package_folders_work_and_repositories_are_answered_with_the_command(hub, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "huggingface_hub" else find(name))
    (told,) = sentences(hub("path=run", "repo=you/net"), Path.cwd())
    assert "pip install 'pruning_lit[hub]'" in told
    assert not Path("run/hub").exists()
    hub("path=run")
    assert pruning_lit.from_pretrained("run/hub") is not None
    with pytest.raises(ValueError, match=r"pip install 'pruning_lit\[hub\]'"):
        pruning_lit.from_pretrained("you/net")


def test_a_folder_that_names_foreign_code_is_refused(tmp_path):
    save(cifar_resnet(8), tmp_path / "model.safetensors", {"_target_": "os.system", "command": "touch ran"})
    (tmp_path / "config.json").write_text('{"arch": {"_target_": "os.system"}}')
    with pytest.raises(ValueError, match=r"'os\.system', which is not trusted"):
        pruning_lit.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["path=nowhere"], "path=nowhere: there is no such folder"),
        (["path=run", "repo=net"], "repo=net: a repository is called user/name"),
        (["path=run/pruned"], "is not the folder of a finished run"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(hub, words, expected):
    (told,) = sentences(hub(*words), Path.cwd())
    assert expected in told


@needs_hub
def test_the_mixin_class_of_the_page_loads_a_narrowed_network(tmp_path):
    block = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "hub.md").read_text(), re.DOTALL)[-1]
    scope: dict = {"__name__": "mixin"}
    exec(block, scope)
    net = scope["MyNet"](8).eval()
    graph = trace(net, torch.zeros(1, 3, 8, 8))
    narrow(net, graph, {group.name: [0, 3, 5] for group in graph.prunable})
    net.save_pretrained(tmp_path)
    images = torch.randn(2, 3, 8, 8)
    again = scope["MyNet"].from_pretrained(tmp_path)
    assert again.body[0].out_channels == 3
    assert torch.equal(again(images), net(images))


def test_how_images_are_resized_is_told_in_timms_words_where_they_are_cropped():
    imagenet = {"_target_": "pruning_lit.data.ImageNet", "size": 224}
    assert _resizing(imagenet) == {"interpolation": "bilinear", "crop_pct": 0.875, "crop_mode": "center"}
    assert _resizing({"_target_": "pruning_lit.data.ImageFolder", "size": 64})["crop_pct"] == 1
    assert _resizing({"_target_": "pruning_lit.data.Coco", "image_size": [300, 300]}) == {}
    assert _resizing({"_target_": "pruning_lit.data.Digits"}) == {}
