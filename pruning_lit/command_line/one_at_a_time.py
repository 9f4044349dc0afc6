"""One command at a time in the folder of a run or a sweep, from before anything is written there."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from pruning_lit.system.folder_lock import hold


class FolderLock(Callback):
    """Lock the folder; where another command has it, end with a sentence, as Hydra would go on after an error."""

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
