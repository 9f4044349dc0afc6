"""Lightning with lists of images: carried to the device, resumed within an epoch, shared among processes."""

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from pruning_lit.data import CocoShapes
from tests.commands import in_own_process
from tests.data.small_coco import PAIRS, Coco, write_coco

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers, intervals and loggers


class Counter(LightningModule):
    """A line from mean colours to the number and the mean width of boxes, with momentum."""

    def __init__(self, fail_at=None):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(3, 2)
        self.fail_at = fail_at

    def training_step(self, batch, batch_idx):
        if self.global_step == self.fail_at:
            raise RuntimeError("killed")
        images, targets = batch
        boxes = [target["boxes"] for target in targets]
        wanted = torch.stack([torch.stack([each.new_tensor(len(each)), each[:, 2].mean() / 80]) for each in boxes])
        return (self.net(torch.stack([image.mean((1, 2)) for image in images])) - wanted).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def fit(data, callbacks=(), ckpt_path=None, fail_at=None, **options):
    trainer = Trainer(
        **({"accelerator": "cpu", "max_epochs": 2} | options),
        callbacks=list(callbacks),
        enable_checkpointing=bool(callbacks),
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Counter(fail_at)
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return model.net.weight.detach()


def shapes(batch_size=4, **settings):
    return CocoShapes(batch_size, num_train=18, num_test=2, seed=3, **settings)


@pytest.fixture
def coco(tmp_path):
    root = write_coco(tmp_path / "coco")
    fixed = {"train": [PAIRS["train"], PAIRS["test"]], "test": PAIRS["test"], "seed": 3, "masks": True, "crop": "any"}

    def make(batch_size=4, **settings):
        return Coco(
            root, batch_size=batch_size, **(fixed | {"num_workers": 0, "group_by_orientation": True} | settings)
        )

    return make


@pytest.mark.parametrize("fail_at", [2, 7])
@pytest.mark.parametrize("kind", ["shapes", "coco", "coco with a worker"])
def test_a_run_that_was_killed_within_an_epoch_ends_with_the_weights_of_one_that_was_not(tmp_path, coco, kind, fail_at):
    make = shapes if kind == "shapes" else coco
    settings = {"num_workers": 1} if "worker" in kind else {}
    with pytest.raises(RuntimeError, match=r"killed"):
        fit(make(**settings), [ModelCheckpoint(tmp_path, save_on_exception=True, every_n_epochs=9)], fail_at=fail_at)
    (path,) = tmp_path.glob("*.ckpt")
    assert torch.equal(fit(make(**settings), ckpt_path=path), fit(make()))


@in_own_process
def test_two_processes_end_where_one_does_with_the_same_global_batch(tmp_path):
    alone = fit(shapes(batch_size=6))
    together = ModelCheckpoint(tmp_path / "two", every_n_epochs=2, filename="end")
    fit(shapes(batch_size=3), [together], devices=2, strategy="ddp_fork")
    weights = torch.load(tmp_path / "two" / "end.ckpt", weights_only=True)["state_dict"]["net.weight"]
    torch.testing.assert_close(weights, alone)
