"""Distillation: golden losses, a teacher that nothing changes, and no other training than asked for."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from pruning_lit.data import Digits
from pruning_lit.models import cifar_resnet
from pruning_lit.phases import Constant, Training
from pruning_lit.phases.distillation import Attention, Dist, Distillation, Dkd, Logits, Mse
from pruning_lit.phases.distillation.attention import attention_map, last_maps
from pruning_lit.phases.distillation.cache import require_rows
from pruning_lit.phases.distillation.dist import missing_correlation
from pruning_lit.phases.distillation.dkd import Judged, decoupled_divergences
from pruning_lit.phases.distillation.logits import soft_divergence
from pruning_lit.runs.teacher import require_cacheable
from pruning_lit.tasks import (
    Classification,
    Detection,
    MultiLabel,
    PartSegmentation,
    PointClassification,
    SemanticSegmentation,
)
from tests.commands import in_own_process
from tests.places import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on loaders
LOSSES: dict[str, type[Distillation]] = {"logits": Logits, "dist": Dist, "dkd": Dkd, "mse": Mse, "attention": Attention}


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(ROOT / "tests/golden/around_pruning/distillation.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file}


@pytest.mark.parametrize("temperature", [1, 2, 4])
def test_the_divergence_and_its_gradient_are_those_of_the_formula(golden, temperature):
    student = golden["student"].clone().requires_grad_()
    divergence = soft_divergence(student, golden["teacher"], temperature)
    divergence.backward()
    torch.testing.assert_close(divergence.detach(), golden[f"kl_T{temperature}"], rtol=0, atol=1e-12)
    torch.testing.assert_close(student.grad, golden[f"grad_kl_T{temperature}"], rtol=0, atol=1e-12)
    both = Logits(temperature=temperature, alpha=0.9)
    whole = both.task_share * golden["ce"] + both.loss(golden["student"], golden["teacher"])
    torch.testing.assert_close(whole, golden[f"hinton_T{temperature}_a0.9"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [1, 4])
def test_missing_correlation_is_that_of_the_formula(golden, temperature):
    pair = golden["student"], golden["teacher"]
    for found, name in zip(missing_correlation(*pair, temperature), ("inter", "intra"), strict=True):
        torch.testing.assert_close(found, golden[f"dist_{name}_T{temperature}"], rtol=0, atol=1e-7)
    whole = Dist(temperature=temperature).loss(*pair)
    torch.testing.assert_close(whole, golden[f"dist_T{temperature}"], rtol=0, atol=2e-7)


def test_the_right_class_and_the_others_are_compared_apart(golden):
    pair = golden["student"], golden["teacher"]
    for found, name in zip(decoupled_divergences(*pair, golden["target"], 4), ("target", "rest"), strict=True):
        torch.testing.assert_close(found, golden[f"dkd_{name}"], rtol=0, atol=1e-12)
    whole = Dkd(alpha=1, beta=8).loss(*(Judged(each, golden["target"]) for each in pair))
    torch.testing.assert_close(whole, golden["dkd_a1_b8"], rtol=0, atol=1e-12)


def test_classes_that_nobody_considers_leave_finite_gradients():
    student = torch.tensor([[90.0, -90.0, 3.0], [80.0, -90.0, 5.0]], requires_grad=True)
    Dist().loss(student, torch.tensor([[9.0, -200.0, 3.0], [8.0, -200.0, 30.0]])).backward()
    assert student.grad.isfinite().all()


def test_squared_differences_are_those_of_the_formula(golden):
    torch.testing.assert_close(Mse().loss(golden["student"], golden["teacher"]), golden["mse_logits"])
    ours, theirs = ({(4, 4): attention_map(golden[f"map_{name}"])} for name in ("student", "teacher"))
    torch.testing.assert_close(Attention(weight=1.0).loss(ours, theirs), golden["attention_transfer"])


def loss_of(name: str, student: Tensor, teacher: Tensor) -> Tensor:
    if name == "dkd":
        classes = teacher[:, :3].argmax(1)
        student, teacher = Judged(student, classes), Judged(teacher, classes)
    return LOSSES[name]().loss(student, teacher)


def of_one_rank(rank: int, folder: Path, name: str) -> None:
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, store=store)
    vectors = torch.load(folder / "vectors.pt", weights_only=True)
    student, teacher = (each[[slice(0, 2), slice(2, 6)][rank]] for each in vectors)
    student.requires_grad_()
    loss = loss_of(name, student, teacher)
    loss.backward()
    torch.save([loss.detach(), student.grad], folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["logits", "dist", "dkd", "mse"])
@in_own_process
def test_two_processes_with_other_numbers_of_rows_find_the_gradients_of_one(golden, tmp_path, name):
    vectors = [golden[name][:6] for name in ("student", "teacher")]
    torch.save(vectors, tmp_path / "vectors.pt")
    torch.multiprocessing.start_processes(of_one_rank, (tmp_path, name), nprocs=2, start_method="fork")
    losses, gradients = zip(*(torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)), strict=True)
    student = vectors[0].clone().requires_grad_()
    loss = loss_of(name, student, vectors[1])
    loss.backward()
    torch.testing.assert_close(sum(losses) / 2, loss.detach())
    torch.testing.assert_close(torch.cat(gradients) / 2, student.grad)  # processes take the mean of their gradients


@pytest.mark.parametrize("name", ["logits", "dist", "dkd", "mse"])
def test_without_a_row_that_counts_there_is_nothing_to_learn(name):
    student = torch.randn(0, 5, requires_grad=True)
    loss = loss_of(name, student, torch.randn(0, 5))
    loss.backward()
    assert loss.item() == 0


class Images(pl.LightningDataModule):
    """Noise in three classes, the same every epoch."""

    def train_dataloader(self) -> DataLoader:
        random = torch.Generator().manual_seed(0)
        batches = [(torch.randn(6, 3, 16, 16, generator=random), torch.arange(6) % 3) for _ in range(2)]
        return DataLoader(batches, batch_size=None)


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return cifar_resnet(8, num_classes=3)


def fit(distillation: Distillation | None, task: Classification | None = None, **options) -> Training:
    make = partial(SGD, lr=0.05, momentum=0.9)
    module = Training(network(0), task or Classification(3), 1, make, Constant(), distillation=distillation)
    if distillation is not None:
        distillation.make_teacher = partial(network, 1)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, **options,
    )  # fmt: skip
    torch.manual_seed(7)
    trainer.fit(module, datamodule=Images())
    return module


def equal(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_share_of_zero_trains_to_the_same_bits_as_no_teacher():
    plain = fit(None)
    assert equal(fit(Logits(alpha=0.0)).net, plain.net)
    assert not equal(fit(Logits(alpha=0.1)).net, plain.net)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_an_epoch_leaves_the_teacher_as_it_was(loss):
    teacher = network(1)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    distillation = LOSSES[loss]()
    distillation.end = lambda: None
    module = fit(distillation)
    assert distillation.net is not module.net
    assert not distillation.net.training
    for name, value in distillation.net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(each.grad is None and not each.requires_grad for each in distillation.net.parameters())
    assert not {*map(id, distillation.net.parameters())} & {*map(id, module.parameters())}
    assert len(module.state_dict()) == len(Training.state_dict(fit(None)))
    figures = {name: float(value) for name, value in module.trainer.callback_metrics.items()}
    parts = figures["train/cross_entropy"], figures["train/distillation"]
    assert min(parts) > 0
    assert figures["train/loss"] == pytest.approx(sum(parts), rel=1e-5)
    assert 0 <= figures["train/agreement"] <= 1


def test_the_teacher_is_let_go_after_the_phase_and_known_again_by_its_weights():
    distillation = Logits()
    module = fit(distillation)
    assert distillation.net is None
    checkpoint: dict = {}
    module.on_save_checkpoint(checkpoint)
    again = Logits()
    following = Training(network(0), Classification(3), 1, partial(SGD, lr=0.1), Constant(), distillation=again)
    following.on_load_checkpoint(checkpoint)
    again.make_teacher = partial(network, 2)
    with pytest.raises(ValueError, match="another network than the phase was begun with"):
        again.begin(torch.device("cpu"), torch.preserve_format, torch.float32)
    again.make_teacher = partial(network, 1)
    again.begin(torch.device("cpu"), torch.channels_last, torch.float32)
    assert again.net.conv1.weight.is_contiguous(memory_format=torch.channels_last)


class Seen(Logits):
    """Keeps what it was asked to compare."""

    def step(self, net, batch, task, positions=None):
        self.batch = batch
        distilled = super().step(net, batch, task, positions)
        with torch.no_grad():
            self.taught = self.look(self.net, batch, task)[1]
        self.types = {each.dtype for each in (*distilled.losses.values(), self.taught)}
        return distilled


def test_blended_images_go_to_both_and_blended_classes_to_the_task_alone():
    seen = Seen()
    fit(seen, Classification(3, mixup=1.0))
    images, targets = seen.batch
    assert targets.shape == (6, 3)  # shares
    (raw, _), *_ = Images().train_dataloader()
    assert not any(torch.equal(image, other) for image in images for other in raw)
    assert torch.equal(network(1).eval()(images), seen.taught)


def test_the_larger_share_of_a_blended_image_is_the_right_class():
    shares = torch.tensor([[0.2, 0.8, 0.0], [0.6, 0.0, 0.4]])
    assert Classification(3, mixup=1.0).right_classes(shares).tolist() == [1, 0]
    logits = torch.randn(2, 3)
    blended = Dkd().look(nn.Identity(), (logits, shares), Classification(3))[1]
    assert torch.equal(blended.classes, torch.tensor([1, 0]))
    assert torch.equal(blended.logits, logits)


def test_logits_are_compared_in_float32_under_autocast():
    seen = Seen()
    fit(seen, precision="bf16-mixed")
    assert seen.types == {torch.float32}


def test_pixels_and_points_that_do_not_count_are_not_compared():
    outputs, targets = torch.randn(2, 4, 3, 5), torch.randint(0, 4, (2, 3, 5))
    targets[0, 0] = 255
    pixels = SemanticSegmentation(4).logits(outputs, targets)
    assert pixels.shape == (25, 4)
    assert torch.equal(pixels[0], outputs[0, :, 1, 0])
    assert torch.equal(
        SemanticSegmentation(4).right_classes(targets), torch.cat([targets[0, 1:], *targets[1:]]).flatten()
    )
    parts, task = targets[:, 0] % 255 - 1, PartSegmentation(4, {"chair": [0, 1], "cup": [2, 3]})
    points = task.logits(outputs[:, :, 0], parts)
    assert points.shape == (int((targets[:, 0] % 255 > 0).sum()), 4)
    assert task.right_classes(parts).tolist() == parts[parts >= 0].tolist()


def test_attention_looks_at_the_last_map_of_each_size():
    net, images = network(0), torch.randn(2, 3, 16, 16)
    with last_maps(net) as maps:
        net(images)
    assert [*maps] == [(16, 16), (8, 8), (4, 4)]
    seen = {}
    net.layer2.register_forward_hook(lambda module, inputs, output: seen.update(out=output))
    net(images)
    torch.testing.assert_close(maps[8, 8], seen["out"])
    assert not any(module._forward_hooks for name, module in net.named_modules() if name != "layer2")
    with pytest.raises(ValueError, match="feature maps of the same sizes: those of the network are 4×4"):
        Attention().loss({(4, 4): torch.ones(1, 16)}, {(8, 8): torch.ones(1, 64)})


@pytest.mark.parametrize(
    ("loss", "task", "told"),
    [
        (Logits(), MultiLabel(3), "task MultiLabel makes none"),
        (Attention(), Detection(3), "task Detection makes none"),
        (Attention(), PointClassification(3), "those of task PointClassification are no images"),
    ],
)
def test_a_task_without_what_is_compared_is_refused(loss, task, told):
    with pytest.raises(ValueError, match=told):
        loss.check("finetune", task)


@pytest.mark.parametrize("task", [Classification(3), SemanticSegmentation(3), PointClassification(3)])
def test_tasks_that_choose_among_classes_can_be_distilled(task):
    Logits().check("finetune", task)


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        (Logits, {"temperature": 0}),
        (Logits, {"temperature": math.inf}),
        (Logits, {"alpha": 1.5}),
        (Logits, {"alpha": math.nan}),
        (Dist, {"beta": -1}),
        (Mse, {"weight": True}),
        (Attention, {"weight": math.inf}),
    ],
)
def test_a_number_out_of_its_range_is_refused_by_name(loss, settings):
    (name,) = settings
    with pytest.raises(ValueError, match=rf"distillation\.{name} must be a number"):
        loss(**settings)


class Asked(Logits):
    """Keeps which images a step was on, and what was taken for the teacher's answer."""

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def loss(self, learned, taught):
        self.taught = taught
        return super().loss(learned, taught)

    def step(self, net, batch, task, positions=None):
        distilled = super().step(net, batch, task, positions)
        self.seen.append((batch[0], self.taught))
        return distilled


def digits(**settings) -> Digits:
    return Digits(batch_size=200, mean=[0.3] * 3, std=[0.3] * 3, **settings)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_kept_answers_are_those_that_the_teacher_gives_for_the_same_images(precision):
    def teacher() -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))

    asked = Asked(cache=True)
    asked.make_teacher = teacher
    module = Training(teacher(), Classification(10), 2, partial(SGD, lr=0.01), Constant(), distillation=asked)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, precision=precision,
    )  # fmt: skip
    data = digits(val_fraction=0.5)
    trainer.fit(module, datamodule=data)
    assert len(asked.seen) == 2 * -(-data.num_training // 200)
    alone = teacher().to(asked.seen[0][0].dtype)
    tolerance = 0.03 if precision == "bf16-mixed" else 2e-3
    for images, taught in asked.seen:
        torch.testing.assert_close(taught, alone(images).to(taught), rtol=tolerance, atol=tolerance)
    assert not torch.equal(asked.seen[0][0], asked.seen[len(asked.seen) // 2][0])  # each epoch has its order
    assert asked.answers is None  # their memory is let go of


class Erasing(Classification):
    """A task of one's own that changes the images of a batch."""

    def prepare(self, batch):
        return batch[0] * (torch.rand_like(batch[0]) > 0.1), batch[1]


def test_what_is_augmented_anew_cannot_be_kept():
    data = digits(pad=0, flip=False)
    assert not data.augments
    assert digits(pad=1).augments
    assert digits(flip=True).augments
    data.setup()
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    require_cacheable("finetune.distillation.cache=true", net, data, Classification(10))
    with pytest.raises(ValueError, match="but the data set augments them and the task blends them anew in every epoch"):
        require_cacheable("finetune.distillation.cache=true", net, digits(pad=1), Classification(10, mixup=0.2))
    assert Erasing(10).changes_batches
    with pytest.raises(ValueError, match="gives other outputs, of type tuple: leave the cache out"):
        require_rows((torch.zeros(1, 10),), 1)
