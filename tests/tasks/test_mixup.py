"""Mixup: what is blended, in which shares, the loss of it; only in training, only if wanted, always the same."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from pruning_lit.callbacks import StatelessRandomness
from pruning_lit.phases import Constant, Training
from pruning_lit.tasks import Classification, dominant
from pruning_lit.tasks.mixup import mixup

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on loaders and callbacks


def share_of(target: Tensor) -> float:
    """What images of as many classes kept of themselves; 1 where one was blended with itself."""
    return float(target.diagonal().min())


def draw(alpha: float, num_images: int = 16) -> Tensor:
    return mixup(torch.zeros(num_images, 1, 1, 1), torch.arange(num_images), num_images, alpha)[1]


def test_images_are_blended_in_the_shares_that_the_targets_tell():
    torch.manual_seed(0)
    images = torch.randn(7, 3, 4, 4)
    blended, target = mixup(images, torch.arange(7), 9, 1.0)  # image j is the one of class j
    assert target.shape == (7, 9)
    torch.testing.assert_close(target.sum(1), torch.ones(7))
    torch.testing.assert_close(blended, torch.einsum("ij,jchw->ichw", target[:, :7], images))


def test_a_batch_has_one_share_and_every_image_is_the_partner_of_one():
    torch.manual_seed(0)
    target = draw(1.0)
    share = share_of(target)
    assert 0 < share < 1
    assert all(value == pytest.approx(share) or value == 1 for value in target.diagonal().tolist())
    torch.testing.assert_close(target.sum(0), torch.ones(16))


def test_images_of_one_class_stay_wholly_of_it():
    _, target = mixup(torch.randn(5, 1, 2, 2), torch.full((5,), 2), 3, 1.0)
    torch.testing.assert_close(target, torch.eye(3)[[2] * 5])


def test_the_batch_itself_stays_as_it_is():
    images, target = torch.randn(5, 1, 2, 2), torch.arange(5)
    before = images.clone()
    mixup(images, target, 5, 1.0)
    assert torch.equal(images, before)
    assert torch.equal(target, torch.arange(5))


@pytest.mark.parametrize(
    ("alpha", "below"),  # distribution functions of Beta(alpha, alpha): the arcsine law, the even one, a cubic
    [
        (0.5, lambda x: 2 / math.pi * math.asin(math.sqrt(x))),
        (1.0, lambda x: x),
        (2.0, lambda x: 3 * x**2 - 2 * x**3),
    ],
)
def test_shares_follow_the_beta_distribution(alpha, below):
    torch.manual_seed(0)
    shares = sorted(share_of(draw(alpha)) for _ in range(1000))
    distance = max(abs(below(share) - (rank + 0.5) / 1000) for rank, share in enumerate(shares))
    assert distance < 0.0515  # Kolmogorov and Smirnov, 1 in 100: 1.63 / sqrt(1000)


@pytest.mark.parametrize("alpha", [0.2, 1e-5])
def test_shares_have_the_spread_of_small_alphas(alpha):
    torch.manual_seed(0)
    shares = torch.tensor([share_of(draw(alpha)) for _ in range(1000)])
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_the_loss_is_the_published_one():
    torch.manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64)
    _, target = mixup(torch.zeros(6, 1, 1, 1), torch.tensor([0, 1, 2, 3, 0, 1]), 4, 0.4)
    target = target.double()
    log_p = logits - logits.exp().sum(1, keepdim=True).log()
    expected = (0.9 * -(target * log_p).sum(1) + 0.1 * -log_p.mean(1)).mean()  # CHEX's release
    found = Classification(4, label_smoothing=0.1, mixup=0.4).losses(logits, target, True)["cross_entropy"]
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_evaluation_knows_no_mixup():
    logits, target = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    found = Classification(4, label_smoothing=0.1, mixup=0.4).losses(logits, target, False)
    assert found == Classification(4).losses(logits, target, False)


def test_without_mixup_the_batch_is_trained_on_as_it_is_and_nothing_is_drawn():
    images, target, state = torch.randn(5, 1, 2, 2), torch.arange(5), torch.get_rng_state()
    found = Classification(5).prepare((images, target))
    assert found[0] is images
    assert found[1] is target
    assert torch.equal(torch.get_rng_state(), state)


def test_the_dominant_class_has_the_largest_share():
    assert dominant(torch.tensor([[0.3, 0.7, 0.0], [0.6, 0.0, 0.4]])).tolist() == [1, 0]
    assert dominant(torch.tensor([2, 0])).tolist() == [2, 0]


@pytest.mark.parametrize("alpha", [-0.2, math.nan, math.inf, "0.2", True, None])
def test_an_alpha_of_no_beta_distribution_is_refused(alpha):
    with pytest.raises(ValueError, match=r"task\.mixup is the alpha of a Beta distribution, .* or 0 for no mixup, got"):
        Classification(3, mixup=alpha)


def test_ranks_and_steps_draw_shares_and_partners_of_their_own_that_can_be_drawn_again():
    def drawn(step: int, rank: int) -> Tensor:
        place = SimpleNamespace(current_epoch=3, global_rank=rank)
        StatelessRandomness(seed=1, stream=2).on_train_batch_start(place, None, None, step)  # type: ignore[arg-type]
        return draw(0.2)

    places = [(step, rank) for step in range(3) for rank in range(2)]
    first = [drawn(*place) for place in places]
    assert len({share_of(target) for target in first}) == len(places)
    again = [drawn(*place) for place in reversed(places)]
    assert all(torch.equal(one, other) for one, other in zip(first, reversed(again), strict=True))


class Batches(pl.LightningDataModule):
    """Three batches of noise as one epoch."""

    def train_dataloader(self) -> DataLoader:
        random = torch.Generator().manual_seed(0)
        return DataLoader(
            [(torch.randn(8, 3, 4, 4, generator=random), torch.arange(8)) for _ in range(3)], batch_size=None
        )  # type: ignore[arg-type]


def phase(**task) -> Training:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Dropout(), nn.Linear(24, 10))
    return Training(net, Classification(10, **task), epochs=3, optimizer=partial(SGD, lr=0.1), schedule=Constant())


def trained(module: Training, callbacks: list[pl.Callback], ckpt_path=None) -> dict[str, Tensor]:
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=len(callbacks) > 1,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, callbacks=callbacks,
    )  # fmt: skip
    trainer.fit(module, datamodule=Batches(), ckpt_path=ckpt_path, weights_only=True)
    return module.net.state_dict()


def test_an_alpha_of_zero_trains_as_if_there_were_no_such_choice():
    weights = [trained(phase(**task), [StatelessRandomness(0, 1)]) for task in ({}, {"mixup": 0.0}, {"mixup": 0.2})]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["0.weight"], weights[2]["0.weight"])


def test_a_resumed_fit_blends_as_the_uninterrupted_one(tmp_path):
    every = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    whole = trained(phase(mixup=0.2), [StatelessRandomness(0, 1), every])
    module = phase(mixup=0.2)
    torch.manual_seed(99)  # another process has drawn other numbers by then
    resumed = trained(module, [StatelessRandomness(0, 1)], tmp_path / "epoch=0.ckpt")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_step_of_training_blends_and_counts_dominant_classes_while_validation_does_neither():
    module, logged = phase(mixup=1.0, label_smoothing=0.1).eval(), {}  # without dropout
    module.log = lambda name, value, **_: logged.update({name: float(value.detach())})
    module.log_dict = lambda metrics, **_: None
    (batch, *_) = Batches().train_dataloader()
    module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    assert logged["val/loss"] == pytest.approx(float(nn.functional.cross_entropy(module.net(batch[0]), batch[1])))
    torch.manual_seed(5)
    images, shares = mixup(*batch, 10, 1.0)
    torch.manual_seed(5)
    loss = module.training_step(batch, 0)
    logits = module.net(images)
    assert float(loss) == pytest.approx(float(module.task.losses(logits, shares, True)["cross_entropy"]))
    right = (logits.argmax(1) == shares.argmax(1)).float().mean()
    assert float(module.train_metrics.compute()["train/accuracy"]) == pytest.approx(float(right))
