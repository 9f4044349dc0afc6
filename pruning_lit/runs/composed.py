"""A run from Python, outside of a command: Hydra then knows neither overrides nor choices, unless the config tells."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from pruning_lit.sweeps.objective import TRIES_ALL
from pruning_lit.system.folder_lock import alone_in
from pruning_lit.system.preemption import forget

ONE_BY_ONE = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
Run = Callable[[DictConfig, Path], None]


def from_python(run: Run) -> Run:
    """Let a run take what ``hydra.compose`` returns, with ``return_hydra_config=True`` or without."""

    @wraps(run)
    def run_composed(config: DictConfig, folder: Path) -> None:
        folder = Path(folder)
        if HydraConfig.initialized():  # by the command
            return run(config, folder)
        forget()
        folder.mkdir(parents=True, exist_ok=True)
        if "hydra" not in config:
            return run(_named(config, folder), folder)
        state = HydraConfig.instance()
        state.set_config(config)
        try:
            return run(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]), folder)
        finally:
            state.cfg = None

    return run_composed


def alone(run: Run) -> Run:
    """Let a run have its folder to itself; ValueError where another one is at work there."""

    @wraps(run)
    def run_alone(config: DictConfig, folder: Path) -> None:
        with alone_in(folder):
            run(config, folder)

    return run_alone


def choices() -> dict[str, str]:
    """The choices of all groups; empty where they are not known."""
    return {**HydraConfig.get().runtime.choices} if HydraConfig.initialized() else {}


def overrides() -> list[str]:
    """The settings that were typed, or given to ``compose``; empty where they are not known."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def side_by_side() -> bool:
    """Return true for a job of a sweep whose launcher runs several at the same time."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return False
    return HydraConfig.get().launcher._target_ != ONE_BY_ONE


def optimiser() -> tuple[str, list[str]]:
    """The class of the sweeper that this job belongs to, and the directions in which it goes, for each objective."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return TRIES_ALL, []
    sweeper = HydraConfig.get().sweeper
    named = sweeper.get("direction")
    listed = named if isinstance(named, ListConfig) else [] if named is None else [named]
    return sweeper._target_, [str(getattr(each, "name", each)) for each in listed]


def _named(config: DictConfig, folder: Path) -> DictConfig:
    """The config, named after the folder where its own name is made of choices."""
    config = config.copy()
    try:
        str(config.name)
    except OmegaConfBaseException:
        with open_dict(config):
            config.name = folder.name
    return config
