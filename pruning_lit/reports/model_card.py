"""Model card of a pruned network, made from the report of its run."""

from typing import Any

import yaml

from pruning_lit.reports.document import comparison
from pruning_lit.reports.record import Report
from pruning_lit.reports.wording import markdown_table

#: Tasks of the Hub, by the classes of ours.
TASKS = {
    "Classification": "image-classification",
    "MultiLabel": "image-classification",
    "SemanticSegmentation": "image-segmentation",
    "InstanceSegmentation": "image-segmentation",
    "Detection": "object-detection",
}
#: Choices of data sets that are no names of any.
UNNAMED = ("image_folder", "datasets", "coco")


def model_card(report: Report, license: str | None = None, base_model: str | None = None) -> str:
    """The text of a ``README.md`` for the Hugging Face Hub.

    Args:
        report: of the run.
        license: of the weights, as the user has said; never guessed.
        base_model: repository of the dense network, as the user has said.
    """
    head = yaml.safe_dump(_head(report, license, base_model), sort_keys=False, allow_unicode=True)
    own = report.own_network
    load = [
        *([f"import {own.partition('(')[0].rpartition('.')[0]}"] if own else []),
        "from pruning_lit.channels import load" if own else "import pruning_lit",
        "",
        f'net = load("model.safetensors", {own})'
        if own
        else 'net = pruning_lit.from_pretrained("<this folder, or user/name>")',
    ]
    licence = license or "not stated by whoever has written this card"
    parts = [
        f"# {report.experiment}",
        "A network narrowed by structured (channel) pruning with `pruning_lit`: whole channels are gone, and what is "
        "left is an ordinary, smaller `torch.nn.Module`. On the test part:",
        "\n".join(markdown_table(["", "dense", "pruned", "change"], comparison(report))),
        *[f"> **Warning.** {each}" for each in report.missed],
        "## How to load it\n\n" + "\n".join(["```python", *load, "```"]),
        "Its layers have widths of their own, so that a constructor of the dense network, `timm.create_model` among "
        "them, cannot load these weights; `config.json` lists the widths, and how inputs are prepared. Nothing is "
        "pickled, and no code from this repository is run.",
        "## How it was made\n\n" + "\n".join(["```", report.command, "```", "", *_origin(report)]),
        f"Licence of the weights: {licence}.",
    ]
    return f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n"


def hub_task(report: Report) -> str | None:
    """The Hub's name of the task; None where it has none."""
    return TASKS.get(str((report.config.get("task") or {}).get("_target_", "")).rpartition(".")[2])


def _head(report: Report, license: str | None, base_model: str | None) -> dict[str, Any]:
    task, dataset = hub_task(report), report.choices.get("dataset")
    metrics = {name: value for name, value in (report.after.metrics or {}).items() if value is not None}
    figures = [{"type": name, "value": value} for name, value in metrics.items()]
    figures += [{"type": "macs", "value": report.after.macs}, {"type": "parameters", "value": report.after.params}]
    method = report.choices.get("method")
    head = {
        "library_name": "pruning_lit",
        "license": license,
        "base_model": base_model,
        "pipeline_tag": task,
        "tags": [each for each in (task, "channel-pruning", method) if each],
        "datasets": [dataset] if dataset and dataset not in UNNAMED else None,
        "metrics": [report.primary.name],
        "model-index": [
            {
                "name": report.experiment,
                "results": [
                    {
                        "task": {"type": task or report.primary.name},
                        "dataset": {"type": dataset or "unknown", "name": dataset or "unknown", "split": "test"},
                        "metrics": figures,
                    }
                ],
            }
        ],
    }
    return {key: value for key, value in head.items() if value is not None}


def _origin(report: Report) -> list[str]:
    facts = {
        "choices": ", ".join(f"{group}={choice}" for group, choice in report.choices.items()),
        "seed": str(report.seed),
        "hardware": report.hardware,
        "versions": ", ".join(f"{library} {version}" for library, version in report.versions.items()),
        "date": report.date,
    }
    return [f"- {name}: {value}" for name, value in facts.items() if value]
