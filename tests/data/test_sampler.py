import pytest
import torch

from pruning_lit.data.augment import draw
from pruning_lit.data.sampler import EpochBatches, OrderedBatches


def epoch(number=0, **settings):
    settings = {"num_images": 53, "batch_size": 8, "draw": lambda num, random: draw(num, 2, True, random)} | settings
    batches = EpochBatches(**settings)
    batches.set_epoch(number)
    return list(batches)


def flat(batches):
    positions, draws = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return positions, draws


def test_order_and_draws_depend_on_seed_stream_and_epoch_only():
    torch.manual_seed(0)
    positions, draws = flat(epoch(number=2, seed=3, stream=1))
    torch.manual_seed(1)  # the global random state plays no part
    again_positions, again_draws = flat(epoch(number=2, seed=3, stream=1))
    assert torch.equal(positions, again_positions)
    assert torch.equal(draws, again_draws)


@pytest.mark.parametrize("changed", [{"number": 1}, {"seed": 1}, {"stream": 1}])
def test_another_seed_stream_or_epoch_gives_another_order_and_other_draws(changed):
    for one, other in zip(flat(epoch()), flat(epoch(**changed)), strict=True):
        assert not torch.equal(one, other)


def test_swapping_seed_and_stream_gives_another_order():
    assert not torch.equal(flat(epoch(seed=1, stream=2))[0], flat(epoch(seed=2, stream=1))[0])


def test_an_epoch_has_every_image_once():
    positions, _ = flat(epoch())
    assert sorted(positions.tolist()) == list(range(53))
    assert [len(part) for part, _ in epoch()] == [8, 8, 8, 8, 8, 8, 5]


def test_repeated_epochs_are_alike():
    for one, other in zip(flat(epoch(0, repeat=True)), flat(epoch(5, repeat=True)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("first", [0, 3, 7])
def test_an_epoch_can_begin_at_any_batch(first):
    rest = list(EpochBatches(53, 8).batches(first))
    assert len(rest) == 7 - first
    for (positions, draws), (expected_positions, expected_draws) in zip(
        rest, list(EpochBatches(53, 8))[first:], strict=True
    ):
        assert torch.equal(positions, expected_positions)
        assert torch.equal(draws, expected_draws)


@pytest.mark.parametrize("num_images", [48, 50, 53])
@pytest.mark.parametrize("world_size", [2, 4])
def test_the_ranks_batches_together_are_those_of_one_process(num_images, world_size):
    alone = epoch(num_images=num_images, batch_size=8)
    ranks = [
        epoch(num_images=num_images, batch_size=8 // world_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    num_used = num_images - num_images % 8 % world_size  # the last batch is trimmed to a multiple of the ranks
    positions, draws = flat([flat(parts) for parts in zip(*ranks, strict=True)])
    assert torch.equal(positions, flat(alone)[0][:num_used])
    assert torch.equal(draws, flat(alone)[1][:num_used])
    for parts, (batch, _) in zip(zip(*ranks, strict=True), alone, strict=False):
        assert len({len(part) for part, _ in parts}) == 1
        assert 0 <= len(batch) - sum(len(part) for part, _ in parts) < world_size


@pytest.mark.parametrize("num_images", range(3, 40))
def test_in_order_every_image_comes_once_and_no_rank_is_left_out(num_images):
    ranks = [list(OrderedBatches(num_images, 4, rank, 3)) for rank in range(3)]
    together = torch.cat([torch.cat(parts) for parts in zip(*ranks, strict=True)])  # strict: equally many batches
    assert together.tolist() == list(range(num_images))
    assert all(len(batch) > 0 for batches in ranks for batch in batches)
    assert all(len(OrderedBatches(num_images, 4, rank, 3)) == len(batches) for rank, batches in enumerate(ranks))


@pytest.mark.parametrize("batches", [EpochBatches, OrderedBatches])
def test_fewer_images_than_processes_are_refused(batches):
    with pytest.raises(ValueError, match=r"2 images cannot be shared among 3 processes"):
        batches(2, 4, rank=0, world_size=3)


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize(("num_images", "num_batches"), [(48, 6), (50, 6), (53, 6), (55, 6), (8, 1)])
def test_a_dropped_last_batch_leaves_whole_batches_that_ranks_share_evenly(num_images, num_batches, world_size):
    options = {"num_images": num_images, "batch_size": 8 // world_size, "world_size": world_size}
    alone = epoch(num_images=num_images, batch_size=8)[:num_batches]
    ranks = [epoch(**options, rank=rank, drop_last=True) for rank in range(world_size)]
    for parts in ranks:
        assert [len(positions) for positions, _ in parts] == [8 // world_size] * num_batches
    positions, draws = flat([flat(parts) for parts in zip(*ranks, strict=True)])
    assert torch.equal(positions, flat(alone)[0])
    assert torch.equal(draws, flat(alone)[1])
    assert len(EpochBatches(**options, drop_last=True)) == num_batches


@pytest.mark.parametrize(
    ("num_images", "batch_size", "world_size", "num_batches"),
    [(50_000, 64, 1, 781), (1_281_167, 32, 8, 5004)],  # CIFAR and ImageNet as ResRep's release counts their epochs
)
def test_a_dropped_last_batch_gives_the_published_lengths_of_epochs(num_images, batch_size, world_size, num_batches):
    assert len(EpochBatches(num_images, batch_size, world_size=world_size, drop_last=True)) == num_batches


def test_other_images_are_left_out_in_every_epoch():
    left_out = [set(range(53)) - set(flat(epoch(number, drop_last=True))[0].tolist()) for number in range(4)]
    assert [len(images) for images in left_out] == [5] * 4
    assert len(set.union(*left_out)) > 5


@pytest.mark.parametrize("first", [0, 3, 6])
def test_an_epoch_without_its_last_batch_can_begin_at_any_batch(first):
    batches = EpochBatches(53, 8, drop_last=True)
    rest, expected = list(batches.batches(first)), list(batches)[first:]
    assert len(rest) == len(expected) == 6 - first
    assert all(torch.equal(one[0], other[0]) for one, other in zip(rest, expected, strict=True))


def test_fewer_images_than_a_batch_cannot_be_left_out():
    sentence = r"15 training images do not fill one batch of 4 x 4 process\(es\), .*dataset\.drop_last=true"
    with pytest.raises(ValueError, match=sentence):
        EpochBatches(15, 4, world_size=4, drop_last=True)
    assert len(EpochBatches(16, 4, world_size=4, drop_last=True)) == 1
    assert len(EpochBatches(15, 4, world_size=4)) == 1


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_batches_of_all_ranks_are_of_one_kind_but_for_the_last_few(num_ranks):
    kinds = (torch.arange(53) % 3 == 0).long()  # 18 of one kind and 35 of the other
    share = 8 // num_ranks
    for number in range(3):
        ranks = [
            epoch(number, kinds=kinds, batch_size=share, rank=rank, world_size=num_ranks) for rank in range(num_ranks)
        ]
        batches = [torch.cat([positions for positions, _ in each]) for each in zip(*ranks, strict=True)]
        of_kinds = [len(kinds[batch].unique()) for batch in batches]
        assert of_kinds[:6] == [1] * 6  # two of 18, four of 35, and what is left of both
        assert {int(kinds[batch[0]]) for batch in batches[:3]} == {0, 1}  # not one kind after the other
        positions = torch.cat(batches)
        assert len(positions.unique()) == len(positions) == 53 - 53 % num_ranks


def test_kinds_leave_batches_that_differ_from_epoch_to_epoch():
    kinds = torch.arange(53) % 2
    first, second = (flat(epoch(number, kinds=kinds))[0] for number in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first, flat(epoch(0, kinds=kinds))[0])
    rest = torch.cat([positions for positions, _ in EpochBatches(53, 8, kinds=kinds).batches(first=4)])
    assert torch.equal(rest, first[32:])
