"""Images and point clouds in an order and with augmentation that depend on nothing but seed, phase and epoch."""

from pruning_lit.data.base import DataModule
from pruning_lit.data.cifar import Cifar10, Cifar100
from pruning_lit.data.clouds import PointCloudData
from pruning_lit.data.coco import Coco
from pruning_lit.data.custom import CustomData, Datasets
from pruning_lit.data.detection import DetectionData
from pruning_lit.data.digit_canvases import MultiLabelDigits, SegmentedDigits
from pruning_lit.data.digits import Digits
from pruning_lit.data.image_data import ImageData
from pruning_lit.data.image_folder import ImageFolder
from pruning_lit.data.imagenet import ImageNet
from pruning_lit.data.in_memory import ImagesInMemory
from pruning_lit.data.modelnet import ModelNet40
from pruning_lit.data.shapenet_part import ShapeNetPart
from pruning_lit.data.shapes import CocoShapes
from pruning_lit.data.shapes10 import Shapes10, Shapes10Parts

__all__ = [
    "Cifar10",
    "Cifar100",
    "Coco",
    "CocoShapes",
    "CustomData",
    "DataModule",
    "Datasets",
    "DetectionData",
    "Digits",
    "ImageData",
    "ImageFolder",
    "ImageNet",
    "ImagesInMemory",
    "ModelNet40",
    "MultiLabelDigits",
    "PointCloudData",
    "SegmentedDigits",
    "ShapeNetPart",
    "Shapes10",
    "Shapes10Parts",
]
