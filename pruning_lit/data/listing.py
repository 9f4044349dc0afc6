"""Listing of the image files in a folder of classes."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torchvision.datasets.folder import IMG_EXTENSIONS

from pruning_lit.data.image_file import READING

LEFT_BY_SYSTEMS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__"}


class Listing(NamedTuple):
    """The files of one part, class by class, and the number of each one's class."""

    paths: list[Path]
    targets: list[int]


def list_parts(root: Path) -> dict[str, Listing]:
    """The image files in ``train/<class>/…`` and in ``test/<class>/…`` or ``val/<class>/…``.

    Args:
        root: the folder that holds ``train``; the sorted names of its class folders are the classes.

    Returns:
        ``train``, ``test`` and, where there are both ``val`` and ``test``, ``validation``; with one of the two folders,
        that one is ``test``.

    Raises:
        FileNotFoundError: folders or images are missing.
        ValueError: the parts have different classes.
    """
    folders = {name: root / name for name in ("test", "val") if (root / name).is_dir()}
    classes = class_names(root / "train")
    if not folders:
        raise FileNotFoundError(
            f"'{root}' has no folder 'test' or 'val' beside 'train': accuracy needs images not trained on"
        )
    listings = {"train": list_images(root / "train", classes)}
    if len(folders) == 2:
        listings["validation"] = list_images(folders["val"], classes)
    listings["test"] = list_images(folders.get("test", root / "val"), classes)
    return listings


def class_names(folder: Path) -> list[str]:
    """The names of the class folders, sorted; hidden folders, and those that systems leave behind, are none.

    Raises:
        FileNotFoundError: the folder is missing, or has no class folders.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder '{folder}' is missing: images are expected in '{folder}/<class>/'")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and _holds_images(entry.name))
    if not names:
        raise FileNotFoundError(f"the folder '{folder}' is empty: images are expected in '{folder}/<class>/'")
    return names


def list_images(folder: Path, classes: Sequence[str]) -> Listing:
    """All image files below the class folders, in a fixed order.

    Args:
        folder: the part's folder.
        classes: the names of the class folders that must be there, and no others.

    Raises:
        ValueError: the class folders differ from ``classes``.
        FileNotFoundError: there are no class folders, or one has no images.
    """
    found = class_names(folder)
    if found != list(classes):
        missing, unknown = sorted(set(classes) - set(found)), sorted(set(found) - set(classes))
        raise ValueError(
            f"'{folder}' must have the same class folders as the training part: missing {missing}, unknown {unknown}"
        )
    listing = Listing([], [])
    for target, name in enumerate(classes):
        paths = sorted(_image_files(folder / name))
        if not paths:
            raise FileNotFoundError(
                f"class folder '{folder / name}' has no images ({', '.join(IMG_EXTENSIONS)}): add some, or remove it"
            )
        listing.paths.extend(paths)
        listing.targets.extend([target] * len(paths))
    return listing


def _image_files(folder: Path) -> Iterator[Path]:
    for parent, inner, files in os.walk(folder, followlinks=True):
        inner[:] = filter(_holds_images, inner)  # where the walk goes on
        for file in files:
            if file.lower().endswith(IMG_EXTENSIONS) and not file.startswith("."):
                yield Path(parent) / file


def _holds_images(folder_name: str) -> bool:
    return not folder_name.startswith(".") and folder_name not in LEFT_BY_SYSTEMS


def digest(root: Path, listings: dict[str, Listing], size: int | None) -> str:
    """A fingerprint of what decoding depends on: the rules, ``size``, the files' names, sizes and times of change."""
    parts = {
        name: [(path.relative_to(root).as_posix(), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in paths]
        for name, (paths, _) in listings.items()
    }
    return hashlib.sha256(json.dumps([READING, size, parts]).encode()).hexdigest()
