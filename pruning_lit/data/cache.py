"""Decoded images kept in a file, for as long as the images they came from do not change."""

import logging
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pruning_lit.system.atomic import replacing
from pruning_lit.system.checksum import checksum
from pruning_lit.system.safetensors_file import write_safetensors

log = logging.getLogger(__name__)


def read_cache(path: Path, digest: str) -> dict[str, Tensor] | None:
    """The tensors in a cache file, or None, with a line in the log, when it is stale, damaged or cannot be read.

    Args:
        path: the file; it need not exist.
        digest: of what the tensors were made from.

    Raises:
        ValueError: the file is of another kind; it would be overwritten.
    """
    if not path.exists():
        return None
    _require_cache(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("digest") == digest:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
                if metadata.get("checksum") in (None, checksum(tensors)):  # earlier versions have written none
                    return tensors
                log.warning("the cache '%s' is damaged (its checksum differs) and is made anew", path)
                return None
    except (SafetensorError, OSError) as error:
        log.warning("the cache '%s' cannot be read (%s) and is made anew", path, error)
        return None
    log.info("the images, dataset.size or how files are read have changed since '%s': it is made anew", path)
    return None


def _require_cache(path: Path) -> None:
    """ValueError for what was never a cache; a damaged one still begins like one."""
    with path.open("rb") as file:
        begin = file.read(4096)[8:]  # behind the length of the header
    if begin and b'"digest"' not in begin:
        raise ValueError(
            f"dataset.cache names '{path}', which is no cache of images and would be lost: name another file"
        )


def write_cache(path: Path, digest: str, tensors: dict[str, Tensor]) -> None:
    """Write a cache file, whole or not at all; with a line in the log where that cannot be done.

    Args:
        path: the file, replaced in one step; missing folders are made.
        digest: of what the tensors were made from.
        tensors: what to keep.
    """
    try:
        with replacing(path) as draft:
            write_safetensors(draft, tensors, {"digest": digest, "checksum": checksum(tensors)})
    except (SafetensorError, OSError) as error:
        log.warning("the cache '%s' cannot be written (%s): the next run decodes the images again", path, error)
