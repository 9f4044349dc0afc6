"""One way of reading a command line for all commands: configs by Hydra, errors told in one sentence."""

import atexit
import gc
import logging
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pruning_lit.command_line.command_record import hold_back
from pruning_lit.command_line.composition import require_single_choices
from pruning_lit.command_line.configs import CONF, composed_once
from pruning_lit.command_line.custom_network import import_from_current_folder, with_own_code
from pruning_lit.command_line.errors import ending_in_a_sentence, sentence
from pruning_lit.command_line.outputs import naming_outputs
from pruning_lit.command_line.quoting import readable
from pruning_lit.command_line.ranks import in_one_folder
from pruning_lit.command_line.renamed import require_present_names, require_present_settings
from pruning_lit.command_line.replaced import settle
from pruning_lit.command_line.resume import RESUMABLE
from pruning_lit.command_line.setting_types import require_types
from pruning_lit.command_line.targets import allowed, require_allowed, typed
from pruning_lit.sweeps.common_settings import with_settings_of_some_jobs
from pruning_lit.sweeps.failure import forget_failure, note_failure
from pruning_lit.system.deaths import is_lost
from pruning_lit.system.disk import quiet_threads
from pruning_lit.system.folder_lock import release
from pruning_lit.system.loading import loading
from pruning_lit.system.noise import without_noise
from pruning_lit.system.one_line import in_one_line
from pruning_lit.system.preemption import (
    Preempted,
    asked,
    go_on_by,
    is_command,
    last_words,
    leaving_at_once,
    leaving_when_asked,
    passing_on,
)
from pruning_lit.system.resume_hint import how_to_resume, resuming

log = logging.getLogger("pruning_lit")


def command(
    config_name: str,
    work: Callable[[DictConfig, Path], Any],
    rewrite: Callable[[list[str]], list[str]] = list,
) -> None:
    """Compose ``conf/<config_name>.yaml`` with the command line's overrides, and do the work; exit code 1 on errors.

    Args:
        config_name: the primary config.
        work: what is done with the config and the folder for outputs; what it returns is for sweepers.
        rewrite: turns the command's own shorthands into overrides.
    """

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)
    def job(config: DictConfig) -> Any:
        if asked():  # in a process of a launcher that has more jobs for it
            return None
        folder = Path(HydraConfig.get().runtime.output_dir)
        allowing = typed(HydraConfig.get().overrides.task)
        if module in RESUMABLE:
            go_on_by(f"this goes on: {resuming(_begun_in(), allowing, module)}")
        try:
            with leaving_at_once(), without_noise():  # here, as a launcher may have started this process
                require_present_settings(config)
                settle(config, folder)
                if is_run:
                    hold_back(folder)
                with loading():
                    require_allowed(config, allowed(config, allowing))
                    require_types(config)
                result = work(config, folder)
            if is_run:
                forget_failure(folder)
            return result
        except Preempted:
            if is_command():
                raise
            last_words()  # and the launcher goes on with what is left
        except Exception as error:
            told = sentence(error)
            if getattr(error, "by_itself", False):  # a process of this run that has told it all
                sys.exit(1)
            if is_run:
                note_failure(folder, told or in_one_line(error))
            if told is None:
                raise
            log.debug("where it was raised", exc_info=True)
            log.error(told + how_to_resume(error, folder, resuming(_begun_in(), allowing, module)))
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                sys.exit(1)  # in a sweep the other jobs go on; its summary tells, in the end, that this one has failed
        return None

    is_run = config_name == "config"
    _end_at_once()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors of the composition come here, to be told in one sentence
    import_from_current_folder()
    module = "pruning_lit" if is_run else f"pruning_lit.{config_name}"
    try:
        with leaving_when_asked(module), ending_in_a_sentence():
            require_present_names(sys.argv[1:])
            require_single_choices(sys.argv[1:])
            words = [readable(word) for word in rewrite(sys.argv[1:])]
            sys.argv[1:] = in_one_folder(options_first(with_own_code(words, config_name in ("config", "inspect"))))
            with quiet_threads(), naming_outputs(work), passing_on(), composed_once(), with_settings_of_some_jobs():
                _to_its_end(job)
            sys.stdout.flush()
    except BrokenPipeError:  # `… --help | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed at the exit
    finally:
        release()


@cache  # once in a process
def _end_at_once() -> None:
    """Keep Python from its search for garbage among all that was loaded before it ends: up to a second."""
    atexit.register(gc.freeze)


def _to_its_end(job: Callable[[], None]) -> None:
    """Run what a launcher may do in other processes; where these leave as they were asked to, nothing has failed."""
    try:
        job()
    except Exception as error:
        if not (asked() and is_lost(error)):
            raise
    if asked():
        raise Preempted


def options_first(words: list[str]) -> list[str]:
    """Put ``-m``, ``--config-dir`` and their like, with their values, in front of all settings, where Hydra reads them.

    Raises:
        ValueError: there is an option that Hydra does not have.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]  # its own prints how to use all of them, and exits
    options, settings, rest = list[str](), list[str](), list(words)
    while rest:
        word = rest.pop(0)
        (options if word.startswith("-") else settings).append(word)
        action = parser._option_string_actions.get(word)
        if action and action.nargs == "?" and not (rest and rest[0] in (action.choices or ())):
            options.append(action.const)  # said, for the next word would be taken for it
        elif rest and action and action.nargs in (None, "?"):
            options.append(rest.pop(0))
    words = [*options, *settings]
    parser.parse_args(words)
    return words


def _refuse(message: str) -> NoReturn:
    raise ValueError(f"{message}; settings are written key=value, and --help tells which options there are")


def _begun_in() -> Path:
    """Folder of the run, or of the sweep that it belongs to."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return Path(hydra.runtime.cwd) / hydra.sweep.dir
    return Path(hydra.runtime.output_dir)
