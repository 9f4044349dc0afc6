"""The networks that people ask about first, as they come from torchvision, and those of this literature."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from pruning_lit.models import cifar_densenet, cifar_resnet, preresnet, vgg_bn
from pruning_lit.models.detector_views import detector_view
from pruning_lit.models.mask_rcnn import maskrcnn_resnet50_fpn_gn
from pruning_lit.models.ssd import ssd300_resnet50

CLASSIFICATION = [
    "alexnet", "vgg11", "vgg16", "vgg19", "vgg11_bn", "vgg16_bn", "vgg19_bn", "resnet18", "resnet34", "resnet50",
    "resnet101", "resnext50_32x4d", "wide_resnet50_2", "densenet121", "densenet201", "mobilenet_v2",
    "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet1_0", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2",
    "efficientnet_b3", "efficientnet_v2_s", "regnet_x_400mf", "regnet_y_400mf", "shufflenet_v2_x1_0", "squeezenet1_0",
    "squeezenet1_1", "googlenet", "inception_v3", "convnext_tiny", "vit_b_16", "swin_t", "maxvit_t",
]  # fmt: skip
SEGMENTATION = ["fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large"]
DETECTION = [
    "ssd300_vgg16", "ssdlite320_mobilenet_v3_large", "fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn", "fcos_resnet50_fpn",
]  # fmt: skip
TIMM = [
    "resnet50", "seresnet50", "ecaresnet50t", "res2net50_26w_4s", "resnest14d", "regnety_004", "efficientnet_b0",
    "mobilenetv3_large_100", "ghostnet_100", "hrnet_w18_small", "dla34", "cspdarknet53", "repvgg_a0", "convnext_atto",
    "dpn68", "vovnet39a", "inception_v4", "nfnet_l0", "mixer_s32_224", "deit_tiny_patch16_224", "convmixer_768_32",
    "efficientvit_b0", "res2next50", "mixnet_s", "shvit_s1", "skresnet18", "rexnet_100",
    "cspresnet50", "fasternet_t0", "ese_vovnet19b_dw", "dm_nfnet_f0", "efficientvit_m0", "hrnet_w18_small_v2",
]  # fmt: skip
PYTORCHCV = ["ibn_resnet50", "ibn_densenet121", "sknet50", "pyramidnet110_a48_cifar10", "shufflenet_g1_w1", "igcv3_w1"]
SEGMENTATION_MODELS = ["Unet", "UnetPlusPlus", "Linknet", "FPN", "PSPNet", "DeepLabV3Plus", "MAnet", "PAN"]
MONAI = ["UNet", "BasicUNet", "SegResNet", "DynUNet", "AttentionUnet", "VNet"]
ULTRALYTICS = ["yolov8n", "yolov8n-seg", "yolo11n", "yolo11n-seg", "yolo12n", "yolo12n-seg"]


@dataclass(frozen=True)
class Network:
    """A network to try.

    Attributes:
        name: for the table.
        build: makes it, with random weights.
        example: makes its arguments, in float32.
    """

    name: str
    build: Callable[[], nn.Module]
    example: Callable[[], tuple[Any, ...]]


def networks() -> list[Network]:
    """All of them, the cheap ones first within each family."""
    return [
        *_cifar(),
        *map(_torchvision, CLASSIFICATION),
        *map(_torchvision, SEGMENTATION),
        *_detection(),
        *_detector_views(),
        *_timm(),
        *_pytorchcv(),
        *_segmentation_models(),
        *_monai(),
        *_ultralytics(),
    ]


def random_weights(model: nn.Module) -> nn.Module:
    """Give every batch norm statistics, scales and shifts that hide nothing; in place, in eval mode."""
    random = torch.Generator().manual_seed(0)

    def around(value: float, like: Tensor) -> Tensor:
        return value + 0.2 * (torch.rand(like.shape, generator=random).to(like) - 0.5)

    for module in model.modules():
        if isinstance(module, _BatchNorm | FrozenBatchNorm2d) and module.running_mean is not None:
            module.running_mean.copy_(around(0.0, module.running_mean))
            module.running_var.copy_(around(1.0, module.running_var))
            if module.weight is not None:
                with torch.no_grad():
                    module.weight.copy_(around(1.0, module.weight))
                    module.bias.copy_(around(0.0, module.bias))
    for parameter in model.parameters():
        if bool((parameter == parameter.flatten()[0]).all()) or float(parameter.detach().abs().max()) < 1e-3:
            with torch.no_grad():  # heads of zeros and layer scales of next to nothing would hide what is behind them
                parameter.copy_(around(0.0, parameter))
    return model.eval()


def _cifar() -> list[Network]:
    builders: dict[str, Callable[[], nn.Module]] = {
        "CIFAR resnet56, option A": lambda: cifar_resnet(56),
        "CIFAR resnet110, option A": lambda: cifar_resnet(110),
        "CIFAR vgg16_bn": lambda: vgg_bn(16),
        "pre-activation resnet164": lambda: preresnet(164),
        "CIFAR densenet40": lambda: cifar_densenet(40),
    }
    return [Network(name, build, lambda: (_image(32),)) for name, build in builders.items()]


def _torchvision(name: str) -> Network:
    options: dict[str, Any] = {"weights": None}
    if name in SEGMENTATION or name in DETECTION:
        options["weights_backbone"] = None
    if name in DETECTION:  # otherwise a detector with random weights finds nothing, and half of it is never run
        options["box_score_thresh" if "rcnn" in name else "score_thresh"] = 0.0
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # takes a minute, and is not looked at here
    size = {"inception_v3": 299, "ssd300_vgg16": 300}.get(name, 320 if name in DETECTION else 224)
    images: Callable[[], tuple[Any, ...]] = lambda: (_image(size),)  # noqa: E731
    if name in DETECTION:
        images = lambda: ([_image(size)[0]],)  # noqa: E731
    return Network(name, lambda: torchvision.models.get_model(name, **options), images)


def _detection() -> list[Network]:
    plain = [_torchvision(name) for name in DETECTION]
    frozen = [
        Network(f"{each.name}, frozen batch norm", lambda each=each: _frozen(each.build()), each.example)  # type: ignore[misc]
        for each in plain
        if "resnet50" in each.name
    ]
    return [*plain, *frozen]


def _detector_views() -> list[Network]:
    """Detectors up to what their heads say, as ``task=detection`` traces them."""
    own: dict[str, Callable[[], nn.Module]] = {
        "ssd300_resnet50": ssd300_resnet50,
        "maskrcnn_resnet50_fpn_gn": maskrcnn_resnet50_fpn_gn,
    }
    builders = {name: _torchvision(name).build for name in DETECTION} | own
    return [
        Network(
            f"{name} (raw view)",
            lambda build=build: detector_view(build()),
            lambda name=name: (_image(300 if "ssd300" in name else 320),),
        )  # type: ignore[misc]
        for name, build in builders.items()
    ]


def _frozen(model: nn.Module) -> nn.Module:
    """With every batch norm replaced by torchvision's frozen one."""
    for module in list(model.modules()):
        for key, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, key, FrozenBatchNorm2d(child.num_features))
    return model


def _timm() -> list[Network]:
    try:
        import timm
    except ImportError:
        return []
    return [
        Network(f"timm {name}", lambda name=name: timm.create_model(name), lambda: (_image(224),))  # type: ignore[misc]
        for name in TIMM
    ]


def _pytorchcv() -> list[Network]:
    try:
        from pytorchcv.model_provider import get_model
    except ImportError:
        return []
    return [
        Network(f"pytorchcv {name}", lambda name=name: get_model(name), lambda name=name: (_image(_size(name)),))  # type: ignore[misc]
        for name in PYTORCHCV
    ]


def _size(name: str) -> int:
    return 32 if "cifar" in name else 224


def _segmentation_models() -> list[Network]:
    try:
        import segmentation_models_pytorch as models
    except ImportError:
        return []
    options = {"encoder_name": "resnet18", "encoder_weights": None}
    return [
        Network(
            f"segmentation_models {name}", lambda name=name: getattr(models, name)(**options), lambda: (_image(128),)
        )  # type: ignore[misc]
        for name in SEGMENTATION_MODELS
    ]


def _monai() -> list[Network]:
    """Those for volumes."""
    try:
        from monai.networks import nets
    except ImportError:
        return []
    plain = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
    steps = {"channels": (8, 16, 32), "strides": (2, 2)}
    kernels = {"kernel_size": (3, 3, 3), "strides": (1, 2, 2), "upsample_kernel_size": (2, 2)}
    options: dict[str, dict[str, Any]] = {
        "UNet": steps | {"num_res_units": 2},
        "BasicUNet": {"features": (8, 8, 16, 32, 64, 8)},
        "SegResNet": {"init_filters": 8},
        "DynUNet": kernels,
        "AttentionUnet": steps,
        "VNet": {},
    }
    volume = lambda: (torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1)),)  # noqa: E731
    return [
        Network(f"monai {name}", lambda name=name: getattr(nets, name)(**plain, **options[name]), volume)  # type: ignore[misc]
        for name in MONAI
    ]


def _ultralytics() -> list[Network]:
    """From their YAML files."""
    try:
        from ultralytics.nn.tasks import DetectionModel, SegmentationModel
    except ImportError:
        return []
    builders = {name: SegmentationModel if name.endswith("-seg") else DetectionModel for name in ULTRALYTICS}
    return [
        Network(
            f"ultralytics {name}",
            lambda name=name: builders[name](f"{name}.yaml", verbose=False),
            lambda: (_image(160),),
        )  # type: ignore[misc]
        for name in ULTRALYTICS
    ]


def _image(size: int) -> Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
