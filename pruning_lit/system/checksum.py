"""Checksums by which flipped bits are noticed: CRC-32, which any change of up to 32 bits in a row alters.

It is in the files themselves: torch writes one for every part of a checkpoint, but does not look at it on reading.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class WrongChecksum(ValueError):
    """Damage of a file that can be read all the same."""


def require_whole(path: Path) -> None:
    """Require of a file written by ``torch.save`` that every part of it is as it was written.

    Raises:
        zipfile.BadZipFile: it is not.
    """
    with zipfile.ZipFile(path) as archive:
        if part := archive.testzip():
            raise zipfile.BadZipFile(f"the checksum of {part} differs")


def checksum(tensors: "Mapping[str, Tensor]", text: str = "") -> str:
    """Checksum of tensors, with their names, types and shapes, and of a text."""
    import torch  # late: files are named and looked for by commands that do without

    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
