"""``python -m pruning_lit``: run an experiment composed on the command line."""

import logging
import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pruning_lit.configs import CONF
from pruning_lit.errors import sentence
from pruning_lit.resume import with_resume

log = logging.getLogger("pruning_lit")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _run(config: DictConfig) -> None:
    from pruning_lit.experiment import run  # late: --help and shell completion need not load torch

    try:
        run(config, Path(HydraConfig.get().runtime.output_dir))
    except Exception as error:
        told = sentence(error)
        if told is None:
            raise
        log.debug("where it was raised", exc_info=True)
        log.error(told)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise  # Hydra goes on with the other jobs, and ends with this one's failure
        sys.exit(1)


def main() -> None:
    """Entry point of the command line: what a user can mend ends in one sentence and exit code 1."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors of the composition come here, to be told in one sentence
    try:
        sys.argv[1:] = with_resume(sys.argv[1:])
        _run()
    except Exception as error:
        told = sentence(error)
        if told is None:
            raise
        sys.exit(f"error: {told}")


if __name__ == "__main__":
    main()
