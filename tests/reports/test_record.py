import json
from io import StringIO

import pytest
from rich.console import Console

from pruning_lit.measure import Latency, Timing
from pruning_lit.reports import Figures, GroupRecord, Report, console_table, markdown, write_report
from pruning_lit.reports.console import open_console, table_text
from pruning_lit.tasks import Primary


def example(**changes):
    values = {
        "experiment": "chip/resnet56_cifar10_47",
        "seed": 3,
        "before": Figures(
            params=853_018,
            macs=125_485_696,
            metrics={"accuracy": 0.9326, "loss": None},
            latency_ms=8.0,
            throughput=1000.0,
        ),
        "after": Figures(
            params=426_509,
            macs=94_114_272,
            metrics={"accuracy": 0.9301, "loss": 0.2},
            latency_ms=6.0,
            throughput=1500.0,
        ),
        "metrics_after_cut": {"accuracy": 0.4125},
        "best": {
            "epoch": 7,
            "validation": 0.94,
            "metrics": {"accuracy": 0.9312},
            "path": "phases/2-fine_tune/best.ckpt",
        },
        "groups": [
            GroupRecord("layer1.0.conv1", 16, 10, positions=list(range(10))),
            GroupRecord("fc", 10, 10, "leaves the network"),
        ],
        "latency": [
            Latency(1, 30, Timing(8.0, 7.5, 9.0), Timing(6.0, 5.5, 6.5), "one abacus", 4),
            Latency(64, 30, Timing(64.0, 60.0, 70.0), Timing(32.0, 30.0, 36.0), "one abacus", 4),
        ],
        "notes": ["The target was missed by 0.1 %."],
        "command": "python -m pruning_lit experiment=chip/resnet56_cifar10_47 seed=3",
        "versions": {"torch": "2.15.0"},
        "hardware": "one abacus",
        "phases": [
            {
                "name": "train",
                "epochs": 2,
                "seconds": 12.5,
                "metrics_after_cut": None,
                "metrics": {"accuracy": 0.9326},
                "pictures_per_step": "256 (64 in each of 4 processes)",
                "taken_over_from": "0",
            },
            {
                "name": "finetune",
                "epochs": 3,
                "seconds": 20.0,
                "metrics_after_cut": {"accuracy": 0.4125},
                "metrics": {"accuracy": 0.9301},
            },
        ],
        "choices": {"method": "chip", "sparsity": "macs_50"},
        "commits": {"pruning_lit": "0123abc", "mynets": "4567def, with changes"},
        "config": {"seed": 3, "train": {"epochs": 2}},
        "date": "2025-01-02T03:04:05",
    }
    return Report(**values | changes)


def test_reductions_are_the_shares_that_are_gone():
    assert example().reduction == pytest.approx({"params": 0.5, "macs": 0.25, "latency": 0.25})


def test_a_reduction_of_something_unknown_is_unknown():
    report = example(before=Figures(0, 10), after=Figures(0, 5))
    assert report.reduction == {"params": None, "macs": 0.5, "latency": None}


NOISY = Latency(1, 30, Timing(36.3, 8.2, 41.0), Timing(8.5, 1.6, 38.0), "one abacus", 2)

OVERLAPPING = Latency(1, 30, Timing(10.0, 9.0, 11.0), Timing(9.5, 8.6, 10.4), "one abacus", 2)
UNSTEADY = Latency(1, 3, Timing(25.7, 13.5, 29.7), Timing(1.25, 1.14, 1.35), "one abacus", 2)
HARDLY = Latency(1, 2, Timing(8.0, 8.0, 8.0), Timing(6.0, 6.0, 6.0), "one abacus", 2)


@pytest.mark.parametrize("noisy", [NOISY, OVERLAPPING, UNSTEADY, HARDLY])
def test_latencies_that_overlap_or_jump_or_were_hardly_measured_are_too_noisy_to_tell(noisy):
    report = example(latency=[noisy])
    assert report.latency[0].speedup is report.reduction["latency"] is None
    assert json.loads(report.to_json())["reduction"]["latency"] is None
    rows = [line for line in markdown(report).splitlines() if line.startswith(("| latency", "| throughput"))]
    assert len(rows) == 2
    assert all(row.endswith("| too noisy to tell |") for row in rows)
    told = table_text(console_table(report))
    assert told.count("too noisy to tell") == 2
    assert "×" not in told


def test_a_report_of_clouds_speaks_of_clouds():
    text, told = markdown(example(items="clouds")), table_text(console_table(example(items="clouds")))
    assert "image" not in text + told
    for part in ("| 1,000 clouds/s | 2,000 clouds/s |", "for one cloud;", "clouds per second", "| clouds per step |"):
        assert part in text


def test_what_is_written_is_what_is_read(tmp_path):
    report = example()
    write_report(report, tmp_path)
    assert Report.read(tmp_path) == Report.read(tmp_path / "report.json") == report
    bare = Report("x", 0, Figures(1, 1), Figures(1, 1))
    assert Report.from_json(bare.to_json()) == bare
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]  # no drafts left


def test_the_json_has_the_promised_keys(tmp_path):
    write_report(example(), tmp_path)
    data = json.loads((tmp_path / "report.json").read_text())
    assert {"experiment", "seed", "before", "after", "reduction", "groups", "metrics_after_cut"} <= set(data)
    for network in ("before", "after"):
        assert {"params", "macs", "metrics", "latency_ms"} <= set(data[network])
    assert set(data["reduction"]) == {"params", "macs", "latency"}
    assert {"name", "size", "kept", "protected"} <= set(data["groups"][0])
    assert {"batch_size", "repeats", "before", "after", "speedup", "device", "threads"} <= set(data["latency"][0])
    assert set(data["latency"][0]["before"]) == {"median_ms", "lower_ms", "upper_ms"}


def test_a_failed_write_leaves_the_old_report(tmp_path):
    write_report(example(), tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        write_report(example(before=Figures(1, 1, latency_ms=float("nan"))), tmp_path)  # strict JSON has no NaN
    assert Report.read(tmp_path) == example()


def test_an_accuracy_in_per_cent_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1, got 93"):
        example(after=Figures(1, 1, {"accuracy": 93.26}))
    with pytest.raises(ValueError, match="accuracy is a share"):
        example(metrics_after_cut={"accuracy": float("nan")})
    assert example(primary=Primary("psnr", percent=False), after=Figures(1, 1, {"psnr": 31.5})).after.metrics


@pytest.mark.parametrize("text", ["", "{", "[]", '{"experiment": "x"}', '{"before": 3}'])
def test_a_damaged_report_is_refused_by_name(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ValueError, match=r"report\.json cannot be read as a report"):
        Report.read(tmp_path)


def test_a_missing_report_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no report at"):
        Report.read(tmp_path)


def test_a_report_of_a_later_version_is_read(tmp_path):
    data = json.loads(example().to_json()) | {"something_new": 1}
    assert Report.from_json(json.dumps(data)) == example()


def test_a_report_of_the_former_layout_is_read():
    """As written before metrics had names and sections a place of their own."""
    then = json.loads(example().to_json())
    former = {key: value for key, value in then.items() if key not in ("primary", "metrics_after_cut", "sections")}
    former |= {"accuracy_after_cut": 0.4125, "decided": [{"group": "a"}], "compacted": [], "explored": []}
    for network in ("before", "after"):
        metrics = former[network].pop("metrics")
        former[network]["accuracy"] = metrics["accuracy"]
    former["best"] = {"epoch": 7, "val_accuracy": 0.94, "test_accuracy": 0.9312, "path": "phases/2-fine_tune/best.ckpt"}
    for phase in former["phases"]:
        after_cut = phase.pop("metrics_after_cut")
        phase |= {"accuracy": phase.pop("metrics")["accuracy"]}
        phase |= {"accuracy_after_cut": after_cut and after_cut["accuracy"]}
    read, now = Report.from_json(json.dumps(former)), example()
    assert (read.before.metrics, read.after.metrics) == ({"accuracy": 0.9326}, {"accuracy": 0.9301})
    assert (read.primary, read.metrics_after_cut) == (now.primary, now.metrics_after_cut)
    assert (read.best, read.phases) == (now.best, now.phases)
    assert read.sections == {"redundancy": [{"group": "a"}]}
    assert markdown(read) == markdown(now)


def test_a_metric_that_is_no_share_and_better_when_lower_has_its_own_unit():
    primary = Primary("rmse", higher_is_better=False, percent=False)
    report = example(
        primary=primary, before=Figures(2, 2, {"rmse": 0.5}), after=Figures(1, 1, {"rmse": 0.75}),
        metrics_after_cut=None, best=None, phases=[],
    )  # fmt: skip
    text = markdown(report)
    assert "| rmse | 0.5 | 0.75 | +0.25 |" in text
    assert "its rmse went from 0.5 to 0.75 (+0.25)" in text
    assert "lower is better" in text
    assert "accuracy" not in text
    assert Report.from_json(report.to_json()) == report


def test_the_metric_is_told_in_words_with_its_meaning():
    primary, once = Primary("mean_iou", meaning="intersection over union"), Timing(8.0, 8.0, 8.0)
    figures = Figures(1, 1, {"mean_iou": 0.5})
    report = example(primary=primary, before=figures, after=figures, latency=[Latency(1, 1, once, once, "abacus", 4)])
    text = markdown(report)
    assert "- **mean IoU**: intersection over union, on the test part; higher is better;" in text
    assert "| mean IoU | 50.00 % | 50.00 % | +0.00 points |" in text
    assert "median (quartiles) of 1 pass of each network" in text
    assert Report.from_json(report.to_json()).primary.meaning == primary.meaning
    assert "**mean IoU**: of the task," in markdown(example(primary=Primary("mean_iou"), before=figures, after=figures))


def test_a_report_of_an_earlier_version_does_not_know_the_accuracy_of_a_phase(tmp_path):
    data = json.loads(example().to_json()) | {"phases": [{"name": "train", "epochs": 2, "seconds": 12.5}]}
    write_report(Report.from_json(json.dumps(data)), tmp_path)
    assert "| train | 2 | - | 12.5 | - | - |" in (tmp_path / "report.md").read_text()


def test_the_document_tells_the_numbers_the_reasons_and_how_to_go_on():
    text = markdown(example())
    for expected in [
        "| accuracy | 93.26 % | 93.01 % | -0.25 points |",
        "| parameters | 853,018 | 426,509 | -50.0 % |",
        "| MACs | 125,485,696 | 94,114,272 | -25.0 % |",
        "| latency, batch of 1 | 8.00 ms (7.50–9.00) | 6.00 ms (5.50–6.50) | -25.0 %, 1.33× |",
        "| latency, batch of 64 | 64.0 ms (60.0–70.0) | 32.0 ms (30.0–36.0) | -50.0 %, 2.00× |",
        "| throughput, batch of 64 | 1,000 images/s | 2,000 images/s | +100.0 % |",
        "median (quartiles) of 30 passes of each network, in turns, on one abacus with 4 PyTorch threads",
        "41.25 %",
        "epoch 8, validation 94.00 %, test 93.12 %",
        "| `layer1.0.conv1` | 16 | 10 | 62 % |",
        "`fc`: leaves the network",
        "The target was missed by 0.1 %.",
        "python -m pruning_lit experiment=chip/resnet56_cifar10_47 seed=3",
        'load("pruned/model.safetensors")',
        "one abacus",
        "torch 2.15.0",
        "method=chip, sparsity=macs_50",
        "commit: pruning_lit 0123abc, mynets 4567def, with changes",
        "configuration: all of it, resolved, under `config` in report.json",
        "| train (taken over from 0) | 2 | 256 (64 in each of 4 processes) | 12.5 | - | 93.26 % |",
        "| finetune | 3 | - | 20.0 | 41.25 % | 93.01 % |",
    ]:
        assert expected in text


def test_the_document_of_a_bare_report_says_what_is_unknown():
    text = markdown(Report("x", 0, Figures(100, 10), Figures(50, 10)))
    assert "| accuracy | - | - | - |" in text
    assert "None" not in text


def test_a_best_epoch_of_unknown_validation_accuracy_is_not_said_to_be_chosen_by_it():
    best = {"epoch": 7, "validation": None, "metrics": {"accuracy": 0.9312}, "path": "phases/1-finetune/best.ckpt"}
    text = markdown(example(best=best))
    assert "- Best epoch at the final width: epoch 8, test 93.12 % (`phases/1-finetune/best.ckpt`)." in text


def test_without_a_best_epoch_nothing_is_said_of_one():
    text = markdown(example(best=None))
    assert "Best epoch" not in text
    assert "validation" not in text


def test_what_was_excluded_is_listed_with_what_was_protected():
    excluded = [GroupRecord(name, 8, 8, "excluded by sparsity.exclude") for name in ("conv1", "conv2")]
    text = markdown(example(groups=[*example().groups, *excluded]))
    assert "- `conv1`, `conv2`: excluded by sparsity.exclude" in text.partition("## What was protected, and why")[2]


def test_a_network_of_ones_own_is_to_be_built_by_the_reader():
    assert 'net = load("pruned/model.safetensors")  #' in markdown(example())
    text = markdown(example(own_network="mynet.Net(width=8)"))
    assert "import mynet\n" in text
    assert 'net = load("pruned/model.safetensors", mynet.Net(width=8))' in text


def test_a_picture_is_shown_when_there_is_one(tmp_path):
    write_report(example(), tmp_path)
    assert ".png" not in (tmp_path / "report.md").read_text()
    (tmp_path / "widths.png").touch()
    write_report(example(), tmp_path)
    assert "(widths.png)" in (tmp_path / "report.md").read_text()


def test_a_reason_with_a_bar_does_not_break_the_tables():
    report = example(groups=[GroupRecord("a|b", 4, 2)])
    assert "| `a\\|b` | 4 | 2 | 50 % |" in markdown(report)


def test_brackets_in_a_name_are_no_markup(capsys):
    table = console_table(example(experiment="a[/b]"))
    open_console().print(table)
    for text in (capsys.readouterr().out, table_text(table)):
        assert "a[/b] (seed 3)" in text


def test_the_console_table_shows_the_comparison():
    console = Console(width=100, file=StringIO(), record=True)
    console.print(console_table(example()))
    text = console.export_text()
    for expected in (
        "93.26 %",
        "93.01 %",
        "-0.25 points",
        "853,018",
        "8.00 ms",
        "(7.50–9.00)",
        "-25.0 %, 1.33×",
        "seed 3",
        "4 PyTorch threads",
    ):
        assert expected in text


def test_settings_without_a_bound_are_written_and_read():
    report = example(config={"latency": {"max_seconds": float("inf"), "batch_sizes": [1, 64]}})
    assert Report.from_json(report.to_json()).config == {"latency": {"max_seconds": "inf", "batch_sizes": [1, 64]}}
