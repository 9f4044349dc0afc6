"""A dense network teaches its pruned one, from the command line: in every method, by two processes, resumed."""

import csv
import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pruning_lit.channels import save
from pruning_lit.models import cifar_resnet
from tests.commands import EVERY, TINY, run_command, start
from tests.conftest import read_report
from tests.stopping import stop

MAGNITUDE = ("method=magnitude", *(word for word in TINY if not word.startswith("criterion.")))
ONE_PHASE = [word for word in MAGNITUDE if not word.startswith(("method=", "train.", "finetune."))]
CACHED = ("distillation.cache=true", "dataset.pad=0")
METHODS = {"explore": "chex", "gradient_reset": "resrep", "sparsify": "network_slimming"}


@pytest.fixture
def weights(tmp_path) -> Path:
    """Weights of a dense network."""
    torch.manual_seed(5)
    torch.save(cifar_resnet(8, num_classes=10).state_dict(), tmp_path / "dense.pt")
    return tmp_path / "dense.pt"


def last_figures(folder: Path) -> dict[str, float]:
    with open(folder / "metrics.csv") as file:
        return {f"{row['phase']} {row['name']}": float(row["value"]) for row in csv.DictReader(file)}


def test_the_dense_network_of_a_run_teaches_the_pruned_one(tmp_path):
    run_command(*MAGNITUDE, "distillation=logits", "dataset.val_fraction=0.2", f"hydra.run.dir={tmp_path}")
    figures = last_figures(tmp_path)
    assert "train train/distillation" not in figures
    assert {"finetune train/cross_entropy", "finetune train/distillation", "finetune train/agreement"} <= {*figures}
    (note,) = [note for note in read_report(tmp_path)["notes"] if "teacher" in note]
    assert note.startswith("Phase finetune was trained with the dense network as teacher (distillation=logits)")
    assert note in (tmp_path / "report.md").read_text()
    checkpoint = torch.load(tmp_path / "phases/2-finetune/last.ckpt", weights_only=True)
    assert len(checkpoint["teacher"]) == 64
    assert not any("teacher" in name or "distillation" in name for name in checkpoint["state_dict"])


@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    "loss",
    [
        ["distillation=logits"],
        pytest.param(["distillation=attention"], marks=pytest.mark.slow),
        pytest.param(["distillation=dkd", *CACHED], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, loss):
    words = (*MAGNITUDE, *loss, EVERY)
    run_command(*words, f"hydra.run.dir={tmp_path / 'whole'}")
    folder, commands = tmp_path / "killed", 0
    again = [*words, f"hydra.run.dir={folder}", *stop(save=5, number=signal.SIGKILL)]
    while not (folder / "report.json").is_file() and commands < 6:
        process, commands = start(*again), commands + 1
        printed, _ = process.communicate(timeout=200)
        assert process.returncode in (0, -signal.SIGKILL), printed[-3000:]
        again = [f"resume={folder}", "allow_targets=[tests.stopping]"]
    assert "phase finetune goes on behind optimizer step" in (folder / "run.log").read_text()
    whole, killed = (load_file(each / "pruned/model.safetensors") for each in (tmp_path / "whole", folder))
    assert all(torch.equal(tensor, killed[name]) for name, tensor in whole.items())
    one, other = (last_figures(each) for each in (tmp_path / "whole", folder))
    assert one == other


@pytest.mark.slow
def test_a_teacher_that_has_changed_stops_the_run(cli, tmp_path, weights):
    words = (*MAGNITUDE, "distillation=logits", f"weights={weights}", EVERY, f"hydra.run.dir={tmp_path / 'run'}")
    start(*words, *stop(save=4, number=signal.SIGKILL)).communicate(timeout=200)
    torch.manual_seed(6)
    torch.save(cifar_resnet(8, num_classes=10).state_dict(), weights)
    code, printed = cli(f"resume={tmp_path / 'run'}", "allow_targets=[tests.stopping]")
    assert code == 1
    assert "distillation.teacher=dense is another network than the phase was begun with" in " ".join(printed.split())
    assert "Traceback" not in printed


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("loss", [["logits"], ["logits", *CACHED], ["dist"], ["mse"], ["attention"]], ids=" ".join)
def test_two_processes_end_like_one(tmp_path, weights, loss):
    name, *more = loss
    words = (*MAGNITUDE, f"distillation={name}", *more, f"weights={weights}", "trainer.precision=64-true")
    run_command(*words, "dataset.batch_size=16", f"hydra.run.dir={tmp_path / 'one'}")
    run_command(*words, "trainer=ddp_fork", "dataset.batch_size=8", f"hydra.run.dir={tmp_path / 'two'}")
    one, two = (load_file(tmp_path / name / "pruned/model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-7, msg=lambda text, name=name: name + text)
    one, two = (last_figures(tmp_path / name) for name in ("one", "two"))
    for name in ("finetune train/distillation", "finetune train/agreement"):
        assert two[name] == pytest.approx(one[name], rel=1e-6)


@pytest.mark.slow
@pytest.mark.at_once(0)
@pytest.mark.parametrize("phase", list(METHODS))
def test_methods_that_train_in_their_own_way_learn_from_a_teacher_too(tmp_path, weights, phase):
    words = (*ONE_PHASE, f"method={METHODS[phase]}", "debug=quick", f"phases=[{phase}]", "distillation=logits")
    run_command(*words, f"weights={weights}", f"hydra.run.dir={tmp_path / 'run'}")
    assert f"{phase} train/distillation" in last_figures(tmp_path / "run")
    assert any(f"Phase {phase} was trained with the dense network" in n for n in read_report(tmp_path / "run")["notes"])


@pytest.mark.slow
def test_a_finished_run_of_another_network_is_a_teacher(tmp_path, finished):
    words = [word for word in ONE_PHASE if not word.startswith("arch=")]
    words += [
        "method=dense",
        "train.epochs=1",
        "arch=resnet20",
        "distillation=dist",
        f"distillation.teacher={finished}",
    ]
    run_command(*words, f"hydra.run.dir={tmp_path}")
    assert "train train/distillation" in last_figures(tmp_path)
    assert f"the network of {finished} as teacher" in " ".join(
        json.loads((tmp_path / "report.json").read_text())["notes"]
    )


def test_a_teacher_of_other_classes_is_refused(cli, tmp_path):
    arch = {"_target_": "pruning_lit.models.cifar_resnet", "depth": 8, "num_classes": 10}
    save(cifar_resnet(8), tmp_path / "beasts.safetensors", arch, pictures={"classes": [*"abcdefghij"]})
    words = ("arch=resnet8", "method=magnitude", "distillation=logits", f"hydra.run.dir={tmp_path / 'run'}")
    code, printed = cli(*words, f"distillation.teacher={tmp_path}/beasts.safetensors")
    told = " ".join(printed.split())
    assert code == 1
    assert "its classes are called otherwise than those of the data set; a teacher tells the same ones apart" in told


@pytest.mark.slow
def test_pixels_are_distilled_one_by_one(tmp_path):
    words = [word for word in MAGNITUDE if not word.startswith("arch=")]
    words += ["dataset=digits_segmentation", "arch=small_fcn", "arch.width=4", "dataset.num_train=96"]
    words += ["dataset.num_test=20", "distillation=dist"]
    run_command(*words, f"hydra.run.dir={tmp_path}")
    assert last_figures(tmp_path)["finetune train/agreement"] > 0


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("method=chex",), "no phase before explore trains the dense network, so give it"),
        (("method=magnitude", "phases=[train]"), "phase train learns from no teacher"),
        (("method=magnitude", "distillation.teacher=nowhere.pt"), "distillation.teacher=nowhere.pt: "),
    ],
)
def test_a_teacher_that_there_is_not_is_told_before_any_training(cli, tmp_path, overrides, told):
    words = ("arch=resnet8", "distillation=logits", *overrides, f"hydra.run.dir={tmp_path / 'run'}")
    code, printed = cli(*words)
    assert code == 1
    assert "Traceback" not in printed
    assert told in " ".join(printed.split())
    assert not (tmp_path / "run" / "phases").exists()
