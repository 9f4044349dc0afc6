"""A published ImageNet setting through the command line, on a few tiny images."""

import pytest
import torch

from pruning_lit.channels import cost, load, trace
from tests.commands import TINY, run_command
from tests.conftest import read_report
from tests.data.small_images import write_images


@pytest.fixture
def root(tmp_path):
    random = torch.Generator().manual_seed(0)
    for part in ("train", "val"):
        for name in ("n01440764", "n02110341", "n07920052"):
            images = torch.randint(0, 256, (8, 3, 40, 50), generator=random, dtype=torch.uint8)
            write_images(tmp_path / "imagenet" / part / name, images)
    return tmp_path / "imagenet"


@pytest.mark.slow
def test_chips_resnet50_is_cut_and_fine_tuned_on_images_from_disk(root, tmp_path):
    settings = [setting for setting in TINY if not setting.startswith(("arch=", "train."))]
    run_command(
        "experiment=chip/resnet50_imagenet_76",
        *settings,
        f"dataset.root={root}",
        "dataset.image_size=32",
        "dataset.batch_size=8",
        "dataset.num_workers=1",
        "criterion.num_images=8",
        "latency.batch_size=1",
        "weights=null",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    report = read_report(tmp_path / "run")
    assert [phase["name"] for phase in report["phases"]] == ["finetune"]
    assert 0 <= report["after"]["metrics"]["accuracy"] <= 1
    graph = trace(load(tmp_path / "run/pruned/model.safetensors"), torch.zeros(1, 3, 32, 32))
    assert cost(graph).params == report["after"]["params"] == 8_017_755 - 997 * 2049  # three classes, not a thousand
