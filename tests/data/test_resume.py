"""A fit that was cut off and resumed ends with the weights of the one that was not."""

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F

from pruning_lit.data.loader import TrainingLoader
from pruning_lit.data.sampler import EpochBatches
from tests.commands import in_own_process
from tests.data.small_images import noise

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers, intervals and loggers


class Linear(LightningModule):
    """A linear classifier with momentum and a falling step size."""

    def __init__(self, fail_at=None):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(90, 3)
        self.fail_at = fail_at

    def training_step(self, batch, batch_idx):
        if self.global_step == self.fail_at:
            raise RuntimeError("killed")
        images, targets = batch
        return F.cross_entropy(self.net(images.flatten(1)), targets)

    def validation_step(self, batch, batch_idx):
        images, targets = batch
        self.log("loss", F.cross_entropy(self.net(images.flatten(1)), targets))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def fit(callbacks=(), ckpt_path=None, fail_at=None, data=None, **options):
    trainer = Trainer(
        **({"accelerator": "cpu", "max_epochs": 2} | options),
        callbacks=list(callbacks),
        enable_checkpointing=bool(callbacks),
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Linear(fail_at)
    trainer.fit(model, datamodule=noise(pad=1, flip=True) if data is None else data, ckpt_path=ckpt_path)
    return model.net.weight.detach()


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("when", "val_fraction", "options", "num_checkpoints"),
    [
        ({"every_n_train_steps": 1}, 0.0, {}, 10),  # within epochs, and at the last batch of each
        ({"every_n_train_steps": 1}, 0.3, {}, 8),
        ({"every_n_train_steps": 1}, 0.0, {"drop_last": True}, 8),
        ({"every_n_train_steps": 1}, 0.0, {"max_epochs": None, "max_steps": 7}, 7),
        ({"every_n_epochs": 1, "save_on_train_epoch_end": True}, 0.3, {}, 2),
        ({"every_n_epochs": 1, "save_on_train_epoch_end": False}, 0.3, {"val_check_interval": 2}, 4),
    ],
)
def test_resuming_any_checkpoint_gives_the_same_weights(tmp_path, when, val_fraction, options, num_checkpoints):
    drop_last = options.get("drop_last", False)
    options = {key: value for key, value in options.items() if key != "drop_last"}

    def data():
        return noise(pad=1, flip=True, val_fraction=val_fraction, drop_last=drop_last)

    every = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **when)
    uninterrupted = fit([every], data=data(), **options)
    checkpoints = list(tmp_path.glob("*.ckpt"))
    assert len(checkpoints) == num_checkpoints
    for path in checkpoints:
        assert torch.equal(fit(ckpt_path=path, data=data(), **options), uninterrupted), path.name


@pytest.mark.parametrize("fail_at", [3, 5, 7])
def test_a_batch_that_failed_is_given_again(tmp_path, fail_at):
    with pytest.raises(RuntimeError, match=r"killed"):
        fit([ModelCheckpoint(tmp_path, save_on_exception=True, every_n_epochs=9)], fail_at=fail_at)
    (path,) = tmp_path.glob("*.ckpt")
    assert torch.equal(fit(ckpt_path=path), fit())


@pytest.mark.parametrize("changed", [{"batch_size": 4}, {"seed": 4}, {"val_fraction": 0.3}, {"drop_last": True}])
def test_resuming_within_an_epoch_with_other_batches_is_refused(tmp_path, changed):
    fit([ModelCheckpoint(tmp_path, every_n_train_steps=3, filename="{step}")], max_steps=4)
    with pytest.raises(ValueError, match=r"saved within an epoch with .*=.*, this run has .*: resume with that run's"):
        fit(ckpt_path=tmp_path / "step=3.ckpt", data=noise(**({"pad": 1, "flip": True} | changed)))


def test_the_place_is_kept_before_the_first_batch_and_dropped_in_other_epochs():
    loader = TrainingLoader(noise().parts.train, EpochBatches(22, 5), num_finished=lambda: 5)
    place = {"epoch": 2, "finished": 3, "num_pictures": 22, "global_batch": 5, "seed": 0, "stream": 0}
    loader.load_state_dict(place)  # as saved before there was a choice
    place["drop_last"] = False
    assert loader.state_dict() == place  # saved again before anything was trained
    assert len(list(loader)) == 2
    loader.sampler.set_epoch(3)
    assert loader.state_dict()["finished"] == 0  # saved at the start of an epoch
    assert len(list(loader)) == 5


@pytest.mark.at_once(1)
@pytest.mark.parametrize("drop_last", [False, True])
@in_own_process
def test_two_processes_end_where_one_does_with_the_same_global_batch(tmp_path, drop_last):
    options = {"pad": 1, "drop_last": drop_last}
    alone = fit(
        [ModelCheckpoint(tmp_path / "one", every_n_epochs=2, filename="end")], data=noise(batch_size=4, **options)
    )
    together = ModelCheckpoint(tmp_path / "two", every_n_epochs=2, filename="end")
    fit([together], data=noise(batch_size=2, **options), devices=2, strategy="ddp_fork")
    weights = torch.load(tmp_path / "two" / "end.ckpt", weights_only=True)["state_dict"]["net.weight"]
    torch.testing.assert_close(weights, alone)
