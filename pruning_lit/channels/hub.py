"""A network from a folder in the form of the Hugging Face Hub, or from the Hub itself."""

import importlib.util
import re
from pathlib import Path

from torch import nn

from pruning_lit.channels.artefact import load

WEIGHTS = "model.safetensors"
INSTALL = "pip install 'pruning_lit[hub]'"


def from_pretrained(folder_or_repo: str | Path, revision: str | None = None) -> nn.Module:
    """Read a network that ``python -m pruning_lit.hub`` has written, as :func:`~pruning_lit.channels.load` does.

    Nothing that lies beside the weights is read or run; builders that a file may not name are refused.

    Args:
        folder_or_repo: a folder with ``model.safetensors``, or the name of a repository on the Hub, ``user/name``.
        revision: branch, tag or commit of the repository.

    Returns:
        The network, on the CPU, in eval mode.

    Raises:
        FileNotFoundError: there is neither such a folder nor such a repository.
        ValueError: the file is no network file, does not fit, or names a builder that it may not; or it is a
            repository, and huggingface_hub is not installed.
    """
    folder = Path(folder_or_repo)
    if folder.is_dir():
        return load(folder / WEIGHTS)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(folder_or_repo)):
        raise FileNotFoundError(f"there is no folder {str(folder_or_repo)!r}, and a repository is called user/name")
    require_hub(f"{str(folder_or_repo)!r} is no folder here, and")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return load(hf_hub_download(str(folder_or_repo), WEIGHTS, revision=revision))
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"{str(folder_or_repo)!r} is no folder here, and the Hub cannot be reached: {error}"
        ) from error
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        raise FileNotFoundError(f"the Hub has no {WEIGHTS} at {str(folder_or_repo)!r}: {error}") from error


def require_hub(why: str) -> None:
    """ValueError, which begins with ``why``, where huggingface_hub is not installed."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ValueError(f"{why} repositories on the Hub need a further package: {INSTALL}")
