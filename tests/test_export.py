"""Exported files compute what the network does, for batches of any size, and shrink as it does."""

import importlib.util
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from torch import Tensor, nn

from pruning_lit import export as command
from pruning_lit import models
from pruning_lit.channels import load, narrow, save, trace
from pruning_lit.models import cifar_resnet, torchvision_model
from pruning_lit.models.detector_views import detector_view
from pruning_lit.runs.export import FORMATS, export
from pruning_lit.tasks.point_classification import on_sphere
from tests.bad_inputs import sentences

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs the extra 'onnx'",
)
every_format = pytest.mark.parametrize("form", [pytest.param("onnx", marks=needs_onnx), "pt2"])

IMAGES = {"shape": [3, 32, 32]}


def written(folder: Path, depth: int = 8, share: float = 0.5, **notes: object) -> Path:
    """A run's folder with the file of a network, of which that share of every group's channels is left."""
    torch.manual_seed(0)
    net = cifar_resnet(depth)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    # the upper channels, so that of the shortcuts some arrive and some do not
    kept = {group.name: list(range(group.size - int(group.size * share), group.size)) for group in graph.prunable}
    narrow(net, graph, kept, rehearse=False)
    arch = {"_target_": "pruning_lit.models.cifar_resnet", "depth": depth, "num_classes": 10}
    save(net, folder / "pruned" / "model.safetensors", arch, **notes)
    return folder


def answers(file: Path, x: Tensor) -> Tensor:
    """What the file computes, read by its own runtime."""
    if file.suffix == ".pt2":
        return torch.export.load(file).module()(x)
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())
    return torch.from_numpy(session.run(None, {name: x.numpy()})[0])


@pytest.mark.at_once(1)
@every_format
@pytest.mark.parametrize("depth", [8, 20])
def test_a_narrowed_network_answers_the_same_from_its_exported_file(tmp_path, form, depth):
    folder = written(tmp_path, depth, pictures=IMAGES)
    ((file, difference),) = export(folder, [form]).items()
    assert file == folder / "pruned" / f"model.{form}"
    assert difference < 1e-5
    net = load(folder / "pruned" / "model.safetensors")
    assert (net.layer2[0].shortcut.source == -1).any()
    assert (net.layer2[0].shortcut.source >= 0).any()
    for size in (1, 2, 7):
        x = torch.randn(size, 3, 32, 32)
        torch.testing.assert_close(answers(file, x), net(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.at_once(1)
@every_format
def test_files_shrink_as_the_parameters_do(tmp_path, form):
    sizes, numbers = [], []
    for share in (1.0, 0.5):
        folder = written(tmp_path / str(share), 8, share)
        (file,) = export(folder, [form])
        sizes.append(file.stat().st_size)
        net = load(folder / "pruned" / "model.safetensors")
        numbers.append(sum(parameter.numel() for parameter in net.parameters()))
    saved = 4 * (numbers[0] - numbers[1])  # bytes of float32
    assert numbers[1] < 0.3 * numbers[0]
    assert sizes[0] - sizes[1] == pytest.approx(saved, rel=0.05)


@needs_onnx
def test_relabelled_shortcuts_become_ordinary_operations(tmp_path):
    import onnx

    (file,) = export(written(tmp_path), ["onnx"])
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert len(model.functions) == 0
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        *IMAGES["shape"],
    ]


@pytest.mark.at_once(1)
@every_format
def test_files_do_not_tell_where_they_were_made(tmp_path, form):
    (file,) = export(written(tmp_path), [form])
    content = file.read_bytes()
    for place in (command.__file__, str(tmp_path), torch.__path__[0]):
        assert str(Path(place).parent).encode() not in content


@pytest.mark.slow
def test_another_network_of_another_shape(tmp_path):
    arch = {"_target_": "pruning_lit.models.torchvision_model", "name": "mobilenet_v3_small", "num_classes": 4}
    save(torchvision_model("mobilenet_v3_small", 4), tmp_path / "net.safetensors", arch)
    (file,) = export(tmp_path / "net.safetensors", ["pt2"], [3, 48, 64])
    assert answers(file, torch.zeros(3, 3, 48, 64)).shape == (3, 4)


@pytest.mark.slow
def test_the_shape_in_the_file_is_taken_unless_another_is_given(tmp_path):
    folder = written(tmp_path, pictures={"shape": [3, 16, 24]})
    for given, shape in [(None, (3, 16, 24)), ([3, 8, 8], (3, 8, 8))]:
        (file,) = export(folder, ["pt2"], given)
        assert answers(file, torch.zeros(2, *shape)).shape == (2, 10)
        with pytest.raises((AssertionError, RuntimeError), match=r"Guard failed|to be equal to"):
            answers(file, torch.zeros(2, 3, 32, 32))


@pytest.mark.slow
def test_a_file_that_would_compute_something_else_is_not_written(tmp_path, monkeypatch):
    folder = written(tmp_path)
    (file,) = export(folder, ["pt2"])
    before = file.read_bytes()
    monkeypatch.setitem(FORMATS, "pt2", lambda program, outputs, draft: lambda x: program.module()(x) * 1.01)
    with pytest.raises(ValueError, match=r"model.pt2' was not written: it differs by 1.0e-02"):
        export(folder, ["pt2"])
    assert file.read_bytes() == before
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.pt2", "model.safetensors"]


def called(monkeypatch, capsys, *words: str) -> tuple[object, str]:
    """Exit code and what was said."""
    monkeypatch.setattr(sys, "argv", ["export", *words])
    try:
        command.main()
    except SystemExit as stop:
        (told,) = sentences(f"{capsys.readouterr().out}\n{stop.code}", Path.cwd())
        return stop.code, told
    return 0, capsys.readouterr().out


@needs_onnx
def test_the_command_writes_both_formats_and_says_how_exact_they_are(tmp_path, monkeypatch, capsys):
    code, told = called(monkeypatch, capsys, f"path={written(tmp_path)}", "format=onnx,pt2")
    assert code == 0
    for name in ("model.onnx", "model.pt2"):
        assert (tmp_path / "pruned" / name).is_file()
        assert f"{name}: " in told
    assert told.count("of the largest output (batches of 1 and 5)") == 2


@pytest.mark.at_once(2)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "a value has to be given: path="),
        (["path=nowhere"], "there is no file 'nowhere'"),
        (["path=."], "'.' is not the folder of a finished run: it has no pruned/model.safetensors"),
        (["path=text.txt"], "'text.txt' is not a readable network file"),
        (["path=run", "format=tflite"], "format is one or several of onnx, pt2, onnx_int8, pt2_int8; got tflite"),
        (["path=run", "format=[]"], "format is one or several of onnx, pt2, onnx_int8, pt2_int8; got none"),
        (["path=run", "input_shape=32"], "input_shape must be null or a list, each a whole number, got 32"),
        (["path=run", "input_shape=[0,32,32]"], "input_shape is a list of positive whole numbers"),
        (["path=run", "input_shape=[1,32,32]", "format=pt2"], "does not take inputs of shape [1, 32, 32]"),
        (
            ["path=run", "shape=[3,32,32]"],
            "there is no setting shape in what has been chosen; perhaps input_shape",
        ),
        (["run"], "cannot read 'run': settings are written key=value"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(tmp_path, monkeypatch, capsys, words, expected):
    written(tmp_path / "run")
    (tmp_path / "text.txt").write_text("no network")
    monkeypatch.chdir(tmp_path)
    code, told = called(monkeypatch, capsys, *words)
    assert code != 0
    assert expected in told


OWN = """
    import torch
    from torch import nn


    class SplitCat(nn.Module):
        def __init__(self, width=16, num_classes=10):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 2 * width, 3), nn.Linear(2 * width, num_classes)

        def forward(self, x):
            left, right = torch.chunk(self.stem(x), 2, dim=1)
            return self.head(torch.cat([left.relu(), right], dim=1).mean((2, 3)))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A run's folder with a narrowed network of the user's own, and its code in the current folder."""
    (tmp_path / "own_for_export.py").write_text(dedent(OWN))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    monkeypatch.delitem(sys.modules, "own_for_export", raising=False)
    scope: dict = {}
    exec(dedent(OWN), scope)
    net = scope["SplitCat"](8, 7)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    narrow(net, graph, {group.name: list(range(group.size // 2)) for group in graph.prunable})
    arch = {"_target_": "own_for_export.SplitCat", "width": 8, "num_classes": 7}
    save(net, Path("run/pruned/model.safetensors"), arch, pictures=IMAGES)
    return net


ALLOWED = "allow_targets=[own_for_export]"


def test_a_network_of_ones_own_is_exported_with_the_builder_that_the_user_names(own, monkeypatch, capsys):
    words = ["path=run", "format=pt2", "arch._target_=own_for_export.SplitCat", "arch.width=8", ALLOWED]
    code, told = called(monkeypatch, capsys, *words)
    assert (code, "model.pt2: " in told) == (0, True)
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(answers(Path("run/pruned/model.pt2"), x), own.eval()(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_file_does_not_run_the_code_it_names_but_says_what_to_add(own, monkeypatch, capsys):
    code, told = called(monkeypatch, capsys, "path=run", "format=pt2")
    assert code != 0
    assert told.endswith("if you trust it, add allow_targets=own_for_export")
    assert "own_for_export" not in sys.modules
    code, told = called(monkeypatch, capsys, "path=run", "format=pt2", *told.split()[-1:])  # with the file's settings
    assert (code, "model.pt2: " in told) == (0, True)


@pytest.mark.at_once(2)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["arch.width=8"], "there is no setting arch.width in what has been chosen"),
        (["arch._target_=own_for_export", ALLOWED], "is a module; expected a constructor in it"),
        (
            ["arch._target_=own_for_export.SplitCat", "arch.width=x", ALLOWED],
            "SplitCat(width='x', num_classes=7) cannot be built",
        ),
        (["arch._target_=torch.nn.Flatten"], "does not fit"),
        (
            ["arch._target_=own_for_export.SplitCat", "arch.width=8,16"],
            "arch.width=8,16 has several values: put -m in front",
        ),
    ],
)
def test_a_builder_that_does_not_fit_is_told_in_one_sentence(own, monkeypatch, capsys, words, expected):
    code, told = called(monkeypatch, capsys, "path=run", "format=pt2", *words)
    assert code != 0
    assert expected in told


@pytest.mark.slow
def test_a_file_that_names_no_builder_needs_one_named(tmp_path):
    save(cifar_resnet(8), tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"does not say how to build its network: add arch._target_="):
        export(tmp_path / "net.safetensors", ["pt2"])
    arch = {"_target_": "pruning_lit.models.cifar_resnet", "depth": 8}
    assert export(tmp_path / "net.safetensors", ["pt2"], arch=arch)


@pytest.mark.slow
def test_without_the_extra_it_is_told_what_to_install(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    folder = written(tmp_path)
    code, told = called(monkeypatch, capsys, f"path={folder}")
    assert code != 0
    assert "pip install 'pruning_lit[onnx]'" in told
    assert called(monkeypatch, capsys, f"path={folder}", "format=pt2")[0] == 0


DETECTORS = {
    "ssd_small": (3, 64, 64, {"image_size": 64, "width": 4}, ["bbox_regression", "cls_logits"]),
}


@every_format
@pytest.mark.parametrize("name", list(DETECTORS))
def test_of_a_detector_the_raw_view_is_exported_with_every_output_by_its_name(tmp_path, form, name):
    *shape, options, outputs = DETECTORS[name]
    torch.manual_seed(0)
    net = getattr(models, name)(num_classes=5, **options)
    view = detector_view(net)
    graph = trace(view, torch.zeros(1, *shape))
    narrow(view, graph, {group.name: list(range(0, group.size, 2)) for group in graph.prunable})
    arch = {"_target_": f"pruning_lit.models.{name}", "num_classes": 5, **options}
    save(net, tmp_path / "pruned" / "model.safetensors", arch)
    ((file, difference),) = export(tmp_path, [form]).items()
    assert difference < 1e-5
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        assert set(outputs) <= {each.name for each in session.get_outputs()}
        assert session.get_inputs()[0].shape[1:] == shape


CLOUDS = {
    "pointnet2_part_seg": {"num_parts": 6, "num_categories": 3, "centres": [8, 4], "width": 0.1},
    "pointnet2_cls": {"num_classes": 5, "centres": [8, 4], "width": 0.1},
    "pointnet": {"num_classes": 5, "width": 0.1},
}


@pytest.mark.slow
@every_format
@pytest.mark.parametrize("name", list(CLOUDS))
def test_networks_for_point_clouds_are_exported_with_all_their_inputs(tmp_path, form, name):
    torch.manual_seed(0)
    net, points = getattr(models, name)(**CLOUDS[name]).eval(), on_sphere(torch.zeros(1, 24, 3))
    parts = name.endswith("part_seg")
    graph = trace(net, (points, torch.tensor([1])) if parts else points)
    narrow(net, graph, {group.name: list(range(0, group.size, 2)) for group in graph.prunable})
    arch = {"_target_": f"pruning_lit.models.{name}", **CLOUDS[name]}
    save(net, tmp_path / "pruned" / "model.safetensors", arch, pictures={"shape": [24, 3]})
    config = tmp_path / ".hydra" / "config.yaml"
    config.parent.mkdir()
    task = "PartSegmentation" if parts else "PointClassification"
    config.write_text(f"task: {{_target_: pruning_lit.tasks.{task}}}\n")
    ((file, difference),) = export(tmp_path, [form]).items()
    assert difference < 1e-5
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        assert [each.name for each in session.get_inputs()] == (["cloud", "category"] if parts else ["pictures"])


def test_a_detector_in_two_stages_is_not_exported(tmp_path):
    options = {"image_size": 64, "width": 4, "num_classes": 5}
    arch = {"_target_": "pruning_lit.models.maskrcnn_small", **options}
    save(models.maskrcnn_small(**options), tmp_path / "pruned" / "model.safetensors", arch)
    with pytest.raises(ValueError, match=r"a detector in two stages.*SSD, RetinaNet and FCOS can be exported"):
        export(tmp_path, ["pt2"])
    assert not (tmp_path / "pruned" / "model.pt2").exists()
