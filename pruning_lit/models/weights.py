"""Loading of foreign and native weight files into a network of the same shape, without running anything from them."""

import copy
import logging
import re
from collections.abc import Collection, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pruning_lit.channels import ChannelRelabel, adopt
from pruning_lit.models.new_head import with_new_heads
from pruning_lit.models.published import is_published_without_eps, published_weights, without_eps
from pruning_lit.models.slimming_checkpoint import adopt_widths, clash_of_widths, is_released_form, translated
from pruning_lit.models.state_dicts import find_state_dict
from pruning_lit.system.plain_data import WantsToRunCode, read_plain, refuse_code

log = logging.getLogger(__name__)
PUBLISHED = re.compile(r"\w+_Weights\.\w+")  # the name of one of torchvision's weights
MAX_NAMED = 5
OTHER_CLASSES = "; new_head=true takes all but the layers with another number of outputs, which start anew"
INSTEAD = "save the state dict alone with torch.save(model.state_dict(), path)"


def load_weights(model: nn.Module, source: str | Path, new_heads: Collection[str] = ()) -> None:
    """Fill the network, in place, with the weights of a file, or with some that torchvision publishes.

    ``.safetensors`` files are read as plain tensors, all others with ``torch.load(weights_only=True)``: a state dict,
    bare or under some key, its names behind some prefix or none; what was found where is logged, see
    ``find_state_dict``. A ``.safetensors`` file may hold a narrowed network, whose widths are
    adopted; so may one of Network Slimming's release, in whatever file, whose names are translated first
    (see ``slimming_checkpoint``). Every tensor must fit, except that batch counters (``num_batches_tracked``) and the
    ``source`` buffers of channel relabelling modules may be absent.

    Args:
        model: the network; its tensors keep their device and precision.
        source: the weight file, or a name such as ``ResNet50_Weights.IMAGENET1K_V1``.
        new_heads: names of layers that keep the weights they have where their number of outputs is another one; told
            in the log.

    Raises:
        FileNotFoundError: there is no such file, or the published one cannot be fetched.
        ValueError: torchvision publishes nothing of that name, or the file is not a readable checkpoint, needs pickled
            objects, or does not fit the network; the network is unchanged then.
    """
    fit_weights(model, _read(source), source, Path(source).suffix == ".safetensors", new_heads)


def fit_weights(
    model: nn.Module, content: Any, source: str | Path, narrower: bool, new_heads: Collection[str] = ()
) -> None:
    """Fill the network, in place, with tensors by name; errors are those of ``load_weights``.

    Args:
        model: the network.
        content: the tensors, also of Network Slimming's release, or a checkpoint that has them somewhere.
        source: where they come from, for errors.
        narrower: they may be of a narrowed network, whose widths are adopted.
        new_heads: as for ``load_weights``.
    """
    found, fitting = find_state_dict(content, sorted(_required(model)), source), copy.deepcopy(model)
    weights, where = found.weights, f" ({found.where})" if found.where else ""
    if released := is_released_form(weights, model):
        weights = _in_our_form(weights, fitting, source)
        adopt_widths(fitting, weights)
    weights, heads = with_new_heads(model, weights, new_heads)
    if narrower and not released:
        adopt(fitting, weights)
    misfits = _misfits(fitting, weights)
    if released and not misfits and (clash := clash_of_widths(fitting)):
        misfits = [clash]
    if misfits:
        raise ValueError(
            f"the weights in '{source}'{where} do not fit the {type(model).__name__}: {_some(misfits)}; build the "
            "network (depth, form, number of classes) that they were saved from"
            f"{OTHER_CLASSES if _only_other_outputs(fitting, weights) else ''}"
        )
    adopt(model, {name: weights[name] for name in fitting.state_dict() if name in weights})
    model.load_state_dict(weights, strict=False)  # strict but for what _misfits tolerates
    if where:
        left_out = f"; left out: {_some(found.left_out)}" if found.left_out else ""
        log.info("the weights in '%s' are found %s%s", source, found.where, left_out)
    for head in heads:
        log.info("%s starts anew: it has %d outputs, %d in '%s'", head.layer, head.own, head.stored, source)
    if new_heads and not heads:
        log.warning("new_head=true, but all layers have as many outputs as in '%s': none starts anew", source)


def _some(texts: list[str]) -> str:
    more = f", and {len(texts) - MAX_NAMED} more" if len(texts) > MAX_NAMED else ""
    return ", ".join(texts[:MAX_NAMED]) + more


def _in_our_form(weights: dict[str, Tensor], fitting: nn.Module, source: str | Path) -> dict[str, Tensor]:
    try:
        return translated(weights, fitting)
    except ValueError as error:
        raise ValueError(f"'{source}' is no whole network of Network Slimming's release: {error}") from error


def _read(source: str | Path) -> Any:
    """The content of a file, or the tensors that torchvision publishes."""
    path = Path(source)
    if not path.is_file():
        if PUBLISHED.fullmatch(str(source)):
            return published_weights(str(source))
        raise FileNotFoundError(
            f"there is no weight file '{path}'; give the path of a checkpoint or a .safetensors file"
        )
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_checkpoint(path)
    return without_eps(content) if is_published_without_eps(path.name) else content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        refuse_code(path, INSTEAD)
        raise ValueError(f"'{path}' is no safetensors file, or a damaged one: {error}") from error


def _read_checkpoint(path: Path) -> Any:
    """Unpickle with torch's restricted reader."""
    try:
        return read_plain(path, INSTEAD)
    except (PermissionError, WantsToRunCode):
        raise
    except Exception as error:  # the bytes of a damaged file can raise anything
        raise ValueError(
            f"'{path}' is no checkpoint that torch.load reads with weights_only=True: it is damaged, incomplete or "
            "of another kind; get it again, or save the state dict with torch.save(model.state_dict(), path)"
        ) from error


def _required(model: nn.Module) -> set[str]:
    """Names of the tensors without which weights are not the network's."""
    relabels = {f"{name}.source" for name, module in model.named_modules() if isinstance(module, ChannelRelabel)}
    return {name for name in model.state_dict().keys() - relabels if not name.endswith("num_batches_tracked")}


def _only_other_outputs(model: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """True where all tensors are there, and those that do not fit differ in the number of outputs alone."""
    own = model.state_dict()
    return weights.keys() <= own.keys() and all(
        name in weights and weights[name].shape[1:] == own[name].shape[1:] for name in _required(model)
    )


def _misfits(model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Say of every key that is missing, unexpected or of another shape what is wrong with it, the kinds in turn."""
    own, required = model.state_dict(), _required(model)
    missing = [f"{key} is missing" for key in own if key in required and key not in weights]
    unexpected = [f"{key} is unexpected" for key in weights if key not in own]
    reshaped = [
        f"{key} is {tuple(weights[key].shape)} in the file and {tuple(tensor.shape)} in the network"
        for key, tensor in own.items()
        if key in weights and weights[key].shape != tensor.shape
    ]
    return [misfit for kinds in zip_longest(missing, unexpected, reshaped) for misfit in kinds if misfit]
