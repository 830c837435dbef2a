"""The data sets: MNIST and its like, CIFAR, an embedded sample of MNIST, two generated sets."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ops.creation import from_numpy
from ..tensor import Tensor
from .dataset import Batch, Dataset, TensorDataset
from .files import KNOWN, find, locate, packed_file, parse_idx, parse_records, read_checked
from .jpegs import read_jpegs
from .keys import fold, item_keys, item_scope, normal, permutation, seed_key, uniform
from .transforms import Transform

Root = str | os.PathLike[str] | None
Function = Callable[[Any], Any]
Records = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images and labels

_SAMPLE = Path(__file__).parent / "assets" / "mnist_sample.npz"

_DIGITS = "zero one two three four five six seven eight nine"
_CLOTHES = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
    crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse
    mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
    porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
    snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
    tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class ImageSet(Dataset[tuple[Any, Any]]):
    """Images (n, channels, height, width), uint8, and their labels, both in memory.

    A sample is (image, label): a uint8 Tensor (channels, height, width) and an int, after the
    transforms.  With a `Transform`, or none, a whole batch is made at once.

    Args:
        images: uint8.  Shape: (n, channels, height, width)
        labels: int64.  Shape: (n)
        transform: a function of the image; see `transforms`.
        target_transform: a function of the label.

    >>> import numpy as np
    >>> data = ImageSet(np.zeros((2, 1, 4, 4), np.uint8), np.array([3, 5]))
    >>> data[1][0].shape, data[1][1]
    (Size([1, 4, 4]), 5)
    """

    classes: ClassVar[Sequence[str]] = ()
    mean: ClassVar[Sequence[float]] = ()
    std: ClassVar[Sequence[float]] = ()

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        transform: Function | None = None,
        target_transform: Function | None = None,
    ) -> None:
        if images.ndim != 4 or len(images) != len(labels):
            raise ValueError(
                f"{type(self).__name__}: images {images.shape} must be (n, channels, height, "
                f"width) with one label each; there are {len(labels)} labels"
            )
        self.images, self.labels = images, labels
        self.transform, self.target_transform = transform, target_transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for a set of {len(self)} images")
        index = int(index) % len(self)
        return self._image(index), self._label(index)

    def _image(self, index: int) -> Any:
        """Return one transformed image."""
        if self.transform is None or isinstance(self.transform, Transform):
            return from_numpy(self._transformed([index])[0])
        with item_scope(index):
            return self.transform(from_numpy(self.images[index].copy()))

    def _label(self, index: int) -> Any:
        """Return one transformed label."""
        label = int(self.labels[index])
        return label if self.target_transform is None else self.target_transform(label)

    def _transformed(self, indices: Sequence[int]) -> NDArray[Any]:
        """Return a batch of transformed images."""
        images = self.images.take(np.asarray(indices, np.int64), axis=0)
        if not isinstance(self.transform, Transform):
            return images
        zeros = np.zeros(len(indices), np.uint64)
        keys = item_keys(indices) if self.transform.random else zeros
        return np.ascontiguousarray(self.transform.apply(images, keys))

    def __getitems__(self, indices: Sequence[int]) -> Sequence[tuple[Any, Any]]:
        if self.transform is not None and not isinstance(self.transform, Transform):
            return [self[index] for index in indices]
        images = from_numpy(self._transformed(indices))
        if self.target_transform is None:
            return Batch(images, self.labels.take(np.asarray(indices, np.int64)))
        labels = [self._label(index) for index in indices]
        return list(zip(images, labels, strict=True))

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The number of each class name."""
        return {name: number for number, name in enumerate(self.classes)}

    def __repr__(self) -> str:
        n, *shape = self.images.shape
        return f"{type(self).__name__}({n:,} images {tuple(shape)}, transform={self.transform!r})"


class _GreySet(ImageSet):
    """Grey images: `data` is (n, height, width)."""

    @property
    def data(self) -> Tensor:
        """The images, uint8.  Shape: (n, height, width)"""
        return from_numpy(self.images[:, 0])

    @property
    def targets(self) -> Tensor:
        """The labels, int64.  Shape: (n)"""
        return from_numpy(self.labels)


class MNIST(_GreySet):
    """Handwritten digits: 60,000 to train, 10,000 to test, grey, 28 x 28.

    Source: LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist

    Args:
        root: the data folder; else $TOUMEI_DATA, else the user's cache.
        train: the training set, or else the test set.
        transform, target_transform: functions of the image and of the label.
        download: fetch what is missing.

    Raises:
        DataError: a file is missing, cut short or damaged.
    """

    classes = tuple(f"{digit} - {word}" for digit, word in enumerate(_DIGITS.split()))
    mean, std = (0.1307,), (0.3081,)
    _name: ClassVar[str] = "mnist"

    def __init__(
        self,
        root: Root = None,
        train: bool = True,
        transform: Function | None = None,
        target_transform: Function | None = None,
        download: bool = False,
    ) -> None:
        folder = _folder(self._name, root, download)
        kind = "train" if train else "t10k"
        images = self._read(folder, f"{kind}-images-idx3-ubyte")
        labels = self._read(folder, f"{kind}-labels-idx1-ubyte").astype(np.int64)
        super().__init__(images[:, None], labels, transform, target_transform)
        self.train = train

    def _read(self, folder: Path, name: str) -> NDArray[np.uint8]:
        """Return the array of one file."""
        return parse_idx(read_checked(KNOWN[self._name], folder, name), str(folder / name))


class FashionMNIST(MNIST):
    """Pictures of clothes in MNIST's form: 60,000 to train, 10,000 to test, grey, 28 x 28.

    Arguments and errors as for MNIST.
    Paper: Xiao, Rasul and Vollgraf, "Fashion-MNIST", arXiv:1708.07747
    """

    classes = tuple(_CLOTHES.split(", "))
    mean, std = (0.2860,), (0.3530,)
    _name = "fashion-mnist"


class MNISTSample(_GreySet):
    """8,000 + 2,000 digits of MNIST that come with the package.

    All of them are from MNIST's *training* set; each class has the same share in both parts.

    Args:
        train: the 8,000, or else the 2,000.
        transform, target_transform: functions of the image and of the label.

    >>> len(MNISTSample(train=False))
    2000
    """

    classes, mean, std = MNIST.classes, MNIST.mean, MNIST.std

    def __init__(
        self,
        train: bool = True,
        transform: Function | None = None,
        target_transform: Function | None = None,
    ) -> None:
        kind = "train" if train else "test"
        with np.load(_SAMPLE, allow_pickle=False) as asset:
            images, labels = asset[f"{kind}_images"], asset[f"{kind}_labels"]
        super().__init__(images[:, None], labels.astype(np.int64), transform, target_transform)
        self.train = train


class CIFAR10(ImageSet):
    """Photographs of 10 classes: 50,000 to train, 10,000 to test, colour, 32 x 32.

    Read from the official binary version or, where the folder has that instead, from JPEGs in
    cifar10_jpeg.npz, whose pixels are kept in the user's cache (see `jpegs`).  Arguments and errors
    as for MNIST.
    Source: Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html
    """

    classes: ClassVar[Sequence[str]] = tuple(_CIFAR10.split())
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    _name: ClassVar[str] = "cifar10"
    _train_files: ClassVar[Sequence[str]] = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
    _test_files: ClassVar[Sequence[str]] = ("test_batch.bin",)
    _label_bytes: ClassVar[int] = 1

    def __init__(
        self,
        root: Root = None,
        train: bool = True,
        transform: Function | None = None,
        target_transform: Function | None = None,
        download: bool = False,
    ) -> None:
        folder = _folder(self._name, root, download)
        packed = packed_file(KNOWN[self._name], folder)
        if packed is not None:
            part = "train" if train else "test"
            images, labels = read_jpegs(packed, part, len(self.classes))
        else:
            images, labels = self._read_all(
                folder, self._train_files if train else self._test_files
            )
        super().__init__(images, labels, transform, target_transform)
        self.train = train

    def _read_all(self, folder: Path, names: Sequence[str]) -> Records:
        """Return the images and labels of some files."""
        parts = [self._read(folder, name) for name in names]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return images, labels

    def _read(self, folder: Path, name: str) -> Records:
        """Return the images and labels of one file."""
        content = read_checked(KNOWN[self._name], folder, name)
        return parse_records(content, self._label_bytes, len(self.classes), str(folder / name))

    @property
    def data(self) -> NDArray[np.uint8]:
        """The images, uint8.  Shape: (n, height, width, channels)"""
        return self.images.transpose(0, 2, 3, 1)

    @property
    def targets(self) -> list[int]:
        """The labels."""
        labels: list[int] = self.labels.tolist()
        return labels


class CIFAR100(CIFAR10):
    """Photographs of 100 (fine) classes: 50,000 to train, 10,000 to test, colour, 32 x 32.

    Read from the official binary version.  Arguments and errors as for MNIST.
    Source: Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html
    """

    classes = tuple(_CIFAR100.split())
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    _name = "cifar100"
    _train_files = ("train.bin",)
    _test_files = ("test.bin",)
    _label_bytes = 2  # the coarse label, then the fine one


def _folder(name: str, root: Root, download: bool) -> Path:
    """Return a data set's folder, after fetching the set if that is wanted."""
    if download:
        from .fetch import fetch

        fetch(name, root)
    return find(KNOWN[name], root)


class Splits(NamedTuple):
    """A training set, a test set, and a line that says what they are."""

    train: ImageSet
    test: ImageSet
    title: str


def load_mnist(root: Root = None, transform: Function | None = None) -> Splits:
    """Return MNIST: all of it if the data folder has it, else the embedded sample.

    Args:
        root: the data folder; else $TOUMEI_DATA, else the user's cache.
        transform: a function of the image, for both parts.

    Raises:
        DataError: the full set is there, but incomplete or damaged.
    """
    folder = locate(KNOWN["mnist"], root)
    if folder is None:
        title = "MNIST sample (8,000 + 2,000), embedded"
        return Splits(MNISTSample(True, transform), MNISTSample(False, transform), title)
    title = "MNIST, full set (60,000 + 10,000)"
    return Splits(MNIST(root, True, transform), MNIST(root, False, transform), title)


class Spiral(TensorDataset):
    """Points on the arms of a spiral, one class per arm: (x, y) and the arm's number.

    r = k / points, angle = 2π class / classes + 4 r + noise · N(0, 1)

    Args:
        train: one draw, or else another of the same kind.
        points: the number of points per class.
        classes: the number of arms.
        noise: the standard deviation of the angle, in radians.
        seed: both draws are functions of it.

    >>> points, arms = Spiral(points=50)[:]
    >>> points.shape, arms.shape
    (Size([150, 2]), Size([150]))
    """

    def __init__(
        self,
        train: bool = True,
        *,
        points: int = 100,
        classes: int = 3,
        noise: float = 0.2,
        seed: int = 0,
    ) -> None:
        key, size = fold(seed_key(seed), int(train)), points * classes
        labels = np.repeat(np.arange(classes, dtype=np.int64), points)
        radius = np.tile(np.arange(points) / points, classes)
        angle = 2 * np.pi * labels / classes + 4 * radius + noise * normal(key, size)[0]
        xy = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
        order = permutation(fold(key, 0), size)
        self.data = from_numpy(xy[order].astype(np.float32))
        self.targets = from_numpy(labels[order])
        super().__init__(self.data, self.targets)


class SinCurve(TensorDataset):
    """A noisy sine (to test: cosine) wave, each value with the next one to predict.

    x_k = sin(2π k / (points − 1)) + noise · U(−1, 1)

    Args:
        train: the sine, or else the cosine without noise.
        points: the number of points of the wave; there is one sample fewer.
        noise: the largest deviation.
        seed: what the noise is a function of.

    >>> x, y = SinCurve(points=100)[:]
    >>> x.shape, y.shape
    (Size([99, 1]), Size([99, 1]))
    """

    def __init__(
        self, train: bool = True, *, points: int = 1000, noise: float = 0.05, seed: int = 0
    ) -> None:
        time = np.linspace(0, 2 * np.pi, points)
        jitter = noise * (2 * uniform(seed_key(seed), points)[0] - 1)
        wave = np.sin(time) + jitter if train else np.cos(time)
        wave = wave.astype(np.float32)[:, None]
        self.data, self.targets = from_numpy(wave[:-1].copy()), from_numpy(wave[1:].copy())
        super().__init__(self.data, self.targets)
