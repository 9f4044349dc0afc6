"""The wheel holds all that a run needs: it works in an environment that has never seen the checkout."""

import os
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def run(*command: str | Path, folder: Path) -> str:
    """Run a command in ``folder``, without any path of the caller's; what it printed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "PIP_"))}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built with what is installed here: nothing is downloaded."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, folder=folder)
    (built,) = folder.glob("pruning_lit-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder of a fresh environment with the wheel in it; everything else comes from the present environment."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", "env", folder=folder)
    pip = [sys.executable, "-m", "pip", "--python", folder / "env" / "bin" / "python"]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, folder=folder)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    # .pth files of the folders named here are not read, so that an editable install does not lead back to the checkout
    (packages / "present.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder


def test_the_wheel_holds_the_configs_inside_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name.removeprefix("pruning_lit/conf/") for name in archive.namelist() if "/conf/" in name}
    expected = {path.relative_to(ROOT / "conf").as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    assert expected <= held


def test_the_wheel_holds_every_module_and_no_tests(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.endswith(".py")}
    assert held == {path.relative_to(ROOT).as_posix() for path in (ROOT / "pruning_lit").rglob("*.py")}


def test_the_package_is_imported_from_the_fresh_environment(installed):
    where = run(installed / "env/bin/python", "-c", "import pruning_lit; print(pruning_lit.__file__)", folder=installed)
    assert Path(where.strip()).is_relative_to(installed / "env")


@pytest.mark.parametrize("start", [["python", "-m", "pruning_lit"], ["pruning-lit"]], ids=["module", "script"])
def test_an_experiment_is_composed_from_the_configs_in_the_wheel(installed, start):
    program = installed / "env" / "bin" / start[0]
    printed = run(program, *start[1:], "--cfg", "job", "experiment=chip/resnet56_cifar10_47", folder=installed)
    config = OmegaConf.create(printed)
    assert config.sparsity.rates == "[0.]+[0.15]*2+[0.4]*27"
    assert (config.arch.depth, config.name, config.finetune.epochs) == (56, "chip/resnet56_cifar10_47", 400)


def test_a_run_of_the_installed_package_goes_to_its_end(installed):
    tiny = ["arch=resnet8", "method=magnitude", "callbacks=quiet", "trainer=cpu", "trainer.limit_train_batches=1"]
    short = ["train.epochs=1", "finetune.epochs=1", "finetune.schedule.warmup_epochs=0", "hydra.run.dir=out"]
    run(installed / "env/bin/python", "-m", "pruning_lit", *tiny, *short, folder=installed)
    assert (installed / "out" / "report.json").is_file()
    assert (installed / "out" / "pruned" / "model.safetensors").is_file()
