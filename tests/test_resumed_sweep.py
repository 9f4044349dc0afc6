"""A sweep that was killed and continued ends like an uninterrupted one; TensorBoard compares its jobs."""

import csv
import os
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from omegaconf import OmegaConf

from pruning_lit.command_line.resume import GOES_ON, SweepBegun, with_resume
from pruning_lit.runs.settings import decides_result
from tests.commands import TINY, run_command, start

SWEEP = (
    "-m", *(word for word in TINY if not word.startswith("criterion.")), "train.epochs=1", "finetune.epochs=1",
    "method=magnitude,random", "checkpoint.every_n_steps=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    """The folder of two jobs."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "sweep"
    run_command(*SWEEP, f"hydra.sweep.dir={folder}")
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """The same, but killed while the second job, which has taken its training over from the first, was fine-tuned."""
    folder = tmp_path_factory.mktemp("killed") / "sweep"
    process = start(*SWEEP, f"hydra.sweep.dir={folder}")
    kill_when(process, folder / "1" / "phases" / "2-finetune" / "last.ckpt")
    assert (folder / "0" / "report.json").is_file()
    assert not (folder / "1" / "report.json").exists(), "killed too late to prove anything"
    return folder


def kill_when(process, path):
    """SIGKILL as soon as the file has appeared."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None and not path.is_file():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def figures(folder):
    """The lines of summary.csv, without what is measured in time."""
    with (folder / "summary.csv").open(newline="") as file:
        timed = ("latency", "throughput")
        return [{key: cell for key, cell in row.items() if not key.startswith(timed)} for row in csv.DictReader(file)]


def written(folder):
    """When every file of a job was last written to, but those of Hydra, which it writes for every job anew."""
    own = [path for path in folder.rglob("*") if path.is_file() and path.name != "run.log" and path.suffix != ".yaml"]
    return {path: path.stat().st_mtime_ns for path in own}


@pytest.mark.slow
def test_a_killed_sweep_is_continued_to_the_same_summary(uninterrupted, killed):
    before = written(killed / "0")
    printed = run_command(f"resume={killed}")
    assert [f"job {job} is finished, not run again" in printed for job in range(2)] == [True, False]
    assert "phase train is finished" in printed
    assert "phase finetune goes on behind optimizer step" in " ".join(printed.split())
    assert written(killed / "0") == before
    assert figures(killed) == figures(uninterrupted)
    assert [row["status"] for row in figures(killed)] == 2 * ["finished"]


@pytest.mark.slow
def test_finished_jobs_of_other_settings_are_not_taken_for_these(uninterrupted, tmp_path, cli):
    sweep = shutil.copytree(uninterrupted, tmp_path / "sweep")
    before, rows = written(sweep / "0"), figures(sweep)
    code, printed = cli(f"resume={sweep}", "finetune.epochs=2", "method=magnitude")
    assert code == 1
    assert "finetune.epochs=2 method=magnitude would make other jobs than those that the sweep was" in printed
    assert written(sweep / "0") == before
    assert figures(sweep) == rows  # the table says what the reports were made with


@pytest.mark.slow
def test_what_does_not_change_the_result_may_be_changed_when_a_sweep_is_continued(uninterrupted, tmp_path, cli):
    sweep = shutil.copytree(uninterrupted, tmp_path / "sweep")
    code, printed = cli(f"resume={sweep}", "trainer.log_every_n_steps=2", "latency.repeats=9")
    assert code == 0
    assert printed.count("is finished, not run again") == 2


@pytest.mark.slow
def test_tensorboard_compares_the_jobs(uninterrupted):
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    events = EventMultiplexer().AddRunsFromDirectory(str(uninterrupted)).Reload()
    provider = MultiplexerDataProvider(events, str(uninterrupted))
    backend = backend_context.Context(SimpleNamespace(data_provider=provider))
    asked = api_pb2.ListSessionGroupsRequest(slice_size=99, allowed_statuses=api_pb2.Status.values())
    for tag in ("result/accuracy", "result/macs"):
        asked.col_params.add().metric.tag = tag
    shown = list_session_groups.Handler(RequestContext(), backend, "", asked).run().session_groups
    assert sorted(session.name for group in shown for session in group.sessions) == [
        f"{job}/tensorboard" for job in range(2)
    ]
    rows = {f"{row['job']}/tensorboard": row for row in figures(uninterrupted)}
    for group in shown:
        row = rows[group.sessions[0].name]
        settings, metrics = group.hparams, {value.name.tag: value.value for value in group.metric_values}
        assert settings["method"].string_value == row["method"]
        assert settings["seed"].number_value == int(row["seed"])
        assert "train.epochs" in settings  # all that the command line has set
        assert metrics["result/macs"] == int(row["macs"])
        assert metrics["result/accuracy"] == pytest.approx(float(row["accuracy"]))


def begun(folder, task, hydra=()):
    folder.mkdir()
    overrides = {"task": list(task), "hydra": [*hydra, f"hydra.sweep.dir={folder}", "hydra.mode=MULTIRUN"]}
    (folder / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": overrides}}))


def test_a_sweep_is_begun_again_with_its_overrides_its_launcher_and_what_is_added(tmp_path):
    folder = tmp_path / "sweep"
    begun(folder, ["seed=1,2", "name=${method}"], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"])
    words = with_resume([f"resume={folder}", "trainer=cpu"])
    assert words == [
        "-m", "seed=1,2", "name=${method}", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer=cpu",
        f"hydra.sweep.dir={folder}", GOES_ON,
    ]  # fmt: skip
    assert with_resume(["-m", f"resume={folder}"])[0] == "-m"
    assert with_resume(["-m", f"resume={folder}"]).count("-m") == 1


def test_what_a_sweep_was_begun_with_outlives_a_continuation_that_is_refused(tmp_path):
    folder = tmp_path / "sweep"
    begun(folder, ["seed=1,2"])
    config = OmegaConf.create(
        {"hydra": {"sweep": {"dir": str(folder)}, "overrides": {"task": ["seed=1,2"], "hydra": []}}}
    )
    SweepBegun().on_multirun_start(config)
    config.hydra.overrides.task.append("finetune.epochs=-1")
    SweepBegun(goes_on=True).on_multirun_start(config)
    (folder / "multirun.yaml").write_text("hydra: {overrides: {task: ['finetune.epochs=-1'], hydra: []}}")
    assert with_resume([f"resume={folder}"]) == ["-m", "seed=1,2", f"hydra.sweep.dir={folder}", GOES_ON]


def test_a_sweep_that_is_begun_with_more_jobs_in_its_folder_goes_on_with_all_of_them(tmp_path):
    hydra = {"sweep": {"dir": str(tmp_path)}, "overrides": {"task": ["seed=1,2"], "hydra": []}}
    config = OmegaConf.create({"hydra": hydra})
    SweepBegun().on_multirun_start(config)
    config.hydra.overrides.task = ["seed=1,2,3,4"]
    SweepBegun().on_multirun_start(config)
    assert with_resume([f"resume={tmp_path}"])[1] == "seed=1,2,3,4"


def test_a_folder_with_signs_of_the_command_line_in_its_name_is_quoted(tmp_path):
    folder = tmp_path / "lr=0.1, it's a try"
    begun(folder, ["seed=1,2"])
    assert with_resume([f"resume={folder}"])[-2] == f"hydra.sweep.dir='{tmp_path}/lr=0.1, it\\'s a try'"


def test_settings_that_would_make_other_jobs_are_refused_before_anything_is_written(cli, tmp_path):
    folder = tmp_path / "sweep"
    begun(folder, ["seed=1,2", "method=chip"])
    before = sorted(tmp_path.rglob("*"))
    for other in (
        "method=random",
        "finetune.epochs=2",
        "++train={epochs: 3}",
        "debug=quick",
        "seed=1,2,3",
        "trainer.precision=64",
        "+callbacks.stop._target_=pytorch_lightning.callbacks.EarlyStopping",
    ):
        code, printed = cli(f"resume={folder}", other)
        assert code == 1
        assert f"{other} would make other jobs than those that the sweep was begun with" in " ".join(printed.split())
    assert sorted(tmp_path.rglob("*")) == before
    same = ("trainer=ddp", "+trainer.profiler=simple", "~callbacks.epochs", "seed=1,2", "hydra/launcher=joblib", "-m")
    same += ("dataset.num_workers=2", "checkpoint.every_n_steps=5", "allow_targets=[mynet]", "latency.repeats=3")
    assert {*same} <= {*with_resume([f"resume={folder}", *same], decides_result)}


def test_callbacks_that_change_weights_are_known_by_what_the_sweep_was_begun_with():
    stop = "+callbacks.stop._target_=pytorch_lightning.callbacks.EarlyStopping"
    for word in (stop, "callbacks.stop.patience=3", "~callbacks.stop"):
        assert decides_result(word, [stop])
    assert decides_result("+callbacks.stop={_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val/loss}")
    for word in ("callbacks=quiet", "callbacks.progress.refresh_rate=3"):
        assert not decides_result(word, [stop])


def test_what_is_neither_run_nor_sweep_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not the folder of a run or a sweep"):
        with_resume([f"resume={tmp_path}"])
