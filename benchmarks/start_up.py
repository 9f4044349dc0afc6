"""How soon a command answers, beside the time that Python takes to load torch and Lightning.

    python benchmarks/start_up.py                 # a minute on a free machine: 5 turns of all commands
    python benchmarks/start_up.py --turns 9 help demo

Every command runs in a process of its own, in an empty folder, as a user starts it: to its end, where it does not say
that it is ended behind its first line or its first training step. Promised are 1.5 s and 5 s on a machine
that loads torch in 2 s, hence multiples of that time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TORCH = "import torch"
LEAVING = """
import os
from pytorch_lightning import Callback


class Leave(Callback):
    def on_train_batch_end(self, *_):
        os._exit(0)
"""


class Command(NamedTuple):
    """A command that is timed.

    Attributes:
        words: behind ``python``.
        code: with which it ends.
        promise: the most it may take, in multiples of what loading torch takes; None: nothing is promised.
        first_line: it has answered with its first line, and is ended then.
    """

    words: tuple[str, ...]
    code: int = 0
    promise: float | None = None
    first_line: bool = False


SOON, LATER = 1.5 / 2, 5 / 2
RUN, LOOK = ("-m", "pruning_lit"), ("-m", "pruning_lit.inspect")
COMMANDS = {
    TORCH: Command(("-c", TORCH)),
    "import torch, pytorch_lightning": Command(("-c", "import torch, pytorch_lightning")),
    "--help": Command((*RUN, "--help"), promise=SOON),
    "a misspelt key": Command((*RUN, "train.epoch=3"), 1, SOON),
    "an unknown choice": Command((*RUN, "arch=resnet9"), 1, SOON),
    "a value of the wrong type": Command((*RUN, "train.epochs=x"), 1, SOON),
    "a target that is not allowed": Command((*RUN, "arch._target_=mynet.Net"), 1, SOON),
    ".inspect --help": Command((*LOOK, "--help"), promise=SOON),
    ".report path=nowhere": Command(("-m", "pruning_lit.report", "path=nowhere"), 1, SOON),
    ".inspect arch=resnet20": Command((*LOOK, "arch=resnet20"), promise=LATER),
    ".inspect arch=resnet50, its first line": Command((*LOOK, "arch=resnet50"), -9, LATER, first_line=True),
    ".inspect arch=resnet50": Command((*LOOK, "arch=resnet50"), promise=LATER),
    "the demo's first line": Command((*RUN, "experiment=demo"), -9, LATER, first_line=True),
    "the demo's first training step": Command(
        (*RUN, "experiment=demo", "+callbacks.leave._target_=leaving.Leave", "allow_targets=[leaving]")
    ),
}


def seconds(command: Command) -> tuple[float, float]:
    """Wall time and processor time in seconds until the command has answered."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "leaving.py").write_text(LEAVING)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        environment["PYTHONUNBUFFERED"] = "1"  # as on a terminal, where lines do not wait for more of them
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command.words],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE if command.first_line else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        if process.stdout is not None:
            process.stdout.readline()
            process.kill()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != command.code:
        raise RuntimeError(f"python {' '.join(command.words)} ended with exit code {process.returncode}")
    return wall, used.ru_utime + used.ru_stime


def row(name: str, times: Sequence[tuple[float, float]], torch: Sequence[tuple[float, float]]) -> str:
    """Line of the table: medians, and their ratios to those of loading torch."""
    own, reference = ([statistics.median(each) for each in zip(*both, strict=True)] for both in (times, torch))
    wall, processor = (one / other for one, other in zip(own, reference, strict=True))
    promise = COMMANDS[name].promise
    told = "" if promise is None else f"{promise:.2f}x"
    return f"| {name} | {own[0]:.2f} s | {own[1]:.2f} s | {wall:.2f}x | {processor:.2f}x | {told} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="parts of the names of the commands that are wanted; all by default")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    words = [TORCH, *arguments.words]
    wanted = [name for name in COMMANDS if not arguments.words or any(word in name for word in words)]
    for name in wanted:
        seconds(COMMANDS[name])  # once before: files come from the disk, bytecode is written
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in wanted}
    for _ in range(arguments.turns):
        for name in wanted:
            times[name].append(seconds(COMMANDS[name]))
    print("| command | wall time | processor time | wall ratio | processor ratio | promised |")
    print("|---|---|---|---|---|---|")
    for name in wanted:
        print(row(name, times[name], times[TORCH]))


if __name__ == "__main__":
    main()
