"""A network in a file: safetensors weights, with the recipe to build it and its widths as JSON text inside."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pruning_lit.channels.bounded import Bounded
from pruning_lit.channels.modules.attached import KINDS
from pruning_lit.channels.surgery.widths import adopt
from pruning_lit.system.atomic import replacing
from pruning_lit.system.checksum import WrongChecksum, checksum
from pruning_lit.system.disk import reason
from pruning_lit.system.plain_data import refuse_code
from pruning_lit.system.safetensors_file import write_safetensors
from pruning_lit.system.trusted import trusted_builder

FORMAT = "pruning_lit/1"
START_WEIGHTS = ("weights", "pretrained", "checkpoint")  # arguments by which builders would fetch weights


def save(model: nn.Module, path: str | Path, arch: Mapping[str, Any] | None = None, **notes: Any) -> None:
    """Write a network, narrowed or not.

    Args:
        model: the network.
        path: the file, by custom ``*.safetensors``; folders are made.
        arch: ``_target_`` (dotted name of the builder) and its keyword arguments. Without it, ``load`` needs the dense
            model.
        notes: further plain data to keep in the file's header (accuracy, kept positions, …).

    Raises:
        OSError: it cannot be written; what was there is still there.
    """
    text = json.dumps({"format": FORMAT, "arch": dict(arch) if arch else None, "widths": _widths(model), **notes})
    weights = _unshared(model)
    with replacing(path) as draft:
        try:
            write_safetensors(draft, weights, {"pruning_lit": text, "checksum": checksum(weights, text)})
        except SafetensorError as error:  # a full disk, too
            raise OSError(f"the network {str(path)!r} cannot be written: {reason(draft.parent, error)}") from error


def load(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """Read a network written by ``save``: build it, adopt the widths in the file, fill in the weights.

    Args:
        path: the file.
        model: the dense network to fill, where the file does not say how to build it. It is changed in place.

    Returns:
        The network, on the CPU, in eval mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file, or does not fit.
    """
    header, weights = read(path)
    if model is None:
        model = build(header.get("arch"), path, weights)
    adopt(model, weights)
    _fill(model, weights, path)
    return model.eval()


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors of a file written by ``save``; errors are those of ``load``."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            header = json.loads(text := metadata.get("pruning_lit", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
        refuse_code(path, "expected a network file, such as pruned/model.safetensors in the folder of a run")
        raise ValueError(
            f"{str(path)!r} is not a readable network file ({error}); "
            "expected one such as pruned/model.safetensors in the folder of a run"
        ) from error
    if metadata.get("checksum", expected := checksum(weights, text)) != expected:  # earlier versions wrote none
        raise WrongChecksum(
            f"{str(path)!r} is damaged (its checksum differs): take a copy of it; resume=<folder> of the run that has "
            "written it writes it again"
        )
    parts = (header, *(header.get(key) or {} for key in ("arch", "pictures"))) if isinstance(header, dict) else ()
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise ValueError(f"{str(path)!r} is not a readable network file: its header does not describe a network")
    return header, weights


def build(arch: Mapping[str, Any] | None, path: str | Path, weights: Mapping[str, Any]) -> nn.Module:
    """The dense network that a file describes.

    Args:
        arch: ``_target_`` and arguments, as plain data.
        path: the file, for errors.
        weights: in the file; a network far larger than that is not built.

    Raises:
        ValueError: the builder is missing, or none that a file may name, or it fails, or makes no network.
    """
    if not arch or "_target_" not in arch:
        raise ValueError(f"{str(path)!r} does not say how to build its network; pass the dense model to load")
    arguments = dict(arch)
    target = str(arguments.pop("_target_"))
    if (builder := trusted_builder(target)) is None:
        raise ValueError(
            f"{str(path)!r} wants to be built by {target!r}, which is not trusted; pass the dense model to load"
        )
    arguments = {key: None if key.startswith(START_WEIGHTS) else value for key, value in arguments.items()}
    try:
        with Bounded(each for each in weights.values() if isinstance(each, Tensor)):
            model = builder(**arguments)
    except Exception as error:  # arguments from anywhere lead a builder to anything
        raise ValueError(f"{str(path)!r} cannot be built by {target!r} with {arguments}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{str(path)!r} wants to be built by {target!r}, which makes no network")
    return model


def _fill(model: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    for name, tensor in model.state_dict().items():
        if name in weights and weights[name].shape != tensor.shape:
            raise ValueError(
                f"{str(path)!r} does not fit the network: {name!r} is {tuple(weights[name].shape)} there, "
                f"{tuple(tensor.shape)} in the network"
            )
    missing, unexpected = model.load_state_dict(weights, strict=False)
    shared = model.state_dict().keys() - _unshared(model).keys()
    if unexpected or set(missing) - shared:
        wrong = [*unexpected, *sorted(set(missing) - shared)]
        raise ValueError(f"{str(path)!r} does not fit the network: {len(wrong)} names differ, among them {wrong[:5]}")


def _unshared(model: nn.Module) -> dict[str, Tensor]:
    """The state with each tensor once, though several modules may use it; attached children at each of their layers."""
    seen: set[int] = set()
    attached = {kind.name for kind in KINDS}
    state = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):  # extra state, which no file of tensors holds
            continue
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor.detach().cpu().contiguous()
        elif not attached.isdisjoint(name.split(".")):  # ``adopt`` looks for them there
            state[name] = tensor.detach().cpu().clone()
    return state


def _widths(model: nn.Module) -> dict[str, int]:
    """Output channels of every convolution and linear layer, for people who look into the file."""
    layers = (nn.modules.conv._ConvNd, nn.Linear)
    return {
        name: int(getattr(module, "out_channels", None) or module.out_features)  # type: ignore[arg-type]
        for name, module in model.named_modules()
        if isinstance(module, layers)
    }
