"""Channel independence against golden vectors, its definition, its closed forms and its invariances."""

import importlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruning_lit.criteria.channel_independence import channel_independence
from tests.places import VECTORS

# The room exports a function of the module's name, so the module itself must be asked for like this.
module = importlib.import_module("pruning_lit.criteria.channel_independence")
GOLDEN = sorted((VECTORS / "chip").glob("*.npz"))
FAST = {"step": 0.5, "padding": 1e3}
EXACT = 1e-10  # of the nuclear norm, as the golden data's README allows for this route

seeds = st.integers(0, 2**31)
sides = st.integers(1, 5)
few_examples = settings(max_examples=40, deadline=None, derandomize=True)


def random_maps(shape: tuple[int, ...], seed: int = 0, zeros: float = 0.3) -> Tensor:
    """Signed float64 maps with a share of exact zeros."""
    generator = torch.Generator().manual_seed(seed)
    alive = torch.rand(shape, generator=generator) >= zeros
    return torch.randn(shape, generator=generator, dtype=torch.float64) * alive


def nuclear_norms(maps: Tensor) -> Tensor:
    return torch.linalg.svdvals(maps.double().flatten(2)).sum(dim=1)


def by_definition(maps: Tensor) -> Tensor:
    """One decomposition per blanked channel, as the paper writes it."""
    blanked = [maps.index_fill(1, torch.tensor([channel]), 0.0) for channel in range(maps.shape[1])]
    return torch.stack([nuclear_norms(maps) - nuclear_norms(other) for other in blanked], dim=1)


def assert_close(scores: Tensor, expected: Tensor, unit: Tensor, tolerance: float = EXACT) -> None:
    """Scores ``(N, C)`` agree to a share of the images' unit ``(N,)``; where the unit is 0 they are exactly equal."""
    error = (scores - expected).abs() / unit[:, None].where(unit[:, None] > 0, 1.0)
    assert scores.dtype == torch.float64
    assert bool((error <= tolerance * (unit[:, None] > 0)).all()), f"off by {error.max():.1e} of the nuclear norm"


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def golden(request) -> dict[str, Tensor]:
    with np.load(request.param) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def test_golden_vectors_are_there():
    assert len(GOLDEN) == 15


@pytest.mark.parametrize(("setting", "tolerance"), [({}, EXACT), (FAST, 5e-9)], ids=["default", "fast"])
def test_scores_are_the_golden_ones(golden, setting, tolerance):
    scores = channel_independence(golden["x"], **setting)
    assert_close(scores, golden["ci_image_f64"], golden["nuc_f64"], tolerance)
    mean_error = (scores.mean(dim=0) - golden["ci_mean_f64"]).abs().max()
    assert mean_error <= tolerance * golden["nuc_f64"].mean()


def test_four_decimals_give_the_published_scores(golden):
    scores = channel_independence(golden["x"], decimals=4)
    assert_close(scores, golden["ci_image_round4_f64"], golden["nuc_f64"])
    assert_close(scores, golden["ci_image_official_f32"].double(), golden["nuc_f64"], tolerance=5e-7)  # a float32 route


def test_the_largest_mean_scores_are_the_golden_kept_channels(golden):
    mean = channel_independence(golden["x"]).mean(dim=0)
    for name in (name for name in golden if name.startswith("keep_r")):
        keep = golden[name]
        assert mean.argsort(descending=True, stable=True)[: len(keep)].sort().values.tolist() == keep.tolist(), name


@few_examples
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 12), sides, sides),
    zeros=st.sampled_from([0.0, 0.4, 0.8]),
    seed=seeds,
)
def test_scores_follow_the_definition(shape, zeros, seed):
    maps = random_maps(shape, seed, zeros)
    assert_close(channel_independence(maps), by_definition(maps), nuclear_norms(maps))


@few_examples
@given(
    shape=st.tuples(st.just(2), st.integers(2, 24), sides, sides),
    decades=st.integers(0, 5),
    decimals=st.sampled_from([None, 4]),
    seed=seeds,
)
def test_scores_of_copies_and_of_sizes_over_five_decades_follow_the_definition(shape, decades, decimals, seed):
    maps, random = random_maps(shape, seed, zeros=0.2), torch.Generator().manual_seed(seed)
    maps *= 10 ** (decades * (torch.rand(shape[1], 1, 1, generator=random, dtype=torch.float64) - 0.5))
    for _ in range(int(torch.randint(0, shape[1], (1,), generator=random))):
        copy, original = torch.randint(0, shape[1], (2,), generator=random)
        maps[:, copy] = maps[:, original]
    rounded = maps if decimals is None else maps.float().round(decimals=decimals).double()
    tolerance = 1e-12 if decades == 0 else EXACT
    assert_close(
        channel_independence(maps, decimals=decimals), by_definition(rounded), nuclear_norms(rounded), tolerance
    )


def test_a_weak_channel_that_the_others_do_not_express_is_seen_beside_copies():
    maps = random_maps((20, 6, 2, 2), zeros=0.0)
    maps[:, 4:] = maps[:, :1]
    maps *= torch.tensor([1.0, 0.1, 1e-2, 1e-5, 1.0, 1.0], dtype=torch.float64)[:, None, None]
    assert_close(channel_independence(maps), by_definition(maps), nuclear_norms(maps))


@few_examples
@given(channels=st.integers(1, 12), height=sides, width=sides, exponent=st.integers(-60, 60), seed=seeds)
def test_scores_scale_and_move_with_the_channels_and_ignore_the_order_of_pixels(
    channels, height, width, exponent, seed
):
    maps = random_maps((2, channels, height, width), seed)
    scores, unit = channel_independence(maps), nuclear_norms(maps)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(channels, generator=generator)
    pixels = torch.randperm(height * width, generator=generator)
    signs = torch.randint(0, 2, (channels, 1, 1), generator=generator) * 2.0 - 1.0
    scale = math.ldexp(1.0, exponent)
    assert_close(channel_independence(maps[:, rows]), scores[:, rows], unit)
    assert_close(channel_independence(maps.flatten(2)[:, :, pixels].reshape(maps.shape)), scores, unit)
    assert_close(channel_independence(maps * signs), scores, unit)
    assert_close(channel_independence(maps * scale), scores * scale, unit * scale)


def test_rotating_the_pixels_changes_nothing():
    for shape in [(3, 6, 4, 4), (3, 20, 3, 3)]:
        maps = random_maps(shape)
        rotation = torch.linalg.qr(random_maps((shape[2] * shape[3],) * 2, seed=1, zeros=0.0)).Q
        rotated = (maps.flatten(2) @ rotation).reshape(shape)
        assert_close(channel_independence(rotated), channel_independence(maps), nuclear_norms(maps))


@few_examples
@given(shape=st.tuples(st.integers(1, 3), st.integers(1, 12), sides, sides), seed=seeds)
def test_scores_lie_between_zero_and_the_norm_of_the_channel(shape, seed):
    maps = random_maps(shape, seed)
    maps[:, ::3] *= 1e-12  # far below the noise of the others' Gram matrix
    scores = channel_independence(maps)
    assert bool((scores >= 0).all())
    assert bool((scores <= torch.linalg.vector_norm(maps, dim=(2, 3)) * (1 + 1e-15)).all())


def test_orthogonal_channels_score_their_norm():
    maps = (
        torch.linalg.qr(random_maps((2, 9, 9), zeros=0.0)).Q[:, :5].reshape(2, 5, 3, 3)
        * torch.arange(1, 6)[:, None, None]
    )
    assert_close(
        channel_independence(maps), torch.arange(1.0, 6.0, dtype=torch.float64).expand(2, 5), nuclear_norms(maps)
    )


def test_two_equal_channels_orthogonal_to_the_rest_score_root_two_minus_one_of_their_norm():
    maps = torch.zeros(1, 4, 2, 2)
    maps[0, 0, 0, 0] = maps[0, 1, 0, 0] = 3.0
    maps[0, 2, 0, 1], maps[0, 3, 1, 0] = 1.0, 0.5
    expected = torch.tensor([[3 * (math.sqrt(2) - 1)] * 2 + [1.0, 0.5]], dtype=torch.float64)
    assert_close(channel_independence(maps), expected, nuclear_norms(maps))


@pytest.mark.parametrize("channels", [1, 2, 17, 300])
def test_one_pixel_maps_have_a_closed_form(channels):
    values = random_maps((4, channels), seed=channels)
    values[1] = 0.0
    values[1, channels // 2] = 2.5  # a single active channel: it is the whole norm
    norm = values.norm(dim=1)
    expected = norm[:, None] - (norm.square()[:, None] - values.square()).clamp(min=0).sqrt()
    assert_close(channel_independence(values[:, :, None, None]), expected, norm)


def test_the_only_channel_active_in_a_pixel_is_scored_without_cancellation():
    # With more channels than pixels, such a channel's share in the null space is 0, and 1 - (the rest) is round-off.
    maps = random_maps((16, 40, 3, 3), zeros=0.0)
    maps[:, :, 0, 0] = 0.0
    maps[:, 7, 0, 0] = 0.01
    maps[:, :, 1, 1] = 0.0
    maps[:, 9] = 0.0
    maps[:, 9, 1, 1] = 1.0
    assert_close(channel_independence(maps), by_definition(maps), nuclear_norms(maps), tolerance=1e-12)


def test_a_single_channel_scores_its_norm():
    maps = random_maps((3, 1, 4, 5))
    assert_close(channel_independence(maps), maps.flatten(2).norm(dim=2), nuclear_norms(maps))


@pytest.mark.parametrize("shape", [(4, 6, 5, 5), (4, 30, 2, 2)], ids=["wide", "tall"])
def test_blank_images_and_blank_channels_score_exactly_zero_and_disturb_nobody(shape):
    maps = random_maps(shape, zeros=0.0)
    maps[1] = 0.0
    maps[:, 3] = 0.0
    scores = channel_independence(maps)
    assert scores[1].count_nonzero() == 0
    assert scores[:, 3].count_nonzero() == 0
    torch.testing.assert_close(scores[2:], channel_independence(maps[2:]), rtol=1e-12, atol=0)
    assert_close(scores, by_definition(maps), nuclear_norms(maps))


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (0, 3, 0, 4), (2, 3, 0, 4), (2, 0, 4, 4)])
def test_nothing_to_score_gives_zeros_of_the_right_shape(shape):
    scores = channel_independence(torch.empty(shape))
    assert scores.shape == shape[:2]
    assert scores.dtype == torch.float64
    assert scores.count_nonzero() == 0


@pytest.mark.parametrize("shape", [(11, 8, 6, 6), (11, 50, 2, 3)], ids=["wide", "tall"])
@pytest.mark.parametrize("sizes", [[1] * 11, [4, 4, 3], [10, 1]], ids=str)
def test_splitting_the_images_over_batches_changes_nothing(shape, sizes):
    maps = random_maps(shape)
    maps[4] *= 1e-3  # the stack's common nodes must suit every image
    whole = channel_independence(maps)
    assert_close(
        torch.cat([channel_independence(part) for part in maps.split(sizes)]), whole, nuclear_norms(maps), 1e-13
    )


@pytest.mark.parametrize("working_set", [1, 400_000])
def test_a_smaller_working_set_changes_nothing(monkeypatch, working_set):
    maps = random_maps((7, 60, 3, 3))
    expected = channel_independence(maps)
    monkeypatch.setattr(module, "WORKING_SET", working_set)
    assert_close(channel_independence(maps), expected, nuclear_norms(maps), 1e-13)


def test_stacks_shrink_with_the_size_of_the_maps():
    def images(*shape: int) -> int:
        return module.images_per_stack(torch.empty(640, *shape, device="meta"), step=0.3, padding=1e4)

    assert images(256, 56, 56) == images(512, 28, 28) == images(4096, 64, 64) == 1
    assert 16 <= images(16, 32, 32) <= 128


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_precision_is_scored_in_float64(dtype):
    maps = random_maps((2, 10, 4, 4)).to(dtype)
    assert torch.equal(channel_independence(maps), channel_independence(maps.double()))


def test_float32_maps_as_large_or_small_as_float32_allows_are_scored():
    maps = random_maps((2, 10, 4, 4)).float()
    for scale in (2.0**100, 2.0**-100):
        torch.testing.assert_close(
            channel_independence(maps * scale), channel_independence(maps) * scale, rtol=1e-10, atol=0
        )


def test_the_layout_in_memory_does_not_matter():
    maps = random_maps((2, 10, 4, 6)).float()
    expected = channel_independence(maps)
    assert torch.equal(channel_independence(maps.to(memory_format=torch.channels_last)), expected)
    assert torch.equal(channel_independence(maps.transpose(2, 3).contiguous().transpose(2, 3)), expected)


def test_autocast_does_not_reach_the_scores():
    maps = random_maps((2, 10, 4, 4)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = channel_independence(maps)
    assert torch.equal(under_autocast, channel_independence(maps))


def test_scores_carry_no_gradient_and_leave_the_maps_alone():
    maps = random_maps((2, 6, 3, 3)).requires_grad_()
    before = maps.detach().clone()
    assert not channel_independence(maps, decimals=2).requires_grad
    assert not channel_independence(maps).requires_grad
    assert torch.equal(maps.detach(), before)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("working_set", [module.WORKING_SET, 1], ids=["one stack", "many stacks"])
def test_an_image_with_a_value_that_is_not_finite_is_named(monkeypatch, value, working_set):
    monkeypatch.setattr(module, "WORKING_SET", working_set)
    for shape in [(9, 4, 3, 3), (9, 20, 2, 2)]:
        maps = random_maps(shape)
        maps[5, 2, 1, 1] = value
        with pytest.raises(ValueError, match="image 5 "):
            channel_independence(maps)


@pytest.mark.parametrize(
    ("maps", "setting", "message"),
    [
        (torch.zeros(3, 4, 4), {}, r"\(N, C, H, W\).*\(3, 4, 4\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), {}, "floating maps.*uint8"),
        (torch.zeros(1, 3, 4, 4), {"step": 0.0}, "step=0.0"),
        (torch.zeros(1, 3, 4, 4), {"padding": 1.0}, "padding=1.0"),
    ],
)
def test_what_cannot_be_scored_is_refused(maps, setting, message):
    with pytest.raises(ValueError, match=message):
        channel_independence(maps, **setting)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_scores(golden):
    scores = channel_independence(golden["x"].cuda())
    assert scores.is_cuda
    assert_close(scores.cpu(), golden["ci_image_f64"], golden["nuc_f64"])
