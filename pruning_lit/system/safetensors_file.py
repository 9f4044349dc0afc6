"""Safetensors files that are equal, byte for byte, where their content is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LENGTH = 8  # bytes in front of the header: how long it is, https://github.com/huggingface/safetensors#format


def write_safetensors(path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; its library alone writes the metadata in any order.

    Args:
        path: the file, overwritten.
        tensors: contiguous, none shared.
        metadata: text by name, for the header.

    Raises:
        OSError, SafetensorError: it cannot be written.
    """
    from safetensors.torch import save_file  # late: loads torch

    path.touch()
    mode = path.stat().st_mode  # as the user's files have it; the library writes such as nobody else can read
    save_file(dict(tensors), path, metadata=dict(metadata))
    path.chmod(mode)
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(text) == length:  # always so but for escapes that are written in another way
            file.seek(LENGTH)
            file.write(text)
