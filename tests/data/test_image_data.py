import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.demos.boring_classes import BoringModel

from tests.data.small_images import calibrated, noise


def rows(part):
    return set(part.members.tolist())


def test_setup_tells_classes_and_shape():
    data = noise()
    assert (data.num_classes, data.classes, data.shape) == (3, ["a", "b", "c"], (3, 6, 5))
    assert data.example.shape == (1, 3, 6, 5)
    assert not data.example.any()


def test_setup_twice_reads_once():
    data = noise()
    parts = data.parts
    data.setup("fit")
    assert data.parts is parts


def test_without_a_validation_part_nothing_can_be_chosen():
    assert not noise().has_validation
    assert noise().val_dataloader() == []


def test_the_validation_part_is_held_out_class_by_class_and_costs_no_memory():
    data = noise(val_fraction=0.3)
    train, validation = data.parts.train, data.parts.validation
    assert data.has_validation
    assert rows(train) | rows(validation) == set(range(22))
    assert not rows(train) & rows(validation)
    assert validation.targets[validation.members].bincount().tolist() == [2, 2, 2]  # 0.3 of 8, 7 and 7
    assert validation.images is train.images
    assert sum(len(targets) for _, targets, _ in data.train_dataloader()) == 16
    assert sum(len(targets) for _, targets, _ in data.val_dataloader()) == 6


def test_the_validation_part_depends_on_the_split_seed_alone():
    held_out = rows(noise(val_fraction=0.3).parts.validation)
    assert held_out == rows(noise(val_fraction=0.3, seed=9).parts.validation)
    assert held_out != rows(noise(val_fraction=0.3, split_seed=1).parts.validation)


def test_training_batches_are_augmented_as_drawn():
    data = noise(pad=1, flip=True)
    for images, targets, draws in data.train_dataloader():
        floats, same_targets = data.on_after_batch_transfer((images, targets, draws), 0)
        assert torch.equal(targets, same_targets)
        for number, (dy, dx, flip) in enumerate(draws.tolist()):
            padded = torch.zeros(3, 8, 7)
            padded[:, 1:7, 1:6] = images[number] / 255
            window = padded[:, dy : dy + 6, dx : dx + 5]
            expected = (window.flip(2) if flip else window) - torch.tensor([0.5, 0.4, 0.3])[:, None, None]
            torch.testing.assert_close(floats[number], expected / torch.tensor([0.2, 0.3, 0.4])[:, None, None])


def test_test_batches_are_in_order_and_only_normalised():
    data = noise(pad=1, flip=True)
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    expected = (data.parts.test.images / 255 - data.mean[:, None, None]) / data.std[:, None, None]
    torch.testing.assert_close(torch.cat([images for images, _ in batches]), expected)
    assert torch.cat([targets for _, targets in batches]).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_images_come_in_the_precision_of_the_trainer():
    data = noise()
    data.trainer = Trainer(accelerator="cpu", precision="64-true", logger=False, enable_checkpointing=False)
    images, _ = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    assert images.dtype == torch.float64


def test_overfitting_sees_the_same_images_in_every_epoch():
    data = noise(pad=1)
    data.trainer = Trainer(accelerator="cpu", overfit_batches=1, logger=False, enable_checkpointing=False)
    loader = data.train_dataloader()
    first, _, _ = next(iter(loader))
    loader.sampler.set_epoch(4)
    assert torch.equal(next(iter(loader))[0], first)


def test_training_leaves_a_smaller_last_batch_out_when_asked_to_and_evaluation_never():
    data = noise(drop_last=True)
    assert [len(targets) for _, targets, _ in data.train_dataloader()] == [5, 5, 5, 5]
    assert sum(len(targets) for _, targets, _ in data.test_dataloader()) == 7
    assert len(calibrated(data.calibration(22, seed=0))) == 22


def test_a_data_set_smaller_than_a_batch_that_is_left_out_is_refused():
    with pytest.raises(ValueError, match=r"22 training images do not fill one batch of 23 x 1 process\(es\)"):
        noise(batch_size=23, drop_last=True).train_dataloader()


def test_the_stream_changes_the_order():
    data = noise()
    first, _, _ = next(iter(data.train_dataloader()))
    data.stream = 1
    assert not torch.equal(next(iter(data.train_dataloader()))[0], first)


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("num_images", [13, 16])
def test_calibration_does_not_depend_on_ranks_or_batches(augment, num_images):
    data = noise(pad=1, flip=True)
    alone = calibrated(data.calibration(num_images, seed=1, augment=augment, batch_size=num_images))
    assert len(alone) == num_images
    ranks = [list(data.calibration(num_images, 1, augment, rank, world_size=2, batch_size=3)) for rank in range(2)]
    assert torch.equal(calibrated([batch for batches in zip(*ranks, strict=True) for batch in batches]), alone)


def test_calibration_is_a_seeded_choice_of_training_images():
    data = noise(val_fraction=0.3)
    train = data.parts.train
    floats = data.on_after_batch_transfer((*train.take(torch.arange(16)), torch.empty(0, 3)), 0)[0]
    chosen, again, other = (calibrated(data.calibration(6, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(chosen, again)
    assert not torch.equal(chosen, other)
    targets = torch.cat([targets for _, targets in data.calibration(6, seed=0)])
    matches = (chosen[:, None] == floats[None]).flatten(2).all(2)
    assert targets.tolist() == train.take(matches.int().argmax(1))[1].tolist()
    assert matches.sum(1).tolist() == [1] * 6
    assert matches.sum(0).max() == 1


def test_calibration_is_augmented_when_asked_to():
    data = noise(pad=1)
    plain, augmented = (calibrated(data.calibration(6, seed=0, augment=augment)) for augment in (False, True))
    assert not torch.equal(plain, augmented)


@pytest.mark.parametrize("num_images", [0, 23])
def test_more_calibration_images_than_there_are_are_refused(num_images):
    with pytest.raises(ValueError, match=rf"{num_images} calibration images .* 1 to 22"):
        noise().calibration(num_images, seed=0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"batch_size": 0}, "dataset.batch_size is 0, but a batch has at least 1 image"),
        ({"pad": -1}, "dataset.pad is -1, but a margin has at least 0 pixels"),
        ({"val_fraction": 1.0}, r"dataset.val_fraction is 1.0, but it is a share from 0 \(none\) to below 1"),
        ({"val_fraction": -0.1}, "dataset.val_fraction is -0.1, but"),
        ({"val_fraction": 0.01}, "0.01 of 22 images in 3 classes is less than one image of any class"),
        ({"mean": [0.5]}, "dataset.mean has 1 numbers, but the images have 3 channels"),
        ({"std": [0.5] * 4}, "dataset.std has 4 numbers, but the images have 3 channels"),
        ({"std": [0.5, 0.0, 0.5]}, r"dataset.std is \[0.5, 0.0, 0.5\], but a standard deviation is above 0"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        noise(**settings)


def test_a_fit_with_a_validation_step_but_no_validation_part_runs():
    class Model(BoringModel):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(90, 2)

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0].flatten(1)).sum()

        def validation_step(self, batch, batch_idx):
            raise AssertionError("there is nothing to validate on")

    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(Model(), datamodule=noise())
    assert trainer.global_step == 5
