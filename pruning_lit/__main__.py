"""``python -m pruning_lit``: run an experiment composed on the command line."""

import logging
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pruning_lit.resume import with_resume

HERE = Path(__file__).parent
#: In a checkout the configs lie beside the package; in a wheel they are inside it.
CONF = HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"

log = logging.getLogger("pruning_lit")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _run(config: DictConfig) -> None:
    from pruning_lit.experiment import run  # late: --help and shell completion need not load torch

    try:
        run(config, Path(HydraConfig.get().runtime.output_dir))
    except (ValueError, FileNotFoundError) as error:
        log.debug("where it was raised", exc_info=True)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def main() -> None:
    """Entry point of the command line."""
    try:
        sys.argv[1:] = with_resume(sys.argv[1:])
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    _run()


if __name__ == "__main__":
    main()
