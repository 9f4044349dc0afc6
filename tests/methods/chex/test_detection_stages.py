"""Stages of the release's parts for detection and for segmentation, through ``ExplorationStages`` with masks.

Source of the numbers: the released functions, run on small ResNets with seeded weights instead of training, on the CPU.
What the release draws at random is recorded, and drawn again here.
"""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from pruning_lit.channels import ChannelGraph, insert_scatters, mask, trace
from pruning_lit.criteria import ColumnSubset, Criterion, SpatialInformation
from pruning_lit.methods.chex import Exploration, ExplorationStages
from pruning_lit.phases import Constant
from pruning_lit.sparsity import Global, Sparsity, Uniform
from pruning_lit.tasks import Classification
from tests.methods.chex.chex_golden import DEPTHS, Bottleneck
from tests.models.detection_golden import fill, filled, golden

MEAN, STD = (torch.tensor(each).view(3, 1, 1) for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


class Body(nn.Module):
    """A stem and stages of bottlenecks; the maps of all stages are looked at."""

    def __init__(
        self,
        stem: nn.Module,
        width: int,
        inner: list[int],
        outputs: list[int],
        strides: list[int],
        norm: Callable[[int], nn.Module],
        stride_first: bool,
    ) -> None:
        super().__init__()
        self.stem = stem
        for number, (depth, mid, out, stride) in enumerate(zip(DEPTHS, inner, outputs, strides, strict=False), 1):
            make = partial(Bottleneck, inner=mid, outputs=out, norm=norm, stride_first=stride_first)
            first = make(inputs=width, stride=stride, projection=True)
            rest = (make(inputs=out, stride=1, projection=False) for _ in range(depth - 1))
            self.add_module(f"layer{number}", nn.Sequential(first, *rest))
            width = out

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.stem(x), []
        for name, stage in self.named_children():
            if name != "stem":
                x = stage(x)
                maps.append(x)
        return maps


def ssd_body(config: dict[str, Any]) -> Body:
    """Three stages without pooling; the last is what the detector's other parts read."""
    width = config["outs"][0] // 2
    stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    return Body(stem, width, config["inner"], config["outs"], config["strides"], nn.BatchNorm2d, stride_first=False)


def mask_rcnn_body(config: dict[str, Any], norm: Callable[[int], nn.Module]) -> Body:
    """Four stages, each twice as wide as the one before."""
    width = config["stem"]
    stem = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3, bias=False), norm(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    inner, outputs = ([config[key] * 2**number for number in range(4)] for key in ("inner_first", "out_first"))
    return Body(stem, width, inner, outputs, [1, 2, 2, 2], norm, stride_first=True)


def scales_alone(width: int) -> nn.Module:
    """A norm per channel with the parameters of a group norm, and nothing else."""
    return nn.BatchNorm2d(width, track_running_stats=False)


class Recorded:
    """Draws of the release: which of the channels that do not stay come back."""

    def __init__(self) -> None:
        self.coming: list[dict[str, Any]] = []  # of a stage, in the order in which groups are asked for

    def draw(self, residuals: Tensor, count: int, generator: torch.Generator) -> list[int]:
        layer = self.coming.pop(0)
        assert count == layer["num_free"], layer["layer"]
        others = sorted({*range(layer["size"])} - {*layer["kept"]})
        assert len(residuals) == len(others)
        return [others.index(position) for position in layer["grown"]]


class Images:
    """Images that every look gets, the same whichever are asked for."""

    def __init__(self) -> None:
        self.images = torch.rand(2, 3, 64, 64, dtype=torch.float64)

    @property
    def num_training(self) -> int:
        return len(self.images)

    def calibration(self, num_images, seed=0, augment=False, rank=0, world_size=1, batch_size=8) -> Any:
        return ((batch, None) for batch in self.images[:num_images].split(batch_size))


class Replay:
    """An exploration whose training is replaced by seeded noise, as for the recorded stages."""

    def __init__(self, name: str, net: nn.Module, criterion: Criterion, sparsity: Sparsity, **stages: Any) -> None:
        self.golden = golden(f"{name}_stages")
        self.names = {name: ours(name) for name, *_ in self.golden["layout"]}
        config, tensors = self.golden["config"], filled(self.golden["layout"], self.golden["seed"])
        self.net = fill(net, {self.names[name]: tensor for name, tensor in tensors.items()})
        example = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
        insert_scatters(self.net, example)
        schedule = {"init_regrow": config["init_channel_ratio"], "sampling": "uniform", "execution": "mask"}
        self.module = Exploration(
            net=self.net, criterion=criterion, sparsity=sparsity, task=Classification(2), epochs=500,
            schedule=Constant(), optimizer=partial(SGD, lr=0.1), renew=None,
            callbacks={"stages": ExplorationStages(**schedule, **stages)},
        )  # fmt: skip
        self.stages, self.data, self.draws = self.module.stages, Images(), Recorded()
        self.stages.sampling = self.draws
        self.module.graph = self.module.explored(self.net, trace(self.net, example))
        self.module.groups = self.module.sparsity.prunable_groups(self.module.graph)
        self.module.removed = self.module.budget.initial_share(self.module.graph)
        self.trainer = SimpleNamespace(
            optimizers=[], callbacks=[], strategy=SimpleNamespace(broadcast=lambda each: each), loggers=[],
            is_global_zero=False, global_step=0, current_epoch=0, datamodule=self.data,
        )  # fmt: skip
        self.stages.begin(self.net, self.module.graph)
        self.stages.open(self.trainer, self.module)

    @property
    def graph(self) -> ChannelGraph:
        return self.module.graph

    @property
    def active(self) -> dict[str, list[int]]:
        return self.stages.pruned.active

    def run(self, number: int, now: int, images: Tensor | None = None) -> None:
        """One stage behind noise; every decision and every value is held against what is recorded."""
        expected = self.golden["stages"][number]
        self.shake(number)
        assert_sums(self.net, self.names, expected["before"])
        self.data.images = self.data.images if images is None else images
        layers = {ours(layer["layer"]): layer for layer in expected["layers"]}
        self.draws.coming = [layers[group.name] for group in self.module.groups]
        assert self.active.keys() == layers.keys()
        self.stages.stage(self.trainer, self.module, now)
        assert not self.draws.coming
        record = self.stages.stages[-1]
        assert record["share"] == pytest.approx(expected["channel_ratio"], abs=1e-3)  # falls to 0 at the last stage
        for name, layer in layers.items():
            kept = sorted({*self.active[name]} - {*record["grown"][name]})
            assert (name, kept) == (name, sorted(layer["kept"]))
            assert self.active[name] == layer["active_after"]
        if self.stages.pruned.final:
            return
        assert_sums(self.stages.pruned.most_recent, self.names, expected["restored"])

    def shake(self, number: int) -> None:
        """Move all entries, as training would, and mask again."""
        drawn, state = filled(self.golden["layout"], self.golden["seed"] + 1000 + number), self.net.state_dict()
        for name, _, kind in self.golden["layout"]:
            tensor = state[self.names[name]]
            if kind == "variance":
                tensor *= drawn[name] ** 0.3
            else:
                tensor += 0.3 * (drawn[name] - (0.5 if kind == "scale" else 0))
        mask(self.net, self.graph, self.active)


def ours(name: str) -> str:
    """Name of a tensor of the release."""
    parts = name.split(".")
    if parts[0] == "stem":
        parts = parts[1:]
    if parts[0] in ("conv1", "bn1"):
        return ".".join(["stem", "0" if parts[0] == "conv1" else "1", *parts[1:]])
    return ".".join(parts)


def assert_sums(net: nn.Module, names: dict[str, str], expected: dict[str, list[float]]) -> None:
    """Hold every tensor against its sum, that of its sizes, and that of its entries times their number."""
    state = net.state_dict()
    for name, sums in expected.items():
        entries = state[names[name]].flatten()
        order = torch.arange(1, len(entries) + 1, dtype=torch.float64)
        found = [float(each.sum()) for each in (entries, entries.abs(), order * entries)]
        assert found == pytest.approx(sums, rel=1e-9, abs=1e-8), name


def test_stages_of_detection_keep_and_bring_back_what_the_release_does():
    """Kept by spatial information under the statistics of each batch, as many as one threshold on all scales says."""
    config = golden("det_stages")["config"]
    criterion = SpatialInformation(num_images=6, batch_size=2, statistics="batch")
    sparsity = Global(config["sparsity"], rule="slimming", exclude=["stem*"])
    replay = Replay("det", ssd_body(config), criterion, sparsity, interval=2, last_stage=config["T_max"])
    first = dict(zip(map(ours, replay.golden["prunable_order"]), replay.golden["init_active"], strict=True))
    assert replay.active == first
    for number, epoch in enumerate(config["epochs"]):
        batches, *shape = config["pictures"]
        random = np.random.RandomState(replay.golden["seed"] + 2000 + number)
        images = torch.cat([torch.from_numpy(random.uniform(0, 1, shape)) for _ in range(batches)])
        replay.run(number, epoch, (images - MEAN) / STD)


def test_stages_of_segmentation_keep_and_bring_back_what_the_release_does():
    """Kept by leverage, the same share of every layer; group norms, channel by channel: such masks cannot be cut."""
    config = golden("seg_stages")["config"]
    net = mask_rcnn_body(config, scales_alone)
    sparsity = Uniform(config["sparsity"], exclude=["stem*"])
    last = config["iterations"][-1]
    replay = Replay("seg", net, ColumnSubset(), sparsity, interval=1000, last_stage=last, unit="steps")
    assert replay.active == dict(
        zip(map(ours, replay.golden["prunable_order"]), replay.golden["init_active"], strict=True)
    )
    assert_maps(replay.net, config, replay.golden["seed"], replay.golden["dense_output"])
    for number, iteration in enumerate(config["iterations"]):
        replay.run(number, iteration)
        assert_maps(replay.net, config, replay.golden["seed"], replay.golden["stages"][number]["masked_output"])


def assert_maps(net: nn.Module, config: dict[str, Any], seed: int, expected: list[Any]) -> None:
    """Hold the maps of the network with these weights, and group norms, against some of their recorded entries."""
    grouped = mask_rcnn_body(config, partial(nn.GroupNorm, config["groups"])).double().eval()
    grouped.load_state_dict({name: each for name, each in net.state_dict().items() if "scatter" not in name})
    image = torch.from_numpy(np.random.RandomState(seed + 9).uniform(-1, 1, (1, 3, 64, 96)))
    with torch.no_grad():
        for maps, (shape, entries) in zip(grouped(image), expected, strict=True):
            assert list(maps.shape) == shape
            assert maps.flatten()[:: maps.numel() // 10][:10].tolist() == pytest.approx(entries, abs=1e-9)
