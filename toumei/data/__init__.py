"""Data: sets, loaders and transforms, with PyTorch's names and an order that can be resumed."""

from __future__ import annotations

from .affine import RandomAffine, RandomRotation
from .burgers import burgers_solution
from .collate import default_collate
from .dataset import (
    Batch,
    ConcatDataset,
    Dataset,
    Subset,
    TensorDataset,
    random_split,
)
from .files import catalogue, data_home
from .keys import item_rng
from .loader import DataLoader
from .mixing import CutMix, MixUp, RandomChoice
from .sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .sets import (
    CIFAR10,
    CIFAR100,
    MNIST,
    FashionMNIST,
    ImageSet,
    MNISTSample,
    SinCurve,
    Spiral,
    load_mnist,
)
from .transforms import (
    CenterCrop,
    Compose,
    Lambda,
    Normalize,
    Pad,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomVerticalFlip,
    ToTensor,
    Transform,
)

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "Batch",
    "BatchSampler",
    "CenterCrop",
    "Compose",
    "ConcatDataset",
    "CutMix",
    "DataLoader",
    "Dataset",
    "FashionMNIST",
    "ImageSet",
    "Lambda",
    "MNISTSample",
    "MixUp",
    "Normalize",
    "Pad",
    "RandomAffine",
    "RandomChoice",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomSampler",
    "RandomVerticalFlip",
    "Sampler",
    "SequentialSampler",
    "SinCurve",
    "Spiral",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "ToTensor",
    "Transform",
    "WeightedRandomSampler",
    "burgers_solution",
    "catalogue",
    "data_home",
    "default_collate",
    "item_rng",
    "load_mnist",
    "random_split",
]
