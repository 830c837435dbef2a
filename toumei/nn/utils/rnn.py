"""Sequences of different lengths in one batch: padded, and packed for the recurrent layers.

PyTorch packs the elements of all sequences one after another, step by step.  Here a PackedSequence
keeps them padded, with the lengths: the recurrent layers run all sequences for as many steps and
mask those that have ended, so that shapes don't depend on the lengths.  PyTorch's packed form,
`.data` and `.batch_sizes`, is made when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...errors import ModuleError
from ...op import Array
from ...ops import cat, stack, where
from ...ops.recurrent import mask_of
from ...tape import operand, spec_of
from ...tensor import Tensor
from ...traced import known, numbers_of

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class PackedSequence:
    """Sequences of different lengths, as the recurrent layers take and return them.

    It can be taken apart as in PyTorch: data, batch_sizes, sorted_indices, unsorted_indices = it.
    What is given here is the packed form, the sequences ordered by length, longest first;
    `pack_padded_sequence` makes one of a padded batch.

    Shape: data (Σ lengths, *), batch_sizes (T), indices (B)

    Args:
        data: the elements of step 0 of all sequences, then those of step 1, …
        batch_sizes: how many sequences have a step 0, a step 1, …
        sorted_indices: which sequence of the batch is the longest, the second, …; None where they
            were in that order already.
        unsorted_indices: the inverse permutation.

    Raises:
        ModuleError: the batch sizes don't decrease, or don't add up to the elements.

    >>> import toumei as tm
    >>> from toumei.nn.utils.rnn import PackedSequence, pad_packed_sequence
    >>> packed = PackedSequence(tm.tensor([1, 5, 2, 6, 3]), tm.tensor([2, 2, 1]))
    >>> pad_packed_sequence(packed)
    (tensor([[1, 5],
            [2, 6],
            [3, 0]]), tensor([3, 2]))
    """

    def __init__(
        self,
        data: Tensor,
        batch_sizes: Any,
        sorted_indices: Any = None,
        unsorted_indices: Any = None,
    ) -> None:
        sizes = _integers("batch_sizes", batch_sizes)
        if not sizes.size or (np.diff(sizes) > 0).any() or sizes[-1] < 1:
            raise ModuleError(f"PackedSequence: batch_sizes must not grow: {sizes.tolist()}")
        if int(sizes.sum()) != data.shape[0]:
            raise ModuleError(
                f"PackedSequence: batch_sizes add up to {sizes.sum()}, but data holds "
                f"{data.shape[0]} elements"
            )
        if sorted_indices is None and unsorted_indices is not None:
            sorted_indices = invert_permutation(operand(unsorted_indices))
        self._order = None if sorted_indices is None else operand(sorted_indices)
        order = np.arange(sizes[0]) if self._order is None else self._order.numpy()
        lengths = np.empty(sizes[0], np.int64)
        lengths[order] = (sizes[:, None] > np.arange(sizes[0])).sum(0)
        starts = np.cumsum(sizes) - sizes
        places = np.zeros((len(sizes), sizes[0]), np.int64)
        places[:, order] = starts[:, None] + np.arange(sizes[0])
        places *= np.arange(len(sizes))[:, None] < lengths  # padding shows element 0: it is masked
        self._padded, self._lengths = data[places], operand(lengths)

    @classmethod
    def from_padded(
        cls, padded: Tensor, lengths: Tensor, sorted_indices: Tensor | None = None
    ) -> PackedSequence:
        """Make one of a padded batch and its lengths.  Shape: (T, B, *), (B)"""
        self = cls.__new__(cls)
        self._padded, self._lengths, self._order = padded, lengths, sorted_indices
        return self

    @property
    def padded(self) -> Tensor:
        """The sequences in their own order; behind their ends is anything.  Shape: (T, B, *)"""
        return self._padded

    @property
    def lengths(self) -> Tensor:
        """The lengths of the sequences, in their own order.  Shape: (B)"""
        return self._lengths

    @property
    def sorted_indices(self) -> Tensor | None:
        """Which sequence is the longest, the second, …; None where they are in that order."""
        return self._order

    @property
    def unsorted_indices(self) -> Tensor | None:
        """The inverse permutation of `sorted_indices`."""
        return invert_permutation(self._order)

    def _running(self) -> Array:
        """Return whether each step is within its sequence, the longest first.  Shape: (T, B)"""
        lengths = numbers_of("PackedSequence.data", self._lengths)
        if self._order is not None:
            lengths = lengths[self._order.numpy()]
        return np.asarray(np.arange(lengths.max())[:, None] < lengths)

    @property
    def batch_sizes(self) -> Tensor:
        """How many sequences have a step 0, a step 1, …  Shape: (T)"""
        return operand(self._running().sum(1))

    @property
    def data(self) -> Tensor:
        """The elements of step 0 of all sequences, longest first, then of step 1, …"""
        steps, places = np.nonzero(self._running())
        if self._order is not None:
            places = self._order.numpy()[places]
        return self._padded[steps, places]

    def replace_padded(self, padded: Tensor) -> PackedSequence:
        """Return other elements with the same lengths and order."""
        return type(self).from_padded(padded, self._lengths, self._order)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Convert the elements: to another dtype."""
        return self.replace_padded(self._padded.to(*args, **kwargs))

    def float(self) -> PackedSequence:
        """Convert the elements to float32."""
        return self.to("float32")

    def double(self) -> PackedSequence:
        """Convert the elements to float64."""
        return self.to("float64")

    def cpu(self) -> PackedSequence:
        """Return it as it is: it is on the CPU."""
        return self

    def _parts(self) -> tuple[Any, ...]:
        return self.data, self.batch_sizes, self.sorted_indices, self.unsorted_indices

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parts())

    def __len__(self) -> int:
        return 4  # the parts, as in PyTorch

    def __getitem__(self, index: int) -> Any:
        return self._parts()[index]

    def __repr__(self) -> str:
        names = ("data", "batch_sizes", "sorted_indices", "unsorted_indices")
        parts = [f"{n}={v!r}" for n, v in zip(names, self._parts(), strict=True)]
        return f"PackedSequence({', '.join(parts)})"


def _integers(name: str, values: Any) -> Array:
    """Return the numbers of a list or tensor of integers."""
    array = numbers_of(name, values) if isinstance(values, Tensor) else np.asarray(values)
    if not isinstance(array, np.ndarray) or array.ndim != 1:
        raise ModuleError(f"{name} must be a list of integers, got {values!r:.60}")
    if array.dtype.kind == "f" and (array != np.floor(array)).any():
        raise ModuleError(f"{name} must be integers, got {values!r:.60}")
    return array.astype(np.int64)


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """Return the inverse of a permutation: y[permutation[i]] = i; None of None.  Shape: (n) -> (n)

    >>> import toumei as tm
    >>> invert_permutation(tm.tensor([2, 0, 1]))
    tensor([1, 2, 0])
    """
    return None if permutation is None else permutation.argsort()


# --- packing -------------------------------------------------------------------------------------


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack a padded batch: what lies behind the end of a sequence no longer counts.

    Shape: (T, B, *), or (B, T, *) if `batch_first`; lengths (B)

    Args:
        input: the sequences, padded to one length.
        lengths: the length of each, a list or a tensor.
        batch_first: whether the batch comes before the steps.
        enforce_sorted: refuse sequences that aren't ordered by length, longest first; only ONNX
            needs that order.

    Raises:
        ModuleError: the lengths aren't ordered, and `enforce_sorted`.
        OpError: there aren't as many lengths as sequences, or one is outside of 1 to T.

    >>> import toumei as tm
    >>> from toumei.nn.utils.rnn import pack_padded_sequence
    >>> x = tm.tensor([[1, 2, 0], [3, 4, 5]])
    >>> pack_padded_sequence(x, [2, 3], batch_first=True, enforce_sorted=False).data
    tensor([3, 1, 4, 2, 5])
    """
    if input.ndim < 2:
        raise ModuleError(f"pack_padded_sequence: needs steps and a batch, got {spec_of(input)}")
    padded = input.transpose(0, 1) if batch_first else input
    if not isinstance(lengths, Tensor):
        lengths = operand(_integers("lengths", lengths))
    ends = lengths if lengths.dtype.kind == "i" else lengths.to("int64")
    mask_of("pack_padded_sequence", ends, *padded.shape[:2])
    if not enforce_sorted:
        return PackedSequence.from_padded(padded, ends, (-ends).argsort(stable=True))
    numbers = numbers_of("pack_padded_sequence(enforce_sorted=True)", ends)
    if (np.diff(numbers) > 0).any():
        raise ModuleError(
            f"pack_padded_sequence: the lengths {numbers.tolist()} must be in decreasing order; "
            "pass enforce_sorted=False to let any order pass"
        )
    return PackedSequence.from_padded(padded, ends)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the padded batch and the lengths of a PackedSequence, in the order of the batch.

    Shape: (T, B, *), or (B, T, *) if `batch_first`; lengths (B)

    Args:
        sequence: what to unpack.
        batch_first: whether the batch comes before the steps in the result.
        padding_value: what stands behind the end of a sequence.
        total_length: the number of steps T; that of the longest sequence if None.  A number keeps
            shapes from depending on the lengths.

    Raises:
        ValueError: `total_length` is less than the longest sequence.
    """
    padded, lengths = sequence.padded, sequence.lengths
    if total_length is None or known(lengths):
        longest = int(numbers_of("pad_packed_sequence without total_length", lengths).max())
        if total_length is not None and total_length < longest:
            raise ValueError(
                f"pad_packed_sequence: total_length is {total_length}, but the longest sequence "
                f"has {longest} steps"
            )
        total_length = longest if total_length is None else total_length
    padded = padded[:total_length]
    missing = total_length - padded.shape[0]
    if missing:
        padded = cat([padded, padded.new_zeros((missing, *padded.shape[1:]))])
    mask = operand(np.arange(total_length)).unsqueeze(1) < lengths
    mask = mask.reshape(*mask.shape, *(1 for _ in range(padded.ndim - 2)))
    filled: Tensor = where(mask, padded, padded.new_full((), padding_value))
    return filled.transpose(0, 1) if batch_first else filled, lengths


def pad_sequence(
    sequences: Tensor | Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Stack sequences of different lengths, padded to that of the longest.

    Shape: (Lᵢ, *) each -> (T, B, *), or (B, T, *) if `batch_first`

    Args:
        sequences: the sequences.
        batch_first: whether the batch comes before the steps in the result.
        padding_value: what is put behind, or before, the shorter ones.
        padding_side: "right" or "left".

    Raises:
        ModuleError: there are no sequences.
        ValueError: `padding_side` is neither "left" nor "right".

    >>> import toumei as tm
    >>> from toumei.nn.utils.rnn import pad_sequence
    >>> pad_sequence([tm.ones(1), tm.ones(3)], batch_first=True)
    tensor([[1., 0., 0.],
            [1., 1., 1.]])
    """
    if padding_side not in ("left", "right"):
        raise ValueError(f"pad_sequence: padding_side is 'left' or 'right', not {padding_side!r}")
    parts = list(sequences)
    if not parts:
        raise ModuleError("pad_sequence: there are no sequences")
    if any(p.ndim == 0 for p in parts):
        raise ModuleError("pad_sequence: a sequence needs at least one dimension")
    longest = max(p.shape[0] for p in parts)

    def padded(x: Tensor) -> Tensor:
        if x.shape[0] == longest:
            return x
        rest = x.new_full((longest - x.shape[0], *x.shape[1:]), padding_value)
        return cat([rest, x] if padding_side == "left" else [x, rest])

    return stack([padded(p) for p in parts], 0 if batch_first else 1)


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences of different lengths.  Shape: (Lᵢ, *) each

    Args:
        sequences: the sequences, longest first.
        enforce_sorted: False lets them come in any order.

    Raises:
        ModuleError: they aren't ordered, and `enforce_sorted`.
    """
    lengths = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpad_sequence(
    padded_sequences: Tensor, lengths: Any, batch_first: bool = False
) -> list[Tensor]:
    """Return the sequences of a padded batch.  Shape: (T, B, *), (B) -> (Lᵢ, *) each"""
    batch = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    ends = _integers("lengths", lengths).tolist()
    return [batch[i, :n] for i, n in enumerate(ends)]


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Return the sequences that were packed, in the order of the batch.  Shape: (Lᵢ, *) each"""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))
