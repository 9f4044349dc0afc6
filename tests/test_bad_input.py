"""What a user can mend ends in one sentence and exit code 1, before any training."""

import re
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load

from pruning_lit.models import cifar_resnet
from pruning_lit.reports.record import Report
from tests.commands import TINY


@pytest.fixture
def images(tmp_path):
    """A small image folder: two classes, train and test."""
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / "pictures" / part / label
            folder.mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (32, 32), (40 * number, 0, 0)).save(folder / f"{number}.png")
    return tmp_path / "pictures"


def refused(cli, tmp_path, *overrides: str) -> str:
    code, printed = cli(*TINY, f"hydra.run.dir={tmp_path / 'run'}", *overrides)
    assert code == 1
    assert "Traceback" not in printed
    assert not (tmp_path / "run" / "phases").exists(), "training had begun"
    return " ".join(printed.split())


@pytest.mark.at_once(1)
@pytest.mark.parametrize("rates", ["[0.]+[0.15]*2+[0.4]*26", "[0.]+[0.15]*2+[0.4]*28"])
def test_a_list_of_the_wrong_length_is_answered_with_the_layout(cli, tmp_path, rates):
    told = refused(cli, tmp_path, "arch=resnet56", "sparsity=layerwise", f'sparsity.rates="{rates}"')
    assert f"has {29 if rates.endswith('26') else 31} entries, but this network takes 30 rates" in told
    assert "1 for the stem (conv1)" in told
    assert "2 for the residual streams (layer1.0.conv2, layer2.0.conv2)" in told
    assert "27 for the blocks" in told


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize("rate", ["1.0", "1.5"])
def test_a_rate_outside_its_range(cli, tmp_path, rate):
    assert f"{rate} lies outside [0, 1)" in refused(cli, tmp_path, "sparsity=uniform", f"sparsity.rate={rate}")


def test_an_unknown_experiment(cli, tmp_path):
    told = refused(cli, tmp_path, "experiment=chip/resnet57")
    assert "there is no experiment called 'chip/resnet57'" in told
    assert "resnet56_cifar10_47" in told


def test_a_missing_weights_file(cli, tmp_path):
    assert "there is no weight file 'nowhere.pt'" in refused(cli, tmp_path, "weights=nowhere.pt")


@pytest.mark.slow
def test_weights_of_another_architecture(cli, tmp_path):
    torch.save(cifar_resnet(14).state_dict(), tmp_path / "other.pt")
    told = refused(cli, tmp_path, f"weights={tmp_path / 'other.pt'}")
    assert "layer1.1.conv1.weight is unexpected" in told


def test_a_missing_data_folder(cli, tmp_path):
    told = refused(cli, tmp_path, "dataset=image_folder", f"dataset.root={tmp_path / 'nowhere'}")
    assert "nowhere/train' is missing" in told


def test_an_empty_data_folder(cli, tmp_path):
    (tmp_path / "empty" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "empty" / "test" / "cat").mkdir(parents=True)
    told = refused(cli, tmp_path, "dataset=image_folder", f"dataset.root={tmp_path / 'empty'}")
    assert str(tmp_path / "empty") in told


def test_a_corrupt_image_is_named(cli, tmp_path, images):
    (images / "train" / "cat" / "2.png").write_bytes(b"no image")
    told = refused(cli, tmp_path, "dataset=image_folder", f"dataset.root={images}")
    assert "train/cat/2.png" in told


def test_no_data_folder_given(cli, tmp_path):
    assert "a value has to be given: dataset.root" in refused(cli, tmp_path, "dataset=image_folder")


def test_rates_not_given_are_asked_for_by_the_name_that_sets_them(cli, tmp_path):
    assert "a value has to be given: sparsity.rates=" in refused(cli, tmp_path, "sparsity=layerwise")


def test_resuming_a_folder_that_is_no_run(cli, tmp_path):
    assert "is not the folder of a run" in refused(cli, tmp_path, f"resume={tmp_path}")


def test_resuming_a_folder_that_does_not_exist(cli, tmp_path):
    assert "there is no such folder" in refused(cli, tmp_path, f"resume={tmp_path / 'nowhere'}")


def test_a_target_that_cannot_be_met(cli, tmp_path):
    told = refused(cli, tmp_path, "sparsity.reduction=0.999")
    assert "cannot be met" in told
    assert "at most 0.995" in told


@pytest.mark.slow
def test_pruning_that_would_never_happen(cli, tmp_path):
    assert "never happens" in refused(cli, tmp_path, "finetune.callbacks.prune.epochs=[2]")


def test_a_key_that_nobody_knows(cli, tmp_path):
    assert "there is no setting criterion.power; there are" in refused(cli, tmp_path, "+criterion.power=2")
    assert "there is no setting criterion.power in what has been" in refused(cli, tmp_path, "criterion.power=2")


def test_a_phase_that_nobody_knows(cli, tmp_path):
    told = refused(cli, tmp_path, "phases=[train,distil]")
    assert "does not describe a phase called ['distil'], but ['train', 'finetune']" in told


@pytest.mark.at_once(1)
@pytest.mark.parametrize("phases", ["[]", "[train,train]"])
def test_no_phase_and_the_same_one_twice(cli, tmp_path, phases):
    told = refused(cli, tmp_path, f"phases={phases}")
    assert "must name phases of this method, ['train', 'finetune'], each once" in told


@pytest.mark.slow
def test_what_is_said_of_a_finished_run_works_when_it_is_done(cli, tmp_path):
    run = tmp_path / "run"
    network, last, begun = run / "pruned/model.safetensors", run / "phases/2-finetune/last.ckpt", run / ".hydra"
    assert cli(*TINY, "train.epochs=1", "finetune.epochs=1", f"hydra.run.dir={run}")[0] == 0
    whole, before = load(network.read_bytes()), (begun / "overrides.yaml").read_text()
    network.write_bytes(network.read_bytes()[:-40] + bytes(40))
    (run / "report.json").write_text("{")
    with pytest.raises(ValueError, match="; resume=<folder> of the run writes it again"):
        Report.read(run)
    told = refused(cli, tmp_path / "other", f"weights={network}")
    assert f"'{network}' is damaged (its checksum differs): take a copy of it; resume=<folder> of the run" in told
    assert cli(f"resume={run}")[0] == 0
    Report.read(run)
    torch.testing.assert_close(load(network.read_bytes()), whole, rtol=0, atol=0)
    for name, was in ("seed", "1"), ("trainer.limit_train_batches", "'3'"):
        code, printed = cli(f"resume={run}", f"{name}=2")
        assert (code, f"{name} was {was} and is " in printed) == (1, True), printed
    assert (begun / "overrides.yaml").read_text() == before
    last.write_bytes(last.read_bytes()[:5000])
    code, printed = cli(f"resume={run}")
    assert code == 1
    assert "Traceback" not in printed
    named = re.findall(r"'(\w+\.ckpt)'", printed.partition("; delete ")[2])
    for name in named:
        (last.parent / name).unlink()
    assert named
    assert cli(f"resume={run}")[0] == 0
    torch.testing.assert_close(load(network.read_bytes()), whole, rtol=0, atol=0)


@pytest.mark.slow
def test_a_phase_shorter_than_its_warm_up_is_named(cli, tmp_path):
    told = refused(cli, tmp_path, "finetune.epochs=1", "finetune.schedule.warmup_epochs=5")
    assert "finetune.schedule.warmup_epochs is 5, but finetune.epochs is 1" in told


@pytest.mark.slow
def test_a_reader_may_stop_reading_the_help():
    words = [sys.executable, "-m", "pruning_lit", "--help"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
