"""What is logged of batch-norm scales: figures by hand, on a net whose scales are known."""

import csv
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader

from pruning_lit.callbacks import MetricsFile
from pruning_lit.criteria import BatchNormScale, Magnitude
from pruning_lit.methods.network_slimming import ScaleMonitor
from pruning_lit.sparsity import Global, Macs
from tests.commands import in_own_process

FIRST, SECOND = [0.5, -0.002, 1.0, 0.25], [0.0005, 0.001, -0.0008]


def tiny(first=FIRST, second=SECOND) -> nn.Module:
    """Two convolutions of 4 and 3 channels with batch norms, and a linear layer for 2 classes."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2),
    )  # fmt: skip
    for layer, scales in ((1, first), (4, second)):
        net[layer].weight.data = torch.tensor(scales)
    return net


class Data(pl.LightningDataModule):
    """Eight images of 1x4x4."""

    example = torch.zeros(1, 1, 4, 4)

    def train_dataloader(self) -> DataLoader:
        images = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        return DataLoader([(image, number % 2) for number, image in enumerate(images)], batch_size=4)


class Still(pl.LightningModule):
    """A phase that learns nothing, so that the scales stay as they are."""

    task = None

    def __init__(self, net: nn.Module, **attributes: object) -> None:
        super().__init__()
        self.net = self.view = net
        for name, value in attributes.items():
            setattr(self, name, value)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Phase(Still):
    """The same with the callbacks of its own that Lightning calls after those of the trainer."""

    def configure_callbacks(self):
        return [self.monitor]


def logged(monitor: ScaleMonitor, module: Still) -> dict[str, float]:
    """The figures at the end of an epoch, without a fit."""
    figures: dict[str, float] = {}
    module.log_dict = lambda values, **_: figures.update(values)
    monitor.on_train_epoch_end(SimpleNamespace(datamodule=Data(), loggers=[]), module)
    return {name.removeprefix("scales/"): value for name, value in figures.items()}


def fit(module: Still, folder, callbacks=(), epochs=2, **options) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=list(callbacks), default_root_dir=folder, accelerator="cpu", barebones=False,
        enable_checkpointing=True, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        **options,
    )  # fmt: skip
    trainer.fit(module, datamodule=Data())
    return trainer


def reference(rate: float) -> ScaleMonitor:
    return ScaleMonitor(BatchNormScale(), Global(rate, rule="slimming"))


def test_the_figures_are_those_by_hand():
    net = tiny()
    penalised = [(net[1].weight, None), (net[4].weight, torch.tensor([1.0, 0.0, 1.0]))]
    figures = logged(reference(0.3), Still(net, l1_strength=0.1, scales=penalised))
    # in order: 0.0005, 0.0008, 0.001, 0.002, 0.25, 0.5, 1; position trunc(7 * 0.3) = 2 is the threshold
    assert figures == pytest.approx(
        {
            "l1": 1.7543,
            "penalty": 0.1 * (1.752 + 0.0013),
            "below_1e-2": 4 / 7,
            "below_1e-3": 2 / 7,  # of 0.0005, 0.0008 and 0.001 the last one is not smaller
            "threshold": 0.001,
            "emptied": 1.0,
        }
    )


def test_a_threshold_below_the_best_of_every_layer_empties_none():
    figures = logged(reference(0.2), Still(tiny()))
    assert figures["threshold"] == pytest.approx(0.0008)
    assert figures["emptied"] == 0
    assert figures["penalty"] == 0  # a phase without a penalty


def test_scales_that_cannot_be_pruned_are_not_counted():
    monitor = ScaleMonitor(BatchNormScale(), Global(0.3, rule="slimming", exclude=["3"]))
    assert logged(monitor, Still(tiny()))["l1"] == pytest.approx(1.752)


@pytest.mark.parametrize("scales", [{"first": [0.5] * 4, "second": [0.5] * 3}, {"second": [float("nan")] * 3}])
def test_scales_nobody_could_cut_by_are_still_summed_up(scales):
    figures = logged(reference(0.3), Still(tiny(**scales)))
    assert figures.keys() == {"l1", "penalty", "below_1e-2", "below_1e-3"}


def test_a_budget_without_a_threshold_has_none():
    figures = logged(ScaleMonitor(BatchNormScale(), Macs(0.5, scope="global")), Still(tiny()))
    assert "threshold" not in figures
    assert figures["emptied"] >= 0


def test_without_scales_that_can_go_there_is_only_the_outlook():
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    figures = logged(ScaleMonitor(Magnitude(), Global(0.5)), Still(net))
    assert figures == {"penalty": 0.0, "emptied": 0.0}


def test_after_a_cut_the_population_is_what_is_left():
    monitor = reference(0.3)
    assert logged(monitor, Still(tiny()))["l1"] == pytest.approx(1.7543)
    narrow = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    assert logged(monitor, Still(narrow))["l1"] == 2


def test_every_epoch_is_in_the_table_and_in_tensorboard(tmp_path):
    module, table = Phase(tiny(), monitor=reference(0.3)), MetricsFile(tmp_path / "metrics.csv", "sparsify")
    fit(module, tmp_path, [table], logger=TensorBoardLogger(tmp_path, name="", version="events"))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        lines = [(row["epoch"], row["step"]) for row in csv.DictReader(file) if row["name"] == "scales/emptied"]
    assert lines == [("0", "2"), ("1", "4")]
    events = EventAccumulator(str(tmp_path / "events"), size_guidance={"histograms": 0})
    events.Reload()
    assert [event.value for event in events.Scalars("scales/threshold")] == pytest.approx([0.001, 0.001])
    histograms = events.Histograms("scales")
    assert [(event.step, event.histogram_value.num) for event in histograms] == [(2, 7), (4, 7)]
    assert histograms[0].histogram_value.max == 1


@pytest.mark.slow
@in_own_process
def test_two_processes_log_like_one(tmp_path):
    module, table = Phase(tiny(), monitor=reference(0.3)), MetricsFile(tmp_path / "metrics.csv", "sparsify")
    fit(
        module, tmp_path, [table], epochs=1, strategy="ddp_fork", devices=2, use_distributed_sampler=False, logger=False
    )
    with (tmp_path / "metrics.csv").open(newline="") as file:
        figures = {row["name"]: float(row["value"]) for row in csv.DictReader(file)}
    assert figures["scales/l1"] == pytest.approx(1.7543)
    assert figures["scales/emptied"] == 1
