"""Ten procedural objects: their clouds and parts, always the same, and given in a resumable order."""

from itertools import chain

import pytest
import torch

from pruning_lit.data import Shapes10, Shapes10Parts
from pruning_lit.data.objects import OBJECTS
from tests.data.detection_batches import epoch, on_rank, resumed

SMALL = {"batch_size": 4, "num_points": 64, "num_train": 22, "num_test": 11, "seed": 3, "dropout": 0.5, "jitter": 0.01}


def shapes(kind=Shapes10, **settings):
    data = kind(**(SMALL | settings))
    data.setup()
    return on_rank(data)


def evaluated(data, loader):
    return joined(data.on_after_batch_transfer(batch, 0) for batch in loader)


def joined(batches):
    inputs, targets = zip(*batches, strict=True)
    if isinstance(inputs[0], tuple):
        inputs = [torch.cat(each) for each in zip(*inputs, strict=True)]
        return (*inputs, torch.cat(targets))
    return torch.cat(inputs), torch.cat(targets)


def assert_alike(one, other):
    for tensor, same in zip(one, other, strict=True):
        assert torch.equal(tensor, same)


def test_clouds_are_centred_in_the_unit_ball_and_have_the_classes_in_turn():
    data = shapes()
    points, classes = evaluated(data, data.test_dataloader())
    assert points.shape == (11, 64, 3)
    assert classes.tolist() == [*range(10), 0]
    torch.testing.assert_close(points.norm(dim=2).amax(1), torch.ones(11))
    assert points.mean(1).abs().max() < 1e-6
    assert data.classes == list(OBJECTS)
    assert (data.num_classes, data.shape, data.categories) == (10, (64, 3), None)
    assert data.facts() == {"shape": [64, 3], "classes": list(OBJECTS)}


def test_a_cloud_depends_on_seed_part_and_number_alone():
    few, many = shapes(num_test=3), shapes(num_test=9, num_train=5, seed=8, batch_size=2)
    first, more = (evaluated(data, data.test_dataloader()) for data in (few, many))
    assert_alike(first, [each[:3] for each in more])
    others = [evaluated(data, data.test_dataloader()) for data in (shapes(shapes_seed=1), shapes(occlude=0.0))]
    others.append((shapes().parts.train.points, None))
    for points, _ in others:
        assert not any(torch.equal(cloud, each) for cloud in first[0] for each in points)


def test_parts_are_of_the_same_clouds_numbered_through_and_outliers_have_none():
    data, plain = shapes(Shapes10Parts, outliers=0.1, num_test=200), shapes(outliers=0.1, num_test=200)
    points, category, parts = evaluated(data, data.test_dataloader())
    assert_alike((points, category), evaluated(plain, plain.test_dataloader()))
    assert data.num_classes == len(data.classes) == 24
    assert data.num_categories == 10
    assert data.classes[data.categories["goblet"][2]] == "goblet bowl"
    assert [*chain(*data.categories.values())] == list(range(24))
    for number, own in enumerate(data.categories.values()):
        assert set(parts[category == number].unique().tolist()) == {-1, *own}
    assert (parts == -1).float().mean() == pytest.approx(0.1, abs=0.01)


def test_knobs_do_what_they_say():
    clean = {"noise": 0.0, "outliers": 0.0, "tilt": 0.0, "stretch": 0.0, "occlude": 0.0, "num_points": 256}
    tables = shapes(**clean).parts.train.points[::10]
    assert (tables[..., 2].diff(dim=1).abs() < 1e-4).float().mean() > 0.15  # upright tops: many points at two heights
    noisy = shapes(**clean | {"noise": 0.05}).parts.train.points[::10]
    assert (noisy[..., 2].diff(dim=1).abs() < 1e-4).float().mean() < 0.05


def test_the_example_is_a_real_cloud():
    for data in (shapes(), shapes(Shapes10Parts)):
        points, *category = data.example if isinstance(data.example, tuple) else (data.example,)
        assert torch.equal(points, data.parts.train.points[:1])
        assert [each.tolist() for each in category] == ([[0]] if data.with_parts else [])


def test_points_that_are_dropped_have_no_part():
    data, whole = shapes(Shapes10Parts, dropout=0.8), shapes(Shapes10Parts, dropout=0.0)
    (points, _), parts = epoch(data)[0]
    _, all_parts = epoch(whole)[0]
    dropped = (points[:, 1:] - points[:, :1]).norm(dim=2) < 0.06  # copies of the first, but for the jitter
    assert dropped.float().mean() > 0.1
    gone = (parts == -1) & (all_parts != -1)
    assert gone[:, 1:].float().mean() > 0.1
    assert dropped[gone[:, 1:]].all()
    assert ((parts == all_parts) | (parts == -1)).all()


@pytest.mark.parametrize("kind", [Shapes10, Shapes10Parts])
def test_an_epoch_resumes_in_its_middle_and_is_the_same_for_all_ranks(kind):
    expected = epoch(shapes(kind), number=1)
    assert_alike(joined(resumed(shapes(kind), number=1, finished=2)), joined(expected[2:]))
    alone = epoch(shapes(kind, num_train=24))
    ranks = [epoch(on_rank(shapes(kind, num_train=24, batch_size=2), rank, 2)) for rank in range(2)]
    for batch, *shares in zip(alone, *ranks, strict=True):
        assert_alike(joined([batch]), joined(shares))
    assert not torch.equal(joined(epoch(shapes(kind)))[0], joined(expected)[0])


def test_calibration_augments_only_where_asked():
    data = shapes(val_fraction=0.3)
    plain, again, augmented = (joined(data.calibration(6, seed=1, augment=each)) for each in (False, False, True))
    assert_alike(plain, again)
    assert torch.equal(plain[1], augmented[1])
    assert not torch.equal(plain[0], augmented[0])
    assert any(torch.equal(plain[0][0], each) for each in data.parts.train.points)
    assert len(data.sample_targets()) == len(data.parts.train) == 12  # one of each class is held out


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_train": 1}, r"num_train is 1 and dataset\.num_test 11"),
        ({"num_points": 0}, r"num_points is 0, but a cloud has at least 1 point"),
        ({"occlude": 1.0}, r"dataset\.occlude is 1\.0, but it is a share from 0 to below 1"),
        ({"tilt": -0.1}, r"dataset\.tilt is -0\.1, but a standard deviation is not negative"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        shapes(**settings)
