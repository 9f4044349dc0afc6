"""Fingerprints of small runs, to show that a change of the code has changed no number.

    python tests/fingerprint.py run FOLDER              run the table below, and write FOLDER/fingerprints.json
    python tests/fingerprint.py run FOLDER --only chip  these runs alone
    python tests/fingerprint.py collect FOLDER          write fingerprints.json anew, from what runs have left
    python tests/fingerprint.py compare A.json B.json   a table of what is equal; exit code 1 where not all of A is

A fingerprint is a hash of the product's tensors, bit by bit, and the figures of ``report.json`` but for times, versions
and hardware. Bits hold for one build of torch on one kind of processor: take both sides on the same machine. What B
has beyond A is not compared. Where a change renames figures, ``FORMER_FIGURES`` says so.
"""

import argparse
import hashlib
import json
import math
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

#: Pattern in the path of a figure to what stood there in the fingerprints of earlier versions.
FORMER_FIGURES = {
    r"^sections\.redundancy\b": "decided",
    r"^sections\.compaction\b": "compacted",
    r"^sections\.exploration\b": "explored",
    r"^(explored.*)\bnum_(stages|grown|woken|pruned)$": r"\1\2",
    r"^(explored.*)\bsurvival$": r"\1survived",
    r"^best\.validation$": "best.val_accuracy",
    r"^best\.metrics\.accuracy$": "best.test_accuracy",
    r"\bmetrics_after_cut(\.accuracy)?$": "accuracy_after_cut",
    r"\bmetrics\.accuracy$": "accuracy",
}
#: Parts of a report that are compared, and keys within them that are not.
SECTIONS = ("before", "after", "reduction", "metrics_after_cut", "cut_error", "best", "groups", "phases", "sections")
NOT_COMPARED = frozenset({"seconds", "latency", "latency_ms", "throughput"})
CLOSE = 1e-6  # relative; means over images are rounded, weights are not

QUICK = (
    "dataset=digits debug=quick callbacks=quiet seed=1 trainer.enable_progress_bar=false trainer.accelerator=cpu "
    "latency.max_seconds=0.1 latency.repeats=1 latency.batch_size=1 dataset.batch_size=32 trainer.limit_train_batches=8"
)
ONCE = f"{QUICK} arch=resnet8 trainer.limit_train_batches=16 train.epochs=4 train.optimizer.lr=0.05 finetune.epochs=2"
SLIMMING = (
    f"{QUICK} method=network_slimming arch=preresnet20 arch.depth=11 arch.width=8 trainer.limit_train_batches=16 "
    "train.epochs=3 sparsify.l1_strength=0.01"
)
REDUNDANCY = f"{ONCE} method=redundancy_graph arch.shortcut=conv arch.stem=tied sparsity.threshold=0.75"
CHEX = (  # stages at the beginning of epochs 0, 1, 2 and 3; channels come back at the first three
    f"{QUICK} method=chex arch=resnet8 arch.norm_scale=0.5 arch.shortcut=option_b trainer.limit_train_batches=5 "
    "explore.epochs=5 explore.optimizer.lr=0.05 explore.schedule.warmup_epochs=1 explore.callbacks.stages.interval=1 "
    "explore.callbacks.stages.last_stage=3"
)
RESREP = (  # a pull so strong that rows die within 120 steps
    f"{QUICK} method=resrep arch=resnet8 arch.shortcut=option_b dataset.batch_size=16 trainer.limit_train_batches=60 "
    "gradient_reset.epochs=2 gradient_reset.optimizer.lr=0.1 gradient_reset.lasso_strength=0.04 "
    "gradient_reset.compactor_momentum=0.9 gradient_reset.callbacks.masks.start=0 "
    "gradient_reset.callbacks.masks.interval=3 "
    "gradient_reset.callbacks.masks.granularity=10 gradient_reset.callbacks.masks.threshold=0.002"
)
MASK = "finetune.callbacks.prune.execution=mask"
TWO = "trainer=ddp_fork trainer.devices=2 dataset.batch_size=16"
#: Name to overrides.
RUNS = {
    "demo": "experiment=demo callbacks=quiet trainer.enable_progress_bar=false trainer.accelerator=cpu "
    "latency.max_seconds=0.1 latency.repeats=1 latency.batch_size=1",
    "chip": f"{ONCE} method=chip",
    "chip_mask": f"{ONCE} method=chip {MASK}",
    "chip_two": f"{ONCE} method=chip {TWO}",
    "chip_layerwise": f"{ONCE} method=chip sparsity=layerwise 'sparsity.rates=\"[0.]+[0.25]*2+[0.5]*3\"'",
    "chip_resumed": f"{ONCE} method=chip checkpoint.every_n_steps=3",
    "magnitude": f"{ONCE} method=magnitude finetune.callbacks.prune.epochs=[0,1]",
    "magnitude_mask": f"{ONCE} method=magnitude finetune.callbacks.prune.epochs=[0,1] {MASK}",
    "random": f"{ONCE} method=random",
    "random_mask": f"{ONCE} method=random {MASK}",
    "network_slimming": SLIMMING,
    "network_slimming_mask": f"{SLIMMING} {MASK}",
    "network_slimming_two": f"{SLIMMING} {TWO}",
    "network_slimming_passes": f"{SLIMMING} passes=2",
    "redundancy_graph": REDUNDANCY,
    "redundancy_graph_mask": f"{REDUNDANCY} {MASK}",
    "resrep": RESREP,
    "resrep_coupled": f"{RESREP} arch.stem=tied criterion.policy=coupled",
    "chex": CHEX,
    "chex_mask": f"{CHEX} explore.callbacks.stages.execution=mask",
    "chex_two": f"{CHEX} {TWO}",
    "chex_whole_shortcuts": f"{CHEX} remove_scatters=true",
    "chex_resumed": f"{CHEX} checkpoint.every_n_steps=3",
}
#: Runs that are killed when this checkpoint is there with at least so many optimizer steps, and then resumed.
KILLED = {"chip_resumed": ("phases/2-finetune/last.ckpt", 9), "chex_resumed": ("phases/1-explore/last.ckpt", 12)}


def command(*overrides: str) -> list[str]:
    """The command line that runs ``overrides``."""
    return [sys.executable, "-m", "pruning_lit", *overrides]


def words(overrides: str) -> list[str]:
    """Overrides one by one; a later one of the same key replaces an earlier one."""
    return list({word.partition("=")[0]: word for word in shlex.split(overrides)}.values())


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command on one thread, without a GPU; what it prints is appended to ``log``."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    with log.open("ab") as printed:
        return subprocess.Popen(arguments, stdout=printed, stderr=subprocess.STDOUT, env=environment)


def kill_at(process: subprocess.Popen[bytes], checkpoint: Path, step: int) -> None:
    """SIGKILL as soon as ``checkpoint`` has reached the optimizer step; an error if the run ends before that."""
    while process.poll() is None:
        if checkpoint.is_file() and torch.load(checkpoint, weights_only=True)["global_step"] >= step:
            process.kill()
            process.wait()
            return
        time.sleep(0.005)
    raise RuntimeError(f"ended with code {process.returncode} before {checkpoint} had {step} steps")


def run(folder: Path, name: str) -> None:
    """One run of the table, into ``folder/name``."""
    target, log = folder.resolve() / name, folder.resolve() / f"{name}.log"
    arguments = command(*words(RUNS[name]), f"hydra.run.dir={target}")
    if name in KILLED:
        checkpoint, step = KILLED[name]
        kill_at(start(arguments, log), target / checkpoint, step)
        arguments = command(f"resume={target}")
    code = start(arguments, log).wait()
    if code or not (target / "report.json").is_file():
        raise RuntimeError(f"{name} ended with code {code}, see {log}")


def weights(product: Path) -> str:
    """SHA-256 of names, types, shapes and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(product).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def figures(report: dict[str, object]) -> dict[str, object]:
    """Path to number of what is compared, as ``phases.0:train.accuracy``, ``groups.1:conv1.kept``."""

    def flat(path: tuple[str, ...], value: object) -> Iterator[tuple[str, object]]:
        if isinstance(value, dict):
            for key, each in value.items():
                if key not in NOT_COMPARED:
                    yield from flat((*path, key), each)
        elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
            for index, each in enumerate(value):  # the index tells phases of several passes apart
                name = str(each.get("name", each.get("group", "")))
                yield from flat((*path, f"{index}:{name}".rstrip(":")), each)
        elif isinstance(value, list):
            if not any(isinstance(each, str) for each in value):
                yield ".".join(path), value
        elif not isinstance(value, str):
            yield ".".join(path), value

    return {former(path): value for path, value in flat((), {key: report.get(key) for key in SECTIONS})}


def former(path: str) -> str:
    """The path of a figure in the fingerprints of earlier versions."""
    for pattern, name in FORMER_FIGURES.items():
        path = re.sub(pattern, name, path)
    return path


def same_figure(one: object, other: object) -> bool:
    """Whether two figures agree: numbers up to rounding, all else exactly; an empty list as nothing."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=CLOSE)
    return one == other or (one in (None, []) and other in (None, []))


def collect(folder: Path) -> None:
    """Write ``fingerprints.json`` of all finished runs in ``folder``."""
    runs = {
        path.parent.name: {
            "weights": weights(path.parent / "pruned" / "model.safetensors"),
            "figures": figures(json.loads(path.read_text(encoding="utf-8"))),
        }
        for path in sorted(folder.glob("*/report.json"))
    }
    text = json.dumps({"torch": torch.__version__, "runs": runs}, indent=1)
    (folder / "fingerprints.json").write_text(text + "\n", encoding="utf-8")


def compare(one: Path, other: Path) -> bool:
    """Print what is equal, as a table in Markdown; whether everything is."""
    first, second = (json.loads(path.read_text(encoding="utf-8")) for path in (one, other))
    if first["torch"] != second["torch"]:
        print(f"torch {first['torch']} and {second['torch']}: bits may differ for that reason alone\n")
    print("| name | weights equal | figures equal |\n| --- | --- | --- |")
    same = True
    for name in sorted(first["runs"].keys() | second["runs"].keys()):
        a, b = (runs["runs"].get(name) for runs in (first, second))
        if a is None or b is None:
            print(f"| {name} | only in {one if b is None else other} | |")
            same = False
            continue
        x, y = a["figures"], b["figures"]
        told = [f"{key}: {x[key]} / {y.get(key)}"[:80] for key in x if not same_figure(x[key], y.get(key))]
        equal = a["weights"] == b["weights"]
        print(f"| {name} | {'yes' if equal else 'NO'} | {'NO: ' + '; '.join(sorted(told)) if told else 'yes'} |")
        same = same and equal and not told
    return same


def main() -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "collect", "compare"])
    parser.add_argument("paths", nargs="+", type=Path, help="FOLDER, or the two files to compare")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME", help=", ".join(RUNS))
    given = parser.parse_args()
    if len(given.paths) != (2 if given.what == "compare" else 1):
        parser.error("run and collect take one folder, compare two files")
    if given.what == "compare":
        sys.exit(0 if compare(*given.paths) else 1)
    failed: list[str] = []
    given.paths[0].mkdir(parents=True, exist_ok=True)
    for name in given.only if given.what == "run" else []:
        began = time.monotonic()
        try:
            run(given.paths[0], name)
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        except RuntimeError as error:
            failed.append(name)
            print(error, flush=True)
    collect(given.paths[0])
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
