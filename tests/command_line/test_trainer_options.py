import pytest
from omegaconf import OmegaConf

from pruning_lit.command_line.trainer_options import require_trainer


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_nodes": 0}, "trainer.num_nodes must be at least 1, got 0"),
        ({"accumulate_grad_batches": 0}, "trainer.accumulate_grad_batches must be at least 1, got 0"),
        ({"gradient_clip_val": -1}, "trainer.gradient_clip_val must not be negative, got -1"),
        ({"limit_train_batches": 0}, r"a number of batches from 1, or a share in \(0, 1\], got 0"),
        ({"limit_train_batches": 0.0}, r"a number of batches from 1, or a share in \(0, 1\], got 0.0"),
        ({"limit_train_batches": 1.5}, r"a number of batches from 1, or a share in \(0, 1\], got 1.5"),
        ({"devices": 0}, "trainer.devices is a number from 1.* got 0"),
        ({"devices": -2}, "trainer.devices is a number from 1.* got -2"),
        ({"devices": []}, r"trainer.devices is a number from 1.* got \[\]"),
        ({"devices": "two"}, "trainer.devices is a number from 1.* got 'two'"),
        ({"deterministic": "maybe"}, "trainer.deterministic is true, false or warn, got 'maybe'"),
        ({"accelerator": "abacus"}, "trainer.accelerator is one of auto, .* got 'abacus'"),
        ({"strategy": "fast"}, "trainer.strategy is auto, ddp, .* got 'fast'"),
        ({"max_time": "00:00:01:00"}, "trainer.max_time has no effect here: .*timeout <seconds> python -m pruning_lit"),
        ({"fast_dev_run": True}, "trainer.fast_dev_run has no effect here: debug=quick does every part of a run once"),
        ({"enable_checkpointing": False}, "trainer.enable_checkpointing has no effect here: a run goes by its"),
        ({"limit_test_batches": 3}, "trainer.limit_test_batches has no effect here"),
        ({"max_epochs": 3}, "trainer.max_epochs has no effect here: the phases have epochs of their own"),
    ],
)
def test_what_no_training_can_go_by_is_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        require_trainer(OmegaConf.create(settings))


@pytest.mark.parametrize("devices", [1, -1, "auto", "2", "0,1", [0, 1]])
@pytest.mark.parametrize("limit", [1, 1.0, 0.1, 3])
def test_what_lightning_takes_is_left_to_it(devices, limit, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    trainer = {"devices": devices, "limit_train_batches": limit, "strategy": "ddp_fork", "accelerator": "gpu"}
    require_trainer(OmegaConf.create(trainer), 1)


def test_numbers_of_gpus_are_refused_where_there_are_none(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for accelerator in ("auto", "cpu"):
        with pytest.raises(ValueError, match=r"^trainer.devices=\[0, 1\] lists GPUs by their numbers"):
            require_trainer(OmegaConf.create({"devices": [0, 1], "accelerator": accelerator}))


@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_a_gpu_is_not_asked_for_where_there_is_none(accelerator, monkeypatch):
    for there in ("torch.cuda.is_available", "torch.backends.mps.is_available"):
        monkeypatch.setattr(there, lambda: False)
    with pytest.raises(ValueError, match=f"^trainer.accelerator={accelerator}, but PyTorch finds no GPU here: leave"):
        require_trainer(OmegaConf.create({"accelerator": accelerator}))


def test_checkpoints_within_an_epoch_are_a_step_apart_at_least():
    with pytest.raises(ValueError, match=r"checkpoint\.every_n_steps must be at least 1"):
        require_trainer(OmegaConf.create({}), 0)


def test_one_process_does_not_wait_for_other_nodes_that_nobody_has_started():
    two = OmegaConf.create({"num_nodes": 2})
    with pytest.raises(ValueError, match="start the command on every node by torchrun or srun"):
        require_trainer(two, environment={})
    require_trainer(two, environment={"WORLD_SIZE": "2", "RANK": "0"})
