"""A run's network in the form of the Hugging Face Hub: weights, ``config.json`` and a model card."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pruning_lit.channels import artefact
from pruning_lit.channels.hub import WEIGHTS, require_hub
from pruning_lit.reports.model_card import model_card
from pruning_lit.reports.record import Report
from pruning_lit.runs.network_file import network_file
from pruning_lit.system.atomic import replacing, write_text
from pruning_lit.system.one_line import in_one_line


def write_folder(path: str, to: str | None = None, license: str | None = None, base_model: str | None = None) -> Path:
    """Write ``model.safetensors``, as the run has left it, ``config.json`` and ``README.md``.

    Args:
        path: folder of a finished run.
        to: folder for the files; None: ``hub`` in that of the run.
        license: of the weights, for the card.
        base_model: repository of the dense network, for the card.

    Returns:
        The folder.

    Raises:
        FileNotFoundError, ValueError: ``path`` is not the folder of a finished run.
    """
    run = Path(path)
    if not run.is_dir():
        raise FileNotFoundError(
            f"path={path}: there is no such folder; a card is made from the report of a finished run"
        )
    file, report = network_file(run), Report.read(run)
    folder = run / "hub" if to is None else Path(to)
    if folder.is_file():
        raise ValueError(f"to={to} is a file; the network needs a folder")
    header, weights = artefact.read(file)
    with replacing(folder / WEIGHTS) as draft:
        shutil.copyfile(file, draft)
    write_text(folder / "config.json", json.dumps(hub_config(header, weights, report), indent=2) + "\n")
    write_text(folder / "README.md", model_card(report, license, base_model))
    return folder


def hub_config(header: Mapping[str, Any], weights: Mapping[str, Tensor], report: Report) -> dict[str, Any]:
    """The content of ``config.json``: timm's keys where it has them, ours beside them.

    Args:
        header: of the network file.
        weights: in it.
        report: of the run.
    """
    images, arch = header.get("pictures") or {}, header.get("arch") or {}
    layers = header.get("widths") or {}
    kernels = {name: weights[f"{name}.weight"] for name in layers if f"{name}.weight" in weights}
    classes = images.get("classes")
    num_classes = arch.get("num_classes") or (len(classes) if classes else None)
    heads = [name for name, width in layers.items() if width == num_classes]
    prepared = {
        "input_size": images.get("shape"),
        "mean": images.get("mean"),
        "std": images.get("std"),
        "classifier": heads[-1] if heads else None,
        **_resizing(report.config.get("dataset") or {}),
    }
    return {
        "library_name": "pruning_lit",
        "architecture": report.choices.get("arch") or str(arch.get("_target_", "")).rpartition(".")[2],
        "arch": arch or None,
        "widths": {name: [kernel.shape[0], kernel.shape[1]] for name, kernel in kernels.items()},
        "num_classes": num_classes,
        "label_names": classes,
        "pretrained_cfg": {key: value for key, value in prepared.items() if value is not None},
    }


def _resizing(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Resizing of images in timm's words; empty where all images are of one size."""
    side = dataset.get("size") or dataset.get("image_size")
    if not isinstance(side, int):  # images of one size, or detectors', which are scaled without a crop
        return {}
    whole = str(dataset.get("_target_", "")).endswith("ImageNet")
    shorter = (dataset.get("resize_size") or side * 8 / 7) if whole else side
    return {"interpolation": "bilinear", "crop_pct": round(side / shorter, 4), "crop_mode": "center"}


def require_repository(repo: str) -> None:
    """ValueError where it is no name of a repository, or the package for it is missing."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise ValueError(f"repo={repo}: a repository is called user/name")
    require_hub(f"repo={repo}:")


def push(folder: Path, repo: str) -> str:
    """Upload a folder to the Hub, with the login of whoever runs this; the repository is made where there is none.

    Args:
        folder: as ``write_folder`` has written it.
        repo: ``user/name``.

    Returns:
        The address of the commit.

    Raises:
        ValueError: the Hub refuses, or is not reached.
    """
    from huggingface_hub import HfApi

    try:
        hub = HfApi(library_name="pruning_lit")
        hub.create_repo(repo, exist_ok=True)
        return str(hub.upload_folder(repo_id=repo, folder_path=folder, commit_message="Pruned by pruning_lit"))
    except Exception as error:  # whatever the network, the login or the Hub comes upon
        raise ValueError(f"{str(folder)!r} was written, but not uploaded to {repo!r}: {in_one_line(error)}") from error
