"""The script of docs/yolo.md runs as it is written there, with networks of Ultralytics and pictures that are drawn."""

import ast
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest
from PIL import Image, ImageDraw

from tests.places import ROOT

TEXT = (ROOT / "docs" / "yolo.md").read_text(encoding="utf-8")
SCRIPT = "\n".join(re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
NETWORKS = ["yolov8n", "yolov8n-seg", "yolo11n", "yolo11n-seg", "yolo12n", "yolo12n-seg"]

#: A network as a user has it: of two classes, with batch norms that are not as they were made.
MINE = """
import sys, torch
from ultralytics import YOLO
torch.manual_seed(0)
yolo = YOLO(sys.argv[1] + ".yaml")
yolo.model = yolo.task_map[yolo.task]["model"]({**yolo.model.yaml, "nc": 2}, verbose=False)
yolo.model.task = yolo.task
for module in yolo.model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        torch.nn.init.normal_(module.bias, 0, 0.1)
yolo.save("mine.pt")
"""

BEFORE = """
from ultralytics.nn.modules import C2f
as_it_was = C2f.forward
"""

#: What the script has left, held against the masked network and the plan.
FACTS = """
import copy, json
from pruning_lit.channels import mask, verify


def tensors(result):
    found = predictions(result)
    return [found] if isinstance(found, torch.Tensor) else [each for one in found for each in tensors(one)]


def difference(one, other, training):
    images = torch.rand(2, 3, 96, 64).double()
    with torch.no_grad():
        pairs = list(zip(*(tensors(copy.deepcopy(net).double().train(training)(images)) for net in (one, other))))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


masked = YOLO("mine.pt").model
mask(masked, graph, plan.kept)
best, last = str(yolo.trainer.best), str(yolo.trainer.last)
fresh, images = YOLO(best).model, torch.rand(1, 3, 64, 64)
exported = torch.jit.load(best.replace(".pt", ".torchscript"))(images)
expected = fresh.eval()(images)[0]
loaded = verify(again, fresh, images)
C2f.forward = as_it_was  # as it is where the files are opened later
facts = {
    "groups": [len(graph.prunable), len(graph.groups)],
    "eval": difference(net, masked, False),
    "training": difference(net, masked, True),
    "macs": [plan.cost.macs, plan.dense.macs],
    "params": [plan.cost.params, *(sum(each.numel() for each in YOLO(path).model.parameters())
               for path in ("narrow.pt", best, last))],
    "loaded": loaded,
    "as_it_was": max(float((a - b).abs().max()) for a, b in zip(tensors(fresh(images)[0]), tensors(expected))),
    "fused": verify(copy.deepcopy(fresh).fuse(), fresh, images),
    "exported": max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(tensors(exported), tensors(expected))),
    "figures": [before.results_dict, after.results_dict],
}
open("facts.json", "w").write(json.dumps(facts))
"""


def draw(folder):
    """Pictures with a disc or a square each, in the layout of Ultralytics, outlined as segmentation asks for."""
    for part, count in (("train", 6), ("val", 2)):
        for kind in ("images", "labels"):
            (folder / "shapes" / kind / part).mkdir(parents=True)
        for number in range(count):
            image, left, top, side = Image.new("RGB", (64, 64)), 5 * number, 30 - 3 * number, 20 + number
            box = (left, top, left + side, top + side)
            pen = ImageDraw.Draw(image)
            (pen.ellipse if number % 2 else pen.rectangle)(box, fill=("red", "green")[number % 2])
            image.save(folder / "shapes" / "images" / part / f"{number}.png")
            middle, right, low = left + side / 2, left + side, top + side
            corners = (
                ((middle, top), (right, top + side / 2), (middle, low), (left, top + side / 2))
                if number % 2
                else ((left, top), (right, top), (right, low), (left, low))
            )
            outline = " ".join(f"{each / 64:.4f}" for corner in corners for each in corner)
            (folder / "shapes" / "labels" / part / f"{number}.txt").write_text(f"{number % 2} {outline}\n")
    (folder / "data.yaml").write_text(
        f"path: {folder / 'shapes'}\ntrain: images/train\nval: images/val\nnames: [square, disc]\n"
    )


def run(code, folder, *words):
    """Run a script in ``folder``, where Ultralytics keeps its settings, too; it downloads and installs nothing."""
    (folder / "script.py").write_text(code, encoding="utf-8")
    calm = {"YOLO_CONFIG_DIR": str(folder / "settings"), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    environment = {**os.environ, **calm, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "script.py", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def small():
    """The script at a size for tests."""
    script, count = SCRIPT, 0
    for large, little in (("640", "64"), ("epochs=50", "epochs=1, batch=4, workers=0, plots=False")):
        count += script.count(large)
        script = script.replace(large, little)
    assert count == 6
    return script


def test_the_script_takes_from_this_package_what_is_there():
    imports = [node for node in ast.walk(ast.parse(SCRIPT)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module.startswith("pruning_lit")]
    assert len(ours) == 3
    for node in ours:
        assert all(hasattr(import_module(node.module), each.name) for each in node.names)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not find_spec("ultralytics"), reason="ultralytics is not installed: pip install -e '.[yolo]'")
@pytest.mark.parametrize("network", NETWORKS)
def test_a_users_yolo_is_narrowed_trained_saved_loaded_and_exported(network, tmp_path):
    draw(tmp_path)
    run(MINE, tmp_path, network)
    printed = run(BEFORE + small() + FACTS, tmp_path)
    facts = json.loads((tmp_path / "facts.json").read_text())
    prunable, groups = facts["groups"]
    assert f"{prunable} of {groups} groups may lose channels" in printed
    assert 0.7 * groups < prunable < groups
    assert max(facts["eval"], facts["training"]) < 1e-9
    assert facts["macs"][0] <= 0.51 * facts["macs"][1]
    assert len(set(facts["params"])) == 1, "their trainer has built another network"
    assert facts["loaded"] == facts["as_it_was"] == 0
    assert facts["fused"] < 1e-4
    assert facts["exported"] < 1e-4
    assert all(0 <= each <= 1 for figures in facts["figures"] for each in figures.values())
    assert b"pruning_lit" not in (tmp_path / "narrow.pt").read_bytes()
