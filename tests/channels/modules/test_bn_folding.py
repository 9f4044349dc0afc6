"""A convolution, its batch norm and its compactor are one convolution; the release's vectors, and any other stack."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels import Compactor
from pruning_lit.channels.modules.bn_folding import fuse_conv_bn_compactor, merge
from pruning_lit.phases import compactor as scripts_import_it_from
from tests.channels.chance import randomise
from tests.methods.resrep.resrep_golden import GOLDEN

CASES = np.load(GOLDEN / "merge_unit.npz")
NAMES = ["none", "strided", "all_small", "boundary", "convbias"]
KERNELS = {"rtol": 1e-4, "atol": 1e-6}
OUTPUTS = {"rtol": 0, "atol": 1e-5}
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def of(case: str, field: str) -> Tensor:
    return torch.from_numpy(CASES[f"{case}/{field}"])


def recorded_layers(case: str) -> tuple[nn.Conv2d, nn.BatchNorm2d, Tensor]:
    """The convolution, the batch norm in eval mode, and the matrix."""
    outputs, inputs, size, _ = of(case, "conv_w").shape
    bias = f"{case}/conv_bias" in CASES
    conv = nn.Conv2d(inputs, outputs, size, int(of(case, "stride")), int(of(case, "padding")), bias=bias)
    norm = nn.BatchNorm2d(outputs, eps=float(of(case, "eps"))).eval()
    with torch.no_grad():
        conv.weight.copy_(of(case, "conv_w"))
        if conv.bias is not None:
            conv.bias.copy_(of(case, "conv_bias"))
        norm.weight.copy_(of(case, "bn_gamma"))
        norm.bias.copy_(of(case, "bn_beta"))
        norm.running_mean.copy_(of(case, "bn_mean"))
        norm.running_var.copy_(of(case, "bn_var"))
    return conv, norm, of(case, "q")


def compactor_of(matrix: Tensor) -> Compactor:
    compactor = Compactor(len(matrix)).to(matrix)
    compactor.weight.data.copy_(matrix)
    return compactor


@pytest.mark.parametrize("case", NAMES)
def test_the_rows_below_the_threshold_are_those_that_the_release_removes(case):
    norms, threshold = compactor_of(of(case, "q")).norms(), float(of(case, "threshold"))
    gone = {*(norms < threshold).nonzero().flatten().tolist()}
    if len(gone) == len(norms):
        gone.remove(int(norms.argmax()))  # a layer keeps its longest row
    assert sorted(gone) == of(case, "pruned").tolist()
    assert sorted({*range(len(norms))} - gone) == of(case, "kept").tolist()


def test_rows_just_below_and_just_above_the_threshold_are_told_apart():
    norms = compactor_of(of("boundary", "q")).norms()
    assert sorted(norms.tolist())[:2] == pytest.approx([0.9e-5, 1.1e-5], rel=1e-5)
    assert (norms < 1e-5).nonzero().flatten().tolist() == of("boundary", "pruned").tolist()


@pytest.mark.parametrize("case", NAMES)
def test_batch_norm_becomes_part_of_the_convolution_as_in_the_release(case):
    conv, norm, _matrix = recorded_layers(case)
    kernel, bias = fuse_conv_bn_compactor(conv, norm)
    assert kernel.dtype == bias.dtype == torch.float64
    torch.testing.assert_close(kernel.float(), of(case, "fused_w"), **KERNELS)
    torch.testing.assert_close(bias, of(case, "fused_b").double(), **KERNELS)


@pytest.mark.parametrize("case", NAMES)
def test_the_merged_convolution_is_that_of_the_release(case):
    conv, norm, matrix = recorded_layers(case)
    merged = merge(conv, norm, matrix, of(case, "kept").tolist())
    torch.testing.assert_close(merged.weight.detach(), of(case, "merged_w"), **KERNELS)
    torch.testing.assert_close(merged.bias.detach(), of(case, "merged_b").float(), **KERNELS)


@pytest.mark.parametrize("case", NAMES)
def test_stack_and_merged_convolution_give_what_the_release_gives(case):
    conv, norm, matrix = recorded_layers(case)
    x, kept = of(case, "x"), of(case, "kept").tolist()
    with torch.no_grad():
        stack, merged = compactor_of(matrix)(norm(conv(x))), merge(conv, norm, matrix, kept)(x)
    torch.testing.assert_close(stack, of(case, "y_stack"), **OUTPUTS)
    torch.testing.assert_close(merged, of(case, "y_merged"), **OUTPUTS)
    torch.testing.assert_close(merged, stack[:, kept], **OUTPUTS)


GEOMETRIES = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (3, 5), "padding": (0, 2), "dilation": (2, 1)},
    {"kernel_size": 3, "padding": "same", "bias": False},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 4, "padding": (2, 1), "padding_mode": "circular", "stride": (1, 3), "bias": False},
]


def stack(**geometry: object) -> tuple[nn.Conv2d, nn.BatchNorm2d, Compactor]:
    """One of seven channels, in float64, with nothing left as it began."""
    torch.manual_seed(0)
    norm = randomise(nn.Sequential(nn.BatchNorm2d(7)))[0]
    return nn.Conv2d(3, 7, **geometry).double(), norm.double(), compactor_of(torch.randn(7, 7, dtype=torch.float64))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("keep", [None, [0, 2, 6]], ids=["all", "some"])
def test_merging_is_exact_whatever_the_geometry(geometry, keep):
    conv, norm, compactor = stack(**geometry)
    x = torch.randn(2, 3, 9, 11, dtype=torch.float64)
    expected = compactor(norm(conv(x)))
    torch.testing.assert_close(merge(conv, norm, compactor, keep)(x), expected[:, keep or range(7)], **EXACT)


def test_the_merged_convolution_is_an_ordinary_one_of_the_same_geometry_with_a_bias():
    conv, norm, compactor = stack(kernel_size=(3, 5), stride=2, padding=(1, 2), dilation=1, bias=False)
    merged = merge(conv.float(), norm, compactor, [1, 4])
    assert type(merged) is nn.Conv2d
    for name in ("in_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"):
        assert getattr(merged, name) == getattr(conv, name)
    assert merged.out_channels == len(merged.bias) == 2
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for parameter in merged.parameters())


def test_a_compactor_may_be_a_matrix_a_1x1_convolution_a_compactor_or_none():
    conv, norm, compactor = stack(kernel_size=3)
    matrix = compactor.weight.detach()
    as_convolution = nn.Conv2d(7, 7, 1, bias=False).double()
    as_convolution.weight.data.copy_(matrix[:, :, None, None])
    expected = merge(conv, norm, matrix)
    for each in (compactor, compactor.weight, as_convolution, as_convolution.weight):
        assert torch.equal(merge(conv, norm, each).weight, expected.weight)
        assert torch.equal(merge(conv, norm, each).bias, expected.bias)
    identity = merge(conv, norm, torch.eye(7, dtype=torch.float64))
    torch.testing.assert_close(merge(conv, norm, None).weight, identity.weight, **EXACT)
    torch.testing.assert_close(merge(conv, norm, None).bias, identity.bias, **EXACT)


def test_a_compactor_right_behind_a_convolution_mixes_its_bias_too():
    conv, _, compactor = stack(kernel_size=3)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(merge(conv, None, compactor)(x), compactor(conv(x)), **EXACT)


def test_the_layers_that_are_merged_stay_as_they_are():
    layers = stack(kernel_size=3)
    before = [tensor.clone() for layer in layers for tensor in layer.state_dict().values()]
    merge(*layers, keep=[3])
    after = [tensor for layer in layers for tensor in layer.state_dict().values()]
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize(
    ("dims", "convolution", "norm"),
    [(1, nn.Conv1d, nn.BatchNorm1d), (2, nn.Conv2d, nn.BatchNorm2d), (3, nn.Conv3d, nn.BatchNorm3d)],
    ids=["1-d", "2-d", "3-d"],
)
def test_convolutions_of_any_dimension_are_folded_exactly(dims, convolution, norm):
    torch.manual_seed(0)
    conv = convolution(3, 6, 3, stride=2, padding=1).double()
    norm = randomise(nn.Sequential(norm(6)))[0].double()
    compactor = compactor_of(torch.randn(6, 6, dtype=torch.float64))
    x = torch.randn(2, 3, *[7] * dims, dtype=torch.float64)
    kernel, bias = fuse_conv_bn_compactor(conv, norm, compactor.weight)
    run = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    torch.testing.assert_close(run(x, kernel, bias, stride=2, padding=1), compactor(norm(conv(x))), **EXACT)


def test_a_norm_without_scale_and_shift_is_folded_by_its_statistics():
    conv, _, compactor = stack(kernel_size=3)
    norm = nn.BatchNorm2d(7, affine=False).double()
    norm(conv(torch.randn(4, 3, 8, 8, dtype=torch.float64)))  # it has seen something
    norm.eval()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(merge(conv, norm, compactor)(x), compactor(norm(conv(x))), **EXACT)


@pytest.mark.parametrize(
    "eps", [1e-5, 1e-3, 0.5]
)  # torch's own, that of torchvision's MobileNet-V3, and one that shows
def test_eps_is_that_of_the_norm(eps):
    conv, norm, compactor = stack(kernel_size=3)
    norm.eps = eps
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(merge(conv, norm, compactor)(x), compactor(norm(conv(x))), **EXACT)


def test_a_grouped_convolution_is_folded_with_its_norm_alone():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(6, 6, 3, groups=3).double(), randomise(nn.Sequential(nn.BatchNorm2d(6)))[0].double()
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(F.conv2d(x, *fuse_conv_bn_compactor(conv, norm), groups=3), norm(conv(x)), **EXACT)


def test_half_precision_weights_are_summed_in_double():
    conv, norm, compactor = stack(kernel_size=3)
    half = [layer.to(torch.bfloat16) for layer in (conv, norm, compactor)]
    merged = merge(*half)
    doubles = [layer.double() for layer in half]
    assert merged.weight.dtype == torch.bfloat16
    assert torch.equal(
        merged.weight, fuse_conv_bn_compactor(doubles[0], doubles[1], doubles[2].weight).kernel.to(torch.bfloat16)
    )


def test_a_grouped_convolution_with_a_compactor_is_refused():
    with pytest.raises(ValueError, match="cannot be merged into a convolution with 2 groups"):
        merge(nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4), torch.eye(4))


@pytest.mark.parametrize("keep", [[], [2, 1], [1, 1], [0, 4], [-1, 0]], ids=str)
def test_channels_that_are_none_twice_unordered_or_unknown_are_refused(keep):
    with pytest.raises(ValueError, match=r"keep must list ascending channels of 0…3, got \["):
        merge(nn.Conv2d(3, 4, 3), None, None, keep)


def test_it_is_found_under_the_phase_s_name_too():
    assert scripts_import_it_from.merge is merge


def test_the_bias_of_a_1x1_convolution_is_merged_too():
    torch.manual_seed(0)
    conv, norm, mixing = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5).eval(), nn.Conv2d(5, 5, 1)
    randomise(norm)
    images = torch.randn(2, 3, 6, 6)
    expected = mixing(norm(conv(images)))[:, [0, 3]]
    torch.testing.assert_close(merge(conv, norm, mixing, [0, 3])(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("conv", "norm", "compactor", "told"),
    [
        (nn.ConvTranspose2d(5, 5, 3), None, None, r"expected a torch\.nn\.Conv2d to merge into, got a ConvTranspose2d"),
        (nn.Conv2d(3, 5, 3), nn.ReLU(), None, "expected a batch norm between the two, got a ReLU"),
        (nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, track_running_stats=False), None, "has no running statistics"),
        (nn.Conv2d(3, 5, 3), nn.BatchNorm2d(4), None, "the batch norm has 4 channels, the convolution makes 5"),
        (nn.Conv2d(3, 5, 3), None, nn.Conv2d(5, 4, 1), r"expected a compactor of \(5, 5\), .*got \(4, 5\)"),
        (nn.Conv2d(3, 5, 3), None, nn.Conv2d(5, 5, 3), r"expected a compactor of \(5, 5\), .*got \(5, 45\)"),
    ],
    ids=["transposed", "no norm", "no statistics", "other width", "not square", "not 1x1"],
)
def test_what_does_not_fit_together_is_not_merged(conv, norm, compactor, told):
    with pytest.raises(ValueError, match=told):
        merge(conv, norm, compactor)
