"""Data: sets, loaders and transforms, with PyTorch's names and an order that can be resumed."""

from __future__ import annotations

from .affine import RandomAffine, RandomRotation
from .buckets import BucketBatchSampler, bucket_lengths, bucket_shapes, pad_collate
from .burgers import burgers_solution
from .collate import default_collate
from .colour import ColorJitter
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
from .resize import RandomResizedCrop, Resize
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
from .text import (
    MaskedWindows,
    TextWindows,
    embedded_text,
    load_text,
    split_text,
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
from .translation import (
    Corpus,
    DatePairs,
    Pairs,
    corpus_vocabularies,
    date_sentences,
    load_dates,
    load_multi30k,
    load_translation,
)
from .vocabulary import CharVocabulary, Vocabulary, WordVocabulary, vocabulary_from_dict

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "Batch",
    "BatchSampler",
    "BucketBatchSampler",
    "CenterCrop",
    "CharVocabulary",
    "ColorJitter",
    "Compose",
    "ConcatDataset",
    "Corpus",
    "CutMix",
    "DataLoader",
    "Dataset",
    "DatePairs",
    "FashionMNIST",
    "ImageSet",
    "Lambda",
    "MNISTSample",
    "MaskedWindows",
    "MixUp",
    "Normalize",
    "Pad",
    "Pairs",
    "RandomAffine",
    "RandomChoice",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomSampler",
    "RandomVerticalFlip",
    "Resize",
    "Sampler",
    "SequentialSampler",
    "SinCurve",
    "Spiral",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "TextWindows",
    "ToTensor",
    "Transform",
    "Vocabulary",
    "WeightedRandomSampler",
    "WordVocabulary",
    "bucket_lengths",
    "bucket_shapes",
    "burgers_solution",
    "catalogue",
    "corpus_vocabularies",
    "data_home",
    "date_sentences",
    "default_collate",
    "embedded_text",
    "item_rng",
    "load_dates",
    "load_mnist",
    "load_multi30k",
    "load_text",
    "load_translation",
    "pad_collate",
    "random_split",
    "split_text",
    "vocabulary_from_dict",
]
