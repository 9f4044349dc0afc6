"""Loading of foreign and native weight files into a network of the same shape, without running anything from them."""

import copy
import re
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pruning_lit.channels import ChannelRelabel, adopt
from pruning_lit.models.published import published_weights
from pruning_lit.models.slimming_checkpoint import adopt_widths, clash_of_widths, is_released_form, translated
from pruning_lit.system.plain_data import WantsToRunCode, read_plain, refuse_code

NESTINGS = ("state_dict", "model", "net")
WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel's and torch.compile's
PROFILER_KEYS = ("total_ops", "total_params")  # left behind by thop
PUBLISHED = re.compile(r"\w+_Weights\.\w+")  # the name of one of torchvision's weights
MAX_NAMED = 5
INSTEAD = "save the state dict alone with torch.save(model.state_dict(), path)"


def load_weights(model: nn.Module, source: str | Path) -> None:
    """Fill the network, in place, with the weights of a file, or with some that torchvision publishes.

    ``.safetensors`` files are read as plain tensors, all others with ``torch.load(weights_only=True)``: a state dict,
    bare or under ``state_dict``, ``model`` or ``net``, with or without the prefixes of wrappers; of a Lightning
    checkpoint the entries under ``net.`` count. A ``.safetensors`` file may hold a narrowed network, whose widths are
    adopted; so may one of Network Slimming's release, in whatever file, whose names are translated first
    (see ``slimming_checkpoint``). Every tensor must fit, except that batch counters (``num_batches_tracked``) and the
    ``source`` buffers of channel relabelling modules may be absent.

    Args:
        model: the network; its tensors keep their device and precision.
        source: the weight file, or a name such as ``ResNet50_Weights.IMAGENET1K_V1``.

    Raises:
        FileNotFoundError: there is no such file, or the published one cannot be fetched.
        ValueError: torchvision publishes nothing of that name, or the file is not a readable checkpoint, needs pickled
            objects, or does not fit the network; the network is unchanged then.
    """
    fit_weights(model, _read(source), source, narrower=Path(source).suffix == ".safetensors")


def fit_weights(model: nn.Module, weights: dict[str, Tensor], source: str | Path, narrower: bool) -> None:
    """Fill the network, in place, with tensors by name; errors are those of ``load_weights``.

    Args:
        model: the network.
        weights: the tensors, also of Network Slimming's release.
        source: where they come from, for errors.
        narrower: they may be of a narrowed network, whose widths are adopted.
    """
    weights, fitting = _without_wrappers(weights, model), copy.deepcopy(model)
    if released := is_released_form(weights, model):
        weights = _in_our_form(weights, fitting, source)
        adopt_widths(fitting, weights)
    elif narrower:
        adopt(fitting, weights)
    misfits = _misfits(fitting, weights)
    if released and not misfits and (clash := clash_of_widths(fitting)):
        misfits = [clash]
    if misfits:
        more = f", and {len(misfits) - MAX_NAMED} more" if len(misfits) > MAX_NAMED else ""
        raise ValueError(
            f"the weights in '{source}' do not fit the {type(model).__name__}: {', '.join(misfits[:MAX_NAMED])}{more}; "
            "build the network (depth, form, number of classes) that they were saved from"
        )
    adopt(model, {name: weights[name] for name in fitting.state_dict() if name in weights})
    model.load_state_dict(weights, strict=False)  # strict but for what _misfits tolerates


def _in_our_form(weights: dict[str, Tensor], fitting: nn.Module, source: str | Path) -> dict[str, Tensor]:
    try:
        return translated(weights, fitting)
    except ValueError as error:
        raise ValueError(f"'{source}' is no whole network of Network Slimming's release: {error}") from error


def _read(source: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, or of what torchvision publishes."""
    path = Path(source)
    if not path.is_file():
        if PUBLISHED.fullmatch(str(source)):
            return published_weights(str(source))
        raise FileNotFoundError(
            f"there is no weight file '{path}'; give the path of a checkpoint or a .safetensors file"
        )
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_checkpoint(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        refuse_code(path, INSTEAD)
        raise ValueError(f"'{path}' is no safetensors file, or a damaged one: {error}") from error


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Unpickle with torch's restricted reader and unwrap the state dict."""
    try:
        content = read_plain(path, INSTEAD)
    except (PermissionError, WantsToRunCode):
        raise
    except Exception as error:  # the bytes of a damaged file can raise anything
        raise ValueError(
            f"'{path}' is no checkpoint that torch.load reads with weights_only=True: it is damaged, incomplete or "
            "of another kind; get it again, or save the state dict with torch.save(model.state_dict(), path)"
        ) from error
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Find the state dict in a checkpoint; of a Lightning module's, the part that is the network."""
    is_lightning = isinstance(content, Mapping) and "pytorch-lightning_version" in content
    if isinstance(content, Mapping):
        content = next((content[key] for key in NESTINGS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        keys = ", ".join(map(str, list(content)[:MAX_NAMED])) if isinstance(content, Mapping) else ""
        found = f"a dict of {keys}" if keys else f"a {type(content).__name__}"
        raise ValueError(f"'{path}' holds {found}; expected a state dict, bare or under {', '.join(NESTINGS)}")
    network = {key.removeprefix("net."): tensor for key, tensor in content.items() if key.startswith("net.")}
    return network if is_lightning and network else dict(content)


def _without_wrappers(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Drop the profiler's keys, then the prefixes that all keys share and the network's own do not have."""
    weights = {key: tensor for key, tensor in weights.items() if key.rpartition(".")[2] not in PROFILER_KEYS}
    own = model.state_dict().keys()
    while own.isdisjoint(weights):
        prefix = next((wrapper for wrapper in WRAPPERS if all(key.startswith(wrapper) for key in weights)), None)
        if not weights or prefix is None:
            break
        weights = {key.removeprefix(prefix): tensor for key, tensor in weights.items()}
    return weights


def _misfits(model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Say of every key that is missing, unexpected or of another shape what is wrong with it, the kinds in turn."""
    own = model.state_dict()
    relabels = {f"{name}.source" for name, module in model.named_modules() if isinstance(module, ChannelRelabel)}
    missing = [
        f"{key} is missing"
        for key in own
        if key not in weights and key not in relabels and not key.endswith("num_batches_tracked")
    ]
    unexpected = [f"{key} is unexpected" for key in weights if key not in own]
    reshaped = [
        f"{key} is {tuple(weights[key].shape)} in the file and {tuple(tensor.shape)} in the network"
        for key, tensor in own.items()
        if key in weights and weights[key].shape != tensor.shape
    ]
    return [misfit for kinds in zip_longest(missing, unexpected, reshaped) for misfit in kinds if misfit]
