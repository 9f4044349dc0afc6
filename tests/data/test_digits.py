import torch
from sklearn.datasets import load_digits

from pruning_lit.data import Digits
from tests.data.small_images import calibrated


def digits(**settings):
    data = Digits(**({"batch_size": 64, "mean": [0.3044] * 3, "std": [0.3233] * 3} | settings))
    data.setup()
    return data


def test_digits_are_split_in_five_class_by_class_and_always_alike():
    train, test = digits().parts.train, digits(seed=7, split_seed=8).parts.test
    assert sorted(train.members.tolist() + test.members.tolist()) == list(range(1797))
    counts = test.targets[test.members].bincount() / torch.from_numpy(load_digits().target).bincount()
    torch.testing.assert_close(counts, torch.full((10,), 0.2), rtol=0, atol=0.005)


def test_an_enlarged_digit_averages_to_the_original():
    images = digits().parts.train.images
    assert images.shape == (1797, 3, 32, 32)
    assert torch.equal(images[:, 0], images[:, 2])
    means = images[:, 0].double().mean((1, 2)) / 255 * 16
    torch.testing.assert_close(means, torch.from_numpy(load_digits().images).mean((1, 2)), rtol=0.05, atol=0)


def test_training_images_are_normalised_by_the_default_statistics():
    data = digits()
    every = calibrated(data.calibration(len(data.parts.train), seed=0))
    assert abs(float(every.mean())) < 1e-3
    assert abs(float(every.std()) - 1) < 1e-3
