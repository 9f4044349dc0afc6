"""Commands that cannot work, as data: what is wrong with each, and the words; and the small files that they name.

``tests/errors.py`` makes ``tests/errors.md`` of them, each run as a process of its own; ``tests/test_errors_table.py``
holds the sentences in that table against what the commands say.
"""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from pruning_lit.channels import save
from pruning_lit.models import cifar_resnet
from tests.data.small_clouds import rows, write_shapenet, write_text

RUN, INSPECT, EXPORT, HUB, EVALUATE, SENSITIVITY, REPORT = (
    f"python -m pruning_lit{each}"
    for each in ("", ".inspect", ".export", ".hub", ".evaluate", ".sensitivity", ".report")
)
#: Settings of runs that are meant to finish, in seconds: one is resumed, evaluated and so on.
MODELNET = "dataset=modelnet40 dataset.num_points=32 dataset.root=clouds/"
COCO = "dataset=coco dataset.root=coco 'dataset.train=[[../images,{}.json]]' 'dataset.test=[../images,whole.json]'"
CLOUDS = "dataset=shapes10 dataset.num_train=100 dataset.num_test=10"
SMALL = "arch=resnet8 debug=quick callbacks=quiet logger=none trainer.accelerator=cpu trainer.enable_progress_bar=false"


class BadInput(NamedTuple):
    """A command that has to be refused.

    Attributes:
        room: heading of the table that it belongs to.
        wrong: what is wrong with it, in words; no two cases have the same.
        command: as typed in the folder that ``make_files`` has filled.
    """

    room: str
    wrong: str
    command: str

    @property
    def jobs(self) -> int:
        """How many jobs there are to be refused, each in a sentence of its own."""
        return 2 if self.room == "Sweeps of which no job can run" else 1

    @property
    def words(self) -> list[str]:
        """What stands behind ``python -m``."""
        return words_of(self.command)


def words_of(command: str) -> list[str]:
    """What stands behind ``python -m``: the module and its arguments."""
    return shlex.split(command)[2:]


def _cases(room: str, command: str, cases: dict[str, str]) -> list[BadInput]:
    """Cases of one command; of each, what is wrong and the arguments."""
    return [BadInput(room, wrong, f"{command} {arguments}".strip()) for wrong, arguments in cases.items()]


NETWORKS = """
import torch
from torch import nn

from pruning_lit.models import ssd_small


class Net(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3)
        self.second = nn.Conv2d(width, width, 3)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).mean((2, 3)))


class Two(Net):
    def forward(self, x):
        return super().forward(x), x


class Fixed(Net):
    def __init__(self):
        super().__init__(num_classes=7)


class Grey(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.first = nn.Conv2d(1, 8, 3)


class Stubborn(Net):
    def __init__(self, num_classes, size):
        super().__init__(num_classes)


class Broken(Net):
    def forward(self, x):
        return self.head(self.tail(x))


def linear(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))


def detector():
    return ssd_small(num_classes=9)


def number(num_classes):
    return num_classes


SIZE = 3
"""


def make_files(folder: Path, call: Callable[..., int]) -> None:
    """Fill ``folder`` with what the cases name.

    Args:
        folder: empty; the commands are run in it.
        call: runs ``python -m <words>`` there, and gives back the exit code.
    """
    (folder / "mynet.py").write_text(NETWORKS)
    (folder / "unfinished.py").write_text("import nowhere_to_be_found\n")
    (folder / "empty_folder").mkdir()
    (folder / "empty.pt").touch()
    (folder / "text.pt").write_text("no weights\n")
    (folder / "text.safetensors").write_text("no network\n")
    (folder / "text.ckpt").write_text("no checkpoint\n")
    (folder / "text.tar.gz").write_text("no archive\n")
    torch.save({"first.weight": torch.zeros(3, 3)}, folder / "other.pt")
    torch.save([1, 2, 3], folder / "list.pt")
    torch.save({"epoch": 3}, folder / "numbers.pt")
    torch.save(print, folder / "code.pt")
    _images(folder / "images")
    _images(folder / "one_class", classes=("cat",))
    _images(folder / "tiny_images", size=2)
    _images(folder / "other_classes")
    (folder / "other_classes" / "test" / "dog").rename(folder / "other_classes" / "test" / "horse")
    _images(folder / "no_test")
    (folder / "no_test" / "test").rename(folder / "no_test" / "later")
    _images(folder / "mixed_sizes")
    Image.new("RGB", (40, 32)).save(folder / "mixed_sizes" / "train" / "cat" / "wide.png")
    (folder / "no_images" / "train" / "cat").mkdir(parents=True)
    (folder / "no_images" / "test" / "cat").mkdir(parents=True)
    _annotations(folder / "coco")
    _clouds(folder / "clouds")
    (folder / "archives").mkdir()
    (folder / "archives" / "cifar-10-python.tar.gz").write_text("no archive\n")
    small = [*shlex.split(SMALL), "method=magnitude"]
    if call("pruning_lit", *small, "hydra.run.dir=run") != 0:
        raise RuntimeError("the run that is resumed, evaluated and so on has failed")
    save(cifar_resnet(8, num_classes=2), folder / "cats.safetensors", pictures={"classes": ["cat", "dog"]})
    for name, command in (("analysis", "sensitivity"), ("evaluation", "evaluate")):
        (folder / name / ".hydra").mkdir(parents=True)
        (folder / name / ".hydra" / "overrides.yaml").write_text("- path=run\n")
        (folder / name / ".hydra" / "hydra.yaml").write_text(f"hydra: {{job: {{config_name: {command}}}}}\n")
    (folder / "no_run").mkdir()
    (folder / "no_run" / "notes.txt").write_text("nothing of ours\n")


def _images(root: Path, classes: tuple[str, ...] = ("cat", "dog"), size: int = 32) -> None:
    """A folder of images: four of each class, to train and to test with."""
    for part in ("train", "test"):
        for label in classes:
            (root / part / label).mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (size, size), (40 * number, 0, 0)).save(root / part / label / f"{number}.png")


def _annotations(folder: Path) -> None:
    """Annotation files in COCO's layout for one of the images, and some that are damaged."""
    folder.mkdir()
    image = {"id": 1, "file_name": "train/cat/0.png", "height": 32, "width": 32}
    box = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [4, 4, 9, 9], "iscrowd": 0}
    whole = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    files = {
        "whole": whole,
        "other_layout": {"pictures": []},
        "missing_image": whole | {"images": [image | {"file_name": "train/cat/9.png"}]},
        "unknown_category": whole | {"annotations": [box | {"category_id": 2}]},
        "unknown_image": whole | {"annotations": [box | {"image_id": 2}]},
        "three_numbers": whole | {"annotations": [box | {"bbox": [4, 4, 9]}]},
        "only_crowds": whole | {"annotations": [box | {"iscrowd": 1}]},
        "category_0": whole | {"categories": [{"id": 0, "name": "dog"}, *whole["categories"]]},
        "other_categories": whole | {"categories": [{"id": 1, "name": "dog"}]},
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "text.json").write_text("no annotations\n")


def _clouds(folder: Path) -> None:
    """Folders in the layouts of ModelNet40 and ShapeNet part, some of them damaged."""
    names = ("whole", "words", "no_finite", "no_file", "no_list", "unknown_class", "no_class")
    text = {name: write_text(folder / name) for name in names}
    chair = Path("chair", "chair_0001.txt")
    (text["words"] / chair).write_text("one,two\n")
    table = rows("chair_0001")
    table[7, 1] = np.nan
    np.savetxt(text["no_finite"] / chair, table, delimiter=",")
    (text["no_file"] / chair).unlink()
    (text["no_list"] / "modelnet40_test.txt").unlink()
    (text["unknown_class"] / "modelnet40_test.txt").write_text("sofa_0001\n")
    (text["no_class"] / "chair").rename(text["no_class"] / "chairs")
    write_shapenet(folder / "parts")
    mug = write_shapenet(folder / "unknown_part") / "00000011" / "a.txt"
    parts = np.loadtxt(mug)
    parts[3, 6] = 38
    np.savetxt(mug, parts)


CASES = [
    *_cases("Words of the command line", RUN, {
        "no key": "seed",
        "a bracket that is not closed": "'phases=[train'",
        "a quotation mark that is not closed": "'name=\"mine'",
        "a key that is nearly one": "sed=3",
        "a key in the wrong place": "epochs=5",
        "a key that phases have": "optimizer.lr=0.1",
        "several choices in a list": "arch=[resnet20,resnet8]",
        "a group whose choices have places": "optimizer=adamw",
        "a key of a group that phases share": "finetune.callbacks.prune.sparsity.reduction=0.3",
        "a key of a distillation that there is not": "distillation.temperature=2",
        "a new name without +": "finetune.terms.logits._target_=myloss.LogitPenalty",
        "a key of another method": "method=magnitude sparsify.epochs=5",
        "an unknown option": "--verbose",
        "a choice that is no name": "arch=20",
        "an unknown data set": "dataset=cifar",
        "an unknown network": "arch=resnet21",
        "an unknown criterion": "criterion=l1",
        "an unknown sparsity": "sparsity=macs_51",
        "an unknown method": "method=slimming",
        "an unknown experiment": "experiment=chip/resnet57",
        "the folder of experiments": "experiment=chip",
        "an unknown optimizer": "optimizer@train.optimizer=adamax",
        "an unknown schedule": "schedule@train.schedule=steps",
        "an unknown launcher": "hydra/launcher=cluster -m seed=1,2",
        "an unknown primary config": "--config-name=mine",
        "several values without -m": "seed=1,2",
        "no network": "arch=null",
        "a value for a group": "sparsity=0.5",
    }),
    *_cases("The run", RUN, {
        "a seed that is a word": "seed=abc",
        "a negative seed": "seed=-1",
        "a seed with a point": "seed=1.5",
        "no pass": "passes=0",
        "passes of the dense training": "method=dense passes=3",
        "passes true": "passes=true",
        "no phases": "phases=[]",
        "a phase twice": "phases=[train,train]",
        "an undecided determinism": "deterministic=maybe",
        "a shared folder that is a list": "shared=[a,b]",
        "a phase of another method": "phases=[train,distil]",
        "phases as a number": "phases=3",
        "phases in a list of lists": "phases=[[train]]",
        "fine-tuning before training": "phases=[finetune,train]",
        "an undecided channel_selection": "channel_selection=maybe",
        "an unknown channel_scatter": "channel_scatter=maybe",
        "an unknown way with numbers that are none": "on_nonfinite=ignore",
        "checkpoints every 0 steps": "checkpoint.every_n_steps=0",
        "checkpoints often": "checkpoint.every_n_steps=often",
        "latency null": "latency=null",
        "latency of no images": "latency.batch_size=0",
        "latency of an empty list": "latency.batch_size=[]",
        "latency without repeats": "latency.repeats=0",
        "latency with half a repeat": "latency.repeats=2.5",
        "latency in no time": "latency.max_seconds=-1",
        "an unknown key of latency": "+latency.runs=3",
    }),
    *_cases("Weights", RUN, {
        "weights that are not there": "weights=nowhere.pt",
        "a folder as weights": "weights=empty_folder",
        "an empty file as weights": "weights=empty.pt",
        "a text as weights": "weights=text.pt",
        "an image as weights": "weights=images/train/cat/0.png",
        "a list as weights": "weights=list.pt",
        "a file of weights without weights": "weights=numbers.pt",
        "weights of another network": "weights=other.pt",
        "a file of weights with code in it": "weights=code.pt",
        "a text that is called safetensors": "weights=text.safetensors",
        "weights that torchvision does not have": "arch=resnet50 weights=ResNet50_Weights.IMAGENET1K_V9",
        "weights as a number": "weights=3",
        "weights and only the phase train": "method=dense weights=run/pruned/model.safetensors",
    }),
    *_cases("Data", RUN, {
        "a batch of 0": "dataset.batch_size=0",
        "a batch of 2.5": "dataset.batch_size=2.5",
        "a batch larger than the data, of which incomplete ones are left out":
            "dataset.batch_size=5000 dataset.drop_last=true",
        "a last batch of one image for a batch norm of one pixel": "arch=vgg16_bn dataset.batch_size=647",
        "a mean of one channel": "dataset.mean=[0.5]",
        "a mean in words": "dataset.mean=[a,b,c]",
        "a standard deviation of 0": "dataset.std=[0,0.3,0.3]",
        "a standard deviation that is no number": "dataset.std=[nan,0.3,0.3]",
        "a negative margin": "dataset.pad=-1",
        "an undecided mirror": "dataset.flip=maybe",
        "all images held out": "dataset.val_fraction=1",
        "a negative share held out": "dataset.val_fraction=-0.1",
        "an unknown key of the data": "dataset.root=images",
        "no root": "dataset=image_folder",
        "a root that is not there": "dataset=image_folder dataset.root=nowhere",
        "an empty folder as root": "dataset=image_folder dataset.root=empty_folder",
        "the folder of a part as root": "dataset=image_folder dataset.root=images/train",
        "a number as root": "dataset=image_folder dataset.root=3",
        "no test part": "dataset=image_folder dataset.root=no_test",
        "folders without images": "dataset=image_folder dataset.root=no_images",
        "one class only": "dataset=image_folder dataset.root=one_class",
        "other classes to test": "dataset=image_folder dataset.root=other_classes",
        "images of several sizes": "dataset=image_folder dataset.root=mixed_sizes",
        "images of size 0": "dataset=image_folder dataset.root=images dataset.size=0",
        "images too small for the network": "dataset=image_folder dataset.root=tiny_images arch=vgg16_bn",
        "images too small for a DenseNet": "dataset=image_folder dataset.root=tiny_images arch=densenet121",
        "a folder as cache": "dataset=image_folder dataset.root=images dataset.cache=empty_folder",
        "a text as cache": "dataset=image_folder dataset.root=images dataset.cache=text.safetensors",
        "ImageNet that is not there": "dataset=imagenet dataset.root=nowhere",
        "a window of 0 pixels": "dataset=imagenet dataset.root=images dataset.image_size=0",
        "a window larger than the image": "dataset=imagenet dataset.root=images dataset.resize_size=100",
        "shares in the wrong order": "dataset=imagenet dataset.root=images dataset.scale=[1,0.5]",
        "-1 workers": "dataset=imagenet dataset.root=images dataset.num_workers=-1",
        "COCO that is not there": "dataset=coco dataset.root=nowhere",
        "annotations that are not there": COCO.format("nowhere"),
        "a text as annotations": COCO.format("text"),
        "annotations in another layout": COCO.format("other_layout"),
        "an annotated image that is not there": COCO.format("missing_image"),
        "a box of an unknown category": COCO.format("unknown_category"),
        "a box on an unknown image": COCO.format("unknown_image"),
        "a box of three numbers": COCO.format("three_numbers"),
        "boxes around crowds alone": COCO.format("only_crowds"),
        "a category of number 0": COCO.format("category_0").replace("whole", "category_0"),
        "other categories to test": COCO.format("other_categories"),
        "masks without segmentation": COCO.format("whole") + " dataset.masks=true",
        "a folder without its annotation file": "dataset=coco 'dataset.test=[val2017]'",
        "a window by an unknown rule": "dataset=coco dataset.crop=some",
        "labels by an unknown rule": "dataset=coco dataset.labels=names",
        "a height without a width": "dataset=coco 'dataset.image_size=[300]'",
        "brightness alone": "dataset=coco 'dataset.colour=[0.1]'",
        "a training part of one image with shapes": "dataset=coco_shapes dataset.num_train=1",
        "shapes on 16 pixels": "dataset=coco_shapes dataset.image_size=16",
        "shapes for a classifier": "dataset=coco_shapes arch=resnet8",
        "ModelNet40 that is not there": "dataset=modelnet40 dataset.root=empty_folder",
        "clouds with too few points": MODELNET.replace("=32", "=64") + "whole",
        "clouds as words": MODELNET + "words",
        "points that are no numbers": MODELNET + "no_finite",
        "a cloud that is not there": MODELNET + "no_file",
        "clouds without a list": MODELNET + "no_list",
        "a list of other classes": MODELNET + "unknown_class",
        "a class without its folder": MODELNET + "no_class",
        "a folder as cache of clouds": MODELNET + "whole dataset.cache=empty_folder",
        "ShapeNet part that is not there": "dataset=shapenet_part dataset.root=empty_folder",
        "a point of a part of another category": "dataset=shapenet_part dataset.root=clouds/unknown_part",
        "clouds of no points": "dataset=shapes10 dataset.num_points=0",
        "all points dropped": "dataset=shapes10 dataset.dropout=1",
        "one factor as a range": "dataset=shapes10 'dataset.scale=[1.2]'",
        "classes as parts": "dataset=shapes10 dataset.val_fraction=0 task=part_segmentation",
        "parts as classes": "dataset=shapes10_parts dataset.val_fraction=0 task=point_classification",
        "CIFAR-10 that is not there": "dataset=cifar10 dataset.root=empty_folder",
        "a text as archive of CIFAR-10": "dataset=cifar10 dataset.root=archives",
    }),
    *_cases("Networks", RUN, {
        "a depth that there is not": "arch.depth=21",
        "a depth as a word": "arch.depth=deep",
        "a depth with a point": "arch.depth=20.0",
        "an unknown stem": "arch.stem=wide",
        "an unknown shortcut": "arch.shortcut=option_c",
        "scales that start at 0": "arch.norm_scale=0",
        "an unknown key of the network": "arch.width=32",
        "a width of 0": "arch=preresnet20 arch.width=0",
        "a growth of -1": "arch=densenet40 arch.growth=-1",
        "weights by an unknown name": "arch=resnet18 arch.weights=IMAGENET_V9",
        "a module that is not there": "allow_targets=[mynet] arch._target_=mynets.Net",
        "a module that cannot be imported": "allow_targets=[unfinished] arch._target_=unfinished.Net",
        "a number in the place of a class": "allow_targets=[mynet] arch._target_=mynet.SIZE",
        "a function that makes no network": "allow_targets=[mynet] arch._target_=mynet.number",
        "an argument that is missing": "allow_targets=[mynet] arch._target_=mynet.Stubborn",
        "an argument that there is not": "allow_targets=[mynet] arch._target_=mynet.Net arch.depth=3",
        "an argument that it does not take": "allow_targets=[mynet] arch._target_=mynet.Net arch.width=-3",
        "PointNet++ with two scales": f"{CLOUDS} arch=pointnet2_small arch.scales=double",
        "more centres than points": f"{CLOUDS} dataset.num_points=64 arch=pointnet2_small",
        "two radii for three scales": f"{CLOUDS} arch=pointnet2_msg 'arch.radii=[[0.1,0.2],[0.2,0.4]]'",
        "clouds without normals for a network with them": f"{CLOUDS} arch=pointnet2_small arch.normals=true",
        "clouds for a network of images": f"{CLOUDS} arch=resnet8",
        "images for a network of clouds": "dataset=digits arch=pointnet2_small",
        "a network with two outputs": "allow_targets=[mynet] arch._target_=mynet.Two",
        "a network for 7 classes": "allow_targets=[mynet] arch._target_=mynet.Fixed",
        "a detector for 9 classes": "allow_targets=[mynet] arch._target_=mynet.detector dataset=coco_shapes",
        "a network for grey images": "allow_targets=[mynet] arch._target_=mynet.Grey",
        "a network whose forward fails": "allow_targets=[mynet] arch._target_=mynet.Broken",
        "a network in which nothing can be pruned": "allow_targets=[mynet] arch._target_=mynet.linear",
        "a network without batch norms for Network Slimming":
            "allow_targets=[mynet] arch._target_=mynet.Net method=network_slimming",
    }),
    *_cases("Criteria", RUN, {
        "a third power": "criterion=magnitude criterion.power=3",
        "a new key that the criterion does not have": "criterion=magnitude +criterion.norm=2",
        "noise by a word": "method=random criterion.seed=abc",
        "CHIP with no images": "criterion.num_images=0",
        "CHIP with all images, as a word": "criterion.num_images=all",
        "CHIP with half an image": "criterion.num_images=0.5",
        "CHIP with batches of 0": "criterion.batch_size=0",
        "CHIP with an unknown way to add": "criterion.combine=mean",
        "CHIP with rounding by a word": "criterion.decimals=few",
        "calibration images as a word": "+calibration_images=many",
        "a share of 0 singular vectors": "criterion=column_subset criterion.share=0",
        "more singular vectors than channels": "criterion=column_subset criterion.share=1.5",
        "FPGM by an unknown distance": "criterion=fpgm criterion.distance=l1",
        "LAMP with an unknown way with streams": "criterion=lamp criterion.reduction=median",
        "HRank with batches of 0": "criterion=hrank criterion.batch_size=0",
        "second derivatives of no images": "criterion=hessian criterion.num_images=0",
        "spatial information of no images": "criterion=spatial_information criterion.num_images=0",
        "redundancy graph of no images": "method=redundancy_graph criterion.num_images=0",
        "redundancy graph with an unknown mode of batch norms": "method=redundancy_graph criterion.statistics=frozen",
        "redundancy graph of no pixels": "method=redundancy_graph criterion.min_pixels=0",
        "redundancy graph of more pixels than there are": "method=redundancy_graph criterion.min_pixels=9999",
        "redundancy graph of an unknown group": "method=redundancy_graph 'criterion.reference_layers={layer9: conv1}'",
        "redundancy graph of a word": "method=redundancy_graph criterion.reference_layers=layer1.0.conv2",
        "spatial information of point clouds":
            f"{CLOUDS} arch=pointnet2_small criterion=spatial_information",
        "redundancy graph of point clouds":
            f"{CLOUDS} arch=pointnet2_small method=redundancy_graph",
        "scales with an unknown way with streams": "method=network_slimming criterion.tied=sum",
        "ResRep with an unknown policy": "method=resrep criterion.policy=all",
        "compactors without ResRep": "criterion=compactor_norm",
    }),
    *_cases("Sparsity", RUN, {
        "all of the MACs": "sparsity.reduction=1",
        "less than none of the MACs": "sparsity.reduction=-0.5",
        "70 % as 70": "sparsity.reduction=70",
        "half of the MACs, as a word": "sparsity.reduction=half",
        "a budget that is no number": "sparsity.reduction=nan",
        "a budget that cannot be met": "sparsity.reduction=0.999",
        "a budget of parameters that cannot be met": "sparsity=params sparsity.reduction=0.9999",
        "no milliseconds": "sparsity=latency sparsity.milliseconds=0",
        "a table of layer times that is not there": "sparsity=latency sparsity.table=nowhere.json",
        "milliseconds for compactors": "method=resrep sparsity=latency",
        "an unknown scope": "sparsity.scope=network",
        "a knapsack of scores that do not add up": "sparsity.scope=knapsack",
        "a search of what has no price": "sparsity=search sparsity.of=watts",
        "a search by fewer than no moves": "sparsity=search sparsity.moves=-1",
        "a search on no examples": "sparsity=search sparsity.num_examples=0",
        "a search that cannot succeed": "sparsity=search sparsity.reduction=0.999",
        "a search in CHEX": "method=chex sparsity=search",
        "no channel has to stay": "sparsity.min_channels=0",
        "more channels stay than there are": "sparsity.min_channels=1000",
        "a share above 1 has to stay": "sparsity.min_share=1.5",
        "widths of multiples of 0": "sparsity.round_to=0",
        "an unknown group excluded": "'sparsity.exclude=[layer9.*]'",
        "all groups excluded": "'sparsity.exclude=[\"*\"]'",
        "a group excluded without brackets": "'sparsity.exclude=layer3.*'",
        "an unknown way with empty groups": "sparsity.on_empty=ignore",
        "branches removed by rows": "method=resrep sparsity.on_empty=remove",
        "a rate of 2 for a group": "'sparsity.overrides={layer1.*: 2}'",
        "rates of groups as a list": "'sparsity.overrides=[layer1.*]'",
        "a rate of 1": "sparsity=uniform sparsity.rate=1",
        "no rates": "sparsity=layerwise",
        "too few rates": "sparsity=layerwise sparsity.rates=[0.5,0.5]",
        "rates as a word": "sparsity=layerwise sparsity.rates=half",
        "a thousand million rates": "sparsity=layerwise 'sparsity.rates=\"[0.]*1000000000\"'",
        "rates in a list that does not parse": "sparsity=layerwise 'sparsity.rates=\"[0.]+*2\"'",
        "rates by a call": "sparsity=layerwise 'sparsity.rates=\"__import__(1)\"'",
        "rates outside their range": "sparsity=layerwise 'sparsity.rates=\"[0.]+[1.5]*12\"'",
        "an unknown rule": "sparsity=global sparsity.rule=strict",
        "similarity above 1": "method=redundancy_graph sparsity.threshold=1.5",
        "similarity of an unknown group": "method=redundancy_graph 'sparsity.thresholds={layer9.*: 0.8}'",
        "similarity without a redundancy graph": "sparsity=similarity",
        "a target of similarity that is none": "method=redundancy_graph sparsity=similarity_macs sparsity.reduction=2",
    }),
    *_cases("Trainer", RUN, {
        "half a checkpoint": "checkpoint.every_n_steps=0.5",
        "no devices": "trainer.devices=0",
        "devices as a word": "trainer.devices=two",
        "no machines": "trainer.num_nodes=0",
        "an unknown strategy": "trainer.strategy=fast",
        "an unknown precision": "trainer.precision=foo",
        "an unknown accelerator": "trainer.accelerator=abacus",
        "gradients of no batches": "trainer.accumulate_grad_batches=0",
        "gradients clipped at -1": "trainer.gradient_clip_val=-1",
        "no batches": "trainer.limit_train_batches=0",
        "twice all batches": "trainer.limit_train_batches=2.5",
        "undecided batch norms": "trainer.sync_batchnorm=maybe",
        "undecided determinism": "trainer.deterministic=maybe",
        "an unknown option of the trainer": "+trainer.epochs=3",
        "epochs of the trainer": "+trainer.max_epochs=3",
        "a log every -1 steps": "trainer.log_every_n_steps=-1",
        "more processes than images": "trainer=ddp_fork dataset=image_folder dataset.root=images trainer.devices=9",
        "no trainer": "trainer=null",
    }),
    *_cases("Phases", RUN, {
        "a phase of 0 epochs": "train.epochs=0",
        "a phase of 1.5 epochs": "train.epochs=1.5",
        "epochs as a word": "train.epochs=many",
        "a negative rate": "train.optimizer.lr=-1",
        "a rate as a word": "train.optimizer.lr=fast",
        "a negative momentum": "train.optimizer.momentum=-1",
        "a momentum of 1.5": "train.optimizer.momentum=1.5",
        "nesterov without momentum": "train.optimizer.momentum=0 train.optimizer.nesterov=true",
        "an option that the optimizer does not have": "+train.optimizer.betas=[0.9,0.99]",
        "a warm-up longer than the phase": "finetune.epochs=3",
        "a negative warm-up": "train.schedule.warmup_epochs=-1",
        "a warm-up by an unknown unit": "train.schedule.warmup=batch",
        "a cosine by an unknown unit": "train.schedule.per=batch",
        "milestones of two kinds": "schedule@train.schedule=multistep train.schedule.milestones=[0.5,75]",
        "a factor of -1": "schedule@train.schedule=multistep train.schedule.gamma=-1",
        "label smoothing of 1": "train.task.label_smoothing=1",
        "weights of two classes of ten": "task.class_weights=[1,2]",
        "weights of classes by another word": "task.class_weights=even",
        "freezing of a layer that is not there": "'train.freeze={layers: [stem]}'",
        "freezing of all layers": "'train.freeze={layers: [\"*\"], epochs: 1}'",
        "freezing for no epoch": "'train.freeze={layers: [conv1], epochs: 0}'",
        "freezing without layers": "'train.freeze={epochs: 3}'",
        "a new head without weights": "new_head=true",
        "an unknown start": "finetune.init=zero",
        "an optimizer as a word": "train.optimizer=adam",
        "a schedule as a word": "train.schedule=cosine",
        "callbacks as a list": "train.callbacks=[prune]",
        "pruning behind the end": "finetune.callbacks.prune.epochs=[400]",
        "pruning at a negative epoch": "finetune.callbacks.prune.epochs=[-1]",
        "pruning at the same epoch twice": "finetune.callbacks.prune.epochs=[0,0]",
        "pruning at a word": "finetune.callbacks.prune.epochs=[first]",
        "pruning at an epoch without brackets": "finetune.callbacks.prune.epochs=3",
        "pruning in an unknown way": "finetune.callbacks.prune.execution=zero",
    }),
    *_cases("Distillation", RUN, {
        "an unknown distillation": "distillation=kd",
        "a teacher that no phase trains": "method=chex distillation=logits",
        "no phase after the teacher": "phases=train distillation=logits",
        "a teacher that is not there": "distillation=logits distillation.teacher=teacher.pt",
        "a teacher that is another network": "distillation=logits distillation.teacher=other.pt",
        "a temperature of 0": "distillation=logits distillation.temperature=0",
        "more than all for the teacher": "distillation=logits distillation.alpha=1.5",
        "correlations of weight -1": "distillation=dist distillation.beta=-1",
        "answers kept of images that change": "distillation=logits distillation.cache=true",
        "distillation of any number of classes": "dataset=digits_multi_label arch=resnet8 distillation=logits",
        "attention of point clouds": f"{CLOUDS} arch=pointnet2_small method=magnitude distillation=attention",
    }),
    *_cases("Network Slimming", RUN, {
        "a negative penalty on scales": "method=network_slimming sparsify.l1_strength=-1",
        "a penalty on scales as a word": "method=network_slimming sparsify.l1_strength=weak",
        "a decay of weak channels that is less than that of strong ones": "method=depgraph sparsify.ratio=0.5",
        "an unknown population of scales": "method=network_slimming sparsify.penalised=some",
        "scales of a detector that are frozen": "method=network_slimming dataset=coco_shapes "
        "arch=retinanet_resnet50_fpn '+image_sides=[96,128]'",
        "fine-tuning before sparsity training": "method=network_slimming phases=[finetune,sparsify]",
        "streams without a choice of channels": "method=network_slimming arch=preresnet20 channel_selection=sometimes",
    }),
    *_cases("ResRep", RUN, {
        "a negative pull on rows": "method=resrep gradient_reset.lasso_strength=-1",
        "a momentum of compactors of 1": "method=resrep gradient_reset.compactor_momentum=1",
        "an undecided pace": "method=resrep method.auto_pace=maybe",
        "masks before the beginning": "method=resrep gradient_reset.callbacks.masks.start=-1",
        "masks behind the end": "method=resrep gradient_reset.callbacks.masks.start=500",
        "masks every 0 steps": "method=resrep gradient_reset.callbacks.masks.interval=0",
        "masks of 0 rows": "method=resrep gradient_reset.callbacks.masks.granularity=0",
        "a negative threshold of rows": "method=resrep gradient_reset.callbacks.masks.threshold=-1",
        "an unknown way with batch norms": "method=resrep gradient_reset.callbacks.masks.fold_norms=drop",
        "undecided masks": "method=resrep gradient_reset.callbacks.masks.remove_masked=maybe",
        "a negative rate of biases": "method=resrep gradient_reset.parameters.bias_lr=-1",
        "ResRep by another criterion": "method=resrep criterion=magnitude",
        "ResRep before training": "method=resrep phases=[gradient_reset,train]",
    }),
    *_cases("CHEX", RUN, {
        "more channels come back than there are": "method=chex explore.callbacks.stages.init_regrow=2",
        "a stage every 0 epochs": "method=chex explore.callbacks.stages.interval=0",
        "a last stage that is no multiple": "method=chex explore.callbacks.stages.last_stage=145",
        "a last stage behind the end": "method=chex explore.callbacks.stages.last_stage=400",
        "an unknown unit of stages": "method=chex explore.callbacks.stages.unit=weeks",
        "an unknown decay": "method=chex explore.callbacks.stages.decay=fast",
        "an unknown allocation": "method=chex explore.callbacks.stages.regrow_allocation=even",
        "an unknown sampling": "method=chex explore.callbacks.stages.sampling=best",
        "an unknown power of residuals": "method=chex explore.callbacks.stages.residual_power=3",
        "unknown values that come back": "method=chex explore.callbacks.stages.regrow_init=one",
        "averages that never forget": "method=chex explore.callbacks.stages.ema_decay=1.5",
        "undecided streams": "method=chex explore.streams=maybe",
        "an exempt parameter that there is not": "method=chex 'explore.parameters.exempt=[nothing]'",
        "no exploration stages": "method=chex explore.callbacks.stages=null",
    }),
    *_cases("Loggers and callbacks", RUN, {
        "an unknown option of the logger": "+logger.tensorboard.colour=red",
        "an unknown interval": "callbacks.learning_rate.logging_interval=week",
        "a callback that there is not": "+callbacks.mine._target_=pytorch_lightning.callbacks.Nothing",
        "a callback that is none": "+callbacks.mine=3",
    }),
    *_cases("Resuming", RUN, {
        "a run that is not there": "resume=nowhere",
        "a folder that is no run": "resume=no_run",
        "a file": "resume=text.pt",
        "no folder": "resume=",
        "another seed": "resume=run seed=2",
        "another network": "resume=run arch=vgg16_bn",
        "another sparsity": "resume=run sparsity=macs_30",
        "another method": "resume=run method=chip",
        "another batch": "resume=run dataset.batch_size=32",
        "another precision": "resume=run trainer.precision=bf16-mixed",
        "a resumed run as a sweep": "resume=run -m seed=1,2",
        "the folder of a phase": "resume=run/phases/1-train",
        "an analysis of sensitivity": "resume=analysis",
        "an evaluation": "resume=evaluation",
    }),
    *_cases("Sweeps", f"{RUN} -m", {
        "a sweep over an unknown key": "sed=1,2",
        "lists that are not quoted": "sparsity=layerwise 'sparsity.rates=[0.]+[0.1]*2,[0.]+[0.2]*2'",
        "one value with an unknown group": "seed=1 dataset=digit",
        "a sweep whose values do not parse": "'seed=range(1,'",
    }),
    *_cases("Sweeps of which no job can run", f"{RUN} -m", {
        "two seeds that are none": "seed=abc,-1",
        "budgets out of their range": "sparsity.reduction=1.5,2",
        "networks that there are not": "arch.depth=21,22",
    }),
    *_cases("Looking before pruning", INSPECT, {
        "spatial information of point clouds, looked at":
            "dataset=shapes10 arch=pointnet2_small criterion=spatial_information",
        "images of 2 x 2 pixels": "arch=vgg16_bn input_shape=[3,2,2]",
        "images of one number": "input_shape=[3]",
        "a shape in words": "input_shape=[3,large,large]",
        "a shape as a word": "input_shape=large",
        "a shape of 0 pixels": "input_shape=[3,0,32]",
        "5 channels": "input_shape=[5,32,32]",
        "no classes": "num_classes=0",
        "-3 classes": "num_classes=-3",
        "an unknown network to look at": "arch=resnet21",
        "a budget that cannot be met, looked at": "sparsity.reduction=0.999",
        "milliseconds, looked at": "arch=resnet8 sparsity=latency",
        "rates to look at that are too few": "sparsity=layerwise sparsity.rates=[0.5]",
        "similarity to look at": "method=redundancy_graph sparsity=similarity",
        "weights to look at that are not there": "weights=nowhere.pt",
        "a network of one's own that is not there": "arch._target_=mynets.Net",
        "an unknown shortcut to look at": "channel_scatter=maybe",
    }),
    *_cases("Exporting", EXPORT, {
        "nothing to export": "",
        "a network to export that is not there": "path=nowhere",
        "an empty folder to export": "path=empty_folder",
        "a text to export": "path=text.safetensors",
        "a checkpoint to export that is not there": "path=run/phases/1-train/first.ckpt format=pt2",
        "weights to export": "path=other.pt",
        "two networks to export": "path=run,run",
        "an unknown format": "path=run format=tflite",
        "no format": "path=run format=[]",
        "a known and an unknown format": "path=run format=pt2,onxx",
        "inputs too small to export": "path=run format=pt2 input_shape=[3]",
        "inputs of -1 pixels to export": "path=run format=pt2 input_shape=[3,-1,32]",
        "an unknown option to export": "path=run size=32",
        "a drop that is no number": "path=run format=onnx_int8 max_drop=little",
        "no sign of equality to export": "run",
        "a bracket that is not closed to export": "'path=[run'",
        "a builder that does not fit": "path=run arch._target_=mynet.Nett",
    }),
    *_cases("A folder for the Hub", HUB, {
        "nothing for the Hub": "",
        "a run for the Hub that is not there": "path=nowhere",
        "no run for the Hub": "path=empty_folder",
        "no name of a repository": "path=run repo=mine",
    }),
    *_cases("Measuring sensitivity", SENSITIVITY, {
        "a network that was never trained": "arch=resnet8",
        "a rate of 1 in between": "arch=resnet8 weights=run/pruned/model.safetensors rates=[0.5,1]",
        "stopping before anything is lost": "arch=resnet8 weights=run/pruned/model.safetensors stop_at=0",
        "stopping nowhere": "arch=resnet8 weights=run/pruned/model.safetensors stop_at=null",
        "a rate in words": "arch=resnet8 weights=run/pruned/model.safetensors rates=half",
        "no rates at all": "arch=resnet8 weights=run/pruned/model.safetensors rates=[]",
        "trials on no examples": "arch=resnet8 weights=run/pruned/model.safetensors num_examples=0",
        "a misspelt setting of the run's data": "arch=resnet8 weights=run dataset.bach_size=16",
        "other classes than those of the weights": "arch=resnet8 weights=run dataset=image_folder dataset.root=images",
        "weights of other classes that lie nowhere": "arch=resnet8 weights=cats.safetensors",
        "a run to be resumed as an analysis": "resume=run",
        "nothing to be narrowed": "arch=resnet8 weights=run/pruned/model.safetensors 'sparsity.exclude=[\"*\"]'",
    }),
    *_cases("Evaluating", EVALUATE, {
        "nothing to evaluate": "",
        "an empty path": "path=",
        "a run to evaluate that is not there": "path=nowhere",
        "a folder to evaluate that is no run": "path=no_run",
        "a text to evaluate": "path=text.safetensors",
        "a text as checkpoint": "path=text.ckpt",
        "weights to evaluate": "path=other.pt",
        "one of two that is not there": "path=run,nowhere",
        "a comma too many": "path=run,",
        "an unknown device": "path=run accelerator=abacus",
        "an unknown normalisation": "path=run normalisation=mine",
        "other classes to evaluate": "path=run dataset=image_folder dataset.root=images",
        "a data set to evaluate that is not there": "path=run dataset=cifar10 dataset.root=empty_folder",
        "a batch of 0 to evaluate": "path=run dataset.batch_size=0",
        "a batch to evaluate as a word": "path=run dataset.batch_size=many",
        "an unknown key of the data to evaluate": "path=run dataset.colour=red",
        "latency of no images to evaluate": "path=run latency.batch_size=0",
        "no latency to evaluate": "path=run latency=null",
        "an unknown key to evaluate": "path=run device=cpu",
    }),
    *_cases("Reporting", REPORT, {
        "nothing to report": "",
        "a sweep to report that is not there": "path=nowhere",
        "a folder to report without runs": "path=no_run",
        "a file to report": "path=text.pt",
        "one of two folders that is not there": "path=run,nowhere out=summary",
        "one of two folders without runs": "path=run,no_run out=summary",
        "two folders for a summary": "path=run out=a,b",
        "a run as the place of a summary": "path=run out=run",
        "a file as the place of a summary": "path=run out=text.pt",
        "an unknown option to report": "path=run format=pdf",
        "no sign of equality to report": "run",
        "an empty path to report": "path=",
    }),
]  # fmt: skip

#: Commands that do what the sentence says, by what was wrong.
MENDED = {
    "an unknown sparsity": f"{RUN} sparsity=macs sparsity.reduction=0.51",
    "weights that are not there": f"{RUN} arch=resnet8 weights=run/phases/1-train/last.ckpt",
    "weights and only the phase train": f"{RUN} method=magnitude arch=resnet8 weights=run/pruned/model.safetensors",
    "a batch larger than the data, of which incomplete ones are left out":
        f"{RUN} dataset.batch_size=500 dataset.drop_last=true",
    "a last batch of one image for a batch norm of one pixel":
        f"{RUN} arch=vgg16_bn dataset.batch_size=647 dataset.drop_last=true",
    "images of several sizes": f"{RUN} dataset=image_folder dataset.root=mixed_sizes dataset.size=32",
    "a folder as cache": f"{RUN} dataset=image_folder dataset.root=images dataset.cache=empty_folder/images",
    "a window larger than the image": f"{RUN} dataset=imagenet dataset.root=images dataset.resize_size=null",
    "compactors without ResRep": f"{RUN} method=resrep criterion=compactor_norm",
    "a group excluded without brackets": f"{RUN} 'sparsity.exclude=[layer3.*]'",
    "too few rates": f"{RUN} sparsity=layerwise 'sparsity.rates=\"[0.]+[0.1]*2+[0.5]*9\"'",
    "similarity without a redundancy graph": f"{RUN} criterion=redundancy_graph sparsity=similarity",
    "a warm-up longer than the phase": f"{RUN} finetune.epochs=3 finetune.schedule.warmup_epochs=2",
    "masks behind the end": f"{RUN} method=resrep gradient_reset.callbacks.masks.start=500 method.auto_pace=true",
    "a last stage that is no multiple": f"{RUN} method=chex explore.callbacks.stages.last_stage=144",
    "another batch": f"{RUN} resume=run dataset.batch_size=64",
    "similarity to look at": f"{RUN} debug=quick criterion=redundancy_graph sparsity=similarity",
    "inputs too small to export": f"{EXPORT} path=run format=pt2 input_shape=[3,32,32]",
    "a run as the place of a summary": f"{REPORT} path=run out=summary",
}  # fmt: skip


def sentences(printed: str, folder: Path) -> list[str]:
    """The errors in what a command has printed, each once, with ``<folder>`` for the one that it ran in."""
    found = re.findall(r"^(?:\[[^\]]*\]\[pruning_lit\]\[ERROR\] - |error: )(.*)$", printed, re.MULTILINE)
    return [each.replace(str(folder), "<folder>") for each in dict.fromkeys(found)]


def row(case: BadInput, told: list[str], code: int) -> str:
    """The line of the table that tells how a case has ended."""
    marks = "``" if any("`" in each for each in told) else "`"
    said = "<br>".join(f"{marks} {each} {marks}" if marks == "``" else f"`{each}`" for each in told)
    cells = [case.wrong, f"`{case.command}`", said, str(code)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
