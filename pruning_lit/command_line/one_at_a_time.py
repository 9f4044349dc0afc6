"""One command at a time in the folder of a run or a sweep, from before anything is written there."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write

from pruning_lit.system.folder_lock import hold


class FolderLock(Callback):
    """Lock the folder; where another command has it, end with a sentence, as Hydra would go on after an error.

    Where a run has left a checkpoint, Hydra does not write down anew by what it was begun, as with ``resume=``: another
    command may be refused there, and its settings would be taken for those of the run.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Lock the folder of a run."""
        state = HydraConfig.instance()
        before, state.cfg = state.cfg, None
        state.set_config(config)  # the folder may be named after choices
        try:
            folder = Path(str(config.hydra.run.dir))
        finally:
            state.cfg = before
        _hold(folder)
        if any(folder.glob("phases/*/last.ckpt")) and (folder / ".hydra" / "overrides.yaml").is_file():
            with read_write(config.hydra):
                config.hydra.output_subdir = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Lock the folder of a sweep; its jobs lock their own."""
        _hold(Path(str(config.hydra.sweep.dir)))


def _hold(folder: Path) -> None:
    try:
        hold(folder)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except OSError:  # the run cannot write there either, and tells it
        return
