"""Point clouds read from their files once, and kept in one file between runs."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pruning_lit.data.cache import read_cache, write_cache
from pruning_lit.data.cloud_augment import normalised

READING = 1  # raised whenever the same files give other clouds


def require_cache_file(cache: str | Path | None) -> Path | None:
    """Path of a cache; ValueError where it is a folder."""
    if cache is not None and Path(cache).is_dir():
        raise ValueError(f"dataset.cache is the folder '{cache}': name a file, such as '{Path(cache) / 'clouds'}'")
    return None if cache is None else Path(cache)


def cached(
    cache: Path | None, files: Sequence[Path], settings: Any, read: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Tensors from the cache, or read from the files and put there.

    Args:
        cache: the file; None: they are read in every run.
        files: what is read; the cache is made anew where one has changed.
        settings: what else the tensors depend on.
        read: reads them.
    """
    if cache is None:
        return read()
    there = [path for path in files if path.is_file()]  # `read` tells what is missing
    stats = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in there]
    digest = hashlib.sha256(json.dumps([READING, settings, stats], default=str).encode()).hexdigest()
    tensors = read_cache(cache, digest)
    if tensors is None:
        tensors = read()
        write_cache(cache, digest, tensors)
    return tensors


def as_cloud(rows: np.ndarray, path: Path | str, normals: bool, least: int) -> Tensor:
    """A cloud of float16, centred in the unit ball.

    Args:
        rows: ``(points, 3 or more)``, coordinates and perhaps normals.
        path: where they come from.
        normals: keep them, too.
        least: points that there must be.

    Returns:
        ``(points, 3)``, or ``(points, 6)`` with normals.

    Raises:
        ValueError: there are too few points, no normals, or numbers that are not finite.
    """
    if len(rows) < least:
        raise ValueError(f"'{path}' has {len(rows)} points, but dataset.num_points asks for {least}")
    width = 6 if normals else 3
    if rows.ndim != 2 or rows.shape[1] < width:
        columns = rows.shape[1] if rows.ndim == 2 else 1
        raise ValueError(
            f"'{path}' has {columns} numbers for each point, expected {width} (dataset.normals={str(normals).lower()})"
        )
    rows = rows[:, :width]
    if not np.isfinite(rows).all():
        raise ValueError(
            f"'{path}' has numbers that are not finite (point {int((~np.isfinite(rows)).any(1).argmax())})"
        )
    cloud = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
    return torch.cat([normalised(cloud[:, :3]), cloud[:, 3:]], dim=1).half()


def read_rows(path: Path, most: int | None = None, separator: str | None = None) -> np.ndarray:
    """Numbers of a text file, a row for each line.

    Args:
        path: the file.
        most: rows to read; None: all.
        separator: between numbers; None: blanks.

    Raises:
        ValueError: the file is not of numbers, or lines have different lengths.
        FileNotFoundError: it is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' is missing, but the lists of the data set name it")
    try:
        return np.loadtxt(path, dtype=np.float32, delimiter=separator, max_rows=most, ndmin=2)
    except ValueError as error:
        raise ValueError(f"'{path}' is no table of numbers: {error}") from error
