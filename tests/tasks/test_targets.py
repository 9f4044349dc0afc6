"""Targets: those that a task casts, and those that are refused before any training, in one sentence."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from pruning_lit.data import CustomData, Datasets
from pruning_lit.runs.experiment import build_task
from pruning_lit.tasks import Classification, MultiLabel, SemanticSegmentation
from tests.commands import TINY

IMAGES = torch.zeros(1, 3, 4, 4)
CLASSES, ROWS = torch.tensor([0, 1, 2, 1]), torch.tensor([[1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 1, 1]])
MASKS = (torch.arange(4 * 16) % 3).reshape(4, 4, 4)
MASKS[0, 0] = 255
TAKEN = {
    "classification": (Classification(3), CLASSES),
    "multi_label": (MultiLabel(3), ROWS),
    "semantic_segmentation": (SemanticSegmentation(3), MASKS),
}
INTEGERS = [torch.uint8, torch.int16, torch.int32, torch.int64]
DTYPES = [(name, dtype) for name in TAKEN for dtype in INTEGERS]
DTYPES += [("multi_label", dtype) for dtype in (torch.bool, torch.float16, torch.float32, torch.float64)]


def logits(name: str) -> torch.Tensor:
    shape = (4, 3, 4, 4) if name == "semantic_segmentation" else (4, 3)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "dtype"), DTYPES)
def test_targets_of_any_fitting_dtype_count_as_integers_do(name, dtype):
    task, targets = TAKEN[name]
    found = []
    for each in (targets, targets.to(dtype)):
        task.require_targets(each, IMAGES)
        metrics = task.metrics()
        task.update(metrics, logits(name), each)
        losses = task.losses(logits(name), each, training=True)
        found.append([float(value) for value in (*losses.values(), *metrics.compute().values())])
    assert found[0] == found[1]


def test_mixup_takes_classes_of_any_integer_type():
    blended = []
    for dtype in (torch.int64, torch.int32):
        torch.manual_seed(0)
        blended.append(Classification(3, mixup=1.0).prepare((torch.zeros(4, 3, 4, 4), CLASSES.to(dtype)))[1])
    assert torch.equal(*blended)


def test_shares_of_classes_are_taken_unless_they_are_blended():
    shares = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    Classification(3).require_targets(shares, IMAGES)
    with pytest.raises(ValueError, match="mixup blends classes: set it to 0"):
        Classification(3, mixup=0.2).require_targets(shares, IMAGES)


REFUSED = [
    (Classification(3), MASKS, r"int64 of shape \(N, 4, 4\), 0 to 255; .* choose task=semantic_segmentation"),
    (Classification(3), ROWS, r"int64 of shape \(N, 3\), 0 to 1; .* of shape \(N,\), 0 to 2: choose task=multi_label"),
    (Classification(3), ROWS.float(), "choose task=multi_label"),
    (Classification(3), CLASSES + 1, r"int64 of shape \(N,\), 1 to 3; .* 0 to 2: number classes from 0, and give data"),
    (Classification(3), CLASSES - 1, "-1 to 1"),
    (Classification(3), CLASSES.float(), r"float32 of shape \(N,\), 0 to 2; .* needs integers"),
    (Classification(3), CLASSES[:, None], "leave out the axis of length 1"),
    (Classification(3), {"boxes": CLASSES}, "targets of type dict; task=classification needs integers"),
    (MultiLabel(3), CLASSES, r"needs shape \(N, 3\), 1 for each class .*: choose task=classification"),
    (MultiLabel(3), MASKS, "choose task=semantic_segmentation"),
    (MultiLabel(4), ROWS, r"of shape \(N, 3\), .* \(N, 4\), .* give such rows, and dataset.num_classes"),
    (MultiLabel(3), 2 * ROWS, "0 to 2"),
    (MultiLabel(3), 0.5 * ROWS, r"0 to 0\.5"),
    (MultiLabel(3), float("nan") * ROWS, "nan"),
    (MultiLabel(3), None, "of type NoneType"),
    (SemanticSegmentation(3), CLASSES, r"\(N, 4, 4\), 0 to 2, or 255 for no class: choose task=classification"),
    (SemanticSegmentation(3), ROWS, "choose task=multi_label"),
    (SemanticSegmentation(3), MASKS.float(), r"float32 of shape \(N, 4, 4\).*: give integers, not scaled"),
    (SemanticSegmentation(3), MASKS[:, None], r"\(N, 1, 4, 4\).*: leave out the axis of length 1"),
    (SemanticSegmentation(3), MASKS[:, :2], r"\(N, 2, 4\).*: give masks the size of the images"),
    (SemanticSegmentation(2), MASKS.to(torch.uint8), "uint8 .* 0 to 1, or 255 .* number classes from 0"),
    (SemanticSegmentation(3, ignore_index=-1), MASKS.to(torch.uint8), "0 to 255"),
]


@pytest.mark.parametrize(("task", "targets", "told"), REFUSED)
def test_other_targets_are_refused(task, targets, told):
    with pytest.raises(ValueError, match=told) as refused:
        task.require_targets(targets, IMAGES)
    assert "\n" not in str(refused.value)


class Noisy(TensorDataset):
    """Examples that draw random numbers."""

    def __getitem__(self, index):
        inputs, target = super().__getitem__(index)
        return inputs + torch.rand(()) + np.random.rand() + random.random(), target


class Loaders(pl.LightningDataModule):
    num_classes = 3

    def __init__(self, sampler=None) -> None:
        super().__init__()
        part = Noisy(torch.zeros(4, 3, 4, 4), CLASSES)
        self.loader = DataLoader(part, batch_size=2, sampler=sampler)

    def train_dataloader(self):
        return self.loader

    test_dataloader = train_dataloader

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch[0] + torch.rand(()) + np.random.rand() + random.random(), batch[1]


def drawing() -> WeightedRandomSampler:
    return WeightedRandomSampler(torch.ones(4), 4, generator=torch.Generator().manual_seed(0))


SOURCES = {
    "datasets": lambda: Datasets(*2 * [Noisy(torch.zeros(4, 3, 4, 4), CLASSES)], num_classes=3),
    "a module": lambda: CustomData(Loaders()),
    "a module with an order of its own": lambda: CustomData(Loaders(drawing())),
}


@pytest.mark.parametrize("source", SOURCES)
def test_the_look_at_targets_moves_no_random_state(source):
    data = SOURCES[source]()
    data.setup()
    loader = getattr(getattr(data, "module", None), "loader", None)
    own = getattr(getattr(loader, "sampler", None), "generator", None)

    def states():
        found = [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]
        return [*found, None if own is None else own.get_state().tolist()]

    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    before = states()
    Classification(3).require_fit(net, data)
    assert states() == before
    assert data.sample_targets().dtype == torch.int64
    with pytest.raises(ValueError, match="choose task=classification"):
        SemanticSegmentation(3).require_fit(net, data)  # the targets come first: the network need not be told of


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("dataset=digits_segmentation", "task=classification"), "choose task=semantic_segmentation"),
        (("dataset=digits_multi_label", "task=classification", "arch=resnet8"), "choose task=multi_label"),
        (("dataset=digits", "task=multi_label", "arch=resnet8"), "choose task=classification"),
        (("dataset=digits", "task=semantic_segmentation", "arch=small_fcn"), "choose task=classification"),
    ],
)
def test_a_task_that_does_not_fit_the_data_set_is_refused_before_training(cli, tmp_path, words, told):
    code, printed = cli(*words, *TINY[1:], f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 1
    assert told in printed
    assert "Traceback" not in printed


class Strict(Classification):
    """A task of one's own that takes less than the shipped ones."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)


def test_a_task_that_does_not_take_its_settings_is_told_in_a_sentence():
    settings = OmegaConf.create({"_target_": f"{__name__}.Strict"})
    assert isinstance(build_task(settings, SimpleNamespace(num_classes=3)), Strict)
    settings.margin = 2
    with pytest.raises(ValueError, match=r"task .*Strict does not take its settings and \['num_classes'\]: .*'margin'"):
        build_task(settings, SimpleNamespace(num_classes=3))
