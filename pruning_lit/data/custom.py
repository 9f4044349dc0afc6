"""Data of one's own: an ordinary ``LightningDataModule``, or data sets of torch's, as the rest of the project asks."""

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.trainer.states import RunningStage
from torch import Generator, Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from pruning_lit.channels.inputs import first_tensor
from pruning_lit.data.base import DataModule
from pruning_lit.data.parts import Part, Parts, PlannedBatch
from pruning_lit.system.processors import num_processors

log = logging.getLogger(__name__)
Collate = Callable[[list[Any]], Any]
NUM_COMPARED = 64  # examples, by which augmentation is found out
HOOKS = ("on_before_batch_transfer", "on_after_batch_transfer")


class SeededFetch(Dataset):
    """Fetches examples, each with random numbers of its own, so that it is the same in any order and any process.

    Args:
        dataset: examples by their index.
        collate: examples to a batch.
    """

    def __init__(self, dataset: Any, collate: Collate) -> None:
        self.dataset, self.collate = dataset, collate

    def __getitems__(self, orders: Sequence[tuple[int, int]]) -> Any:
        """A batch of the examples with these indices and seeds."""
        items = []
        with own_randomness():
            for index, seed in orders:
                seed_all(seed)
                items.append(self.dataset[index])
        return self.collate(items)


@contextmanager
def own_randomness() -> Iterator[None]:
    """Put the random states of torch, numpy and Python back afterwards."""
    python, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)


def is_drawn_anew(part: Part) -> bool:
    """True where examples depend on the random numbers they are fetched with; some tens of them are looked at."""
    if not isinstance(part, DatasetPart):
        return True  # a loader with an order of its own
    number = len(part.members)
    positions = torch.linspace(0, number - 1, min(NUM_COMPARED, number)).round().long()
    plans = ([(positions, torch.full((len(positions), 1), seed))] for seed in range(2))
    one, other = (tree_leaves(list(part.batches(plan))) for plan in plans)
    return not all(torch.equal(*map(torch.as_tensor, pair)) for pair in zip(one, other, strict=True))


def seed_all(seed: int) -> None:
    """Seed torch, numpy and Python on the CPU."""
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


@dataclass(frozen=True)
class DatasetPart(Part):
    """Some examples of a data set of torch's."""

    dataset: Any
    collate: Collate
    num_workers: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Unknown before an example is looked at."""
        raise NotImplementedError

    def batches(self, plan: Iterable[PlannedBatch]) -> Iterator[Any]:
        """Fetch and collate, some batches ahead of time where there are worker processes."""
        yield from DataLoader(
            SeededFetch(self.dataset, self.collate),
            batch_sampler=(self._orders(positions, draws) for positions, draws in plan),
            num_workers=min(self.num_workers, num_processors()),
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
            generator=Generator(),  # else it would draw from the run's random state
        )

    def _orders(self, positions: Tensor, draws: Tensor) -> list[tuple[int, int]]:
        rows = self.members[positions].tolist()
        return list(zip(rows, draws[:, 0].tolist() if len(draws) > 0 else rows, strict=True))


@dataclass(frozen=True)
class LoaderPart(Part):
    """The examples of a loader with an order of its own, as many as its batches may hold."""

    loader: DataLoader
    batch_size: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Unknown before an example is looked at."""
        raise NotImplementedError

    def batches(self, plan: Iterable[PlannedBatch]) -> Iterator[Any]:
        """All batches of the loader, whatever the plan."""
        yield from self.loader


def dataset_part(dataset: Any, collate: Collate = default_collate, num_workers: int = 0) -> DatasetPart:
    """The part that all examples of a data set belong to; ValueError where it has none, or no length."""
    name = type(dataset).__name__
    if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
        raise ValueError(f"{name} has no length and no indices; a data set here has __len__ and __getitem__")
    if len(dataset) == 0:
        raise ValueError(f"{name} is empty")
    targets = getattr(dataset, "targets", None)
    try:
        known = targets is not None and len(targets) == len(dataset) and not isinstance(targets[0], dict)
        tensor = torch.as_tensor(targets) if known else torch.zeros(len(dataset), dtype=torch.int64)
    except (TypeError, ValueError, RuntimeError, KeyError):  # no sequence, or of other shapes from example to example
        tensor = torch.zeros(len(dataset), dtype=torch.int64)
    return DatasetPart(tensor, torch.arange(len(dataset)), dataset, collate, num_workers)


class Datasets(DataModule):
    """Data sets of torch's or torchvision's, one for each part, whose examples are pairs ``(input, target)``.

    Order and augmentation are drawn here: every example is fetched with random numbers of its own, which torch's,
    numpy's and Python's generators then give, so a run that resumes sees the same.

    Args:
        train, test: the data sets, with transforms to tensors; the test part only reports.
        validation: by which epochs are chosen; None: ``val_fraction`` of ``train``, where that is above 0.
        num_classes: None: as many as ``train.classes`` has.
        num_workers: processes that fetch; 0: this one does.
        batch_size, val_fraction, split_seed, seed, drop_last: as for ``DataModule``.
    """

    def __init__(
        self,
        train: Dataset,
        test: Dataset,
        validation: Dataset | None = None,
        batch_size: int = 64,
        num_classes: int | None = None,
        num_workers: int = 0,
        val_fraction: float = 0.0,
        split_seed: int = 0,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__(batch_size, val_fraction, split_seed, seed, drop_last)
        for name, part in (("train", train), ("test", test)):
            if not hasattr(part, "__getitem__") or isinstance(part, Mapping):
                raise ValueError(
                    f"dataset.{name} is no data set: name one, or a function that makes one, by "
                    f"dataset.{name}._target_=mydata.{name}"
                )
        self.train, self.test, self.validation = train, test, validation
        self.asked_classes, self.num_workers = num_classes, num_workers

    def read(self) -> Parts:
        """Look at the data sets; nothing is fetched."""
        train, test = (dataset_part(each, num_workers=self.num_workers) for each in (self.train, self.test))
        validation = None if self.validation is None else dataset_part(self.validation, num_workers=self.num_workers)
        return Parts(classes_of(self.train, self.asked_classes), train, test, validation)

    def draw(self, num_examples: int, random: Generator) -> Tensor:
        """A seed for every example, shape ``(num_examples, 1)``."""
        return torch.randint(2**62, (num_examples, 1), generator=random)

    @property
    def augments(self) -> bool:
        """True where transforms augment training examples anew in every epoch."""
        return is_drawn_anew(self.parts.train)

    def make_example(self, part: Part) -> Any:
        """Inputs of the first training example."""
        return one_of(first_batch(self, part)[0])

    def ready(self, batch: Any) -> tuple[Any, Any]:
        """The batch as it was collated."""
        return pair(batch, type(self.train).__name__)


class CustomData(DataModule):
    """An ordinary ``LightningDataModule``: its loaders say which data sets, how they are collated, and in what batches.

    Where a loader takes its data set in order, or shuffled, the order is drawn here as for all other data, so that a
    run resumes within an epoch and processes share the examples. A loader with an order of its own is used as it is.

    Args:
        module: with ``train_dataloader`` and ``test_dataloader``; ``val_dataloader`` chooses epochs where there is one.
            ``num_classes`` or ``classes`` are attributes of it, or ``classes`` one of its training data set.
        seed: of the order, and of random numbers within examples.
    """

    def __init__(self, module: LightningDataModule, seed: int = 0) -> None:
        super().__init__(batch_size=1, seed=seed)
        self.module = module
        self._first_targets: Any = None

    @property
    def title(self) -> str:
        """Name of the module's class."""
        return type(self.module).__name__

    def prepare_data(self) -> None:
        """Download, or whatever the module does once."""
        self.module.prepare_data()

    def read(self) -> Parts:
        """Look at the loaders."""
        for stage in ("fit", "test"):
            self.module.setup(stage)
        train = self._loader("train")
        if train is None or (test := self._loader("test")) is None:
            missing = "train" if train is None else "test"
            raise ValueError(f"{self.title} has no {missing}_dataloader; training, and honest figures, need one each")
        if not isinstance(train, DataLoader):
            raise ValueError(f"train_dataloader of {self.title} gives a {type(train).__name__}, expected a DataLoader")
        validation = self._loader("val")
        classes = classes_of(train.dataset, getattr(self.module, "num_classes", None), self.module)
        part = self._part(train)
        self.drop_last = train.drop_last
        self.batch_size = part.batch_size if isinstance(part, LoaderPart) else train.batch_size or 1
        return Parts(classes, part, self._part(test), None if validation is None else self._part(validation))

    def _loader(self, stage: str) -> Any:
        """The module's dataloader for a stage, or None where it has no such loader."""
        try:
            loader = getattr(self.module, f"{stage}_dataloader")()
        except Exception as error:
            if type(error).__name__ != "MisconfigurationException":  # Lightning's: it is not implemented
                raise
            return None
        if isinstance(loader, list | tuple) and len(loader) < 2:
            return loader[0] if loader else None
        if loader is not None and not isinstance(loader, DataLoader):
            raise ValueError(
                f"{stage}_dataloader of {self.title} gives a {type(loader).__name__}, expected one DataLoader"
            )
        return loader

    def _part(self, loader: DataLoader) -> Part:
        in_batches = type(loader.batch_sampler) is BatchSampler and not isinstance(loader.dataset, IterableDataset)
        if in_batches and takes_all(loader):
            return dataset_part(loader.dataset, loader.collate_fn, loader.num_workers)
        size = loader.batch_size or self._first_size(loader)
        try:
            num_examples = len(loader.sampler) if in_batches else len(loader) * size  # type: ignore[arg-type]
        except TypeError as error:
            raise ValueError(f"a loader of {self.title} has no length, so nobody knows how long an epoch is") from error
        return LoaderPart(torch.zeros(num_examples, dtype=torch.int64), torch.arange(num_examples), loader, size)

    def _first_size(self, loader: DataLoader) -> int:
        """Examples in the first batch of a loader whose sampler gives whole batches."""
        with own_randomness():
            return len(first_tensor(self.prepared(next(iter(loader)))[0]))

    def train_dataloader(self) -> Any:
        """Batches in an order drawn here, or the module's own loader."""
        if not isinstance(self.parts.train, LoaderPart):
            return super().train_dataloader()
        log.warning(
            "train_dataloader of %s has an order of its own: a run that is resumed within an epoch sees other examples "
            "for the rest of it, and every process what that order gives it",
            self.title,
        )
        return self.module.train_dataloader()

    def calibration(
        self,
        num_images: int,
        seed: int,
        augment: bool = False,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int | None = None,
    ) -> Iterator[tuple[Any, Any]]:
        """A seeded choice of training examples; of a loader with an order of its own the first ones it gives."""
        if not isinstance(part := self.parts.train, LoaderPart):
            return super().calibration(num_images, seed, augment, rank, world_size, batch_size)
        return self._first(part, num_images, seed, augment, rank, world_size)

    def held_out(self, num_examples: int, seed: int, batch_size: int | None = None) -> Iterator[tuple[Any, Any]]:
        """A seeded choice of examples to decide by; of a loader with an order of its own the first ones it gives."""
        part = self.parts.train if self.parts.validation is None else self.parts.validation
        if not isinstance(part, LoaderPart):
            return super().held_out(num_examples, seed, batch_size)
        return self._first(part, num_examples, seed)

    def _first(
        self, part: LoaderPart, num: int, seed: int, training: bool = False, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[Any, Any]]:
        """The first batches, until there are so many examples over all ranks."""
        num_batches = max(-(-num // part.batch_size), rank + 1)
        with own_randomness():
            seed_all(seed)
            batches = islice(part.loader, rank, num_batches, world_size)
            return iter([self.prepared(batch, training) for batch in batches])

    def test_batches(self) -> Iterator[Any]:
        """All test batches for one process, as the module prepares them in evaluation."""
        with as_in_evaluation(self.trainer):
            for batch in super().test_batches():
                yield self.on_before_batch_transfer(batch, 0)

    def _evaluation(self, part: Part) -> Any:
        """A loader with an order of its own is asked for all that it gives, by every process."""
        return part.loader if isinstance(part, LoaderPart) else super()._evaluation(part)

    def draw(self, num_examples: int, random: Generator) -> Tensor:
        """A seed for every example, shape ``(num_examples, 1)``."""
        return torch.randint(2**62, (num_examples, 1), generator=random)

    @property
    def shares_epochs(self) -> bool:
        """False for a loader with an order of its own, through which every process goes."""
        return not isinstance(self.parts.train, LoaderPart)

    @property
    def augments(self) -> bool:
        """True where transforms augment training examples anew in every epoch, or hooks on batches may."""
        return is_drawn_anew(self.parts.train) or any(
            getattr(type(self.module), hook) is not getattr(LightningDataModule, hook) for hook in HOOKS
        )

    def make_example(self, part: Part) -> Any:
        """Inputs of the first training example."""
        inputs, self._first_targets = first_batch(self, part)
        return one_of(inputs)

    def sample_targets(self) -> Any:
        """Targets of a few training examples; of a loader with an order of its own those of the batch looked at."""
        if isinstance(self.parts.train, LoaderPart):
            return self._first_targets  # another look would move the random state of the loader
        with own_randomness():  # of the module's hook
            return super().sample_targets()

    def ready(self, batch: Any) -> tuple[Any, Any]:
        """Inputs and targets of a batch, as the module makes them on its device."""
        self.module.trainer = self.trainer
        return pair(self.module.on_after_batch_transfer(batch, 0), self.title)

    def prepared(self, batch: Any, training: bool = False) -> tuple[Any, Any]:
        """Inputs and targets of a batch, by the hooks that Lightning calls in its loops."""
        with as_in_evaluation(None if training else self.trainer):
            return self.ready(self.on_before_batch_transfer(batch, 0))

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """The module's own hook."""
        self.module.trainer = self.trainer
        return self.module.on_before_batch_transfer(batch, dataloader_idx)


@contextmanager
def as_in_evaluation(trainer: Trainer | None) -> Iterator[None]:
    """Let a trainer say that it does not train, for hooks that augment while it does."""
    if trainer is None or not trainer.training:
        yield
        return
    stage, trainer.state.stage = trainer.state.stage, RunningStage.VALIDATING
    try:
        yield
    finally:
        trainer.state.stage = stage


def takes_all(loader: DataLoader) -> bool:
    """True where a loader takes every example of its data set once, in order or shuffled."""
    if not isinstance(loader.dataset, Sized):
        return False
    sampler = loader.sampler
    once = type(sampler) is SequentialSampler or (type(sampler) is RandomSampler and not sampler.replacement)
    return once and isinstance(sampler, Sized) and len(sampler) == len(loader.dataset)


def pair(batch: Any, name: str) -> tuple[Any, Any]:
    """Inputs and targets; ValueError where a batch is anything else."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        size = f" of {len(batch)}" if isinstance(batch, Sized) and not isinstance(batch, Tensor) else ""
        raise ValueError(f"a batch of {name} is a {type(batch).__name__}{size}, expected a pair (inputs, targets)")
    return batch[0], batch[1]


def first_batch(data: DataModule, part: Part) -> tuple[Any, Any]:
    """Inputs and targets of the first example of a part, or of the first batch of a loader."""
    nothing_drawn = torch.empty(0, 1, dtype=torch.int64)
    return data.prepared(next(iter(part.batches([(torch.zeros(1, dtype=torch.int64), nothing_drawn)]))))


def one_of(inputs: Any) -> Any:
    """Inputs of a batch of the first example alone."""
    return apply_to_collection(inputs, Tensor, lambda each: each[:1])


def classes_of(dataset: Any, num_classes: int | None, module: Any = None) -> list[str] | None:
    """Names of the classes, as far as they are known: those of the module or the data set, else numbers."""
    inner = dataset
    while not hasattr(inner, "classes") and hasattr(inner, "dataset"):  # a Subset
        inner = inner.dataset
    names = getattr(module, "classes", None)
    names = getattr(inner, "classes", None) if names is None else names
    if num_classes is not None and (names is None or len(names) != num_classes):
        return [str(each) for each in range(num_classes)]
    return None if names is None else [str(each) for each in names]


def _as_it_is(batch: Any) -> Any:
    return batch
