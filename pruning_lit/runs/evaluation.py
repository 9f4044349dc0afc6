"""Evaluation of finished networks on any images, one of them or several side by side."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from pruning_lit.callbacks import Recalibration
from pruning_lit.channels import Cost, cost, trace
from pruning_lit.channels.inputs import first_tensor
from pruning_lit.command_line.paths import named_paths
from pruning_lit.command_line.setting_types import require_types
from pruning_lit.command_line.targets import allowed
from pruning_lit.data import DataModule, ImageData
from pruning_lit.measure.forward_pass import ForwardPass, forward_passes
from pruning_lit.measure.machine import hardware, versions
from pruning_lit.measure.memory import COUNTED
from pruning_lit.measure.stopwatch import Stopwatch
from pruning_lit.reports.console import open_console
from pruning_lit.reports.evaluation import Evaluated, Evaluation, evaluation_table, explanation
from pruning_lit.runs.experiment import build_task, open_data
from pruning_lit.runs.file_trust import needs_builder
from pruning_lit.runs.network_file import NetworkFile
from pruning_lit.runs.phase_checkpoint import PhaseCheckpoint
from pruning_lit.runs.phase_runner import on_gpu
from pruning_lit.runs.preprocessing import Normalisation, TrainingInputs
from pruning_lit.runs.settings import changed
from pruning_lit.runs.stored import open_stored
from pruning_lit.runs.threads import stay_within_quota
from pruning_lit.tasks import Task, evaluate

Stored = NetworkFile | PhaseCheckpoint


def evaluate_stored(config: DictConfig, folder: Path, typed: Sequence[str] = ()) -> None:
    """Measure the networks, print the table, and write ``evaluation.md`` and ``evaluation.json`` into ``folder``.

    Args:
        config: see ``conf/evaluate.yaml``.
        folder: for the files.
        typed: the command line as it was.

    Raises:
        ValueError, FileNotFoundError: one sentence on what a user can mend.
    """
    stay_within_quota()
    paths = named_paths(config.path, "the folder of a run, a network file or a checkpoint")
    device, stopwatch = chosen_device(config.accelerator), instantiate(config.latency)
    stored = [open_stored(path, allowed(config, typed)) for path in paths]
    dataset = chosen_dataset(config, stored)
    require_types(OmegaConf.create({"dataset": dataset}))  # the run's own is not in the config
    data = open_data(OmegaConf.create({"dataset": dataset}))
    task = build_task(OmegaConf.create(chosen_task(config, stored)), data)
    nets = [network(each, data, task, config.get("arch"), path) for path, each in zip(paths, stored, strict=True)]
    ways, notes = normalisations(paths, [each.trained_on for each in stored], data, config.normalisation)
    if config.get("arch") and not any(needs_builder(each.arch) for each in stored):
        notes.append("arch was not used: every file names a builder that it may.")
    views = [task.view(net) for net in nets]
    examples = [task.view_example(net, data.example) for net in nets]  # detectors resize images in their own ways
    # told before any measuring if it cannot be done
    costs = [cost(trace(view, example)) for view, example in zip(views, examples, strict=True)]
    renewal = recalibration(config.recalibrate)
    metrics = [measured(net, data, task, way, device, renewal) for net, way in zip(nets, ways, strict=True)]
    if renewal is not None:
        seen = f"{renewal.num_images(data):,} training examples"
        notes.append(f"The batch norms of every network have new statistics, from {seen}.")
    passes = passes_of(views, examples, stopwatch, device)
    evaluation = Evaluation(
        name=config.name,
        primary=task.primary,
        networks=[_evaluated(*each) for each in zip(paths, metrics, costs, ways, passes, strict=True)],
        pictures=described(data, task, examples),
        items=task.items,
        dataset=dataset,
        memory=COUNTED[device.type],
        threads=torch.get_num_threads(),
        notes=notes,
        command=f"python -m pruning_lit.evaluate {shlex.join(typed)}",
        versions=versions(),
        hardware=hardware(device),
    )
    evaluation.write(folder)
    show(evaluation, folder)


def recalibration(num_examples: Any) -> Recalibration | None:
    """Recalibration on so many training examples, in batches of 128; None for 0, ValueError for no number."""
    if isinstance(num_examples, bool) or not isinstance(num_examples, int) or num_examples < 0:
        raise ValueError(f"recalibrate is a number of training examples, such as 640, or 0; got {num_examples!r}")
    size = min(128, num_examples)
    return Recalibration(batches=-(-num_examples // size), batch_size=size) if num_examples else None


def chosen_device(accelerator: Any, setting: str = "accelerator") -> torch.device:
    """Device to measure on, by a setting of this name; ValueError where there is none."""
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f"{setting} is auto, cpu or gpu, got {accelerator!r}")
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"{setting}={accelerator}, but PyTorch finds no GPU here: leave it out, or choose {setting}=cpu"
        )
    return torch.device("cuda" if on_gpu(accelerator) else "cpu")


def chosen_dataset(config: DictConfig, stored: Sequence[Stored]) -> dict[str, Any]:
    """Config of the data set: the user's, or that of the first run there is, with what the user changes in it."""
    given = OmegaConf.to_container(config.get("dataset") or OmegaConf.create(), resolve=True)
    assert isinstance(given, dict)
    if "_target_" in given:
        return {str(key): value for key, value in given.items()}
    for each in stored:
        if (dataset := each.dataset()) is not None:
            return changed(dataset, {str(key): value for key, value in given.items()})
    raise ValueError(f"'{stored[0].file}' lies in no run's folder, so it has to be said on which images: add dataset=…")


def chosen_task(config: DictConfig, stored: Sequence[Stored]) -> dict[str, Any]:
    """Config of the task: the user's or that of the data set chosen, else that of the first run there is."""
    if config.get("task"):
        return {str(key): value for key, value in config.task.items()}
    return next((task for each in stored if (task := each.task())), {"_target_": "pruning_lit.tasks.Classification"})


def network(stored: Stored, data: DataModule, task: Task, arch: DictConfig | None, path: str) -> nn.Module:
    """Network of ``path``, on the CPU; ValueError where it is not one for these images."""
    stored.trained_on.require_alike(data, path)
    builder = arch if needs_builder(stored.arch) else None
    net = stored.network(builder, data.example, data.num_classes, task.view).float()  # as inputs and clocks expect
    task.require_fit(net, data)
    return net


def passes_of(
    views: Sequence[nn.Module], examples: Sequence[Any], stopwatch: Stopwatch, device: torch.device
) -> list[list[ForwardPass]]:
    """Cost of forward passes: of all networks in turns, or of one after the other where their inputs differ in size."""
    if len({first_tensor(example).shape for example in examples}) == 1:
        return forward_passes(views, examples[0], stopwatch, device)
    passes = []
    for view, example in zip(views, examples, strict=True):
        passes += forward_passes([view], example, stopwatch, device)
        view.cpu()  # out of the way of the next one
    return passes


def normalisations(
    paths: Sequence[str], trained_on: Sequence[TrainingInputs], data: DataModule, by: Any
) -> tuple[list[Normalisation | None], list[str]]:
    """Normalisation of the images for each network, and notes on what a user may not have expected."""
    if by not in ("stored", "dataset"):
        raise ValueError(f"normalisation is stored or dataset, got {by!r}")
    if not isinstance(data, ImageData):  # nobody but the data set knows how it normalises
        return [None for _ in paths], []
    own, notes = (data.mean, data.std), []
    ways: list[Normalisation | None] = []
    for path, known in zip(paths, trained_on, strict=True):
        way, note = known.normalisation(data, path) if by == "stored" else (own, None)
        if note and way[0] is not data.mean:
            note += " normalisation=dataset takes the latter."
        ways.append(way)
        notes += [known.note_on_names(data, path), note]
    return ways, [note for note in notes if note]


def measured(
    net: nn.Module,
    data: DataModule,
    task: Task,
    way: Normalisation | None,
    device: torch.device,
    renewal: Recalibration | None = None,
) -> dict[str, float]:
    """Metrics of the task on the test part, normalised in one way; the network is back on the CPU afterwards.

    Its batch norms get new statistics first where there is a ``renewal``.
    """
    if isinstance(data, ImageData) and way is not None:
        data.mean, data.std = way
    net.to(device)
    if renewal is not None:
        renewal.renew(net, data, task)
    found = evaluate(net, data, task)
    net.cpu()
    return found


def _evaluated(
    path: str, metrics: dict[str, float], counted: Cost, way: Normalisation | None, passes: list[ForwardPass]
) -> Evaluated:
    mean, std = (values.tolist() for values in way or (torch.empty(0),) * 2)
    return Evaluated(path, metrics, counted.macs, counted.params, mean, std, passes)


def described(data: DataModule, task: Task, examples: Sequence[Any]) -> str:
    """Description of the test part, in the sizes in which networks get it."""
    sizes = dict.fromkeys("×".join(map(str, first_tensor(example).shape[1:])) for example in examples)
    return (
        f"{len(data.parts.test):,} test {task.items} of {data.title}, {' and '.join(sizes)}, {data.num_classes} classes"
    )


def show(evaluation: Evaluation, folder: Path) -> None:
    """Print the table, what it means, and notes."""
    console = open_console()
    console.print(evaluation_table(evaluation))
    for line in (*explanation(evaluation), *(f"Note: {note}" for note in evaluation.notes)):
        console.print(line, soft_wrap=True)
    console.print(f"written: {folder / 'evaluation.md'}, evaluation.json", soft_wrap=True)
