"""Images: sources, safe readers of their formats, augmentation and the input pipeline.

Names are imported when first used, so that `import data` costs nothing at the program's start.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data.augmentation import Augmentation, FlipRotate
    from data.errors import DamagedData, MissingData
    from data.location import resolve_data_dir
    from data.pipeline import Data, OrderedBatches, TrainBatches
    from data.source import ImageData, Manifest, Source
    from data.sources.array_file import ArrayFile
    from data.sources.cifar10 import Cifar10
    from data.sources.digits import Digits
    from data.sources.fashion_mnist import FashionMnist
    from data.sources.image_folder import ImageFolder
    from data.sources.imagenet32 import ImageNet32New, ImageNet32Old
    from data.sources.photos import Photos
    from diffusion_ode.errors import UserError

_HOMES = {
    "Augmentation": "data.augmentation",
    "FlipRotate": "data.augmentation",
    "DamagedData": "data.errors",
    "MissingData": "data.errors",
    "UserError": "data.errors",
    "resolve_data_dir": "data.location",
    "Data": "data.pipeline",
    "OrderedBatches": "data.pipeline",
    "TrainBatches": "data.pipeline",
    "ImageData": "data.source",
    "Manifest": "data.source",
    "Source": "data.source",
    "ArrayFile": "data.sources.array_file",
    "Cifar10": "data.sources.cifar10",
    "Digits": "data.sources.digits",
    "FashionMnist": "data.sources.fashion_mnist",
    "ImageFolder": "data.sources.image_folder",
    "ImageNet32New": "data.sources.imagenet32",
    "ImageNet32Old": "data.sources.imagenet32",
    "Photos": "data.sources.photos",
}

__all__ = [
    "ArrayFile",
    "Augmentation",
    "Cifar10",
    "DamagedData",
    "Data",
    "Digits",
    "FashionMnist",
    "FlipRotate",
    "ImageData",
    "ImageFolder",
    "ImageNet32New",
    "ImageNet32Old",
    "Manifest",
    "MissingData",
    "OrderedBatches",
    "Photos",
    "Source",
    "TrainBatches",
    "UserError",
    "resolve_data_dir",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'data' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
