"""Processes that torchrun or srun has started work in one folder, and only the first keeps Hydra's files."""

import pytest

from pruning_lit.command_line.ranks import in_one_folder

TYPED = ["trainer=ddp", "hydra.run.dir=outputs/one"]


def of_torchrun(rank, size=4):
    return {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}


def test_the_first_process_runs_the_command_as_it_was_typed():
    assert in_one_folder(TYPED, of_torchrun(0)) == TYPED


@pytest.mark.parametrize("environment", [of_torchrun(3), {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}])
def test_the_others_leave_hydras_files_to_it(environment):
    assert in_one_folder(TYPED, environment) == [*TYPED, "hydra.output_subdir=null", "hydra.job.name=run_of_process_3"]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("words", [[], ["trainer=ddp"], ["-m", "seed=1,2", "dataset.root=hydra.run.dir"]])
def test_without_a_folder_for_all_they_are_refused(words, rank):
    with pytest.raises(ValueError, match=r"4 processes were started.*hydra\.run\.dir=outputs/<name>"):
        in_one_folder(words, of_torchrun(rank))


@pytest.mark.parametrize(
    "environment",
    [
        {},
        of_torchrun(0, size=1),
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"},
        {"LOCAL_RANK": "1", "WORLD_SIZE": "2"},  # started by Lightning, which has told it the folder
    ],
)
def test_one_process_and_those_of_lightning_need_nothing(environment):
    assert in_one_folder(["trainer=ddp"], environment) == ["trainer=ddp"]


@pytest.mark.parametrize("word", ["hydra.sweep.dir=outputs/many", "+hydra.run.dir=outputs/one"])
def test_a_folder_may_be_named_in_any_way(word):
    assert in_one_folder([word], of_torchrun(0)) == [word]
