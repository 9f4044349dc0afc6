"""Files of torch, read as plain data and tensors; what would run code on being unpickled is named, and never run."""

import pickletools
import re
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch

#: What pickled tensors, and the dicts around them, consist of, beside what a pickle can hold without any name.
PLAIN = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\.\w+Storage|torch\.storage\.\w+|torch\.(Size|device|Tensor|\w+\d+)"
    r"|torch\.nn\.parameter\.\w+|torch\.serialization\._get_layout|collections\.(OrderedDict|Counter|defaultdict)"
    r"|(builtins|__builtin__)\.(set|frozenset|bytearray|complex|list|dict|int|float)|_codecs\.encode"
)
MOST = 16  # pickles behind each other; torch writes five
NAME = re.compile(r"\w+(\.\w+)+")


class WantsToRunCode(ValueError):
    """Refusal of a file that would run code; nothing of it was run."""


def read_plain(path: str | Path, instead: str) -> Any:
    """Read a file written by ``torch.save`` as plain data, on the CPU.

    Args:
        path: the file.
        instead: what a user can do where it holds more than plain data, see ``refuse_code``.

    Raises:
        WantsToRunCode: it holds pickled objects of other kinds.
        Exception: whatever torch raises for a damaged file.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # said below, where it matters
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:
        refuse_code(path, instead)
        raise


def refuse_code(path: str | Path, instead: str) -> None:
    """Raise WantsToRunCode if a file that could not be read holds code; the sentence ends with ``instead``."""
    if found := code_in(path):
        raise WantsToRunCode(
            f"{str(path)!r} wants to run code when it is read: it holds {found}, and only plain data are loaded; "
            f"{instead}"
        )


def code_in(path: str | Path) -> str | None:
    """Code in a file, in words: the first thing a careless reader would call; None: there is none.

    The file is taken apart without being executed.
    """
    with suppress(OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        if not zipfile.is_zipfile(path):
            with Path(path).open("rb") as file:
                return _in_pickles(file)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any("/code/" in name for name in names):
                return "a TorchScript program"
            for name in names:
                if name.endswith(".pkl") and (found := _in_pickles(archive.open(name))):
                    return found
    return None


def _in_pickles(file: IO[bytes]) -> str | None:
    """First name that is not plain in one pickle or in several behind each other, in words."""
    for _ in range(MOST):
        names, whole = _names(file)
        if foreign := [name for name in names if NAME.fullmatch(name) and not PLAIN.fullmatch(name)]:
            return f"a pickled {foreign[0]}"
        if not whole:
            break
    return None


def _names(file: IO[bytes]) -> tuple[list[str], bool]:
    """Dotted names that a pickle imports, and true if it could be read to its end."""
    names: list[str] = []
    texts: list[str] = ["?", "?"]  # that were put on the stack
    memo: dict[Any, str | None] = {}
    top: str | None = None
    begun = False
    try:
        for opcode, argument, _ in pickletools.genops(file):
            begun = begun or opcode.name == "PROTO"
            if opcode.name in ("GLOBAL", "INST"):
                names.append(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL":
                names.append(".".join(texts[-2:]))
            if opcode.name == "MEMOIZE" or opcode.name.endswith("PUT"):
                memo[len(memo) if argument is None else argument] = top
                continue
            top = memo.get(argument) if opcode.name.endswith("GET") else argument if "UNICODE" in opcode.name else None
            texts += [] if top is None else [top]
    except (
        Exception
    ):  # bytes that are no pickle, or no longer; most letters are an opcode, so that texts can begin well
        return names if begun else [], False
    return names, True
