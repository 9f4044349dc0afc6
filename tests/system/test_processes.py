"""What other processes have died of, in one sentence, and whether the run can go on as it is."""

import pytest
from torch.multiprocessing import ProcessRaisedException

from pruning_lit.command_line.errors import sentence
from pruning_lit.data.image_file import UnreadableImage
from pruning_lit.system.deaths import from_outside
from pruning_lit.system.resume_hint import how_to_resume

TRACEBACK = 'Traceback (most recent call last):\n  File "worker.py", line 1, in <module>\n'
WORKER = "DataLoader worker (pid 7) is killed by signal: Killed. "
ODD = "some_cuda_kernel does not have a deterministic implementation, but you set 'torch.use_deterministic_…'"
GLOO = "[/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1024"


def of_a_fork(last_line: str) -> ProcessRaisedException:
    return ProcessRaisedException(
        f"\n\n-- Process 1 terminated with the following error:\n{TRACEBACK}{last_line}\n", 1, 2
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "/x/last.ckpt"), "No space left on device: /x/last.ckpt"),
        (UnreadableImage("'a.jpg' is not a readable image"), "'a.jpg' is not a readable image"),
        (of_a_fork("pruning_lit.data.image_file.UnreadableImage: 'a.jpg' is no image"), "'a.jpg' is no image"),
        (of_a_fork("OSError: the checkpoint cannot be written"), "the checkpoint cannot be written"),
        (of_a_fork("PermissionError: [Errno 13] Permission denied"), "[Errno 13] Permission denied"),
        (RuntimeError(WORKER), "a process that prepares images has died"),
        (of_a_fork(f"RuntimeError: {WORKER}"), "a process that prepares images has died"),
        (RuntimeError(GLOO), "another process of this run has died"),
        (of_a_fork(f"RuntimeError: {GLOO}"), "another process of this run has died"),
        (
            OSError(
                f"Caught OSError in DataLoader worker process 0.\nOriginal {TRACEBACK}OSError: Too many open files"
            ),
            "Too many open files",
        ),
    ],
)
def test_what_lies_outside_of_the_run_is_told_with_the_way_on(error, told, tmp_path):
    text = sentence(error)
    assert text is not None
    assert text.startswith(told)
    assert "\n" not in text
    assert "Traceback" not in text
    assert how_to_resume(error, tmp_path, "resume=x") == ""  # nothing was trained
    (tmp_path / "phases").mkdir()
    assert how_to_resume(error, tmp_path, "resume=x").endswith("; once that is mended, go on with: resume=x")


@pytest.mark.parametrize(
    "error", [ValueError("the loss is no number"), of_a_fork("ValueError: the loss is no number"), KeyError("x")]
)
def test_what_the_run_itself_is_to_blame_for_is_no_reason_to_go_on_with_it(error):
    assert not from_outside(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), of_a_fork("RuntimeError: shapes differ")])
def test_our_own_mistakes_keep_their_traceback(error):
    assert sentence(error) is None


@pytest.mark.parametrize("error", [RuntimeError(ODD), of_a_fork(f"RuntimeError: {ODD}")])
def test_an_operation_that_cannot_be_deterministic_is_named(error):
    assert sentence(error).startswith(
        "deterministic=true: some_cuda_kernel does not have a deterministic implementation"
    )
    assert not from_outside(error)  # going on with the same settings would end the same
