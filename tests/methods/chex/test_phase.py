"""Exploration through a trainer: widths at every stage, both executions alike, resuming, and what is refused."""

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch import Tensor, nn
from torch.optim import SGD, AdamW, RMSprop

from pruning_lit.callbacks import BestCheckpoint, finish_execution
from pruning_lit.channels import ChannelGraph, adopt_on_load, cost, cost_of_widths, insert_scatters, trace
from pruning_lit.criteria import BatchNormScale, ColumnSubset, Magnitude
from pruning_lit.data.in_memory import ImagesInMemory, whole
from pruning_lit.data.parts import Parts
from pruning_lit.methods.chex import Exploration, ExplorationStages
from pruning_lit.methods.resrep import CompactorNorm
from pruning_lit.models import start_afresh
from pruning_lit.phases import Constant
from pruning_lit.phases.epoch_steps import EpochSteps
from pruning_lit.sparsity import Global, Macs, Similarity, Uniform
from pruning_lit.tasks import Classification, Primary

SIZES = {"stem.0": 10, "inner.0": 6, "shortcut.0": 12}
EPOCHS, LAST_STAGE, STEPS = 5, 3, 4  # STEPS: in an epoch


class ImageData(ImagesInMemory):
    """Noise of 8×8 pixels in four classes, each brighter in a corner of its own."""

    def __init__(self, val_fraction: float = 0.0) -> None:
        super().__init__(batch_size=8, mean=[0.5] * 3, std=[0.25] * 3, val_fraction=val_fraction)
        self.setup()

    def read(self) -> Parts:
        random, target = torch.Generator().manual_seed(0), torch.arange(48) % 4
        images = torch.randint(0, 190, (48, 3, 8, 8), generator=random, dtype=torch.uint8)
        for corner in range(4):
            rows, columns = slice(4 * (corner // 2), None), slice(4 * (corner % 2), None)
            images[target == corner, :, rows, columns] += 60
        train, test = whole(images[:32], target[:32]), whole(images[32:], target[32:])
        return Parts(["a", "b", "c", "d"], train, test)


class Net(nn.Module):
    """A stem, a branch of two convolutions beside a projection, a classifier."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 10, 3, padding=1), norm(10))
        self.inner = nn.Sequential(nn.Conv2d(10, 6, 3, stride=2, padding=1, bias=False), norm(6))
        self.outer = nn.Sequential(nn.Conv2d(6, 12, 3, padding=1, bias=False), norm(12))
        self.shortcut = nn.Sequential(nn.Conv2d(10, 12, 1, stride=2, bias=False), norm(12))
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.outer(self.inner(x).relu()) + self.shortcut(x)).relu()
        return self.fc(x.mean((2, 3)))


class Parted(Net):
    """Its stem is taken apart at a number of the module."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.other = 4, nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = torch.cat([x[:, : self.part], self.other(x[:, self.part :])], 1)
        x = (self.outer(self.inner(x).relu()) + self.shortcut(x)).relu()
        return self.fc(x.mean((2, 3)))


def built(seed: int = 0, scatters: bool = True, kind: type[Net] = Net, **options) -> nn.Module:
    torch.manual_seed(seed)
    net = kind(**options)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.4, 0.6)
    if scatters:
        insert_scatters(net, torch.zeros(1, 3, 8, 8))
    adopt_on_load(net)
    return net


def phase(
    net: nn.Module | None = None,
    stages: dict[str, Any] | None = None,
    kind: type[Exploration] = Exploration,
    watch: pl.Callback | None = None,
    **options,
) -> Exploration:
    """Stages at the start of epochs 1, 2 and 3 of 5, as many channels as it takes that all of them do something."""
    net = (built() if net is None else net).double()  # else the most recent values would be in float32
    settings = {"init_regrow": 0.4, "interval": 1, "last_stage": LAST_STAGE} | (stages or {})
    common = {
        "criterion": ColumnSubset(), "sparsity": Global(0.6, rule="slimming"),
        "task": Classification(4), "epochs": EPOCHS, "schedule": Constant(),
        "optimizer": partial(SGD, lr=0.05, momentum=0.9, weight_decay=1e-3),
        "callbacks": {"stages": ExplorationStages(**settings)} | ({"watch": watch} if watch else {}),
        "renew": lambda net: start_afresh(net, built(seed=7)),
    }  # fmt: skip
    return kind(net=net, **(common | options))


def fit(module: Exploration, data: ImageData | None = None, resume: Path | None = None, **options) -> Exploration:
    data = data or ImageData()
    common: dict[str, Any] = {"enable_checkpointing": False, "precision": "64-true"}
    trainer = pl.Trainer(
        max_epochs=module.epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
        limit_val_batches=1.0 if data.has_validation else 0, **(common | options),
    )  # fmt: skip
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    return module


def result(module: Exploration) -> dict[str, Tensor]:
    """State of the network that is left in the end, whatever the execution was."""
    net = copy.deepcopy(module.net)
    finish_execution(net, module.stages.state_dict()["execution"], torch.zeros(1, 3, 8, 8).double())
    return net.state_dict()


class Watch(pl.Callback):
    """Notes after every batch how many channels are there: those whose filters are not all zero."""

    def __init__(self) -> None:
        self.widths: list[dict[str, int]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        layers = {name: pl_module.net.get_submodule(name) for name in SIZES}
        self.widths.append({name: int(layer.weight.flatten(1).any(1).sum()) for name, layer in layers.items()})


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-8) -> None:
    assert one.keys() == other.keys()
    for key, value in other.items():
        torch.testing.assert_close(
            one[key], value, rtol=tolerance, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}"
        )


each_execution = pytest.mark.parametrize("execution", ["narrow", "mask"])


# Widths


@pytest.mark.at_once(1)
@each_execution
def test_every_stage_has_its_budget_and_after_the_last_one_widths_do_not_change(execution):
    """At first 80 % of every group; ``28 - int(0.6 * 28) - 1`` stay at every stage, and in the end only these."""
    watch, slow = Watch(), partial(SGD, lr=0.01)  # so slow that no group comes near its floor
    module = fit(phase(stages={"execution": execution}, watch=watch, optimizer=slow))
    assert len(watch.widths) == EPOCHS * STEPS
    for step, widths in enumerate(watch.widths):
        assert widths == module.stages.stages[min(step // STEPS, LAST_STAGE)]["widths"]
    first, *later = module.stages.stages
    assert first["widths"] == {"stem.0": 8, "inner.0": 4, "shortcut.0": 9}  # int(0.8 * size)
    assert [record["at"] for record in later] == [1, 2, 3]
    assert [record["num_kept"] for record in later] == [11, 11, 11]
    assert [record["share"] for record in later] == pytest.approx([0.3, 0.1, 0.0])  # 0.2 * (1 + cos(k * 60 degrees))
    regrown = [sum(int(share * size) for size in SIZES.values()) for share in (0.3, 0.1, 0.0)]
    assert [record["num_grown"] for record in later] == regrown == [7, 2, 0]
    assert sum(watch.widths[-1].values()) == 11


@pytest.mark.at_once(1)
@each_execution
def test_stages_are_where_steps_say(execution):
    watch = Watch()
    stages = {"execution": execution, "unit": "steps", "interval": 3, "last_stage": 9}
    module = fit(phase(stages=stages, watch=watch))
    assert [record["at"] for record in module.stages.stages] == [0, 3, 6, 9]
    for step, widths in enumerate(watch.widths):
        assert widths == module.stages.stages[min(step // 3, 3)]["widths"]
    assert module.stages.cuts[0].epoch == 2


def test_steps_are_those_of_the_optimizer():
    watch = Watch()
    module = phase(stages={"unit": "steps", "interval": 2, "last_stage": 6}, watch=watch)
    fit(module, accumulate_grad_batches=2)
    for batch, widths in enumerate(watch.widths):
        assert widths == module.stages.stages[min(batch // 4, 3)]["widths"]


@pytest.mark.at_once(1)
@pytest.mark.parametrize("budget", [Macs(0.5), Macs(0.4, round_to=3), Macs(0.5, min_share=0.3)])
def test_a_target_of_macs_is_met_and_would_not_be_with_one_channel_more(budget):
    module = fit(phase(sparsity=budget, stages={"init_regrow": 0.1}))
    (cut,) = module.stages.cuts
    target = float(1 - budget.reduction) * cut.details["exploration"]["dense_macs"]
    assert cut.macs == cost(trace(module.net, torch.zeros(1, 3, 8, 8).double())).macs <= target
    widths = {name: len(each) for name, each in cut.kept.items()}
    wider = [widths | {name: width + budget.limits.round_to} for name, width in widths.items()]
    assert max(cost_of_widths(module.graph, each).macs for each in wider) > target
    assert cut.details["exploration"]["sparsity"] is None
    assert cut.details["exploration"]["target_macs"] == int(target)


def test_channels_that_stay_for_a_multiple_alone_are_told():
    """11 of 28 stay by the budget, see above; of multiples of 5 at least as many as it takes."""
    module = fit(phase(sparsity=Global(0.6, rule="slimming", round_to=5)))
    (cut,) = module.stages.cuts
    stay = sum(map(len, cut.kept.values()))
    assert stay > 11
    assert cut.notes[0] == f"Of 28 channels that were explored {stay} stay ({100 * stay / 28:.2f} %)."
    assert cut.notes[1] == f"{stay - 11} of these stay for the limits of widths alone (min_channels=1, round_to=5)."


def test_a_target_of_macs_is_met_by_the_smallest_share_of_every_group():
    module = fit(phase(sparsity=Macs(0.6, scope="layer"), stages={"init_regrow": 0.1}))
    (cut,) = module.stages.cuts
    target = 0.4 * cut.details["exploration"]["dense_macs"]
    widths = [{name: int(size * (1 - gone / 100)) for name, size in SIZES.items()} for gone in range(100)]
    cheap = [each for each in widths if cost_of_widths(module.graph, each).macs <= target]
    assert {name: len(each) for name, each in cut.kept.items()} == cheap[0]


def test_more_than_a_target_of_macs_takes_away_cannot_come_back():
    with pytest.raises(
        ValueError, match=r"reduction=0.3 takes away 1\d\.\d % of the channels, and init_regrow=0.4 would"
    ):
        check(phase(sparsity=Macs(0.3)))


def test_the_record_of_the_cut_is_that_of_the_network_that_is_left():
    module = fit(phase())
    (cut,) = module.stages.cuts
    counted = cost(trace(module.net, torch.zeros(1, 3, 8, 8).double()))
    assert (cut.macs, cut.params) == (counted.macs, counted.params)
    assert {name: len(each) for name, each in cut.kept.items()} == module.stages.stages[-1]["widths"]
    assert cut.epoch == LAST_STAGE
    assert cut.error < 1e-12
    spent, dense = cut.details["exploration"]["spent"], cut.details["exploration"]["dense_macs"]
    stages = module.stages.stages
    assert spent == {"macs": STEPS * sum(each["macs"] for each in stages[:-1]), "dense_macs": 3 * STEPS * dense}
    assert module.stages.spent["macs"] == spent["macs"] + 2 * STEPS * counted.macs


@pytest.mark.at_once(1)
@each_execution
def test_behind_the_last_stage_nothing_is_kept_of_what_has_gone(execution):
    module = fit(phase(stages={"execution": execution, "regrow_init": "ema"}))
    kept = module.stages.state_dict()
    assert kept["pruned"]["store"] is None
    assert kept["regrow_init"] == {}


def test_channels_come_back_with_what_they_last_had():
    """What falls dormant is noted, and compared with what a later stage gives back."""
    seen, away, found = {}, {}, []

    class Note(pl.Callback):
        def on_train_batch_start(self, trainer, module, *_):
            stem = module.net.stem[0].weight
            present = module.stages.pruned.active["stem.0"]
            for position in [each for each in away if each in present]:
                found.append(torch.equal(stem[present.index(position)], away.pop(position)))
            for position in [each for each in seen if each not in present and each not in away]:
                away[position] = seen[position]

        def on_train_batch_end(self, trainer, module, *_):
            present = module.stages.pruned.active["stem.0"]
            seen.update(zip(present, module.net.stem[0].weight.detach().clone(), strict=True))

    options = {"sparsity": Uniform(0.6), "epochs": 12}
    fit(phase(stages={"last_stage": 10}, **options), callbacks=[Note()])
    assert len(found) >= 3
    assert all(found)


# Both executions alike

ALIKE: dict[str, dict[str, Any]] = {
    "plain": {},
    "global": {"stages": {"regrow_allocation": "global"}},
    "uniform": {"sparsity": Uniform(0.6)},
    "steps": {"stages": {"unit": "steps", "interval": 3, "last_stage": 15}},
    "adamw": {"optimizer": partial(AdamW, lr=0.01)},
    "rmsprop": {"optimizer": partial(RMSprop, lr=0.001, momentum=0.9)},
    "zero": {"stages": {"regrow_init": "zero"}},
    "random": {"stages": {"regrow_init": "random"}},
    "ema": {"stages": {"regrow_init": "ema", "ema_decay": 0.5}},
    "accumulated_ema": {
        "trainer": {"accumulate_grad_batches": 2},
        "stages": {"regrow_init": "ema", "ema_decay": 0.5},
    },
    "drawn": {"stages": {"sampling": "uniform", "decay": "linear", "seed": 5}},
    "squares": {"stages": {"residual_power": 2, "decay": "constant"}},
    "magnitude": {"criterion": Magnitude()},
    "bn_scale": {"criterion": BatchNormScale()},
    "macs": {"sparsity": Macs(0.5), "stages": {"init_regrow": 0.3}},
    "macs_alike": {"sparsity": Macs(0.5, scope="layer", round_to=2)},
    "streams_and_scatters": {"streams": True},
    "streams": {"streams": True, "net": {"scatters": False}},
    "rounded": {"sparsity": Global(0.6, rule="slimming", round_to=4)},
    "channels_last": {"channels_last": True},
    "clipped": {"trainer": {"gradient_clip_val": 0.1}},
    "accumulated": {"trainer": {"accumulate_grad_batches": 2}},
    "instance_norm": {
        "net": {"norm": lambda width: nn.InstanceNorm2d(width, affine=True)},
        "sparsity": Uniform(0.6),
    },
    "group_norm": {"net": {"norm": lambda width: nn.GroupNorm(width // 2, width)}, "sparsity": Uniform(0.6)},
    "no_norm": {"net": {"norm": lambda width: nn.Identity()}, "sparsity": Uniform(0.6)},
    "averaged": {"averaged": True},
}
BROKEN = {
    "averaged": "masks are refused together with averages, which would average the wiring of scatters, too",
}


def alike(name: str) -> Any:
    marks = [pytest.mark.xfail(reason=BROKEN[name], strict=True)] if name in BROKEN else []
    return pytest.param(name, marks=marks)


@pytest.mark.at_once(1)
@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("name", map(alike, ALIKE))
def test_both_executions_end_in_the_same_network(name):
    options = dict(ALIKE[name])
    stages, net, trainer = (options.pop(key, {}) for key in ("stages", "net", "trainer"))
    averaged, modules = options.pop("averaged", False), []
    for execution in ("narrow", "mask"):
        callbacks = [EMAWeightAveraging(decay=0.5)] if averaged else []
        module = phase(built(**net), stages | {"execution": execution}, **options)
        modules.append(fit(module, callbacks=callbacks, **trainer))
    narrowed, masked = modules
    assert len(narrowed.stages.stages) >= 4
    assert any(record["num_grown"] for record in narrowed.stages.stages)
    assert narrowed.stages.cuts[0].kept == masked.stages.cuts[0].kept
    kept = [[record["widths"] for record in each.stages.stages] for each in modules]
    assert kept[0] == kept[1]
    assert_close(result(narrowed), result(masked))


@each_execution
def test_a_network_in_single_precision_can_be_explored_in_double_precision(execution):
    module = phase(stages={"execution": execution})
    module.net.float()
    fit(module)
    kinds = {tensor.dtype for net in (module.net, module.stages.pruned.most_recent) for tensor in net.parameters()}
    assert kinds == {torch.float64}
    assert module.stages.cuts[0].error < 1e-12


@pytest.mark.at_once(2)
@each_execution
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lower_precisions_are_explored_as_well(execution, precision):
    module = phase(stages={"execution": execution})
    module.net.float()
    fit(module, precision=precision)
    assert sum(module.stages.stages[-1]["widths"].values()) == 11


@pytest.mark.slow
def test_settings_change_what_is_explored():
    """Else tests of both executions would compare the same run again and again."""
    ends = {}
    for name in ("plain", "drawn", "squares", "zero", "ema", "magnitude", "global"):
        module = fit(phase(stages=ALIKE[name].get("stages"), **{k: v for k, v in ALIKE[name].items() if k != "stages"}))
        ends[name] = float(sum(tensor.double().abs().sum() for tensor in result(module).values()))
    assert len({*ends.values()}) == len(ends), ends


# Resuming


@pytest.fixture(scope="module", params=["numbers", "mask", "steps", "ema"])
def uninterrupted(request, tmp_path_factory) -> tuple[Callable[[], Exploration], Exploration, Path]:
    """How a phase is made, the phase after its end, and its checkpoints after every step."""
    stages = {
        "numbers": {}, "mask": {"execution": "mask"},
        "ema": {"regrow_init": "ema", "ema_decay": 0.5},
        "steps": {"unit": "steps", "interval": 3, "last_stage": 12, "execution": "mask"},
    }[request.param]  # fmt: skip
    options = {} if request.param != "numbers" else {"renew": lambda net: start_afresh(net, built(7, kind=Parted))}
    make = lambda: phase(  # noqa: E731
        built(kind=Parted if options else Net), stages, sparsity=Global(0.6, rule="slimming"), **options
    )
    folder = tmp_path_factory.mktemp(request.param)
    every = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    return make, fit(make(), callbacks=[every], enable_checkpointing=True), folder


@pytest.mark.at_once(1)
@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("step", [1, 3, 6, 9, 13, 18])
def test_a_resumed_phase_ends_in_the_same_bits(uninterrupted, step):
    """Behind the first choice, in intervals, right behind a stage, and when all is decided."""
    assert_same_end(*uninterrupted, step)


@pytest.mark.at_once(1)
@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("step", [4, 12, 16])
def test_a_phase_killed_behind_the_last_step_of_an_epoch_does_not_miss_the_stage_of_the_next_one(uninterrupted, step):
    assert_same_end(*uninterrupted, step)


def assert_same_end(make: Callable[[], Exploration], expected: Exploration, folder: Path, step: int) -> None:
    resumed = fit(make(), resume=folder / f"step={step}.ckpt")
    found, state = resumed.net.state_dict(), expected.net.state_dict()
    assert resumed.stages.stages == expected.stages.stages
    assert resumed.stages.spent == expected.stages.spent
    assert resumed.stages.cuts == expected.stages.cuts
    assert found.keys() == state.keys()
    assert [key for key, value in state.items() if not torch.equal(found[key], value)] == []
    assert getattr(resumed.net, "part", 1) == getattr(expected.net, "part", 1) == 1


# What counts as best


class Worsening(Exploration):
    """A network whose validation accuracy falls from epoch to epoch."""

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/accuracy", 1 - self.current_epoch / 10, on_epoch=True, batch_size=len(batch[1]))


@pytest.mark.filterwarnings("ignore:.*")
@each_execution
def test_no_epoch_before_the_last_stage_can_be_the_best_one(tmp_path, execution):
    module = phase(stages={"execution": execution}, kind=Worsening)
    fit(
        module,
        ImageData(val_fraction=0.25),
        callbacks=[BestCheckpoint(tmp_path, Primary("accuracy"))],
        enable_checkpointing=True,
    )
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["epoch"] == LAST_STAGE
    kept = best["callbacks"]["ExplorationStages"]["cuts"][0]["kept"]
    assert {name: len(each) for name, each in kept.items()} == module.stages.stages[-1]["widths"]


# What is explored


def graph_of(module: Exploration) -> ChannelGraph:
    return trace(module.net, torch.zeros(1, 3, 8, 8).double())


def explored(module: Exploration) -> dict[str, str | None]:
    return {group.name: group.protected for group in module.explored(module.net, graph_of(module)).groups}


def test_streams_stay_whole_unless_asked_for():
    told = explored(phase(built(scatters=False)))
    assert told["outer.0"] == "several layers make its channels; explore.streams=true explores them together"
    assert told["stem.0"] is told["inner.0"] is None
    assert explored(phase(built(scatters=False), streams=True))["outer.0"] is None


def test_layers_on_shortcuts_are_explored_with_their_scatters():
    told = explored(phase())
    assert told["shortcut.0"] is None
    assert "outer.0" not in told or told["outer.0"] is not None


def test_channels_without_scales_have_no_share_of_a_common_budget():
    plain = built(norm=lambda _: nn.Identity())
    told = explored(phase(plain))
    assert told["stem.0"] is not None
    assert told["stem.0"].startswith("no batch norm scales its channels")
    assert explored(phase(plain, sparsity=Uniform(0.6)))["stem.0"] is None


def test_what_is_excluded_stays_whole():
    module = fit(phase(sparsity=Global(0.6, rule="slimming", exclude=["stem*"])))
    assert module.stages.stages[-1]["widths"].keys() == {"inner.0", "shortcut.0"}
    assert module.net.stem[0].out_channels == 10


def test_the_first_widths_are_exact():
    module = fit(phase(stages={"init_regrow": 0.1}, sparsity=Global(0.8, rule="slimming")))
    assert module.stages.stages[0]["widths"]["stem.0"] == 3  # int(10 * (1 - (0.8 - 0.1)))


# What is refused


def check(module: Exploration) -> None:
    """What happens before any training."""
    module.check("explore", module.net, graph_of(module), EpochSteps.of(ImageData()))


def test_a_phase_that_can_work_is_not_refused():
    in_epochs, in_steps = phase(), phase(stages={"unit": "steps", "last_stage": EPOCHS * STEPS - 1})
    for module, length in ((in_epochs, EPOCHS), (in_steps, EPOCHS * STEPS)):
        check(module)
        assert module.stages.schedule(module.removed).stages[-1] < length


def test_a_last_stage_behind_the_end_is_refused():
    with pytest.raises(ValueError, match="last_stage=3 lies beyond the training, whose epochs are 0 to 2"):
        check(phase(epochs=3))
    with pytest.raises(ValueError, match="last_stage=20 lies beyond the training"):
        check(phase(stages={"unit": "steps", "last_stage": EPOCHS * STEPS}))


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ({"init_regrow": 0.7}, "init_regrow must not exceed sparsity.rate=0.6, got 0.7"),
        ({"init_regrow": -0.1}, "init_regrow -0.1 lies outside"),
        ({"interval": 2}, "last_stage must be a multiple of interval=2, got 3"),
        ({"unit": "batches"}, r"unit must be one of \['epochs', 'steps'\], got 'batches'"),
        ({"decay": "step"}, "decay must be one of"),
        ({"sampling": "random"}, "sampling must be one of"),
        ({"residual_power": 3}, "residual_power must be 1 or 2, got 3"),
        ({"regrow_init": "old"}, r"regrow_init must be one of \['mru', 'zero', 'random', 'ema'\], got 'old'"),
        ({"regrow_init": "ema", "ema_decay": 1.0}, r"ema_decay is the share of an average that a step leaves, .* 1.0"),
        ({"execution": "both"}, r"execution must be one of \['narrow', 'mask'\], got 'both'"),
    ],
)
def test_stages_that_cannot_be_are_refused_when_the_phase_is_built(stages, told):
    with pytest.raises(ValueError, match=told):
        phase(stages=stages)


@pytest.mark.parametrize(
    ("stages", "options", "told"),
    [
        pytest.param(
            {"regrow_allocation": "all"}, {}, "regrow_allocation must be one of",
        ),
        pytest.param(
            {"regrow_allocation": "global"}, {"sparsity": Uniform(0.6)}, "sparsity=uniform has none",
        ),
    ],
)  # fmt: skip
def test_choices_that_do_not_fit_together_are_refused_before_any_training(stages, options, told):
    with pytest.raises(ValueError, match=told):
        check(phase(stages=stages, **options))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"sparsity": Similarity(0.9)},
            "takes sparsity=global, sparsity=uniform or sparsity=macs, not Similarity",
        ),
        ({"sparsity": Global(0.6, overrides={"stem*": 0.1})}, "sparsity.overrides sets rates of its own"),
        ({"streams": "fales"}, "streams is true or false, got 'fales'"),
        ({"sparsity": Global(0.6, on_empty="remove")}, "on_empty=remove is not for exploration"),
        ({"sparsity": Global(0.6, scope="layer")}, "one threshold on all batch-norm scales as they are; set sparsity"),
        ({"sparsity": Global(0.6, rule="slimming", normalise=True)}, "one threshold on all batch-norm scales"),
        ({"sparsity": Macs(0.5, normalise=True)}, "compares batch-norm scales as they are"),
        ({"sparsity": Global(0.0)}, "sparsity.rate must lie between 0 and 1, got 0"),
        ({"callbacks": {}}, "needs one callback pruning_lit.methods.chex.ExplorationStages, got 0"),
        ({"callbacks": {"a": ExplorationStages(), "b": ExplorationStages()}}, "ExplorationStages, got 2"),
    ],
)
def test_phases_that_cannot_explore_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        phase(**options)


def test_a_network_in_which_nothing_can_go_is_refused_with_the_reasons():
    with pytest.raises(
        ValueError, match=r"nothing can be pruned: .*no batch norm scales its channels.*sparsity=uniform"
    ):
        check(phase(built(norm=lambda _: nn.Identity())))


def test_compactors_are_refused_where_nothing_trains_them():
    with pytest.raises(ValueError, match=r"compactor_norm judges by compactors, .* only while method=resrep trains"):
        check(phase(criterion=CompactorNorm()))


def by_groups(width: int) -> nn.Module:
    return nn.GroupNorm(2, width)


@pytest.mark.at_once(1)
@pytest.mark.parametrize("execution", ["narrow", "mask"])
@pytest.mark.filterwarnings("ignore:.*")
def test_group_norms_are_explored_by_whole_groups(execution):
    module = phase(built(norm=by_groups), {"execution": execution}, sparsity=Uniform(0.6))
    check(module)
    (cut,) = fit(module).stages.cuts
    assert {name: len(each) for name, each in cut.kept.items()} == {"stem.0": 1, "inner.0": 1, "shortcut.0": 4}
    assert cut.error < 1e-12  # where a norm's groups go as a whole, none of the rest sees it


@pytest.mark.parametrize("execution", ["narrow", "mask"])
@pytest.mark.parametrize("init", ["mru", "ema"])
def test_an_exploration_from_scratch_knows_nothing_of_the_weights_before(execution, init):
    net = built()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 100  # the trained weights
    watch = Watch()
    stages = {"execution": execution, "regrow_init": init}
    module = fit(phase(net, stages, init="scratch", watch=watch))
    assert max(float(each.abs().max()) for each in module.net.parameters()) < 50
    first = {name: math.ceil(0.8 * size) for name, size in SIZES.items()}  # 0.6 go, 0.4 come back
    assert watch.widths[0] == pytest.approx(first, abs=1)


def test_a_last_stage_that_never_comes_is_refused_once_the_processes_are_known():
    module = phase(stages={"unit": "steps", "last_stage": 1000})
    module.check("explore", module.net, graph_of(module), None)
    with pytest.raises(ValueError, match="last_stage=1000 lies beyond the training"):
        fit(module)


def test_exploration_packs_no_knapsack():
    with pytest.raises(ValueError, match=r"leave out sparsity\.scope=knapsack"):
        phase(sparsity=Macs(0.5, scope="knapsack"))
