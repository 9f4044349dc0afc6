"""A batch of a single example, which no batch norm can be trained with where its maps have one pixel."""

import copy
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from pruning_lit.data import CustomData, DataModule
from pruning_lit.phases.epoch_steps import EpochSteps
from pruning_lit.system.one_line import in_one_line
from pruning_lit.tasks.base import forward


def require_no_lone_example(
    net: nn.Module,
    data: DataModule,
    num_processes: int = 1,
    limit: int | float = 1.0,
    synchronised: bool = False,
    example: Any = None,
) -> None:
    """Refuse, before any training, batches of one example for a network that cannot be trained with one.

    Args:
        net: the network; a copy of it is tried.
        data: after ``setup``.
        num_processes: that share an epoch.
        limit: Lightning's ``limit_train_batches``.
        synchronised: batch norms see the examples of all processes.
        example: inputs of a batch of one, as large as they are in training; None: those of ``data``.

    Raises:
        ValueError: in the smallest batch of an epoch a batch norm would see one example, and two would do.
    """
    alone = smallest_batch(data, num_processes, limit) == 1 and not (synchronised and num_processes > 1)
    example = data.example if example is None else example
    if not alone or (failure := _failure(net, example)) is None:
        return
    if _failure(net, apply_to_collection(example, Tensor, lambda each: each.repeat_interleave(2, 0))) is not None:
        return  # nor with two: it asks for something else in training
    batch = data.batch_size * num_processes
    if data.batch_size == 1:
        which, remedy = "batches have", "set dataset.batch_size to 2 or more"
    else:
        which = f"the last batch of an epoch ({data.num_training:,} images, {batch:,} in a batch) has"
        remedy = "set dataset.drop_last=true, which leaves it out, or another dataset.batch_size"
    if isinstance(data, CustomData):
        remedy = "give the DataLoader for training drop_last=True, or another batch_size"
    processes = " per process" if num_processes > 1 else ""
    raise ValueError(
        f"{which} a single image{processes}, with which the network cannot be trained ({failure}): {remedy}"
    )


def smallest_batch(data: DataModule, num_processes: int, limit: int | float) -> int:
    """Examples that each process has in the smallest batch of an epoch."""
    sharing = num_processes if data.shares_epochs else 1
    rest = data.num_training % (data.batch_size * sharing) // sharing  # what is left over is trimmed
    whole_epoch = EpochSteps.of(data, num_processes).steps
    is_reached = EpochSteps.of(data, num_processes, limit).steps == whole_epoch
    return rest if rest and is_reached and not data.drop_last else data.batch_size


def _failure(net: nn.Module, inputs: Any) -> str | None:
    """The layer at which, and why, a forward pass in training mode fails; None where it does not."""
    trial = copy.deepcopy(net).train()
    reached = ["the network"]
    for name, module in trial.named_modules():
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: reached.append(name))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            forward(trial, inputs)
    except Exception as error:  # whatever somebody's forward raises
        return f"{reached[-1]}: {in_one_line(error)}"
    return None
