"""Data of one's own: ordinary loaders and data sets of torch's, in an order that resumes and is shared."""

import random
from typing import ClassVar

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import RunningStage
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from pruning_lit.callbacks.pruning import inputs_to_verify
from pruning_lit.data import CustomData, Datasets
from pruning_lit.tasks import Classification


class Random(Dataset):
    """Examples that tell their index, and what torch, numpy and Python draw."""

    classes: ClassVar = ["odd", "even", "none"]

    def __init__(self, size: int = 20) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.tensor([index, torch.rand(()), np.random.rand(), random.random()], dtype=torch.float64), index % 2


class Loaders(pl.LightningDataModule):
    """A module of ordinary loaders."""

    def __init__(self, train=None, test=None, val=None, **options) -> None:
        super().__init__()
        self.parts, self.options = {"train": train or Random(), "test": test or Random(7), "val": val}, options
        self.stages: list[str] = []

    def setup(self, stage: str) -> None:
        self.stages.append(stage)

    def loader(self, part: str, **options) -> DataLoader | list:
        dataset = self.parts[part]
        return [] if dataset is None else DataLoader(dataset, **({"batch_size": 4} | options | self.options))

    def train_dataloader(self):
        return self.loader("train", shuffle="sampler" not in self.options)

    def val_dataloader(self):
        return self.loader("val")

    def test_dataloader(self):
        return self.loader("test")

    def on_after_batch_transfer(self, batch, dataloader_idx: int):
        inputs, targets = batch
        return inputs + 100, targets


def opened(data):
    data.prepare_data()
    data.setup()
    return data


def epoch(data, number: int = 0, first: int = 0) -> list[Tensor]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return [batch[0] for batch in loader.part.batches(loader.sampler.batches(first))]


SOURCES = {
    "module": lambda **settings: CustomData(Loaders(**settings), seed=1),
    "datasets": lambda **settings: Datasets(Random(), Random(7), batch_size=4, seed=1, **settings),
}


@pytest.mark.at_once(2)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_goes_on_with_the_same_examples_and_draws(source, num_workers):
    data = opened(SOURCES[source](num_workers=num_workers))
    whole = epoch(data)
    assert sorted(torch.cat(whole)[:, 0].tolist()) == list(range(20))
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    rest = epoch(opened(SOURCES[source]()), first=3)
    assert all(torch.equal(one, other) for one, other in zip(rest, whole[3:], strict=True))
    assert (torch.equal(state[0], torch.get_rng_state()), np.random.get_state()[1].tolist(), random.getstate()) == (
        True, *state[1:],
    )  # fmt: skip
    other = torch.cat(epoch(data, number=1))
    assert not torch.equal(other[:, 0], torch.cat(whole)[:, 0])
    assert not set(other[:, 1].tolist()) & set(torch.cat(whole)[:, 1].tolist())


@pytest.mark.parametrize("source", SOURCES)
def test_processes_share_the_examples_of_an_epoch(source):
    data = opened(SOURCES[source]())
    alone = torch.cat([inputs for inputs, _ in data.calibration(12, seed=3, augment=True)])
    shares = [data.calibration(12, 3, True, rank, world_size=2, batch_size=2) for rank in range(2)]
    together = torch.cat([torch.cat([inputs for inputs, _ in pair]) for pair in zip(*shares, strict=True)])
    assert torch.equal(together, alone)
    assert len(set(alone[:, 0].tolist())) == 12


def test_a_module_is_asked_as_lightning_asks_it():
    data = opened(CustomData(Loaders(val=Random(5))))
    assert data.module.stages == ["fit", "test"]
    assert (data.batch_size, data.drop_last, data.num_training, data.has_validation) == (4, False, 20, True)
    assert (data.num_classes, data.classes, data.shape) == (3, ["odd", "even", "none"], (4,))
    (inputs, targets), *_ = (data.on_after_batch_transfer(batch, 0) for batch in data.test_batches())
    assert inputs[:, 0].tolist() == [100, 101, 102, 103]  # its own hook
    assert targets.tolist() == [0, 1, 0, 1]
    assert sum(len(targets) for _, targets in data.val_dataloader()) == 5


def test_classes_are_those_of_the_module_or_of_what_a_subset_is_of():
    module = Loaders(train=TensorDataset(torch.zeros(6, 2), torch.zeros(6)))
    assert opened(CustomData(module)).num_classes is None
    module.num_classes = 4
    assert opened(CustomData(module)).classes == ["0", "1", "2", "3"]
    assert opened(CustomData(Loaders(train=Subset(Random(), range(8))))).num_classes == 3


def test_classes_may_be_an_array_and_targets_anything():
    module = Loaders(train=Random(8))
    module.classes = np.array([3, 7])
    assert opened(CustomData(module)).classes == ["3", "7"]
    for targets in ({"a.png": 1}, lambda: [0] * 20):
        examples = Random()
        examples.targets = targets
        assert opened(Datasets(examples, Random(7), batch_size=4)).num_training == 20


def test_a_loader_with_an_order_of_its_own_is_used_as_it_is_and_that_is_told(caplog):
    sampler = WeightedRandomSampler(torch.ones(20), 8, generator=torch.Generator().manual_seed(0))
    module = Loaders(sampler=sampler, test=Random(20))
    data = opened(CustomData(module))
    assert data.num_training == 8
    assert isinstance(data.train_dataloader(), DataLoader)
    assert (
        "of Loaders has an order of its own: a run that is resumed within an epoch sees other examples" in caplog.text
    )
    assert [len(inputs) for inputs, _ in data.calibration(6, seed=0)] == [4, 4]


class ByBatches(Sampler):
    """A sampler that gives whole batches, in an order of its own."""

    def __iter__(self):
        yield from ([3, 1, 2], [0, 4, 5])

    def __len__(self):
        return 2


def own_order(num: int) -> dict:
    return {"sampler": WeightedRandomSampler(torch.ones(num), num)}


def test_whole_batches_of_a_sampler_are_counted():
    module = Loaders()
    module.train_dataloader = lambda: DataLoader(Random(), batch_sampler=ByBatches())
    data = opened(CustomData(module))
    assert (data.batch_size, data.num_training) == (3, 6)
    assert len(inputs_to_verify(data, Classification(3), nn.Linear(4, 3))) == 3


@pytest.mark.parametrize(
    "sampler",
    [
        RandomSampler(range(20), replacement=True),
        RandomSampler(range(20), num_samples=8),
        SequentialSampler(range(8)),
    ],
)
def test_a_sampler_that_does_not_take_every_example_once_is_used_as_it_is(sampler):
    data = opened(CustomData(Loaders(sampler=sampler, test=Random(20))))
    assert isinstance(data.train_dataloader(), DataLoader)
    assert data.num_training == len(sampler)
    assert not data.shares_epochs
    assert data.augments  # nobody knows


def test_augmentation_of_data_sets_of_ones_own_is_found_out():
    plain = TensorDataset(torch.randn(20, 3), torch.arange(20) % 3)
    assert not opened(Datasets(plain, plain, batch_size=4, num_classes=3)).augments
    assert opened(Datasets(Random(), Random(7), batch_size=4)).augments
    module = Loaders(train=plain, test=plain)
    module.num_classes = 3
    assert opened(CustomData(module)).augments  # its hook may
    assert not opened(CustomData(Hookless(plain))).augments


class Hookless(pl.LightningDataModule):
    """A module without hooks on its batches."""

    num_classes = 3

    def __init__(self, dataset) -> None:
        super().__init__()
        self.dataset = dataset

    def train_dataloader(self):
        return DataLoader(self.dataset, batch_size=4, shuffle=True)

    def test_dataloader(self):
        return DataLoader(self.dataset, batch_size=4)


def test_all_of_a_validation_loader_with_an_order_of_its_own_is_looked_at():
    module = Loaders()
    module.val_dataloader = lambda: DataLoader(Random(10), batch_size=2, **own_order(10))
    data = opened(CustomData(module))
    loader = data.val_dataloader()
    assert len(loader) == len(list(loader)) == 5
    one, other = ([inputs for inputs, _ in data.held_out(4, seed=7)] for _ in range(2))
    assert [len(each) for each in one] == [2, 2]
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


class Hooked(Loaders):
    """Counts by both hooks, and augments while a trainer trains."""

    def on_before_batch_transfer(self, batch, dataloader_idx: int):
        inputs, targets = batch
        return inputs + 1000, targets

    def on_after_batch_transfer(self, batch, dataloader_idx: int):
        inputs, targets = batch
        return inputs + 100 + 10_000 * (self.trainer is not None and self.trainer.training), targets


@pytest.mark.parametrize("options", [{}, own_order(7)], ids=["plain", "own order"])
def test_both_hooks_of_a_module_prepare_examples_as_in_evaluation(options):
    data = opened(CustomData(Hooked(train=Random(7), **options)))
    data.trainer = trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.state.stage = RunningStage.TRAINING
    tested = (data.on_after_batch_transfer(batch, 0) for batch in data.test_batches())
    for batches in (data.calibration(7, seed=0), data.held_out(7, seed=0), tested):
        indices = torch.cat([inputs[:, 0] for inputs, _ in batches])
        assert ((indices >= 1100) & (indices < 1107)).all()
    assert trainer.training  # as before
    augmented = torch.cat([inputs[:, 0] for inputs, _ in data.calibration(7, seed=0, augment=True)])
    assert (augmented >= 11_100).all()


def test_data_sets_hold_out_a_validation_part():
    data = opened(SOURCES["datasets"](val_fraction=0.25))
    assert (data.num_training, data.has_validation) == (15, True)
    assert opened(SOURCES["datasets"](num_classes=2)).classes == ["0", "1"]


class Endless(IterableDataset):
    def __iter__(self):
        yield from ()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: CustomData(pl.LightningDataModule()), "LightningDataModule has no train_dataloader"),
        (lambda: CustomData(Loaders(train=Endless(), shuffle=False)), "a loader of Loaders has no length"),
        (lambda: Datasets(TensorDataset(torch.zeros(3, 2)), Random()), "a list of 1, expected a pair"),
        (lambda: Datasets(Random(), Random(0)), "Random is empty"),
        (lambda: Datasets(Endless(), Random()), "Endless has no length and no indices"),
        (lambda: Datasets({}, Random()), r"dataset\.train is no data set"),
        (lambda: Datasets([("a", 1), ("b", 0)], Random()), "inputs are of type str, expected tensors"),
    ],
)
def test_what_cannot_be_data_is_refused(make, told):
    with pytest.raises(ValueError, match=told):
        opened(make())


def test_images_of_one_channel_are_taken_as_they_are():
    examples = TensorDataset(torch.rand(6, 1, 5, 5), torch.arange(6) % 2)
    data = opened(Datasets(examples, examples, batch_size=4, num_classes=2))
    assert data.shape == (1, 5, 5)
    assert {tuple(data.ready(batch)[0].shape) for batch in data.train_dataloader()} == {(4, 1, 5, 5), (2, 1, 5, 5)}
