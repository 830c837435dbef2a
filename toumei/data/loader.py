"""DataLoader: batches of a data set, in an order that can be resumed exactly.

The order of an epoch, and all chance within it, is a function of (seed, epoch) alone: see
`keys`.  Threads fetch batches ahead of the consumer; they change neither the batches nor their
order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from ..device import Generator
from .collate import default_collate
from .dataset import fetch
from .keys import batch_scope, draw_seed
from .sampler import BatchSampler, RandomSampler, SequentialSampler, order_of

Jobs = Iterator[tuple[int, Any]]  # (number of the batch, its indices or its contents)


class DataLoader:
    """Iterate over a data set in batches.

    Each `iter(loader)` is one epoch; the first is epoch 0.  When an iteration is left early, the
    next one is the next epoch.

    Args:
        dataset: what has `__getitem__` and `__len__`.
        batch_size: samples per batch; the last batch of an epoch may be smaller.
        shuffle: visit the samples in a new random order in each epoch.
        sampler: an iterable of indices, instead of `shuffle`.
        batch_sampler: an iterable of lists of indices, instead of the three above.
        num_workers: threads that fetch ahead; 0 fetches when asked.
        collate_fn: makes a batch of a list of samples; `default_collate` unless given.
        drop_last: leave out the last batch if it is smaller.
        generator: where the seed comes from, once, when the loader is made; the default
            generator unless given.
        seed: the seed itself, instead of `generator`.
        prefetch_factor: batches that each thread may be ahead by, 2 unless given.

    Raises:
        ValueError: options that exclude each other, or a size that is not positive.
        TypeError: the data set has no `__getitem__` or no length.

    >>> loader = DataLoader(range(5), batch_size=2)
    >>> [batch.tolist() for batch in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        *,
        drop_last: bool = False,
        generator: Generator | None = None,
        seed: int | None = None,
        prefetch_factor: int | None = None,
    ) -> None:
        _check_dataset(dataset)
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: sampler and shuffle exclude each other")
        if batch_sampler is not None and (
            batch_size != 1 or shuffle or sampler is not None or drop_last
        ):
            raise ValueError(
                "DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last"
            )
        _check_threads(num_workers, prefetch_factor)
        self.dataset = dataset
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor or 2
        self.collate_fn = collate_fn or default_collate
        if sampler is None:
            sampler = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        if batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_sampler: Any = batch_sampler
        self.sampler = getattr(self.batch_sampler, "sampler", None)
        self.batch_size = getattr(self.batch_sampler, "batch_size", None)
        self.drop_last = drop_last
        self.seed = _choose_seed(seed, generator, getattr(self.batch_sampler, "generator", None))
        self._epoch = 0
        self._consumed = 0
        self._current: object | None = None  # marks the iteration that the state speaks of

    @property
    def epoch(self) -> int:
        """The number of the epoch under way, or of the next one if none is."""
        return self._epoch

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        if self._current is not None:  # the last iteration was left before its end
            self._epoch, self._consumed = self._epoch + 1, 0
        self._current = object()
        return self._batches(self._current, self._epoch, self._consumed)

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader stands, for `json`: batches handed out, not those prefetched."""
        return {
            "seed": self.seed,
            "epoch": self._epoch,
            "batches_consumed": self._consumed,
            "batch_size": self.batch_size,
            "length": len(self.dataset),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken: the next iteration starts with the next batch.

        Raises:
            ValueError: the state is in the middle of an epoch of other batches (another batch
                size, a data set of another length).

        >>> loader = DataLoader(range(4), shuffle=True, seed=1)
        >>> first = next(it := iter(loader)); state = loader.state_dict(); rest = list(it)
        >>> loader.load_state_dict(state); [int(x) for x in loader] == [int(x) for x in rest]
        True
        """
        mine = self.state_dict()
        for key in ("batch_size", "length") if state["batches_consumed"] else ():
            if key in state and state[key] != mine[key]:
                raise ValueError(
                    f"DataLoader: the state was taken in the middle of an epoch with {key} "
                    f"{state[key]}; this loader's is {mine[key]}, so its batches are others"
                )
        self.seed = int(state["seed"])
        self._epoch = int(state["epoch"])
        self._consumed = int(state["batches_consumed"])
        self._current = None

    def _batches(self, token: object, epoch: int, start: int) -> Iterator[Any]:
        """Yield the batches of an epoch from number `start` on, and keep the state."""
        order = order_of(self.batch_sampler, self.seed, epoch)
        jobs = enumerate(islice(iter(order), start, None), start)
        load = partial(self._load, self.seed, epoch)
        source = self._prefetched(jobs, load) if self.num_workers else _direct(jobs, load)
        for number, batch in source:
            if self._current is token:
                self._consumed = number + 1
            yield batch
        if self._current is token:
            self._epoch, self._consumed, self._current = epoch + 1, 0, None

    def _load(self, seed: int, epoch: int, number: int, indices: list[int]) -> Any:
        """Make one batch."""
        try:
            with batch_scope(seed, epoch, number):
                return self.collate_fn(fetch(self.dataset, indices))
        except Exception as error:
            shown = ", ".join(str(i) for i in indices[:8]) + (", …" if len(indices) > 8 else "")
            thread = threading.current_thread()
            by = "" if thread is threading.main_thread() else f" by thread {thread.name}"
            error.add_note(f"while batch {number} of epoch {epoch} was loaded{by}: items {shown}")
            raise

    def _prefetched(self, jobs: Jobs, load: Callable[[int, Any], Any]) -> Jobs:
        """Make batches in threads, a bounded number ahead, and yield them in order."""
        from concurrent.futures import Future, ThreadPoolExecutor

        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="toumei-data")
        pending: deque[tuple[int, Future[Any]]] = deque()
        try:
            ahead = self.num_workers * self.prefetch_factor
            for number, indices in islice(jobs, ahead):
                pending.append((number, pool.submit(load, number, indices)))
            while pending:
                number, future = pending.popleft()
                batch = future.result()
                for later, indices in islice(jobs, 1):
                    pending.append((later, pool.submit(load, later, indices)))
                yield number, batch
        finally:
            # Also when the consumer drops the iterator or Ctrl-C arrives: what has not begun is
            # cancelled, and no thread is waited for longer than the item it is at.
            pool.shutdown(wait=False, cancel_futures=True)


def _check_dataset(dataset: Any) -> None:
    """Refuse what can't be indexed or has no length."""
    for name in ("__getitem__", "__len__"):
        if not hasattr(dataset, name):
            raise TypeError(f"DataLoader: {type(dataset).__name__} has no {name}")


def _check_threads(num_workers: int, prefetch_factor: int | None) -> None:
    """Refuse numbers of threads and of prefetched batches that make no sense."""
    if num_workers < 0:
        raise ValueError(f"DataLoader: num_workers must not be negative, it is {num_workers}")
    if prefetch_factor is not None and (prefetch_factor < 1 or num_workers == 0):
        raise ValueError("DataLoader: prefetch_factor must be positive and needs num_workers")


def _direct(jobs: Jobs, load: Callable[[int, Any], Any]) -> Jobs:
    """Make each batch when it is asked for."""
    for number, indices in jobs:
        yield number, load(number, indices)


def _choose_seed(seed: int | None, own: Generator | None, sampler: Generator | None) -> int:
    """Return the loader's seed from the one place that gives it."""
    given = [source for source in (seed, own, sampler) if source is not None]
    if len(given) > 1:
        raise ValueError("DataLoader: give one of seed, generator and the sampler's generator")
    if seed is not None:
        return int(seed)
    return draw_seed(own or sampler)
