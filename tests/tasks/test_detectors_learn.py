"""A narrow detector learns four real pictures by heart, through the phase, the data and the metrics of a run."""

import tarfile
from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from pruning_lit.data import Coco
from pruning_lit.models import ssd_small
from pruning_lit.phases import Cosine, Training
from pruning_lit.tasks import Detection, evaluate
from tests.conftest import shared_file

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Lightning's advice on loaders


def test_a_narrow_ssd_learns_four_pictures_by_heart(tmp_path):
    with tarfile.open(shared_file("data/coco_tiny.tar.gz")) as file:
        file.extractall(tmp_path, filter="data")
    (annotations,) = tmp_path.rglob("instances_train2017.json")
    pair = ["train2017", "annotations/instances_train2017.json"]
    settings = {"batch_size": 4, "image_size": [96, 96], "num_workers": 0, "flip": False}
    data = Coco(annotations.parents[1], train=[pair], test=pair, **settings)
    data.setup()
    few = data.parts.train.members[:4]  # some of the first pictures that have boxes
    train, test = (type(part)(**{**vars(part), "members": few}) for part in (data.parts.train, data.parts.test))
    data._parts = data.parts._replace(train=train, test=test)
    pl.seed_everything(0, verbose=False)
    net, task = ssd_small(data.num_classes, image_size=96, width=16), Detection(data.num_classes)
    optimizer = partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.0)
    module = Training(net, task, 120, optimizer, Cosine(per="step"))
    pl.Trainer(
        max_epochs=120, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0,
    ).fit(module, datamodule=data)  # fmt: skip
    assert evaluate(net, data, task)["ap50"] > 0.5
