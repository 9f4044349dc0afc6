"""The papers' CIFAR networks, detectors, networks for point clouds, torchvision's by name, and weights for them."""

from pruning_lit.models.cifar_densenet import CifarDenseNet, cifar_densenet
from pruning_lit.models.cifar_resnet import CifarResNet, cifar_resnet
from pruning_lit.models.detector_views import detector_view, view_size
from pruning_lit.models.detectors import torchvision_detector
from pruning_lit.models.fcn import SmallFCN, small_fcn
from pruning_lit.models.mask_rcnn import maskrcnn_resnet50_fpn_gn, maskrcnn_small
from pruning_lit.models.mobilenet_v1 import MobileNetV1, mobilenet_v1
from pruning_lit.models.pointnet import PointNet, pointnet
from pruning_lit.models.pointnet2 import pointnet2_cls, pointnet2_part_seg
from pruning_lit.models.preresnet import PreResNet, preresnet
from pruning_lit.models.ssd import ssd300_resnet50, ssd_small
from pruning_lit.models.start import start_afresh
from pruning_lit.models.torchvision import torchvision_model
from pruning_lit.models.vgg import VGG, vgg_bn
from pruning_lit.models.weights import load_weights

__all__ = [
    "VGG",
    "CifarDenseNet",
    "CifarResNet",
    "MobileNetV1",
    "PointNet",
    "PreResNet",
    "SmallFCN",
    "cifar_densenet",
    "cifar_resnet",
    "detector_view",
    "load_weights",
    "maskrcnn_resnet50_fpn_gn",
    "maskrcnn_small",
    "mobilenet_v1",
    "pointnet",
    "pointnet2_cls",
    "pointnet2_part_seg",
    "preresnet",
    "small_fcn",
    "ssd300_resnet50",
    "ssd_small",
    "start_afresh",
    "torchvision_detector",
    "torchvision_model",
    "vgg_bn",
    "view_size",
]
