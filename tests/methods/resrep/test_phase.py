"""ResRep's edit of the gradients: its place in the step, against the release and by arithmetic; masks, and resuming."""

import json
from collections import OrderedDict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pruning_lit.channels import Compactor, compactors, trace
from pruning_lit.command_line.configs import CONF
from pruning_lit.criteria import Magnitude
from pruning_lit.data import Digits
from pruning_lit.methods.resrep import CompactorNorm, GradientReset, RowMasks
from pruning_lit.methods.resrep.pace import MaskingPace
from pruning_lit.methods.resrep.phase import reset_gradients
from pruning_lit.methods.resrep.rows import masked, row_norms, write_masks
from pruning_lit.phases import Constant, Cosine
from pruning_lit.phases.epoch_steps import EpochSteps
from pruning_lit.sparsity import Macs
from pruning_lit.tasks import Classification
from tests.commands import in_own_process
from tests.methods.resrep.resrep_golden import Basic
from tests.places import VECTORS

GOLDEN = VECTORS / "resrep"
SCHEDULE = json.loads((GOLDEN / "schedule.json").read_text())
#: Single edits recorded from the release of Ding et al. 2021 (ResRep); where that is no number, from its formula.
EDITS = np.load(GOLDEN / "gradreset.npz")
PULL, RATE, THRESHOLD = 0.01, 0.1, 1e-3
LISTED = {"conv1": [0, 2], "conv2": [3]}


# The edit


def compactor(weight: Tensor, gradient: Tensor | None = None, mask: Tensor | None = None) -> Compactor:
    made = Compactor(len(weight))
    made.weight.data = weight
    made.weight.grad = torch.zeros_like(weight) if gradient is None else gradient
    made.mask.copy_(torch.ones(len(weight)) if mask is None else mask)
    return made


@pytest.mark.parametrize("case", ["plain", "someoff", "strong", "zero_row"])
def test_an_edit_is_the_recorded_one(case):
    field = {key.partition("/")[2]: EDITS[key] for key in EDITS if key.startswith(f"{case}/")}
    made = compactor(*(torch.from_numpy(field[name].copy()) for name in ("w", "objective_grad", "mask")))
    reset_gradients([made], float(field["lasso_strength"]))
    assert made.weight.grad is not None
    torch.testing.assert_close(made.weight.grad, torch.from_numpy(field["expected_grad"]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1e-40, 1e-25, 1.0, 1e25])
def test_the_pull_has_one_length_however_small_or_large_a_row_is(size):
    made = compactor(torch.tensor([[3.0, 4.0], [-4.0, 3.0]]) * size)  # squares of these are zero, or infinite
    reset_gradients([made], 0.5)
    torch.testing.assert_close(made.weight.grad, torch.tensor([[0.3, 0.4], [-0.4, 0.3]]), rtol=1e-4, atol=0)


def test_a_row_of_zeros_is_not_pulled():
    made = compactor(torch.zeros(2, 2), torch.ones(2, 2), torch.tensor([1.0, 0.0]))
    reset_gradients([made], 0.5)
    assert made.weight.grad.tolist() == [[1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_what_the_task_says_to_a_masked_row_is_deleted_even_where_it_is_no_number(bad):
    made = compactor(torch.eye(2), torch.full((2, 2), bad), torch.tensor([0.0, 1.0]))
    reset_gradients([made], 0.5)
    assert made.weight.grad[0].tolist() == [0.5, 0.0]
    assert not made.weight.grad[1].isfinite().any()  # not hidden where it matters


def test_rows_of_channels_that_have_to_stay_are_left_alone():
    made = compactor(torch.eye(3), torch.full((3, 3), 2.0))
    made.regularised[1] = 0
    reset_gradients([made], 0.5)
    assert made.weight.grad[1].tolist() == [2.0, 2.0, 2.0]
    assert made.weight.grad.diagonal().tolist() == [2.5, 2.0, 2.5]


def test_a_compactor_without_a_gradient_is_left_alone():
    made = Compactor(2)
    reset_gradients([made], 0.5)
    assert made.weight.grad is None


# Through a trainer


class Batches(pl.LightningDataModule):
    """These batches in this order, as one epoch; each process gets its share of every batch."""

    drop_last = True

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.batches, self.example = batches, batches[0][0][:1]

    @property
    def num_processes(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def batch_size(self) -> int:
        return len(self.batches[0][1]) // self.num_processes

    @property
    def num_training(self) -> int:
        return sum(len(target) for _, target in self.batches)

    def train_dataloader(self) -> DataLoader:
        rank, count = self.trainer.global_rank, self.num_processes
        share = [tuple(each.chunk(count)[rank] for each in batch) for batch in self.batches]
        return DataLoader(share, batch_size=None)  # type: ignore[arg-type]


class Net(nn.Module):
    """Two convolutions, with batch norms unless batches are to be split."""

    def __init__(self, norms: bool = True, num_classes: int = 4) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 8, 3, padding=1)
        self.bn1, self.bn2 = (nn.BatchNorm2d(8) if norms else nn.Identity() for _ in range(2))
        self.linear = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.linear(self.bn2(self.conv2(x)).relu().mean((2, 3)))


@pytest.fixture
def any_pace(monkeypatch):
    """Let runs begin that are too short for rows to die; here a few steps are looked at."""
    monkeypatch.setattr(MaskingPace, "require_end", lambda *_: None)


def random_batches(count: int, size: int = 8, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [(torch.randn(size, 3, 16, 16, generator=random), torch.arange(size) % 4) for _ in range(count)]


def started(norms: bool = True, num_classes: int = 4) -> Net:
    torch.manual_seed(0)
    return Net(norms, num_classes)


def phase(net: nn.Module, pull: float = PULL, masks: RowMasks | None = None, **options) -> GradientReset:
    """Momentum 0, so that a step is the rate times the gradient; no masks unless given."""
    common = {"task": Classification(4), "epochs": 1, "schedule": Constant(), "compactor_momentum": 0.0}
    common |= {"optimizer": partial(torch.optim.SGD, lr=RATE), "criterion": CompactorNorm(), "sparsity": Macs(0.5)}
    callbacks = {"masks": masks or RowMasks(start=1e6)}
    return GradientReset(net=net, lasso_strength=pull, callbacks=callbacks, **(common | options))


def fit(module: GradientReset, data: pl.LightningDataModule, num_steps: int = -1, **options) -> pl.Trainer:
    """Train so many steps; -1: to the end of the phase, where the compactors' fate is decided."""
    trainer = pl.Trainer(
        max_epochs=module.epochs + (num_steps >= 0), max_steps=num_steps, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
        **{"enable_checkpointing": False} | options,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return trainer


def rows(module: GradientReset) -> dict[str, Tensor]:
    """By the batch norm or convolution in front of it, the weight of every compactor."""
    return {site: each.weight.detach().clone() for site, each in compactors(module.net).items()}


class MaskSome(pl.Callback):
    """Put the rows of ``LISTED`` on the list before the first step."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        write_masks(pl_module, LISTED)  # type: ignore[arg-type]


def ends(num_batches: int = 1, make=lambda: {}, optimizer=None, **options) -> list[dict[str, Tensor]]:
    """The compactors after one step, hardly pulled and pulled; some rows are masked."""
    settings = {"optimizer": optimizer} if optimizer else {}
    found = []
    for pull in (1e-30, PULL):
        module = phase(started(), pull, **settings)
        fit(module, Batches(random_batches(num_batches)), 1, callbacks=[MaskSome()], **options, **make())
        found.append(rows(module))
    return found


@pytest.mark.at_once(2)
@pytest.mark.usefixtures("any_pace")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_clip_val": 1e-4},  # a pull that was clipped would be invisible
        {"gradient_clip_val": 1e-4, "gradient_clip_algorithm": "value"},
        {"accumulate_grad_batches": 3, "num_batches": 3},
        {"precision": "bf16-mixed"},
    ],
    ids=str,
)
def test_one_step_pulls_every_row_by_rate_times_pull_and_masked_rows_feel_nothing_else(options):
    still, pulled = ends(**options)
    for site, listed in {"bn1": LISTED["conv1"], "bn2": LISTED["conv2"]}.items():
        torch.testing.assert_close(pulled[site] - still[site], -RATE * PULL * torch.eye(8), rtol=1e-3, atol=2e-7)
        assert torch.equal(still[site][listed], torch.eye(8)[listed])
        others = [row for row in range(8) if row not in listed]
        assert (still[site][others] != torch.eye(8)[others]).any(1).all()  # learning from the task


@pytest.mark.usefixtures("any_pace")
@pytest.mark.parametrize("fused", [False, True])
def test_a_loss_scaler_does_not_scale_the_pull(fused):
    """Fused optimizers take the scale off within their step, others before the pull is added."""

    def plugin() -> dict:
        return {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))]}

    still, pulled = ends(make=plugin, optimizer=partial(torch.optim.SGD, lr=RATE, fused=fused))
    for site in still:
        torch.testing.assert_close(pulled[site] - still[site], -RATE * PULL * torch.eye(8), rtol=1e-2, atol=1e-6)


def every_step() -> RowMasks:
    return RowMasks(start=0, interval=1, granularity=1)


def end_of(module: GradientReset, data: Batches, num_steps: int, **options) -> dict[str, Tensor]:
    """Weights and masks after so many steps in double precision."""
    fit(module, data, num_steps, precision="64-true", **options)
    return module.net.state_dict()


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for key, value in other.items():
        torch.testing.assert_close(one[key], value, rtol=0, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.usefixtures("any_pace")
def test_accumulated_batches_are_one_step_of_the_large_batch_and_count_as_one():
    large = [
        tuple(each.double() if each.is_floating_point() else each for each in batch) for batch in random_batches(5)
    ]
    small = [half for x, y in large for half in zip(x.chunk(2), y.chunk(2), strict=True)]
    modules = [phase(started(norms=False).double(), masks=every_step()) for _ in range(2)]
    whole = end_of(modules[0], Batches(large), 5)
    parts = end_of(modules[1], Batches(small), 5, accumulate_grad_batches=2)
    assert_close(parts, whole, 1e-12)
    for module in modules:
        assert module.masks.history["steps"] == [1, 2, 3, 4]  # none in front of the first step
        assert module.masks.history["masked"] == [1, 2, 3, 4]  # a row at each, however many batches


class AtTheEnd(pl.Callback):
    """Every rank writes down its weights and masks; what a forked process has learned is lost otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.save(pl_module.net.state_dict(), self.folder / f"{trainer.world_size}-{trainer.global_rank}.pt")


@pytest.mark.timeout(120)
@in_own_process
def test_two_processes_have_the_masks_and_weights_of_one_with_the_same_global_batch(tmp_path):
    MaskingPace.require_end = lambda *_: None  # as any_pace does; this process ends with the test
    for options in ({}, {"strategy": "ddp_fork", "devices": 2}):
        data = Batches([(x.double(), y) for x, y in random_batches(5)])
        end_of(
            phase(started(norms=False).double(), masks=every_step()), data, 5, callbacks=[AtTheEnd(tmp_path)], **options
        )
    one, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    assert all(torch.equal(second[key], value) for key, value in first.items())
    assert_close(first, one, 1e-12)
    assert sum(int((value == 0).sum()) for key, value in one.items() if key.endswith("mask")) == 4


# The steps of the release


def recorded_network(state: dict[str, Tensor]) -> nn.Module:
    """A stem, two basic blocks, and one behind a projection, for images of 8x8, without compactors."""

    def layer(name: str, stride: int = 1) -> nn.Sequential:
        outputs, inputs, size, _ = state[f"{name}.conv.weight"].shape
        conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs)))

    net = Basic(layer)
    net.fc = nn.Linear(*reversed(state["fc.weight"].shape))
    return net


def ours(key: str, value: np.ndarray) -> tuple[str, Tensor]:
    """A recorded tensor by its name here, where compactors sit on batch norms and their kernels are matrices."""
    tensor = torch.from_numpy(value)
    key = key.replace("compactor.pwc.", "bn.compactor.").replace("compactor.mask", "bn.compactor.mask")
    return key.replace("bn.bn.", "bn."), tensor.flatten(1) if key.endswith("compactor.weight") else tensor


class FollowTheRelease(pl.Callback):
    """Put up the recorded masks at their step; after every recorded one keep what the network is, and all losses."""

    def __init__(self, golden: dict[str, np.ndarray], sites: dict[int, str]) -> None:
        self.golden, self.sites = golden, sites
        self.states: dict[int, dict[str, Tensor]] = {}
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_) -> None:
        if trainer.global_step == int(self.golden["mask_switch_step"]):
            for number, site in self.sites.items():
                compactors(pl_module.net)[site].mask.copy_(torch.from_numpy(self.golden[f"mask/{number}"]))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs, *_) -> None:
        self.losses.append(float(outputs["loss"]))
        if trainer.global_step in self.golden["recorded_steps"]:
            state = pl_module.net.state_dict()
            self.states[trainer.global_step] = {key: value.clone() for key, value in state.items()}


@pytest.mark.usefixtures("any_pace")
def test_eight_steps_of_the_recipe_are_those_of_the_release():
    golden = dict(np.load(GOLDEN / "train_steps.npz"))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        recipe = compose("config", overrides=["method=resrep", "sparsity=macs_50", "name=any"]).gradient_reset
    recipe.lasso_strength, recipe.epochs, recipe.callbacks.masks.start = float(golden["lasso_strength"]), 1, 1000
    states = {
        step: dict(ours(k.partition("/")[2], v) for k, v in golden.items() if k.startswith(f"step{step}/"))
        for step in golden["recorded_steps"].tolist()
    }
    net = recorded_network(states[0]).double()
    module = instantiate(recipe, _partial_=True)(net=net, task=Classification(net.fc.out_features))
    images, targets = (torch.from_numpy(golden[name]) for name in "xy")
    data = Batches([(images[t % 8], targets[t % 8]) for t in range(int(golden["t_max"]))])  # only eight are looked at
    module.insert_compactors(data.example.double())
    sites = dict(zip(golden["prunable_layers"].tolist(), compactors(net), strict=True))
    missing = net.load_state_dict(states[0], strict=False)
    assert not missing.unexpected_keys
    assert all("num_batches_tracked" in key for key in missing.missing_keys)
    follow = FollowTheRelease(golden, sites)
    fit(module, data, len(golden["losses"]), precision="64-true", callbacks=[follow])
    assert follow.losses == pytest.approx(golden["losses"].tolist(), rel=0, abs=1e-9)
    assert follow.states.keys() == states.keys() - {0}
    for step, state in follow.states.items():
        for key, expected in states[step].items():
            told = partial("step {} {}: {}".format, step, key)
            torch.testing.assert_close(state[key], expected, rtol=0, atol=1e-9, check_dtype=False, msg=told)


# When masks are updated


@pytest.mark.parametrize("name", ["src56", "resnet50"])
def test_masks_are_updated_at_the_steps_of_the_release(name):
    expected = SCHEDULE[name]
    data = SimpleNamespace(batch_size=expected["batch"], num_training=expected["train_examples"], drop_last=True)
    steps = EpochSteps.of(data)
    net = started()
    module = phase(
        net, 1e-4, RowMasks(), epochs=expected["epochs"], compactor_momentum=0.99, schedule=Cosine(per="step"),
        optimizer=partial(torch.optim.SGD, lr=0.01),
    )  # fmt: skip
    module.check("gradient_reset", net, trace(net, torch.zeros(1, 3, 16, 16)), steps)
    assert (steps.steps, module.pace.start) == (expected["iters_per_epoch"], expected["before_mask_iters"])
    updates = [step for step in range(steps.steps * module.epochs) if module.pace.is_update(step)]
    assert updates[:5] == expected["first_mask_updates"]
    assert (updates[-1], len(updates)) == (expected["last_mask_update"], expected["num_mask_updates"])


def test_the_length_of_an_epoch_knows_processes_limits_and_accumulation():
    data = SimpleNamespace(batch_size=32, num_training=1000, drop_last=False)
    assert EpochSteps.of(data) == (32, 1000 / 32)  # 31 whole batches and a small one
    assert EpochSteps.of(data, num_processes=2) == (16, 1000 / 64)
    assert EpochSteps.of(data, limit=10) == (10, 10)
    assert EpochSteps.of(data, limit=0.5) == (16, 16)
    assert EpochSteps.of(data, accumulate=3) == (11, pytest.approx(1000 / 96))
    data.drop_last = True
    assert EpochSteps.of(data) == (31, 1000 / 32)


# To the end, on digits


@pytest.fixture(scope="module")
def digits() -> Digits:
    data = Digits(batch_size=64, mean=[0.3044] * 3, std=[0.3233] * 3, pad=0)
    data.prepare_data()
    data.setup()
    return data


def on_digits() -> GradientReset:
    """Eight epochs of 23 steps, in which rows have time to die."""
    masks = RowMasks(start=0, interval=3, granularity=1, threshold=THRESHOLD)
    return phase(
        started(num_classes=10), 0.025, masks, task=Classification(10), epochs=8, compactor_momentum=0.9,
        schedule=Cosine(per="step"), optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory) -> tuple[GradientReset, Path]:
    """A phase to its end, and its checkpoints of every eighth step."""
    folder = tmp_path_factory.mktemp("every_eighth_step")
    module = on_digits()
    every = ModelCheckpoint(folder, "{step}", every_n_train_steps=8, save_top_k=-1)
    fit(module, digits, callbacks=[every], enable_checkpointing=True)
    return module, folder


def test_masked_rows_die_and_others_live(trained):
    module, _ = trained
    listed, lengths, (cut,) = masked(module), row_norms(module), module.masks.cuts
    assert sum(map(len, listed.values())) == 6
    for name, norms in lengths.items():
        on_list = torch.zeros(len(norms), dtype=torch.bool)
        on_list[listed[name]] = True
        assert bool((norms[on_list] < THRESHOLD / 2).all())
        assert bool((norms[~on_list] > 0.1).all())
        assert cut.kept[name] == (~on_list).nonzero().flatten().tolist()
    assert cut.details["compaction"]["changed"] == 0
    assert cut.metrics_before == cut.metrics_after


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    "step",
    [8, 32, 176, 184],
)
def test_a_resumed_phase_ends_in_the_same_weights_masks_and_history(trained, digits, step):
    """While masks grow, when they have met the budget, in the last epoch, and between its last step and its end."""
    whole, folder = trained
    module = on_digits()
    trainer = pl.Trainer(
        max_epochs=module.epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=digits, ckpt_path=folder / f"step={step}.ckpt", weights_only=True)
    state, expected = module.net.state_dict(), whole.net.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    assert module.masks.history == whole.masks.history
    assert module.masks.conversion == whole.masks.conversion
    assert module.masks.cuts[0].details == whole.masks.cuts[0].details


# What is refused


@pytest.mark.parametrize("pull", [0, -1.0, float("nan"), float("inf"), "strong"])
def test_a_pull_that_is_none_is_refused(pull):
    with pytest.raises(ValueError, match="lasso_strength is the length of the pull on every row, a number above 0"):
        phase(started(), pull)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"compactor_momentum": 1.0}, "compactor_momentum must be at least 0 and below 1, got 1.0"),
        ({"auto_pace": "epochs"}, "auto_pace is true or false, got 'epochs'"),
        ({"criterion": Magnitude()}, "choose criterion=compactor_norm, not Magnitude"),
        ({"init": "scratch"}, "train from scratch in phase `train`"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(options, told):
    with pytest.raises(ValueError, match=told):
        phase(started(), **options)


def test_a_phase_without_masks_is_refused():
    common = {"task": Classification(4), "epochs": 1, "schedule": Constant(), "lasso_strength": PULL}
    with pytest.raises(ValueError, match=r"needs one callback pruning_lit\.methods\.resrep\.RowMasks, got 0"):
        GradientReset(
            net=started(), optimizer=torch.optim.SGD, criterion=CompactorNorm(), sparsity=Macs(0.5), **common
        )  # fmt: skip


def test_a_run_too_short_for_rows_to_die_is_refused_with_what_to_do():
    with pytest.raises(
        ValueError,
        match=r"gradient_reset.epochs=1: .* the target is not met: .*\(method.auto_pace=true chooses a pace",
    ):
        fit(phase(started()), Batches(random_batches(3)), 3)
