"""What is left out of the console and the log, and what is not."""

import logging
import warnings

import pytest

from pruning_lit.system.noise import LOGGED, NARRATING, WARNED, without_noise

RANK_ZERO = "pytorch_lightning.utilities.rank_zero"
#: Logger and message, as Lightning 2.6 gives them.
NOISE = [
    (RANK_ZERO, "GPU available: False, used: False"),
    (RANK_ZERO, "TPU available: False, using: 0 TPU cores"),
    (RANK_ZERO, "💡 Tip: For seamless cloud logging and experiment tracking, try installing [litlogger](https://…)"),
    (RANK_ZERO, "`Trainer(limit_val_batches=1.0)` was configured so 100% of the batches will be used.."),
    (RANK_ZERO, "`Trainer.fit` stopped: `max_epochs=2` reached."),
    (RANK_ZERO, "Restoring states from the checkpoint path at outputs/last.ckpt"),
    (RANK_ZERO, "Restored all states from the checkpoint at outputs/last.ckpt"),
    (RANK_ZERO, "Using bfloat16 Automatic Mixed Precision (AMP)"),
    (RANK_ZERO, "You are using a CUDA device ('NVIDIA H200') that has Tensor Cores. To properly utilize them, …"),
    (
        RANK_ZERO,
        f"{'-' * 100}\ndistributed_backend=gloo\nAll distributed processes registered. Starting with …",
    ),
    ("lightning_fabric.utilities.distributed", "Initializing distributed: GLOBAL_RANK: 0, MEMBER: 1/2"),
    ("pytorch_lightning.accelerators.cuda", "LOCAL_RANK: 0 - CUDA_VISIBLE_DEVICES: [0]"),
]
#: The same loggers, and messages that a user may need.
NEWS = [
    (RANK_ZERO, "`Trainer.fit` stopped: No training batches."),
    (RANK_ZERO, "Ignoring `Trainer(max_time=...)`, callbacks list already contains a Timer."),
    (RANK_ZERO, "`Trainer(limit_val_batches=1)` was configured so 1 batch will be used."),
    ("lightning_fabric.utilities.distributed", "process 1 is gone"),
    ("somebody.else", "GPU available: False"),
]


@pytest.fixture
def told(caplog):
    """Messages that are shown; Lightning keeps its own from the root where it was imported first."""
    caplog.set_level(logging.INFO)
    loggers = [logging.getLogger(name) for name in {name for name, _ in [*NOISE, *NEWS]}]
    for logger in loggers:
        logger.addHandler(caplog.handler)
    yield lambda: list(dict.fromkeys(caplog.messages))
    for logger in loggers:
        logger.removeHandler(caplog.handler)


@pytest.mark.parametrize(("logger", "message"), NOISE)
def test_noise_is_left_out_as_long_as_it_is_no_warning(told, logger, message):
    with without_noise():
        logging.getLogger(logger).info(message)
        assert told() == []
        logging.getLogger(logger).warning(message)
        assert told() == [message]


def test_all_else_comes_through(told):
    with without_noise():
        for logger, message in NEWS:
            logging.getLogger(logger).info(message)
    assert told() == [message for _, message in NEWS]


def test_afterwards_all_is_as_before(told):
    loggers = [logging.getLogger(name) for name in (*LOGGED, *NARRATING)]
    before = [(logger.level, list(logger.filters)) for logger in loggers], list(warnings.filters)
    with pytest.raises(ZeroDivisionError), without_noise():
        raise ZeroDivisionError
    assert ([(logger.level, list(logger.filters)) for logger in loggers], list(warnings.filters)) == before


def test_libraries_that_narrate_are_heard_when_they_warn(caplog):
    caplog.set_level(logging.INFO)
    with without_noise():
        for name in NARRATING:
            logging.getLogger(f"{name}.passes").info("Removed 9 unused nodes")
            logging.getLogger(f"{name}.passes").warning("a node cannot be removed")
    assert caplog.messages == ["a node cannot be removed"] * len(NARRATING)


@pytest.mark.parametrize(
    ("message", "category"),
    [
        ("The number of training batches (3) is smaller than the logging interval Trainer(…=10). Set …", UserWarning),
        ("Checkpoint directory outputs/run/phases/1-train exists and is not empty.", UserWarning),
        (
            "It is recommended to use `self.log('val/ap', ..., sync_dist=True)` when logging on epoch level in …",
            UserWarning,
        ),
        ("`isinstance(treespec, LeafSpec)` is deprecated, use …", FutureWarning),
    ],
)
def test_a_warning_is_left_out_by_its_words_and_kind(message, category):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with without_noise():
            warnings.warn(message, category, stacklevel=1)
            assert heard == []
            warnings.warn(f"Mind: {message}", category, stacklevel=1)
            warnings.warn(message, RuntimeWarning, stacklevel=1)
    assert [each.category for each in heard] == [category, RuntimeWarning]
    assert len(WARNED) == 4
