"""A config calls only what it may, and what somebody has allowed on the command line of this very run."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from torch import nn

from pruning_lit import evaluate, export, inspect
from pruning_lit.channels import save
from pruning_lit.command_line.configs import CONF
from pruning_lit.command_line.resume import KEPT, with_resume
from pruning_lit.command_line.targets import NAMES, WRITTEN_IN, names_allowed, permission, require_allowed
from pruning_lit.system.preemption import Preempted
from pruning_lit.system.trusted import trusted, within
from tests.commands import TINY

ONES_OWN = """
from pathlib import Path
from torch import nn

Path("imported").touch()


def net(num_classes=10):
    first, last = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), nn.Linear(8, num_classes)
    return nn.Sequential(first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> str:
    """The name of a module in the current folder, which leaves the file ``imported`` when it is."""
    name = "own_for_targets"
    (tmp_path / f"{name}.py").write_text(ONES_OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def targets_in(node: object) -> list[str]:
    """Those of a file, as they stand there."""
    if isinstance(node, list):
        return [target for each in node for target in targets_in(each)]
    if not isinstance(node, dict):
        return []
    named = [str(node["_target_"])] if "_target_" in node else []
    return named + [target for key, each in node.items() if key != "hydra" for target in targets_in(each)]


def test_whatever_is_configured_here_may_be_called():
    named = {target for file in CONF.rglob("*.yaml") for target in targets_in(yaml.safe_load(file.read_text()))}
    assert len(named) > 30
    assert [target for target in named if trusted(target, NAMES, WRITTEN_IN) is None] == []


@pytest.mark.parametrize(
    "target",
    [
        "torch.optim.RMSprop",
        "torch.optim.lr_scheduler.StepLR",
        "torch.nn.CrossEntropyLoss",
        "torchvision.models.mobilenet_v2",
        "pruning_lit.models.vgg.vgg_bn",
        "pytorch_lightning.callbacks.EarlyStopping",
        "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
        "pytorch_lightning.loggers.CSVLogger",
        "pytorch_lightning.strategies.DDPStrategy",
        "pytorch_lightning.profilers.SimpleProfiler",
        "pytorch_lightning.plugins.environments.SLURMEnvironment",  # written in lightning_fabric
    ],
)
def test_what_people_put_into_configs_needs_no_permission(target):
    require_allowed(OmegaConf.create({"key": {"_target_": target}}))


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "functools.partial",
        "hydra.utils.get_method",
        "hydra.utils.instantiate",
        "torch.load",
        "torch.hub.load",
        "mynet.Net",
        "Net",
        "",
        "pruning_lit.models.torchvision.inspect.os.system",  # passes through a module of ours
        "pruning_lit.models.weights.torch.load",
        "torch.nn.modules.module.torch.hub.load",
        "torch.nn.modules.module.OrderedDict",  # only imported there
        "torchvision.models._api.load_state_dict_from_url",
        "torchvision.models.resnet.partial",
        "torch.optim.optimizer.Path",
        "pruning_lit.runs.builder.build",  # resolves any name it is given
        "pruning_lit.runs.builder._constructor",
        "pruning_lit.runs.phase_runner.instantiate",
        "pruning_lit.system.atomic.write_text",  # writes any file
        "pytorch_lightning.loggers.csv_logs.save_hparams_to_yaml",
        "pytorch_lightning.callbacks.ModelCheckpoint.load_state_dict",  # no class or function of a module
        "pruning_lit.models",
        "torch.nnx.Module",
        "torch.nn..Module",
        "torch.nn.Module\0",
    ],
)
def test_all_else_is_refused_by_key_and_name(target):
    with pytest.raises(ValueError, match=r"a config may by itself name only") as error:
        require_allowed(OmegaConf.create({"criterion": {"_target_": target}}))
    assert str(error.value).startswith(f"criterion._target_={target}: ")
    ready = "add allow_targets=[" in str(error.value)  # a command is put together for one's own code alone
    assert ready == (target in ("mynet.Net", "Net"))
    require_allowed(OmegaConf.create({"criterion": {"_target_": target}}), [target])


@pytest.mark.parametrize("code", [{"_target_": "mynet.f"}, {"_target_": "mynet.f", "_args_": [1], "_partial_": True}])
@pytest.mark.parametrize(
    "place", ["dataset.root", "criterion.num_images", "train.optimizer", "callbacks.mine", "train.callbacks.deep.down"]
)
def test_it_is_found_wherever_it_is(place, code):
    config = OmegaConf.create({"dataset": {"_target_": "pruning_lit.data.Digits"}})
    for value, key in ((code, place), ([1, [code]], f"{place}.1.0"), ({"_args_": [code]}, f"{place}._args_.0")):
        OmegaConf.update(config, place, value, merge=False)
        with pytest.raises(ValueError, match=rf"^{re.escape(key)}\._target_=mynet.f: .* add allow_targets=\[mynet\]$"):
            require_allowed(config)


@pytest.mark.parametrize(
    "text",
    [
        "x: {_target_: '${name}'}\nname: mynet.f",
        "x: {_target_: 'my${name}'}\nname: net.f",
        "x: ${y}\ny: ${z}\nz: {_target_: mynet.f}",
        "x: '${oc.create:\"{_target_: mynet.f}\"}'",
        "x: \"${oc.decode:'{a: [{_target_: mynet.f}]}'}\"",
        "x: '${oc.env:TARGET_FOR_TESTS}'\ny: {_target_: '${x}'}",
    ],
)
def test_interpolations_are_followed(text, monkeypatch):
    monkeypatch.setenv("TARGET_FOR_TESTS", "mynet.f")
    with pytest.raises(ValueError, match=r"_target_=mynet.f: a config may"):
        require_allowed(OmegaConf.create(text))


def test_text_that_would_become_a_target_when_it_is_built_is_refused():
    """Hydra resolves what it builds, and looks at the result once more."""
    text = "x: {_target_: torch.nn.Identity, a: '\\${oc.create:\"{_target_: mynet.f}\"}'}"
    with pytest.raises(ValueError, match=r"^x.a is the text '\$\{oc.create"):
        require_allowed(OmegaConf.create(text))


def test_what_is_missing_is_left_to_whom_it_is_missed_by():
    config = {
        "a": "???",
        "b": "${a}",
        "c": {"_target_": "???"},
        "d": {"_target_": "${nowhere}"},
        "e": None,
        "f": [None],
    }
    require_allowed(OmegaConf.create(config))


def test_what_is_allowed_is_meant_part_by_part():
    assert within("mynet.Net", ["mynet"])
    assert within("mynet.Net", ["other", "mynet.Net"])
    assert not within("mynet.Net", ["my"])
    assert not within("mynet", ["mynet.Net"])
    config = OmegaConf.create({"x": {"_target_": "mynet.Net"}, "y": {"_target_": "other.f"}})
    with pytest.raises(
        ValueError, match=r"^x._target_=mynet.Net, y._target_=other.f: .* add allow_targets=\[my,mynet,o"
    ):
        require_allowed(config, ["my"])
    with pytest.raises(ValueError, match=r"^y._target_=other.f: .* add allow_targets=\[mynet,other\]$"):
        require_allowed(config, ["mynet"])


def test_for_what_a_file_names_only_code_of_ones_own_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert (
        permission(["mypackage.parts.Net"]) == permission(["mypackage.Net", "mypackage.f"]) == "allow_targets=mypackage"
    )
    assert permission(["mynet.Net", "other.f"]) == "'allow_targets=[mynet,other]'"
    for target in ("os.system", "torch.hub.load", "torchvision.models.resnet18", "pytest.main", "builtins.eval"):
        assert permission(["mynet.Net", target]) is None


@pytest.mark.slow
def test_what_others_want_to_be_called_is_no_advice(tmp_path, monkeypatch, capfd):
    """The command that a refusal tells is typed by whoever reads it."""
    monkeypatch.chdir(tmp_path)
    for target, key in (("os.system", "command"), ("shutil.rmtree", "path")):
        save(nn.Linear(1, 1), "evil.safetensors", {"_target_": target, key: "touch executed"})
        for command, words in ((export, ["format=pt2"]), (evaluate, ["dataset=digits"])):
            code, printed = called(command, monkeypatch, capfd, "path=evil.safetensors", *words)
            told = " ".join(printed.split())
            assert code == 1
            assert f"wants to be built by {target}, and no file" in told
            assert told.endswith("by itself: add arch._target_=mynet.Net")
            assert "executed" not in told


@pytest.mark.parametrize("value", ["my net", ["my-net"], [""], ["*"], [3], {"a": 1}, ["mynet."]])
def test_what_is_no_name_cannot_be_allowed(value):
    with pytest.raises(ValueError, match=r"allow_targets lists packages, modules"):
        names_allowed(OmegaConf.create({"value": value}).value)


# The commands


def refused(code: int, printed: str, key: str) -> str:
    told = " ".join(printed.split())
    assert code == 1
    assert f"{key}: a config may by itself name only" in told
    assert re.search(r"if you trust what it names, add allow_targets=\[[\w,.]+\]", told)
    assert "Traceback" not in printed
    assert not Path("imported").exists(), "the module was imported"
    return told


def called(command, monkeypatch, capfd, *words: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["command", *words])
    capfd.readouterr()
    code: object = 0
    try:
        command.main()
    except SystemExit as stop:
        code = stop.code
    printed = "".join(capfd.readouterr())
    return (1, printed + code) if isinstance(code, str) else (int(code or 0), printed)  # type: ignore[call-overload]


@pytest.mark.slow
def test_a_network_of_ones_own_runs_where_it_is_allowed_and_only_there(cli, own):
    words = [*TINY[1:], f"arch._target_={own}.net", "phases=[finetune]", "finetune.epochs=1", "sparsity=uniform"]
    refused(*cli(*words, "finetune.schedule.warmup_epochs=0", "hydra.run.dir=run"), f"arch._target_={own}.net")
    refused(*cli(*words, "allow_targets=[own_for]", "hydra.run.dir=run"), f"arch._target_={own}.net")
    assert not Path("run/phases").exists()
    allowed = (*words, "finetune.schedule.warmup_epochs=0", f"allow_targets=[{own}]", "hydra.run.dir=run")
    code, printed = cli(*allowed)
    assert code == 0, printed
    assert Path("imported").exists()
    code, printed = cli("resume=run")
    assert code == 1
    assert f"arch._target_={own}.net: a config may" in printed
    code, printed = cli("resume=run", f"allow_targets=[{own}]")
    assert code == 0, printed
    assert "is finished" in printed  # allowing is no part of what the run is


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    "word",
    [
        "+dataset.root={_target_: own_for_targets.net}",
        "+criterion.x=[{_target_: own_for_targets.net}]",
        "finetune.optimizer._target_=own_for_targets.net",
        "+callbacks.mine._target_=own_for_targets.net",
        "+trainer.plugins=[{_target_: own_for_targets.net, _partial_: true}]",
    ],
)
def test_nested_targets_are_refused_before_anything_is_imported(cli, own, word):
    key = re.sub(r"(\._target_)?=.*", "", word.lstrip("+"))
    code, printed = cli(*TINY, word, "hydra.run.dir=run")
    assert re.search(rf"{key}[\w.]*\._target_=own_for_targets.net: a config may", printed)
    refused(code, printed, "own_for_targets.net")


@pytest.mark.slow
def test_a_job_of_a_sweep_is_refused_as_well(cli, own):
    words = (f"arch._target_={own}.net", "seed=1,2", "hydra.sweep.dir=sweep")
    code, printed = cli("-m", *TINY[1:], *words)
    assert code == 1
    assert f"arch._target_={own}.net: a config may" in printed
    assert not Path("imported").exists()


@pytest.mark.slow
def test_inspect_asks_for_permission(monkeypatch, capfd, own):
    words = (f"arch._target_={own}.net", "input_shape=[3,32,32]", "hydra.run.dir=look")
    refused(*called(inspect, monkeypatch, capfd, *words), f"arch._target_={own}.net")
    code, printed = called(inspect, monkeypatch, capfd, *words, f"allow_targets=[{own}]")
    assert code == 0, printed


@pytest.mark.slow
def test_evaluate_and_export_ask_for_permission_and_tell_the_command_that_has_it(monkeypatch, capfd, own):
    scope: dict = {}
    exec(ONES_OWN, scope)
    save(scope["net"](), "own.safetensors", {"_target_": f"{own}.net"}, pictures={"shape": [3, 32, 32]})
    for command, words in ((export, ["format=pt2"]), (evaluate, ["dataset=digits", "latency.repeats=1"])):
        Path("imported").unlink(missing_ok=True)
        sys.modules.pop(own, None)
        words = ["path=own.safetensors", *words]
        refused(*called(command, monkeypatch, capfd, *words, f"arch._target_={own}.net"), f"arch._target_={own}.net")
        told = called(command, monkeypatch, capfd, *words)[1]
        assert told.strip().endswith(f"if you trust it, add allow_targets={own}")
        assert not Path("imported").exists()
        code, printed = called(command, monkeypatch, capfd, *words, *told.split()[-1:])
        assert code == 0, printed


@pytest.mark.slow
def test_only_what_is_typed_is_allowed_not_what_a_file_of_configs_allows(cli, own):
    text = f"# @package _global_\nallow_targets: [{own}]\nname: evil\narch: {{_target_: {own}.net}}\n"
    Path("configs/experiment").mkdir(parents=True)
    Path("configs/experiment/evil.yaml").write_text(text)
    told = cli("--config-dir=configs", *TINY[1:], "experiment=evil", "hydra.run.dir=run")
    refused(*told, f"arch._target_={own}.net")


@pytest.mark.slow
def test_the_command_told_on_leaving_allows_what_was_allowed(cli, own, monkeypatch):
    def leave(*_: object) -> None:
        raise Preempted

    monkeypatch.setattr("pruning_lit.runs.experiment.run", leave)
    code, printed = cli(f"arch._target_={own}.net", f"allow_targets=[{own}]", "hydra.run.dir=run")
    assert code == 0
    assert f"python -m pruning_lit resume=run 'allow_targets=[{own}]'" in " ".join(printed.split()).replace(
        f"{Path.cwd()}/", ""
    )


# Folders of somebody else's


def saved(folder: Path, *overrides: str) -> Path:
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    return folder


def swept(folder: Path, task: list[str], hydra: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    overrides = {"task": task, "hydra": [*hydra, "hydra.mode=MULTIRUN"]}
    (folder / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": overrides}}))
    return folder


@pytest.mark.parametrize(
    "word", ["allow_targets=[os]", "++allow_targets=[os]", "+allow_targets@x=[os]", "~allow_targets"]
)
def test_a_folder_cannot_allow_anything(tmp_path, word):
    folder = saved(tmp_path / "run", "seed=3", word)
    assert with_resume([f"resume={folder}"]) == ["seed=3", f"hydra.run.dir={folder}", KEPT]
    words = with_resume([f"resume={folder}", "allow_targets=[mynet]"])
    assert words == ["seed=3", "allow_targets=[mynet]", f"hydra.run.dir={folder}", KEPT]
    sweep = swept(tmp_path / "sweep", ["seed=1,2", word], [])
    assert word not in with_resume([f"resume={sweep}", "allow_targets=[mynet]"])


EVIL = [
    "hydra.callbacks.mine._target_=os.system",
    "+hydra.callbacks.mine={_target_: os.system}",
    "hydra={callbacks: {mine: {_target_: os.system}}}",
    "hydra.searchpath=[file:///tmp]",
    "hydra.job_logging.handlers.x.class=subprocess.Popen",
    "hydra.sweeper.params={allow_targets: '[os]'}",
    "hydra.launcher._target_=os.system",
    "hydra.launcher.setup=[touch executed]",
    "hydra.launcher.partition=a b",
    "hydra.job.env_set.LD_PRELOAD=evil.so",
    "+dataset@hydra.callbacks.mine=digits",
    "--config-dir=/tmp",
    "hydra.sweep.subdir=../../x",
    "hydra.sweep.subdir=/tmp/x",
    "hydra.sweep={subdir: ../x}",
    "hydra.sweep.subdir=${oc.env:HOME}",
    "hydra.sweep.subdir=${finetune.epochs}",
    "hydra.sweep.subdir='a/../../x'",
    "--experimental-rerun=config.pickle",
    "-m",
    "experiment=../../evil",
    "experiment=[chip,../evil]",
    "experiment=/tmp/evil",
    "experiment=${name}",
]


@pytest.mark.at_once(12)
@pytest.mark.parametrize("word", EVIL)
def test_what_a_folder_tells_hydra_that_could_run_code_is_refused_by_name_unless_typed(tmp_path, word):
    for folder in (saved(tmp_path / "run", "seed=3", word), swept(tmp_path / "sweep", ["seed=1,2"], [word])):
        key = word.lstrip("+").partition("=")[0]
        with pytest.raises(ValueError, match=re.escape(f"what is saved there sets {key}, by which")) as error:
            with_resume([f"resume={folder}"])
        assert word == key or word not in str(error.value)  # the values are those of whoever wrote them
        if word not in ("-m", "--multirun"):
            assert with_resume([f"resume={folder}", word]).count(word) == 1


def test_what_sweeps_usually_tell_hydra_is_kept(tmp_path):
    task = ["arch={_target_: mynet.Net, root: ../x}", "dataset.root=../data", "weights=../net.pt", "method=chip,random",
            "experiment=chip/resnet56_cifar10_47", "sparsity.rates='[0.]+[0.4]*2'", "~debug", "arch=[]"]  # fmt: skip
    hydra = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60", "hydra.launcher.partition=gpu"]
    hydra += ["hydra.sweep.subdir=${method}_${hydra:job.num}", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=20"]
    words = with_resume([f"resume={swept(tmp_path / 'sweep', task, hydra)}"])
    assert words[1:-2] == [*task, *hydra]


def test_a_sweep_sends_no_job_elsewhere_by_the_settings_that_name_its_folders(tmp_path):
    for number, (task, subdir) in enumerate(
        [
            (["name=../../x"], "${name}"),
            (["name=a,../../x"], "${name}"),
            (["+up=..", "name=${up}/${up}/x"], "${name}"),
            (["finetune.epochs=/tmp/x"], "${finetune.epochs}"),
        ]
    ):
        folder = swept(tmp_path / f"sweep{number}", task, [f"hydra.sweep.subdir={subdir}"])
        with pytest.raises(ValueError, match=r"sets hydra\.sweep\.subdir, by which"):
            with_resume([f"resume={folder}"])
        assert with_resume([f"resume={folder}", "hydra.sweep.subdir=mine"])[1:-2] == [*task, "hydra.sweep.subdir=mine"]


@pytest.mark.slow
def test_nothing_of_a_folder_is_executed(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = "{_target_: pathlib.Path.touch, _args_: [executed]}"
    for word in (f"+hydra.callbacks.mine={call}", f"+callbacks.mine={call}", f"+dataset.x={call}", "-m"):
        folder = saved(tmp_path / "run", *TINY, word, "allow_targets=[pathlib]")
        code, printed = cli(f"resume={folder}")
        assert code == 1, word
        assert "Traceback" not in printed
        assert not Path("executed").exists(), word


def test_overrides_that_are_none_are_told_in_one_sentence(cli, tmp_path):
    for text in ("{", "3", "{a: 1}", ""):
        folder = saved(tmp_path / "run")
        (folder / ".hydra" / "overrides.yaml").write_text(text)
        code, printed = cli(f"resume={folder}")
        assert code == 1
        assert "does not list the overrides of a command" in printed
        assert "Traceback" not in printed


def test_a_sweep_of_ones_own_code_is_refused_once_and_not_job_by_job(tmp_path):
    text = "hydra: {overrides: {task: ['allow_targets=[mynet]', 'arch._target_=mynet.Net', 'seed=1,2'], hydra: []}}\n"
    (tmp_path / "begun.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"begun with allow_targets=….*type that again") as refusal:
        with_resume([f"resume={tmp_path}"])
    assert "mynet" not in str(refusal.value)  # what a folder says is not handed out to be copied
    assert "allow_targets=[mynet]" in with_resume([f"resume={tmp_path}", "allow_targets=[mynet]"])
