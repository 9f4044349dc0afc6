"""Fingerprints of small runs, to show that a change of the code has changed no number.

    python fingerprint.py run FOLDER              run the table below, in order, and write FOLDER/fingerprints.json
    python fingerprint.py run FOLDER --only chip  these runs alone
    python fingerprint.py collect FOLDER          only write fingerprints.json anew, from what runs have left there
    python fingerprint.py compare A.json B.json   a table of what is equal; exit code 1 where something is not

A fingerprint is a hash of the product's tensors, bit by bit, and the figures of ``report.json`` but for times, versions
and hardware. Bits hold for one build of torch on one kind of processor: take both sides on the same machine. Where a
change has renamed settings or figures, :data:`RENAMED_SETTINGS` and :data:`RENAMED_FIGURES` say so.
"""

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

#: Beginning of an override in the table below to what it is in the code that is run.
RENAMED_SETTINGS: dict[str, str] = {"channel_scatter=masked": "remove_scatters=true"}
#: Key, or name of a record, in the report that is read to what it is called in the fingerprints to compare with.
RENAMED_FIGURES: dict[str, str] = {}

#: Parts of a report that are compared, by their former names, and keys within them that are not.
SECTIONS = (
    "before", "after", "reduction", "accuracy_after_cut", "cut_error", "best", "groups", "phases",
    "decided", "compacted", "explored",
)  # fmt: skip
NOT_COMPARED = frozenset({"seconds", "latency", "latency_ms", "throughput"})

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
    "chex_whole_shortcuts": f"{CHEX} channel_scatter=masked",
    "chex_resumed": f"{CHEX} checkpoint.every_n_steps=3",
}
#: Runs that are killed when this checkpoint is there with at least so many optimizer steps, and then resumed.
KILLED = {"chip_resumed": ("phases/2-finetune/last.ckpt", 9), "chex_resumed": ("phases/1-explore/last.ckpt", 12)}


def command(*overrides: str) -> list[str]:
    """The command line that runs ``overrides``, told under their present names."""
    renamed = list(overrides)
    for old, new in RENAMED_SETTINGS.items():
        renamed = [new + each[len(old) :] if each.startswith(old) else each for each in renamed]
    return [sys.executable, "-m", "pruning_lit", *renamed]


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
    """Path to number of what is compared, under the former names: ``phases.train.accuracy``, ``groups.conv1.kept``."""

    def flat(path: tuple[str, ...], value: object) -> Iterator[tuple[str, object]]:
        if isinstance(value, dict):
            for key, each in value.items():
                name = str(RENAMED_FIGURES.get(key, key))
                if name not in NOT_COMPARED:
                    yield from flat((*path, name), each)
        elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
            for index, each in enumerate(value):  # the index tells phases of several passes apart
                name = str(each.get("name", each.get("group", "")))
                yield from flat((*path, f"{index}:{RENAMED_FIGURES.get(name, name)}".rstrip(":")), each)
        elif isinstance(value, list):
            if not any(isinstance(each, str) for each in value):
                yield ".".join(path), value
        elif not isinstance(value, str):
            yield ".".join(path), value

    return {path: value for path, value in flat((), report) if path.partition(".")[0] in SECTIONS}


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
        told = [f"{key}: {x.get(key, 'none')} / {y.get(key, 'none')}"[:80] for key in x.keys() | y.keys()
                if key not in x or key not in y or x[key] != y[key]]  # fmt: skip
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
