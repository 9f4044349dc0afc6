"""The end of an epoch of which all batches are trained, where a run goes on from a checkpoint of the last of them."""

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loops.progress import _ProcessedTracker


class MissedEpochEnd(Checkpoint):
    """Make up for validation, figures and checkpoints of an epoch that was left behind its last batch.

    Lightning takes such an epoch for done. To it this is a checkpoint, and the last of them, for all others have to be
    ready when the epoch ends.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the epoch, if it has no end yet."""
        loop, batches = trainer.fit_loop, trainer.fit_loop.epoch_loop
        if not (loop.restarted_mid_epoch and batches.restarted_on_train_batch_end):
            return
        if not batches.batch_progress.is_last_batch:
            return
        for epochs in (loop.epoch_progress.current, loop.epoch_progress.total):
            assert isinstance(epochs, _ProcessedTracker)
            epochs.processed -= 1
            epochs.completed -= 1
        batches.batch_progress.increment_completed()
        loop.restarting = False  # from here on as if the batch had just been trained, in this sitting
        loop.on_iteration_done()
        batches.on_iteration_done()
        assert loop._data_fetcher is not None
        batches.on_advance_end(loop._data_fetcher)  # with the validation
        loop.on_advance_end()
