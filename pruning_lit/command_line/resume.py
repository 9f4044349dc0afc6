"""Resume: the overrides that a run or a sweep was begun with, once more, in the same folder."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pruning_lit.command_line.configs import CONF
from pruning_lit.command_line.quoting import quoted
from pruning_lit.command_line.renamed import present_words
from pruning_lit.command_line.targets import typed
from pruning_lit.system.atomic import write_text
from pruning_lit.system.disk import require_room
from pruning_lit.system.preemption import go_on_by
from pruning_lit.system.resume_hint import resuming

KEPT = "hydra.output_subdir=null"  # what the run was begun with stays on record, whatever is tried beside resume=
MULTIRUN = ("-m", "--multirun")
BEGUN = "begun.yaml"
ALLOWING = re.compile(r"[+~]*allow_targets\b")  # a folder cannot allow anything; who resumes types it again
#: What a folder may tell Hydra: which launcher, plain numbers and words for it, and where jobs go. All the rest
#: (callbacks, logging, further folders of configs, a launcher's shell commands) can run code before any check.
OF_HYDRA = re.compile(
    r"\+{0,2}(hydra/launcher=[\w-]+|hydra\.mode=\w+|hydra\.(run|sweep)\.(sub)?dir=.*"
    r"|hydra\.launcher\.(n_jobs|timeout_min|cpus_per_task|gpus_per_node|tasks_per_node|nodes|mem_gb|partition|qos|account"
    r"|constraint|array_parallelism|max_num_timeout|signal_delay_s|name)=[\w.:+-]*)"
)
#: Choices of a group, several of them in a sweep; no way out of the folder of configs, where anything may lie.
CHOICES = re.compile(r"(?!.*\.\.)[\w.,\[\]()* -]+(/[\w.,\[\]()* -]+)*")


def with_resume(arguments: list[str]) -> list[str]:
    """Replace ``resume=<folder>`` by the overrides the run or the sweep was begun with, and its further arguments.

    Of a sweep these are the launcher and whatever else Hydra was told. What is given beside ``resume=`` comes behind.
    The folder may be somebody else's: what it wants to be allowed is left out, and what could run code before the
    config is checked has to be typed again.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: nothing can be written there.
        ValueError: it is neither the folder of a run nor that of a sweep, a single run is to be a sweep, or its
            overrides are not to be trusted.
    """
    folders = [Path(word.removeprefix("resume=")) for word in arguments if word.startswith("resume=")]
    if not folders:
        return arguments
    folder = folders[-1]
    rest = [word for word in arguments if not word.startswith("resume=")]
    if not folder.is_dir():
        raise FileNotFoundError(f"resume={folder}: there is no such folder")
    require_room(folder)  # before Hydra begins to write anew what says how the run was begun
    if (run := folder / ".hydra" / "overrides.yaml").is_file():
        if {*MULTIRUN} & {*rest}:
            raise ValueError(f"resume={folder} is a single run, and -m begins a sweep: leave one of the two out")
        return [*_harmless(present_words(_listed(run)), rest, folder), *rest, f"hydra.run.dir={quoted(folder)}", KEPT]
    sweep = folder / BEGUN if (folder / BEGUN).is_file() else folder / "multirun.yaml"
    if sweep.is_file():
        further = [word for word in rest if word not in MULTIRUN]
        return [
            "-m",
            *_harmless(present_words(_begun_with(sweep)), rest, folder),
            *further,
            f"hydra.sweep.dir={quoted(folder)}",
        ]
    raise ValueError(
        f"resume={folder} is not the folder of a run or a sweep: it has no .hydra/overrides.yaml and no multirun.yaml"
    )


class SweepBegun(Callback):
    """Keep the overrides that a sweep was begun with; ``multirun.yaml`` has those it was last continued with."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the overrides down, once; from here on the sweep can be resumed."""
        folder = Path(config.hydra.sweep.dir)
        if not (folder / BEGUN).exists():
            overrides = {"hydra": {"overrides": config.hydra.overrides}}
            with suppress(OSError):  # Hydra is about to write there, and its error is told
                write_text(folder / BEGUN, OmegaConf.to_yaml(OmegaConf.create(overrides)))
        settings = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        go_on_by(f"this goes on: {resuming(folder.resolve(), typed(map(str, settings)))}")  # type: ignore[arg-type]


def _harmless(saved: Sequence[str], typed: Sequence[str], folder: Path) -> list[str]:
    """Saved overrides, without permissions and what is typed again; ValueError for others that could run code."""
    words = [word for word in saved if not ALLOWING.match(word) and word not in typed]
    refused = [word for word in words if not _is_harmless(word)]
    if refused:
        raise ValueError(
            f"resume={folder}: what is saved there tells Hydra {', '.join(refused)}, which can run code of whoever "
            "wrote it; type it beside resume=… yourself, if you trust it, else leave the folder alone"
        )
    return words


def _is_harmless(word: str) -> bool:
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:  # a flag of the command line, such as --config-dir
        return False
    keys = (override.key_or_group, override.package or "")
    if any(re.split(r"[./:]", key)[0] == "hydra" for key in keys):
        return bool(OF_HYDRA.fullmatch(word))
    group = (CONF / override.key_or_group).is_dir()
    value = word.partition("=")[2]
    return not group or value.startswith("{") or not value or bool(CHOICES.fullmatch(value))


def _begun_with(sweep: Path) -> list[str]:
    """Overrides of a sweep, but where it is and that it is one."""
    task, hydra = (_listed(sweep, f"hydra.overrides.{each}") for each in ("task", "hydra"))
    return [*task, *(word for word in hydra if not re.match(r"\+*hydra\.(sweep\.dir|mode)=", word))]


def _listed(path: Path, key: str | None = None) -> list[str]:
    """Overrides listed in a file, or under a key of it; as typed, for ``${…}`` is for Hydra."""
    try:
        saved = OmegaConf.load(path)
        listed = OmegaConf.to_container(saved if key is None else OmegaConf.select(saved, key), resolve=False)
        assert isinstance(listed, list)
    except (YAMLError, OmegaConfBaseException, AssertionError, ValueError, OSError) as error:
        raise ValueError(f"'{path}' does not list the overrides of a command: it is damaged") from error
    return [str(word) for word in listed]
