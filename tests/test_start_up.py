"""A command loads no more than it needs: refusals do without torch, and all but training without Lightning."""

import atexit
import json
import subprocess
import sys

import pytest

from tests.commands import environment

#: One after the other in one process: each stage's words, and what is in that process behind it. The run itself is left
#: out, as its first line has to be there before the modules of a run are.
STAGES = """
import json, sys, types
from importlib import import_module

run = sys.modules["pruning_lit.runs.experiment"] = types.ModuleType("pruning_lit.runs.experiment")
run.run = lambda config, folder: None
for name, module, *words in json.loads(sys.argv[1]):
    sys.argv = [module, *words]
    try:
        import_module(module).main()
    except SystemExit as stop:
        print(stop.code)
    print("\\nLOADED", name, json.dumps(sorted(sys.modules)), flush=True)
"""
EXPORTER = """
import pruning_lit.runs.export
print("\\nLOADED", "exporter", json.dumps(sorted(sys.modules)))
"""
RUN = "pruning_lit.__main__"
COMMANDS = {
    "help": [RUN, "--help"],
    "misspelt": [RUN, "train.epoch=3"],
    "wrong_type": [RUN, "train.epochs=x"],
    "not_allowed": [RUN, "arch._target_=mynet.Net"],
    "inspect_help": ["pruning_lit.inspect", "--help"],
    "export_help": ["pruning_lit.export", "--help"],
    "no_report": ["pruning_lit.report", "path=nowhere"],
    "demo": [RUN, "experiment=demo"],
    "inspect": ["pruning_lit.inspect", "arch=resnet8"],
}
TOLD = {
    "misspelt": "there is no setting train.epoch",
    "wrong_type": "train.epochs must be a whole number, got 'x'",
    "not_allowed": "add allow_targets=[mynet]",
    "no_report": "no folder 'nowhere'",
    "demo": "folder of this run: ",
    "inspect": "75,290 parameters",
}
FOR_TRAINING = {"pytorch_lightning", "lightning_fabric", "torchmetrics", "tensorboard", "sklearn"}
FOR_SOME_NETWORKS = {"torchvision", "networkx"}  # torchvision's, and their pruning by redundancy graphs
FOR_WORK = {"torch", "numpy", "scipy", "matplotlib"}


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """What each command that does without torch printed, and the modules that were there behind it."""
    return stages(tmp_path_factory, [name for name in COMMANDS if name != "inspect"], "")


@pytest.fixture(scope="module")
def heavy(tmp_path_factory):
    """The same of a look at a network, and of what an export imports."""
    return stages(tmp_path_factory, ["inspect"], EXPORTER)


def stages(tmp_path_factory, names: list[str], more: str) -> dict[str, tuple[str, set[str]]]:
    listed = json.dumps([[name, *COMMANDS[name]] for name in names])
    done = subprocess.run(
        [sys.executable, "-c", STAGES + more, listed],
        cwd=tmp_path_factory.mktemp("start_up"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    found, printed = {}, ""
    for line in done.stdout.splitlines():
        if line.startswith("LOADED "):
            _, name, modules = line.split(" ", 2)
            found[name], printed = (printed, set(json.loads(modules))), ""
        else:
            printed += line + "\n"
    return found


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "inspect"])
def test_help_refusals_and_the_first_line_of_a_run_need_no_torch(light, name):
    printed, modules = light[name]
    assert TOLD.get(name, f"python -m {COMMANDS[name][0].removesuffix('.__main__')}") in printed
    assert not modules & (FOR_WORK | FOR_TRAINING | FOR_SOME_NETWORKS)


def test_a_look_at_a_network_loads_nothing_for_training_nor_for_other_networks(heavy):
    printed, modules = heavy["inspect"]
    assert TOLD["inspect"] in printed
    assert modules >= FOR_WORK
    assert not modules & (FOR_TRAINING | FOR_SOME_NETWORKS)


def test_an_export_loads_nothing_for_training(heavy):
    _, modules = heavy["exporter"]
    assert "pruning_lit.runs.network_file" in modules
    assert not modules & FOR_TRAINING


def test_commands_in_one_process_leave_one_function_for_its_end(cli):
    cli("train.epochs=many")
    registered = atexit._ncallbacks()
    for _ in range(3):
        assert cli("train.epochs=many")[0] == 1
    assert atexit._ncallbacks() == registered
