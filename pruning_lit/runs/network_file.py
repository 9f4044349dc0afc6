"""A network file, named by itself or by its run, and the builders that only a user may name."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import nn

from pruning_lit.command_line.targets import permission
from pruning_lit.runs.builder import build, own_call


def network_file(path: str | Path) -> Path:
    """The file itself, or the one in a run's folder.

    Raises:
        ValueError: it is a folder, but not that of a finished run.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    file = path / "pruned" / "model.safetensors"
    if not file.is_file():
        raise ValueError(f"{str(path)!r} is not the folder of a finished run: it has no pruned/model.safetensors")
    return file


def user_built(stated: Mapping[str, Any], given: Mapping[str, Any] | None, file: Path) -> nn.Module | None:
    """The dense network to be filled, by the builder the user has named; None: the file names one that it may.

    Args:
        stated: what the file says of its builder; of an untrusted one nothing but the number of classes is used.
        given: what the user says.
        file: for the error.

    Raises:
        ValueError: there is no builder, it does not fit, or the file names one that only a user may.
    """
    if given is not None:
        if not isinstance(given, Mapping) or "_target_" not in given:
            raise ValueError(
                "arch._target_=… has to name the builder of the network, such as "
                "arch._target_=mynet.Net allow_targets=[mynet]"
            )
        num_classes = None if "num_classes" in given else stated.get("num_classes")
        return build(OmegaConf.create(dict(given)), num_classes if isinstance(num_classes, int) else None)
    if "_target_" not in stated:
        raise ValueError(
            f"{str(file)!r} does not say how to build its network: add arch._target_=my.module.Net allow_targets=[my]"
        )
    if own_call(dict(stated)):
        values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in stated.items()}
        options = shlex.join(f"arch.{key}={value}" for key, value in values.items())
        raise ValueError(
            f"{str(file)!r} wants to be built by {stated['_target_']}, and no file runs code of your own by itself: "
            f"add {options}{permission(str(stated['_target_']))}"
        )
    return None
