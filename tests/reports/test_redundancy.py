import json
from dataclasses import replace

import pytest
import torch
from matplotlib.colors import to_rgb
from torch.nn.functional import interpolate

from pruning_lit.criteria.redundancy_graph.decomposition import decomposition, similarity, survivors
from pruning_lit.reports import Report, markdown, write_report
from pruning_lit.reports.plots import KEPT, REMOVED, figure_to_image
from pruning_lit.reports.redundancy import FRAME, DecidedLayer, RedundancySection
from tests.reports.cut import cut
from tests.reports.test_plots import num_pixels
from tests.reports.test_record import example

HEADING = "## Why channels went"
# 5 stays in the first round and goes in the second; 2 stays in both; 7 and 4 are in no component
ROUNDS = [
    {"degeneracy": 2, "components": [[0, 3, 5], [2, 6, 8]], "kept": [5, 2]},
    {"degeneracy": 1, "components": [[1, 5], [2, 9]], "kept": [1, 2]},
]
BY_HAND = DecidedLayer("stage", "stage.conv", torch.eye(10).half(), 0.7, ROUNDS, [1, 2, 4, 7], 64)


def redundancy_figure(layers):
    return RedundancySection(layers).figure()


def redundancy_table(layers):
    text = RedundancySection(layers).markdown(None)
    return text[text.index("| layer that decides") :]


def smooth_maps(size, seed=0):
    """Of a few kinds, each filter with some noise of its own."""
    generator = torch.Generator().manual_seed(seed)
    kinds = interpolate(torch.randn(8, max(2, size // 5), 4, 4, generator=generator), size=8, mode="bicubic")
    kind = torch.randint(kinds.shape[1], (size,), generator=generator)
    noise = 0.9 * torch.rand(size, 1, 1, generator=generator) * torch.randn(8, size, 8, 8, generator=generator)
    return kinds[:, kind] + noise


def redundant(sizes, threshold=0.72, floors=()):
    """As a cut by redundancy graphs records itself; in groups with a floor nothing goes."""
    evidence, kept = {}, {}
    for seed, (name, size) in enumerate(sizes.items()):
        alike = similarity(smooth_maps(size, seed))
        norms = torch.rand(size, generator=torch.Generator().manual_seed(seed))
        rounds = decomposition(alike, norms, threshold)
        told = {"similarity": alike.half(), "threshold": threshold, "rounds": [each._asdict() for each in rounds]}
        evidence[name] = {"reference_layer": name, "pixels": 64, **told}
        kept[name] = list(range(size)) if name in floors else survivors(size, rounds)
    return cut(kept, redundancy=evidence)


@pytest.fixture(scope="module")
def layers():
    return RedundancySection.of([redundant({"conv1": 16, "conv2": 40, "conv3": 12}, floors=["conv3"])]).layers


def test_a_channel_stands_where_it_went_or_last_survived():
    assert BY_HAND.blocks == [[0, 3], [6, 8], [1, 5], [2, 9]]
    assert BY_HAND.order == [0, 3, 6, 8, 1, 5, 2, 9, 4, 7]


def test_counts_are_sums_over_the_rounds():
    assert (BY_HAND.cores, BY_HAND.components) == (2, 4)
    untouched = replace(BY_HAND, rounds=[])
    assert (untouched.cores, untouched.components, untouched.order) == (0, 0, list(range(10)))


def test_the_order_has_every_channel_once_and_components_together(layers):
    assert all(layer.components for layer in layers)
    for layer in layers:
        order = layer.order
        assert sorted(order) == list(range(len(layer.similarity)))
        components = [part for each in layer.rounds for part in zip(each["components"], each["kept"], strict=True)]
        found = 0
        for block, (component, survivor) in zip(layer.blocks, components, strict=True):
            assert order[found : found + len(block)] == block
            assert {*component} - {survivor} <= {*block} <= {*component}
            assert survivor not in block[1:]
            found += len(block)
        touched = {position for component, _ in components for position in component}
        assert touched.isdisjoint(order[found:])


def test_the_last_cut_that_has_evidence_is_shown():
    first, last = redundant({"a": 8}), redundant({"b": 8, "c": 9})
    others = [cut({"a": [0]}, redundancy={}), cut()]
    assert [layer.name for layer in RedundancySection.of([first, last, *others]).layers] == ["b", "c"]
    assert [len(layer.similarity) for layer in RedundancySection.of([last, first]).layers] == [8]
    assert RedundancySection.of(others) is RedundancySection.of([]) is None


def test_every_layer_has_its_panel_and_all_share_one_colour_bar(layers):
    figure = redundancy_figure(layers)
    assert len(figure.axes) == len(layers) + 1
    assert [image.get_clim() for axes in figure.axes[:-1] for image in axes.images[:1]] == [(0.5, 1)] * len(layers)
    for axes, layer in zip(figure.axes, layers, strict=False):
        assert axes.get_title().startswith(f"{layer.name}\n{len(layer.similarity)} → {len(layer.kept)}\n")
    assert redundancy_figure([BY_HAND]).axes[0].get_title() == "stage\n10 → 4\n2 cores, 4 components"
    image = figure_to_image(figure)
    assert all(num_pixels(image, colour) > 50 for colour in (KEPT, REMOVED, FRAME))


def test_a_panel_is_the_reordered_matrix_and_the_strip_says_who_really_stayed(layers):
    for axes, layer in zip(redundancy_figure(layers).axes, layers, strict=False):
        matrix, strip = (image.get_array() for image in axes.images)
        expected = layer.similarity.float()[layer.order][:, layer.order]
        torch.testing.assert_close(torch.from_numpy(matrix.data), expected)
        colours = [to_rgb(KEPT if position in layer.kept else REMOVED) for position in layer.order]
        assert [tuple(row[0]) for row in strip.tolist()] == colours
    assert {*colours} == {to_rgb(KEPT)}  # the last layer has a floor


def test_frames_are_around_the_blocks():
    (frames,) = redundancy_figure([BY_HAND]).axes[0].collections
    corners = [path.vertices[[0, 2]].tolist() for path in frames.get_paths()]
    assert corners == [[[start, start], [start + 2, start + 2]] for start in (0, 2, 4, 6)]


@pytest.mark.parametrize(("size", "cells", "step"), [(256, 256, 1), (300, 150, 2), (513, 171, 3), (2048, 256, 8)])
def test_large_matrices_are_drawn_as_means_over_blocks(size, cells, step):
    alike = torch.rand(size, size, generator=torch.Generator().manual_seed(0)).half()
    layer = DecidedLayer("conv", "conv", alike, 0.7, [], list(range(size)))
    axes = redundancy_figure([layer]).axes[0]
    drawn = torch.from_numpy(axes.images[0].get_array().data)
    assert drawn.shape == (cells, cells)
    torch.testing.assert_close(drawn[1, 2], alike[step : 2 * step, 2 * step : 3 * step].float().mean())
    assert axes.images[0].get_extent() == [0, cells * step, cells * step, 0]
    assert axes.get_ylim() == (size, 0)  # what does not fill the last cell is not shown


@pytest.mark.slow
def test_the_picture_of_a_deep_network_is_no_wider_than_six_panels():
    deep = redundancy_figure([replace(BY_HAND, name=f"layer{number}") for number in range(57)])
    assert len({axes.get_subplotspec().colspan.start for axes in deep.axes[:-1]}) == 6
    assert deep.get_figwidth() <= 14
    assert deep.get_figheight() < 30


def test_a_long_name_keeps_its_end():
    name = "features.denseblock3." + "denselayer12." * 3 + "conv1"
    shown = redundancy_figure([replace(BY_HAND, name=name)]).axes[0].get_title().split("\n")[0]
    assert shown.startswith("…")
    assert name.endswith(shown[1:])


def test_the_table_tells_the_numbers_and_names_groups_only_where_they_differ():
    alone = replace(BY_HAND, name="stage.conv", threshold=0.725)
    assert redundancy_table([alone]).splitlines() == [
        "| layer that decides | threshold | pixels | filters | cores | components | in none | stay |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| `stage.conv` | 0.725 | 64 | 10 | 2 | 4 | 2 | 4 |",
    ]
    header, _, first, second = redundancy_table([alone, BY_HAND]).splitlines()
    assert (
        header == "| layer that decides | group | threshold | pixels | filters | cores | components | in none | stay |"
    )
    assert first == "| `stage.conv` | `stage.conv` | 0.725 | 64 | 10 | 2 | 4 | 2 | 4 |"
    assert second == "| `stage.conv` | `stage` | 0.7 | 64 | 10 | 2 | 4 | 2 | 4 |"


def test_the_numbers_are_in_the_json_and_are_read_from_it(layers):
    report = example(sections={"redundancy": RedundancySection([*layers, BY_HAND]).data()})
    assert json.loads(report.to_json())["sections"]["redundancy"][-1] == {
        "group": "stage",
        "reference_layer": "stage.conv",
        "threshold": 0.7,
        "pixels": 64,
        "filters": 10,
        "alone": 2,
        "cores": 2,
        "components": 4,
        "kept": 4,
    }
    assert Report.from_json(report.to_json()) == report


def test_a_report_of_an_earlier_version_keeps_its_numbers():
    data = json.loads(example().to_json())
    del data["sections"]
    told = RedundancySection([BY_HAND]).data()
    assert Report.from_json(json.dumps(data | {"decided": told})) == example(sections={"redundancy": told})
    assert Report.from_json(json.dumps(data)) == example()


def test_the_document_says_why_channels_went_where_it_is_known(tmp_path):
    (tmp_path / "redundancy.png").touch()
    write_report(example(), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert HEADING not in text
    assert "redundancy.png" not in text  # of an earlier run
    write_report(example(), tmp_path, [RedundancySection([BY_HAND])])
    section = (tmp_path / "report.md").read_text().partition(HEADING)[2].partition("\n## ")[0]
    assert redundancy_table([BY_HAND]) in section
    assert "(redundancy.png)" in section


def test_without_its_picture_there_is_still_the_table():
    text = markdown(example(), [RedundancySection([BY_HAND])])
    assert "| `stage.conv` | `stage` | 0.7 |" in text
    assert ".png" not in text
