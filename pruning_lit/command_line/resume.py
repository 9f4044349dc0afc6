"""Resume: the overrides that a run or a sweep was begun with, once more, in the same folder."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pruning_lit.command_line.configs import CONF
from pruning_lit.command_line.quoting import quoted
from pruning_lit.command_line.renamed import present_words
from pruning_lit.command_line.saved_overrides import harmless
from pruning_lit.command_line.targets import typed
from pruning_lit.system.atomic import write_text
from pruning_lit.system.disk import require_room
from pruning_lit.system.preemption import go_on_by
from pruning_lit.system.resume_hint import resuming

KEPT = "hydra.output_subdir=null"  # what the run was begun with stays on record, whatever is tried beside resume=
GOES_ON = "hydra.callbacks.begun.goes_on=true"  # likewise of a sweep
MULTIRUN = ("-m", "--multirun")
BEGUN = "begun.yaml"
RUN = "pruning_lit"
RESUMABLE = (RUN, "pruning_lit.sensitivity")  # commands that go on in their folders; the others are begun again


def with_resume(
    arguments: list[str], decides: Callable[[str, list[str]], bool] = lambda word, begun: False, module: str = RUN
) -> list[str]:
    """Replace ``resume=<folder>`` by the overrides the run or the sweep was begun with, and its further arguments.

    Of a sweep these are the launcher and whatever else Hydra was told. What is given beside ``resume=`` comes behind.
    The folder may be somebody else's: what it wants to be allowed is left out, and what could run code before the
    config is checked has to be typed again.

    Args:
        arguments: as typed.
        decides: true for an override that could change the result of a job, beside those it was begun with.
        module: name of the command behind ``python -m``; what it was begun with says nothing to another command.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: nothing can be written there.
        ValueError: it is neither the folder of a run nor that of a sweep, another command has begun it, a single run
            is to be a sweep, the jobs of a sweep are to become others, or its overrides are not to be trusted.
    """
    folders = [Path(word.removeprefix("resume=")) for word in arguments if word.startswith("resume=")]
    if not folders:
        return arguments
    folder = folders[-1]
    rest = [word for word in arguments if not word.startswith("resume=")]
    if not folder.is_dir():
        raise FileNotFoundError(f"resume={folder}: there is no such folder")
    require_room(folder)  # before Hydra begins to write anew what says how the run was begun
    _require_begun_by(module, folder)
    if (run := folder / ".hydra" / "overrides.yaml").is_file():
        if {*MULTIRUN} & {*rest}:
            raise ValueError(f"resume={folder} is a single run, and -m begins a sweep: leave one of the two out")
        return [*harmless(present_words(_listed(run)), rest, folder), *rest, f"hydra.run.dir={quoted(folder)}", KEPT]
    sweep = folder / BEGUN if (folder / BEGUN).is_file() else folder / "multirun.yaml"
    if sweep.is_file():
        further = [word for word in rest if word not in MULTIRUN]
        begun = present_words(_begun_with(sweep))
        in_force = {word.partition("=")[0]: word for word in begun}.values()  # of several of one setting the last
        others = [word for word in further if decides(word, begun) and word not in in_force]
        if others:  # before Hydra writes them
            raise ValueError(
                f"resume={folder}: {' '.join(others)} would make other jobs than those that the sweep was begun with; "
                "leave it out, or begin another sweep"
            )
        if typed(begun) and not typed(rest):  # else every job would say so, and count as failed
            raise ValueError(
                f"resume={folder}: the sweep was begun with allow_targets=…, and no folder allows code of your own by "
                "itself: if you trust what its jobs name, type that again beside it"
            )
        return [
            "-m",
            *harmless(begun, rest, folder),
            *further,
            f"hydra.sweep.dir={quoted(folder)}",
            GOES_ON,
        ]
    raise ValueError(
        f"resume={folder} is not the folder of a run or a sweep: it has no .hydra/overrides.yaml and no multirun.yaml"
    )


class SweepBegun(Callback):
    """Keep the overrides that a sweep was begun with; ``multirun.yaml`` has those it was last continued with.

    Args:
        goes_on: ``resume=`` has begun it, so that what is there stays.
    """

    def __init__(self, goes_on: bool = False) -> None:
        self.goes_on = goes_on

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the overrides down; from here on the sweep can be resumed."""
        folder = Path(config.hydra.sweep.dir)
        if not (self.goes_on and (folder / BEGUN).exists()):
            overrides = {"hydra": {"overrides": config.hydra.overrides}}
            with suppress(OSError):  # Hydra is about to write there, and its error is told
                write_text(folder / BEGUN, OmegaConf.to_yaml(OmegaConf.create(overrides)))
        settings = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        module = module_of(str(OmegaConf.select(config, "hydra.job.config_name")))
        allowing = typed(map(str, settings))  # type: ignore[arg-type]
        go_on_by(f"this goes on: {resuming(folder.resolve(), allowing, module)}")


def module_of(config_name: str) -> str:
    """Name behind ``python -m`` of the command with this primary config; that of a run where it is nobody's else."""
    others = re.fullmatch(r"\w+", config_name) and config_name != "config" and (CONF / f"{config_name}.yaml").is_file()
    return f"{RUN}.{config_name}" if others else RUN


def _require_begun_by(module: str, folder: Path) -> None:
    """ValueError, with the command that goes on, where another one has begun what is in the folder."""
    files = (folder / ".hydra" / "hydra.yaml", folder / "multirun.yaml")
    begun = next((module_of(_config_name(file)) for file in files if file.is_file()), module)
    if begun != module:
        goes_on = f"this goes on: {resuming(folder, (), begun)}" if begun in RESUMABLE else "begin that anew"
        raise ValueError(f"resume={folder} was begun by python -m {begun}, not by python -m {module}; {goes_on}")


def _config_name(file: Path) -> str:
    """Name of the primary config as Hydra has noted it; empty where that cannot be read."""
    try:
        return str(OmegaConf.select(OmegaConf.load(file), "hydra.job.config_name"))
    except (YAMLError, OmegaConfBaseException, ValueError, OSError):  # damage is told by who reads the overrides
        return ""


def _begun_with(sweep: Path) -> list[str]:
    """Overrides of a sweep, but where it is and that it is one."""
    task, hydra = (_listed(sweep, f"hydra.overrides.{each}") for each in ("task", "hydra"))
    ours = re.compile(r"\+*hydra\.(sweep\.dir|mode|callbacks\.begun\.goes_on)=")
    return [*task, *(word for word in hydra if not ours.match(word))]


def _listed(path: Path, key: str | None = None) -> list[str]:
    """Overrides listed in a file, or under a key of it; as typed, for ``${…}`` is for Hydra."""
    try:
        saved = OmegaConf.load(path)
        listed = OmegaConf.to_container(saved if key is None else OmegaConf.select(saved, key), resolve=False)
        assert isinstance(listed, list)
    except (YAMLError, OmegaConfBaseException, AssertionError, ValueError, OSError) as error:
        raise ValueError(f"'{path}' does not list the overrides of a command: it is damaged") from error
    return [str(word) for word in listed]
