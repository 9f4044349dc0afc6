"""Scores that take their time, told."""

import logging
import time
from collections.abc import Callable

from torch import Tensor

from pruning_lit.criteria.base import Criterion, Scoring
from pruning_lit.criteria.ranks import rank_and_world_size
from pruning_lit.system.durations import in_words

log = logging.getLogger(__name__)
LONG = 3.0  # seconds


def timed_scores(
    criterion: Criterion, scoring: Scoring, clock: Callable[[], float] = time.monotonic
) -> dict[str, Tensor]:
    """Scores of a criterion; where that takes long, the log says how long.

    Args:
        criterion: how much a channel matters.
        scoring: network, groups and data.
        clock: seconds that go on.
    """
    began = clock()
    scores = criterion.scores(scoring)
    seconds = clock() - began
    if seconds > LONG and rank_and_world_size()[0] == 0:
        log.info("scored %d groups of channels in %s", len(scoring.groups), in_words(seconds))
    return scores
