"""A setting that only some jobs of a sweep have."""

import logging

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from pruning_lit.sweeps.common_settings import leave_out
from tests.places import CONF


def settled(*batch: str, once: bool = True) -> list[list[str]]:
    jobs = [each.split() for each in batch]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        leave_out(jobs, lambda words: compose("config", overrides=words), once)
    return jobs


@pytest.mark.slow
def test_what_one_choice_does_not_have_is_left_out_of_its_jobs_with_a_word(caplog):
    with caplog.at_level(logging.INFO):
        jobs = settled(
            *(f"method={name} criterion.num_images=64" for name in ("chip", "magnitude", "taylor", "random"))
        )
    assert jobs == [
        ["method=chip", "criterion.num_images=64"],
        ["method=magnitude"],
        ["method=taylor", "criterion.num_images=64"],
        ["method=random"],
    ]
    (told,) = caplog.messages
    assert told == "criterion.num_images=64 left out of jobs 1, 3, whose choices have no such setting"


@pytest.mark.slow
def test_jobs_that_are_equal_without_it_run_once(caplog):
    batch = [f"method={name} criterion.num_images={number}" for name in ("magnitude", "chip") for number in (8, 16)]
    with caplog.at_level(logging.INFO):
        assert settled(*batch) == [["method=magnitude"], *(each.split() for each in batch[2:])]
    assert caplog.messages == ["criterion.num_images=8 left out of job 0, whose choices have no such setting"]
    assert settled(*batch, once=False)[:2] == [["method=magnitude"], ["method=magnitude"]]


@pytest.mark.slow
@pytest.mark.parametrize("word", ["criterion.num_imges=64", "trian.epochs=3"])
def test_what_no_job_has_is_refused(word):
    with pytest.raises(HydraException, match=word.partition("=")[0]):
        settled(f"method=chip {word}", f"method=random {word}")
