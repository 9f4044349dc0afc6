"""Exported networks where they run: in ONNX Runtime and in int8, checked on the test part before a file is left."""

import importlib
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from pruning_lit.channels import cost, cost_of_widths, load, narrow, trace
from pruning_lit.data import Digits
from pruning_lit.measure import machine
from pruning_lit.measure.onnx_network import OnnxNetwork, has_onnx
from pruning_lit.measure.program_network import ProgramNetwork, compiled
from pruning_lit.models import cifar_resnet
from pruning_lit.runs.deployment import odd_widths
from pruning_lit.sparsity.multiples import in_multiples
from tests.bad_inputs import sentences

needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="needs the extra 'int8'")
needs_onnx = pytest.mark.skipif(not has_onnx(), reason="needs the extra 'onnx'")
QUICK = ("latency.batch_size=[1,2]", "latency.repeats=3", "latency.warmup=0", "calibration.num_images=32")


@pytest.fixture
def export(monkeypatch, capfd, tmp_path, finished):
    """Run the command on a copy of a finished run; its folder of the network, and what was printed."""
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[Path, str]:
        from pruning_lit.export import main

        monkeypatch.setattr(sys, "argv", ["export", *QUICK, *words])
        capfd.readouterr()
        stopped = ""
        try:
            main()
        except SystemExit as stop:
            stopped = str(stop.code)
        return tmp_path / "run" / "pruned", "".join(capfd.readouterr()) + stopped

    return call


@pytest.fixture
def digits():
    data = Digits(batch_size=64, mean=[0.3044] * 3, std=[0.3233] * 3)
    data.setup()
    return data


def test_widths_in_multiples_cost_no_more_than_those_they_replace():
    graph = trace(cifar_resnet(20), torch.zeros(1, 3, 32, 32))
    for share in (0.3, 0.55, 0.8, 1.0):
        widths = {group.name: max(1, int(share * group.size)) for group in graph.prunable}
        rounded = in_multiples(graph, widths, 8)
        assert all(width % 8 == 0 and 0 < width <= graph[name].size for name, width in rounded.items())
        most, made = (cost_of_widths(graph, each).macs for each in (widths, rounded))
        narrowest = cost_of_widths(graph, dict.fromkeys(widths, 8)).macs
        assert made <= most or made == narrowest
    assert in_multiples(graph, {group.name: group.size for group in graph.prunable}, 8) == {
        group.name: group.size for group in graph.prunable
    }


def test_only_widths_that_were_cut_are_called_odd():
    dense, net = cifar_resnet(8, 10), cifar_resnet(8, 10)
    assert odd_widths(dense, net) == {}
    narrow(
        net,
        trace(net, torch.zeros(1, 3, 32, 32)),
        {"layer1.0.conv1": list(range(13)), "layer2.0.conv1": list(range(24))},
    )
    assert odd_widths(dense, net) == {"layer1.0.conv1": 13}


@needs_onnx
def test_dense_and_pruned_are_timed_in_both_runtimes_and_rounding_is_named(export):
    folder, printed = export("path=run", "format=onnx")
    told = json.loads((folder / "export.json").read_text())
    dense, pruned, rounded = told["networks"]
    assert [each["name"] for each in told["networks"]] == ["dense", "pruned", "in multiples of 8"]
    assert dense["macs"] > pruned["macs"] >= rounded["macs"]
    assert pruned["macs"] == cost(trace(load(folder / "model.safetensors"), torch.zeros(1, 3, 32, 32))).macs
    assert all(len(each["timings"][runtime]) == 2 for each in told["networks"] for runtime in ("eager", "onnx"))
    assert all(timing["median_ms"] > 0 for each in told["networks"] for timing in each["timings"]["onnx"])
    assert "prune with sparsity.round_to=8" in printed
    assert f"{rounded['macs']:,} MACs instead of {pruned['macs']:,}" in printed
    assert "ONNX Runtime," in printed


def test_without_onnx_runtime_widths_are_still_advised_on(export):
    folder, printed = export("path=run", "format=pt2")
    assert "prune with sparsity.round_to=8" in printed
    assert not (folder / "export.json").exists()


@needs_onnx
def test_int8_is_smaller_takes_any_batch_and_is_told_beside_float(export, digits):
    folder, printed = export("path=run", "format=onnx,onnx_int8", "max_drop=100", "measure=false")
    net = OnnxNetwork(folder / "model.int8.onnx")
    images = next(digits.calibration(64, 0))[0]
    wanted = load(folder / "model.safetensors")(images).detach()
    answers = [torch.cat([net(part) for part in images.split(size)]) for size in (1, 5, 64)]
    for each in answers:
        assert (each - wanted).abs().max() < 0.2 * wanted.abs().max()
        torch.testing.assert_close(each, answers[0])
    assert not torch.equal(answers[0], wanted)
    assert "(in float32 " in printed
    assert "accuracy" in printed


@needs_onnx
def test_int8_is_u8s8_per_channel_and_the_same_file_again(export):
    import onnx

    folder, _ = export("path=run", "format=onnx_int8", "max_drop=100", "measure=false")
    first = (folder / "model.int8.onnx").read_bytes()
    model = onnx.load(folder / "model.int8.onnx")
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    kinds = {name: array.dtype.name for name, array in weights.items() if name.endswith("_quantized")}
    assert {kind for name, kind in kinds.items() if ".weight_quantized" in name} == {"int8"}
    scale, kernel = weights["conv1.weight_scale"], weights["conv1.weight_quantized"]
    assert scale.shape == kernel.shape[:1]
    points = [array for name, array in weights.items() if name.endswith("_zero_point") and array.ndim == 0]
    assert {array.dtype.name for array in points} == {"uint8"}
    (facts,) = [each.value for each in model.metadata_props if each.key == "pruning_lit"]
    assert len(json.loads(facts)["mean"]) == 3
    export("path=run", "format=onnx_int8", "max_drop=100", "measure=false")
    assert (folder / "model.int8.onnx").read_bytes() == first


@needs_onnx
@pytest.mark.parametrize("bits", [7, 8])
def test_weights_have_7_bits_where_a_processor_lacks_vnni(export, monkeypatch, bits):
    import onnx

    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: bits == 8)
    folder, printed = export("path=run", "format=onnx_int8", "max_drop=100", "measure=false")
    kernels = [
        onnx.numpy_helper.to_array(each)
        for each in onnx.load(folder / "model.int8.onnx").graph.initializer
        if each.name.endswith(".weight_quantized")
    ]
    assert max(int(abs(each.astype(int)).max()) for each in kernels) == {7: 64, 8: 127}[bits]
    assert ("weights of 7 bits" in printed) == (bits == 7)


@needs_onnx
def test_layers_that_are_kept_stay_in_float(export):
    import onnx

    folder, printed = export("path=run", "format=onnx_int8", "max_drop=100", "measure=false", "keep_float=conv1,lin*")
    names = {each.name for each in onnx.load(folder / "model.int8.onnx").graph.initializer}
    assert {"conv1.weight", "linear.weight"} <= names
    assert "conv1.weight_quantized" not in names
    assert "layer1.0.conv1.weight_quantized" in names
    assert "in float32: conv1, linear" in printed


@needs_onnx
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["max_drop=-100"], "was not written: accuracy falls from"),
        (["keep_float=conv9"], "keep_float: no layer is called 'conv9'; the layers are conv1, layer1.0.conv1"),
        (["calibration.num_images=0"], "calibration.num_images is a whole number of at least 1, got 0"),
        (["dataset=shapes10"], "was trained on images of 3×32×32"),
    ],
)
def test_int8_is_refused_in_one_sentence(export, words, expected):
    folder, printed = export("path=run", "format=onnx_int8", *words)
    (told,) = sentences(printed, Path.cwd())
    assert expected in told
    assert not (folder / "model.int8.onnx").exists()
    assert not list(folder.glob(".*"))


@needs_onnx
def test_a_network_without_images_to_calibrate_on_is_answered_by_name(export):
    shutil.copy("run/pruned/model.safetensors", "alone.safetensors")
    _, printed = export("path=alone.safetensors", "format=onnx_int8")
    assert "format=onnx_int8 is calibrated on training images: 'alone.safetensors' lies in no run's folder" in printed
    _, printed = export("path=alone.safetensors", "format=onnx_int8", "dataset=digits", "max_drop=100", "measure=false")
    assert "alone.int8.onnx: " in printed


def stored(file: Path) -> dict[str, torch.Tensor]:
    return torch.export.load(file).state_dict


@needs_torchao
def test_a_program_in_int8_holds_weights_in_int8_and_takes_any_batch(export, digits):
    folder, printed = export("path=run", "format=pt2_int8", "max_drop=100", "measure=false")
    net = torch.export.load(folder / "model.int8.pt2").module()
    images = next(digits.calibration(64, 0))[0]
    wanted = load(folder / "model.safetensors")(images).detach()
    answers = [torch.cat([net(part) for part in images.split(size)]).detach() for size in (1, 5, 64)]
    for each in answers:
        assert (each - wanted).abs().max() < 0.2 * wanted.abs().max()
        assert (each - answers[0]).abs().max() < 0.02 * wanted.abs().max()  # a sum in another order rounds elsewhere
    assert not torch.equal(answers[0], wanted)
    assert "(in float32 " in printed
    assert {each.ndim for each in stored(folder / "model.int8.pt2").values() if each.dtype == torch.int8} == {2, 4}
    assert not [
        each for each in stored(folder / "model.int8.pt2").values() if each.is_floating_point() and each.ndim > 1
    ]
    first = (folder / "model.int8.pt2").read_bytes()
    export("path=run", "format=pt2_int8", "max_drop=100", "measure=false")
    assert (folder / "model.int8.pt2").read_bytes() == first


@needs_torchao
def test_layers_of_a_program_that_are_kept_stay_in_float(export):
    words = ("path=run", "format=pt2_int8", "max_drop=100", "measure=false", "keep_float=conv1,lin*")
    folder, printed = export(*words)
    floats = {
        name for name, each in stored(folder / "model.int8.pt2").items() if each.is_floating_point() and each.ndim > 1
    }
    assert floats == {"conv1.weight", "linear.weight"}
    assert "in float32: conv1, linear" in printed


@needs_torchao
@pytest.mark.parametrize("bits", [7, 8])
def test_activations_of_a_program_have_7_bits_where_a_processor_lacks_vnni(export, monkeypatch, bits):
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: bits == 8)
    folder, printed = export("path=run", "format=pt2_int8", "max_drop=100", "measure=false")
    graph = torch.export.load(folder / "model.int8.pt2").graph
    highest = {node.args[4] for node in graph.nodes if "quantize_per_tensor" in str(node.target)}
    assert highest == {2**bits - 1}
    assert ("activations of 7 bits" in printed) == (bits == 7)


@needs_torchao
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["max_drop=-100"], "was not written: accuracy falls from"),
        (["keep_float=conv9"], "keep_float: no layer is called 'conv9'; the layers are conv1, layer1.0.conv1"),
    ],
)
def test_a_program_in_int8_is_refused_in_one_sentence(export, words, expected):
    folder, printed = export("path=run", "format=pt2_int8", *words)
    (told,) = sentences(printed, Path.cwd())
    assert expected in told
    assert not (folder / "model.int8.pt2").exists()
    assert not list(folder.glob(".*"))


@needs_torchao
def test_a_program_in_which_nothing_was_quantized_is_not_written(export, monkeypatch):
    monkeypatch.setattr("pruning_lit.runs.pt2_int8.quantize_program", lambda program, *rest: program.module())
    folder, printed = export("path=run", "format=pt2_int8", "max_drop=100", "measure=false")
    (told,) = sentences(printed, Path.cwd())
    assert "finds no layer in the network that it can quantize" in told
    assert not (folder / "model.int8.pt2").exists()


def test_a_program_in_int8_without_torchao_names_the_command_that_brings_it(export, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "torchao" else found(name, *rest)
    )
    _, printed = export("path=run", "format=pt2_int8")
    assert "format=pt2_int8 needs torchao: pip install 'pruning_lit[int8]'" in printed


@needs_torchao
def test_a_torchao_of_another_torch_is_named(export, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization.pt2e.quantize_pt2e", None)
    _, printed = export("path=run", "format=pt2_int8")
    (told,) = sentences(printed, Path.cwd())
    assert f"does not go with torch {torch.__version__}" in told
    assert told.endswith("install the torchao that came out with it")


@needs_torchao
def test_a_compiler_that_fails_is_told_and_the_rest_is_timed(export, monkeypatch):
    def fail(*arguments, **settings):
        def call(*inputs):
            raise RuntimeError("no compiler here\nand more")

        return call

    monkeypatch.setattr(torch, "compile", fail)
    folder, printed = export("path=run", "format=pt2_int8", "max_drop=100")
    told = json.loads((folder / "export.json").read_text())
    assert [set(each["timings"]) for each in told["networks"]] == [{"eager"}, {"eager"}, {"eager"}, set()]
    assert "torch.compile failed: no compiler here" in " ".join(printed.split())
    assert (folder / "model.int8.pt2").exists()


@needs_torchao
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_compiled_kernels_in_int8_compute_what_the_program_does(export, digits):
    folder, _ = export("path=run", "format=pt2_int8", "max_drop=100", "latency.batch_size=2")
    told = json.loads((folder / "export.json").read_text())
    assert [set(each["timings"]) for each in told["networks"]] == [{"eager", "compiled"}] * 3 + [{"compiled"}]
    program = ProgramNetwork(torch.export.load(folder / "model.int8.pt2").module())
    images = next(digits.calibration(2, 0))[0]
    with torch._inductor.utils.fresh_cache():
        fast = compiled(program, (images,))
    wanted = program(images).detach()
    assert (fast(images) - wanted).abs().max() < 0.05 * wanted.abs().max()
