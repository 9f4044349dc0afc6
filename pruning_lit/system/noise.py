"""Messages of libraries that tell users of this one nothing, by their own words; all others come through."""

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

#: Logger to the beginnings, as patterns, of its messages that are left out up to level INFO.
LOGGED = {
    "pytorch_lightning.utilities.rank_zero": (
        r"GPU available: ",  # the report names the hardware
        r"TPU available: ",
        r"💡 Tip: ",  # advertisements
        r"`Trainer\(limit_\w+_batches=1\.0\)` was configured so 100% of the batches",
        r"`Trainer\.fit` stopped: `max_epochs=\d+` reached",  # the epochs are counted as they end
        r"Restor(ing|ed all) states from the checkpoint",  # said in words of ours
        r"Using (16bit|bfloat16) Automatic Mixed Precision",  # as was asked for
        r"You are using a CUDA device .* that has Tensor Cores",  # advice to programmers; there is no such setting
        r"-+\ndistributed_backend=",  # the processes are told with the batch
    ),
    "lightning_fabric.utilities.distributed": (r"Initializing distributed: ",),
    "pytorch_lightning.accelerators.cuda": (r"LOCAL_RANK: ",),
}
#: Loggers of which, and of all below them, only warnings and errors are shown: they narrate every step.
NARRATING = ("onnx_ir", "onnxscript", "faster_coco_eval")
#: Category and beginning, as a pattern, of warnings that are left out.
WARNED = (
    (UserWarning, r"The number of training batches \(\d+\) is smaller than the logging interval"),  # all is per epoch
    (UserWarning, r"Checkpoint directory .* exists and is not empty"),  # as it is whenever a run goes on
    (UserWarning, r"It is recommended to use `self\.log\('val/.*sync_dist=True"),  # these are of all ranks already
    (FutureWarning, r"`isinstance\(treespec, LeafSpec\)` is deprecated"),  # by torch, to Lightning
)


class _Noise(logging.Filter):
    def __init__(self, beginnings: Sequence[str]) -> None:
        super().__init__()
        self.beginnings = re.compile("|".join(beginnings))

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or not self.beginnings.match(record.getMessage())


@contextmanager
def without_noise() -> Iterator[None]:
    """Meanwhile leave these messages out, in this process and those that it forks; also a decorator."""
    with warnings.catch_warnings(), ExitStack() as afterwards:
        for category, beginning in WARNED:
            warnings.filterwarnings("ignore", beginning, category)
        for name, beginnings in LOGGED.items():
            logger, noise = logging.getLogger(name), _Noise(beginnings)
            logger.addFilter(noise)
            afterwards.callback(logger.removeFilter, noise)
        for logger in map(logging.getLogger, NARRATING):
            afterwards.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.WARNING)
        yield
