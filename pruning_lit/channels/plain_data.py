"""Files of torch, read as plain data and tensors; what would run code on being unpickled is named, and never run."""

import pickletools
import re
import zipfile
from collections.abc import Iterator
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
STRINGS = ("UNICODE", "STRING")  # ends of the names of opcodes that put a text on the stack


class WantsToRunCode(ValueError):
    """A file that would run code if it were read as it wants to be; nothing of it was run."""


def read_plain(path: str | Path, instead: str) -> Any:
    """What is in a file written by ``torch.save``, on the CPU.

    Args:
        path: the file.
        instead: what a user can do where it holds more than plain data, see ``refuse_code``.

    Raises:
        WantsToRunCode: it holds pickled objects of other kinds.
        Exception: whatever torch raises for a damaged file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:
        refuse_code(path, instead)
        raise


def refuse_code(path: str | Path, instead: str) -> None:
    """WantsToRunCode, if a file that could not be read holds code; told in one sentence that ends with ``instead``."""
    if found := code_in(path):
        raise WantsToRunCode(
            f"{str(path)!r} wants to run code when it is read: it holds {found}, and only plain data are loaded; "
            f"{instead}"
        )


def code_in(path: str | Path) -> str | None:
    """What would be called by a careless reader of the file, in words; None: it holds nothing of the kind.

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
    """The first name that is not plain, in one pickle or in several behind each other."""
    with suppress(Exception):  # bytes that are no pickle, or no longer, can lead to anything
        while True:
            names, texts, begun = [], ["?", "?"], False
            try:
                for opcode, argument, _ in pickletools.genops(file):
                    begun = begun or opcode.name == "PROTO"
                    if opcode.name.endswith(STRINGS):
                        texts.append(str(argument))
                    names += _named(opcode.name, argument, texts)
            except Exception:
                if not begun:  # text that begins like a pickle: any letter is some opcode
                    return None
                return next(_foreign(names), None)
            if found := next(_foreign(names), None):
                return found
    return None


def _named(opcode: str, argument: Any, texts: list[str]) -> list[str]:
    """The dotted name that an opcode imports, if it does."""
    if opcode in ("GLOBAL", "INST"):
        return [str(argument).replace(" ", ".")]
    return [".".join(texts[-2:])] if opcode == "STACK_GLOBAL" else []


def _foreign(names: list[str]) -> Iterator[str]:
    return (f"a pickled {name}" for name in names if not PLAIN.fullmatch(name))
