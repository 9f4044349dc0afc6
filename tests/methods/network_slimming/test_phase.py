"""The penalty on the scales: its place in the step, against the release and by arithmetic."""

from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import HalfPrecision, MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.ops import FrozenBatchNorm2d

from pruning_lit.criteria import BatchNormScale, Magnitude
from pruning_lit.methods.network_slimming import SparsityTraining
from pruning_lit.methods.network_slimming.phase import add_l1_subgradient
from pruning_lit.models import cifar_resnet, preresnet
from pruning_lit.phases import Constant, Training
from pruning_lit.phases.sync_batch_norm import SyncBatchNorm
from pruning_lit.sparsity import Global
from pruning_lit.tasks import Classification
from tests.commands import in_own_process
from tests.models.slimming_golden import Golden

STRENGTH, RATE = 0.01, 0.1


class Batches(pl.LightningDataModule):
    """These batches in this order, as one epoch."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.batches, self.example = batches, batches[0][0][:1]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]


class Net(nn.Module):
    """Two layers with batch norm, and a third whose channels leave the network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.linear, self.out = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.out(self.linear(self.bn2(self.conv2(x)).relu().mean((2, 3))))


def batches(count: int, seed: int = 0) -> Batches:
    random = torch.Generator().manual_seed(seed)
    return Batches(
        [(torch.randn(8, 3, 8, 8, generator=random), torch.arange(8) % 4) for _ in range(count)],
    )


def phase(net: nn.Module, strength: float | None, num_classes: int = 4, optimizer=None, **options) -> Training:
    optimizer = optimizer or partial(torch.optim.SGD, lr=RATE)
    common = {"net": net, "task": Classification(num_classes), "epochs": 1, "optimizer": optimizer}
    common |= {"schedule": Constant()}
    if strength is None:
        return Training(**common)
    options = {"criterion": BatchNormScale(), "sparsity": Global(0.4, rule="slimming")} | options
    return SparsityTraining(l1_strength=strength, **options, **common)


def fit(module: Training, data: Batches, begun: Path | None = None, **options) -> None:
    pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, **options,
    ).fit(module, datamodule=data, ckpt_path=begun, weights_only=True)  # fmt: skip


def started(seed: int = 0) -> Net:
    """A net whose scales have both signs, and one of them is zero."""
    torch.manual_seed(seed)
    net = Net()
    for norm in (net.bn1, net.bn2, net.out):
        norm.weight.data = torch.tensor([0.5, -0.25, 0.0, 1.0])
    return net


@pytest.mark.parametrize(
    ("variant", "strength", "parts"), [("nosr", None, 1), ("sr", STRENGTH, 1), ("sr_accum2", STRENGTH, 2)]
)
def test_three_steps_give_the_scales_of_the_release(variant, strength, parts):
    golden = Golden("sparsity_steps")
    net, meta = golden.build(), golden.meta
    names = dict(
        zip(meta["bn_order"], [n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)], strict=True)
    )
    layers = {n.removeprefix("feature."): f"features.{i}" for n, i in _names(net)}
    state = {_translated(key, layers): value for key, value in golden.under("w").items()}
    net.load_state_dict(state, strict=False)
    net.double().train()
    images, targets = golden["x"].double(), golden["y"].long()
    data = Batches(
        [(x, y) for t in range(3) for x, y in zip(images[t].chunk(parts), targets[t].chunk(parts), strict=True)]
    )
    optimizer = partial(torch.optim.SGD, lr=meta["lr"], momentum=meta["momentum"], weight_decay=meta["weight_decay"])
    module = phase(net, meta["s"] if strength else None, 10, optimizer)
    found: list[dict[str, Tensor]] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, *_) -> None:
            if trainer.global_step > len(found):
                found.append({name: net.get_submodule(own).weight.detach().clone() for name, own in names.items()})

    fit(module, data, precision="64-true", accumulate_grad_batches=parts, callbacks=[Watch()])
    for step, scales in enumerate(found, start=1):
        for name, scale in scales.items():
            expected = golden[f"{variant}/step{step}/{name}.weight"].double()
            torch.testing.assert_close(scale, expected, rtol=0, atol=1e-9)
    with torch.no_grad():
        logits = net.eval()(images[0])
    torch.testing.assert_close(logits, golden[f"{variant}/logits_final"].double(), rtol=0, atol=1e-9)


def _names(net: nn.Module) -> list[tuple[str, str]]:
    """The release numbers all modules of the sequence; ours have names, in the same order."""
    return [(str(number), name) for number, (name, _) in enumerate(net.features.named_children())]


def _translated(key: str, layers: dict[str, str]) -> str:
    if not key.startswith("feature."):
        return key
    number, _, rest = key.removeprefix("feature.").partition(".")
    return f"{layers[number]}.{rest}"


def difference(module_options: dict | None = None, num_batches: int = 1, **options) -> dict[str, Tensor]:
    """What the penalty changes in the scales of one epoch."""
    ends = []
    for strength in (None, STRENGTH):
        net = started()
        fit(phase(net, strength, **(module_options or {}) if strength else {}), batches(num_batches), **options)
        ends.append(net)
    plain, penalised = ends
    return {
        name: penalised.get_submodule(name).weight - plain.get_submodule(name).weight for name in ("bn1", "bn2", "out")
    }


STEP = -RATE * STRENGTH * torch.tensor([1.0, -1.0, 0.0, 1.0])  # the sign of 0 is 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_clip_val": 1e-4},  # a penalty that was clipped would be invisible
        {"gradient_clip_val": 1e-4, "gradient_clip_algorithm": "value"},
        {"accumulate_grad_batches": 3, "num_batches": 3},
        {"precision": "bf16-mixed"},
    ],
    ids=str,
)
def test_one_step_differs_by_rate_times_pull_times_sign(options):
    found = difference(**options)
    torch.testing.assert_close(found["bn1"], STEP, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(found["bn2"], STEP, rtol=1e-3, atol=1e-7)


def test_scales_of_channels_that_cannot_go_are_left_alone_unless_asked():
    assert not difference()["out"].any()  # what leaves the network is not pruned
    torch.testing.assert_close(difference({"penalised": "all"})["out"], STEP, rtol=1e-3, atol=1e-7)
    assert not difference({"sparsity": Global(0.4, exclude=["conv2"])})["bn2"].any()


@pytest.mark.parametrize("fused", [False, True])
def test_a_loss_scaler_does_not_scale_the_pull(fused):
    """Fused optimizers take the scale off within their step, others before the penalty is added."""
    ends = []
    for strength in (None, STRENGTH):
        net = started()
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        plugin = MixedPrecision("16-mixed", "cpu", scaler)
        fit(
            phase(net, strength, optimizer=partial(torch.optim.SGD, lr=RATE, fused=fused)), batches(1), plugins=[plugin]
        )
        ends.append(net)
    torch.testing.assert_close(ends[1].bn1.weight - ends[0].bn1.weight, STEP, rtol=1e-2, atol=1e-6)


def test_a_frozen_scale_and_one_without_gradient_are_left_alone():
    learning, frozen = nn.Parameter(torch.tensor([1.0, -2.0])), nn.Parameter(torch.ones(2), requires_grad=False)
    learning.grad = torch.zeros(2)
    add_l1_subgradient([(learning, None), (frozen, None)], 0.5)
    assert learning.grad.tolist() == [0.5, -0.5]
    assert frozen.grad is None


def test_only_the_flagged_entries_are_penalised():
    scale = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    scale.grad = torch.zeros(3)
    add_l1_subgradient([(scale, torch.tensor([1.0, 1.0, 0.0]))], 0.5)
    assert scale.grad.tolist() == [0.5, -0.5, 0.0]


def test_synchronised_norms_are_penalised_like_plain_ones():
    net = started()
    SyncBatchNorm().apply(net)
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(started())
    example = torch.zeros(1, 3, 8, 8)
    expected = {"bn1.weight", "bn2.weight"}
    assert phase(started(), STRENGTH).penalised_entries(example).keys() == expected
    assert phase(net, STRENGTH).penalised_entries(example).keys() == expected
    assert phase(synchronised, STRENGTH).penalised_entries(example).keys() == expected


def test_the_penalised_set_of_a_preactivation_network_is_every_norm():
    net = preresnet(11)
    entries = phase(net, STRENGTH, 10).penalised_entries(torch.zeros(1, 3, 32, 32))
    assert entries.keys() == {f"{n}.weight" for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert all(flags.all() for flags in entries.values())


def test_the_penalised_set_follows_criterion_and_sparsity():
    torch.manual_seed(0)
    resnet = cifar_resnet(14)
    example = torch.zeros(1, 3, 32, 32)
    streams = {"layer1.0.bn2.weight", "layer1.1.bn2.weight"}
    assert not streams & phase(resnet, STRENGTH, 10).penalised_entries(example).keys()
    assert (
        streams <= phase(resnet, STRENGTH, 10, criterion=BatchNormScale(tied="group")).penalised_entries(example).keys()
    )
    assert streams <= phase(resnet, STRENGTH, 10, criterion=Magnitude()).penalised_entries(example).keys()


def test_the_logged_loss_is_without_the_penalty():
    losses = []
    for strength in (None, 100.0):
        module = phase(started(), strength)
        fit(module, batches(1))
        losses.append(float(module.trainer.callback_metrics["train/loss"]))
    assert losses[0] == losses[1]


class SaveBehindTheFirstStep(pl.Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: pl.Trainer, *_) -> None:
        if trainer.global_step == 1:
            trainer.save_checkpoint(self.path)


def test_an_epoch_that_is_resumed_in_its_middle_goes_on_with_the_penalty(tmp_path):
    data, middle = Batches(batches(1).batches * 3), tmp_path / "middle.ckpt"
    whole, resumed = phase(started(), STRENGTH), phase(started(), STRENGTH)
    fit(whole, data, callbacks=[SaveBehindTheFirstStep(middle)])
    fit(resumed, data, middle)
    assert resumed.trainer.global_step == whole.trainer.global_step == 3
    for name, tensor in whole.net.state_dict().items():
        assert torch.equal(resumed.net.state_dict()[name], tensor), name


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf"), "strong"])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(ValueError, match="l1_strength is that of a penalty, a number of at least 0"):
        phase(started(), strength)


def test_a_network_without_batch_norm_is_refused():
    with pytest.raises(ValueError, match="no batch norm with a scale, so there is nothing to penalise"):
        phase(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 4)), STRENGTH)


def test_a_network_with_frozen_batch_norms_is_refused_with_what_to_do():
    frozen = nn.Sequential(nn.Conv2d(3, 4, 3), FrozenBatchNorm2d(4), nn.Flatten(), nn.Linear(4, 4))
    with pytest.raises(
        ValueError, match=r"^Network Slimming needs trainable scales, .* are frozen: set arch.norm=batch"
    ):
        phase(frozen, STRENGTH)


def test_coarse_scales_are_warned_of(caplog):
    fit(phase(started(), STRENGTH), batches(1), plugins=[HalfPrecision("bf16-true")])
    assert "SparsityTraining changes parameters in small steps, which bf16-true rounds" in caplog.text


class AtTheEnd(pl.Callback):
    """Every rank writes down its scales; what a forked process has learned is lost otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.save(pl_module.net.bn1.weight.detach().clone(), self.folder / f"{trainer.global_rank}.pt")


@pytest.mark.timeout(120)
@in_own_process
def test_on_two_processes_the_pull_is_neither_doubled_nor_halved(tmp_path):
    ends = {}
    for strength in (None, STRENGTH):
        folder = tmp_path / str(strength)
        folder.mkdir()
        fit(phase(started(), strength), batches(1), strategy="ddp_fork", devices=2, callbacks=[AtTheEnd(folder)])
        ends[strength] = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert torch.equal(*ends[None])
    assert torch.equal(*ends[STRENGTH])
    torch.testing.assert_close(ends[STRENGTH][0] - ends[None][0], STEP, rtol=1e-3, atol=1e-7)
