"""Settings of a sweep that only some of its jobs' choices have: they are left out of the other jobs, with a word."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.errors import ConfigCompositionException
from hydra.plugins.sweeper import Sweeper

log = logging.getLogger("pruning_lit")
UNKNOWN_KEY = re.compile(r"Could not override '([^']*)'")


@contextmanager
def with_settings_of_some_jobs() -> Iterator[None]:
    """Let ``-m method=chip,magnitude criterion.num_images=64`` run, though magnitude looks at no images.

    Hydra's sweepers compose all jobs before the first begins, and give up if one cannot be composed.
    """
    refusing = Sweeper.validate_batch_is_legal

    def fitting(sweeper: Sweeper, batch: Sequence[Sequence[str]]) -> None:
        context, config = sweeper.hydra_context, sweeper.config
        assert context is not None
        assert config is not None
        once = isinstance(sweeper, BasicSweeper)
        leave_out(batch, lambda words: context.config_loader.load_sweep_config(config, words), once)

    Sweeper.validate_batch_is_legal = fitting  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        Sweeper.validate_batch_is_legal = refusing  # type: ignore[method-assign]


def leave_out(batch: Sequence[Sequence[str]], compose: Callable[[list[str]], Any], once: bool = True) -> None:
    """Leave out of the jobs' overrides, in place, what a job's choices do not have but those of another do.

    Args:
        batch: the overrides of every job.
        compose: composes a job.
        once: of jobs that are equal without it the first is run; sweepers that optimise want a figure for each.

    Raises:
        ConfigCompositionException: a job cannot be composed, or no job has a setting.
    """
    fitting: list[list[str]] = []
    missing: dict[str, tuple[ConfigCompositionException, list[int]]] = {}
    for number, overrides in enumerate(batch):
        words = list(overrides)
        while (unknown := _unknown(words, compose)) is not None:
            word, error = unknown
            words.remove(word)
            missing.setdefault(word, (error, []))[1].append(number)
        fitting.append(words)
    known = {_key(word) for words in fitting for word in words}
    kept = [number for number, words in enumerate(fitting) if not once or words not in fitting[:number]]
    for word, (error, numbers) in missing.items():
        if _key(word) not in known or not isinstance(batch, list):
            raise error
        if jobs := [str(kept.index(number)) for number in numbers if number in kept]:
            told = f"job{'s' * (len(jobs) > 1)} {', '.join(jobs)}"
            log.info("%s left out of %s, whose choices have no such setting", word, told)
    if missing:
        batch[:] = [fitting[number] for number in kept]  # type: ignore[index]


def _unknown(words: list[str], compose: Callable[[list[str]], Any]) -> tuple[str, ConfigCompositionException] | None:
    """An override that the choices of a job do not have, and Hydra's error; None where there is none."""
    try:
        compose(words)
    except ConfigCompositionException as error:
        found = UNKNOWN_KEY.search(str(error))
        word = next((each for each in words if found and _key(each) == found[1]), None)
        if word is None:
            raise
        return word, error
    return None


def _key(word: str) -> str:
    return word.partition("=")[0]
