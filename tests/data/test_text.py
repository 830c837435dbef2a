"""Vocabularies, the texts, and windows of them."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei.data import (
    CharVocabulary,
    ConcatDataset,
    DataLoader,
    MaskedWindows,
    Subset,
    TextWindows,
    WordVocabulary,
    embedded_text,
    load_text,
    split_text,
    vocabulary_from_dict,
)
from toumei.data.files import KNOWN, DataFile
from toumei.data.keys import batch_scope
from toumei.data.vocabulary import BOS, EOS, MASK, PAD, UNK
from toumei.errors import DataError, LoadError

# --- vocabularies ---


def test_characters_are_numbered_in_order_after_the_specials() -> None:
    chars = CharVocabulary("banana\n", specials=(PAD, MASK))
    assert chars.tokens == (PAD, MASK, "\n", "a", "b", "n") and len(chars) == 6
    assert chars.encode("nab").tolist() == [5, 3, 4] and chars.encode("").shape == (0,)
    assert chars.decode([4, 0, 3, 1]) == "ba"
    assert chars.decode([4, 0], skip_specials=False) == "b<pad>"
    assert chars.id(MASK) == 1 and MASK in chars and "z" not in chars


def test_any_character_survives_the_way_there_and_back() -> None:
    text = "naïve Übergröße – 東京 🐋\t\x00"
    chars = CharVocabulary(text)
    assert chars.decode(chars.encode(text)) == text
    assert chars.decode(tm.from_numpy(chars.encode(text))) == text


def test_unknown_characters_are_refused_or_mapped() -> None:
    with pytest.raises(ValueError, match=r"not in the vocabulary: 'x', 'é'; unknown="):
        CharVocabulary("abc").encode("axéx")
    assert CharVocabulary("abc?", unknown="?").encode("axé🐋c").tolist() == [1, 0, 0, 0, 3]
    assert CharVocabulary("a", unknown="a").encode(chr(0x10FFFF) + "a").tolist() == [0, 0]
    assert CharVocabulary("", specials=(UNK,), unknown=UNK).encode("ab").tolist() == [0, 0]
    with pytest.raises(ValueError, match="none of its tokens"):
        CharVocabulary("abc", unknown="?")
    with pytest.raises(KeyError, match="no token 'z'"):
        CharVocabulary("abc").id("z")


@pytest.mark.parametrize("ids", [[0, 3], [-1]])
def test_numbers_that_are_no_token_are_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="must lie in 0 … 2"):
        CharVocabulary("abc").decode(ids)


def test_words_are_numbered_by_frequency_then_by_the_alphabet() -> None:
    words = WordVocabulary(["b b b a a c", "d c <pad> e"])
    assert words.tokens == (PAD, UNK, BOS, EOS, "b", "a", "c", "d", "e")
    assert words.encode("a  zebra\nb").tolist() == [5, 1, 4]
    assert words.decode([2, 5, 4, 3]) == "a b" and words.decode([1], False) == UNK
    assert WordVocabulary(["b b b a a c", "c"], min_freq=2, max_size=6).tokens[4:] == ("b", "a")
    assert WordVocabulary("a b a", min_freq=2).tokens[4:] == ("a",)


@pytest.mark.parametrize("given", [{"min_freq": 0}, {"max_size": 4}])
def test_a_vocabulary_of_nothing_is_refused(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        WordVocabulary(["a"], **given)


@pytest.mark.parametrize(
    "vocabulary",
    [CharVocabulary("abü"), CharVocabulary("b a", (PAD, UNK), UNK), WordVocabulary(["x y x"])],
)
def test_a_vocabulary_survives_json(vocabulary: Any) -> None:
    state = json.loads(json.dumps(vocabulary.to_dict()))
    for again in (vocabulary_from_dict(state), type(vocabulary).from_dict(state)):
        assert type(again) is type(vocabulary) and again == vocabulary
        assert again.tokens == vocabulary.tokens and hash(again) == hash(vocabulary)
        assert again.encode("b").tolist() == vocabulary.encode("b").tolist()


def test_a_damaged_dictionary_is_refused() -> None:
    with pytest.raises(LoadError, match="expected"):
        CharVocabulary.from_dict(WordVocabulary("a").to_dict())
    with pytest.raises(LoadError, match="kind is 'char' or 'word'"):
        vocabulary_from_dict({"tokens": ["a"]})
    with pytest.raises(LoadError, match="twice"):
        vocabulary_from_dict(CharVocabulary("a").to_dict() | {"tokens": ["a", "a"]})
    with pytest.raises(LoadError, match="damaged"):
        vocabulary_from_dict({"kind": "char"})
    with pytest.raises(LoadError, match="damaged"):
        vocabulary_from_dict(CharVocabulary("a").to_dict() | {"tokens": ["ab"]})
    reordered = vocabulary_from_dict(CharVocabulary("abc").to_dict() | {"tokens": ["c", "a", "b"]})
    assert reordered.encode("abc").tolist() == [1, 2, 0] and reordered.decode([0, 1]) == "ca"


# --- texts ---


def test_the_embedded_text_is_a_book_in_ascii_and_loads_fast() -> None:
    start = time.perf_counter()
    text = embedded_text()
    assert time.perf_counter() - start < 0.3
    assert hashlib.md5(text.encode("ascii")).hexdigest() == "be1318b65553c7c3e911a476d78aef62"
    assert len(text) == 1_192_533 and len(set(text)) == 80
    assert [text.count(f"CHAPTER {k}. ") for k in (2, 70, 135)] == [1, 1, 1]
    assert text.startswith("CHAPTER 1. Loomings.\n\nCall me Ishmael.")
    assert text.endswith("only found another orphan.\n")
    assets = Path(tm.data.__file__).parent / "assets"
    assert (assets / "moby_dick.txt.xz").stat().st_size < 450_000
    assert "public domain" in (assets / "moby_dick.LICENSE").read_text(encoding="utf-8")


def test_shakespeare_is_preferred_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_text(tmp_path).title.startswith("Moby-Dick")
    play = "First Citizen:\nBefore we proceed any further, hear me speak.\n"
    raw = play.encode()
    described = (DataFile("tinyshakespeare.txt", len(raw), hashlib.md5(raw).hexdigest()),)
    known = KNOWN["tinyshakespeare"]._replace(files=described)
    monkeypatch.setitem(KNOWN, "tinyshakespeare", known)
    for place in (tmp_path / "a" / "text", tmp_path / "b"):
        place.mkdir(parents=True)
        (place / "tinyshakespeare.txt").write_bytes(raw)
    for root in ("a", "b"):
        text, title = load_text(tmp_path / root)
        assert text == play and title == "tinyshakespeare"
    monkeypatch.setenv("TOUMEI_DATA", str(tmp_path / "b"))
    assert load_text().text == play
    (tmp_path / "b" / "tinyshakespeare.txt").write_bytes(raw[:-1])
    with pytest.raises(DataError, match="is cut short"):
        load_text()


def test_a_text_is_cut_without_gap_or_overlap() -> None:
    text = embedded_text()
    parts = split_text(text)
    assert "".join(parts) == text
    assert [len(p) for p in parts] == [1_073_281, 59_626, 59_626]
    ids = np.arange(1000)
    train, validation, test = split_text(ids, validation=0.1, test=0.0)
    assert (train[-1], validation[0], validation[-1], len(test)) == (899, 900, 999, 0)
    for fractions in ((0.5, 0.5), (-0.1, 0.1)):
        with pytest.raises(ValueError, match="fractions"):
            split_text(text, *fractions)


# --- windows ---


def shifts(data: TextWindows, epochs: int, seed: int = 0) -> list[int]:
    found = []
    for epoch in range(epochs):
        with batch_scope(seed, epoch, 0):
            found.append(int(data[0][0][0]))
    return found


def test_windows_cover_the_text_once_and_foresee_one_token() -> None:
    data = TextWindows(np.arange(101, dtype=np.uint8), 10)
    assert len(data) == 10
    x, y = next(iter(DataLoader(data, batch_size=10)))
    assert x.shape == (10, 10) and x.dtype == y.dtype == tm.int64
    assert x.numpy().ravel().tolist() == list(range(100))
    assert (y.numpy() == x.numpy() + 1).all()
    assert len(TextWindows(np.arange(100), 10)) == 9  # the last window would lack a target
    assert data[-1][0].tolist() == data[9][0].tolist()
    for index in (10, -11):
        with pytest.raises(IndexError):
            data[index]


def test_a_shift_is_the_epochs_own_and_the_same_for_all_its_windows() -> None:
    data = TextWindows(np.arange(209), 10, random_offset=True)
    found = shifts(data, 400)
    # Each of ten shifts 40 times, give or take 5 · √(400 · 0.1 · 0.9) = 30.
    assert np.abs(np.bincount(found, minlength=10) - 40).max() < 30 and len(set(found)) == 10
    assert found == shifts(data, 400) and found != shifts(data, 400, seed=1)
    for epoch in (0, 1, 2):
        with batch_scope(0, epoch, 7):
            x, y = data.__getitems__(range(len(data))).columns
        start = found[epoch]
        assert x.numpy().ravel().tolist() == list(range(start, start + 10 * len(data)))
        assert (y.numpy() == x.numpy() + 1).all()


def test_the_largest_shift_still_fits() -> None:
    data = TextWindows(np.arange(20), 10, random_offset=True)
    assert len(data) == 1
    assert max(shifts(data, 300)) == 9
    with pytest.raises(ValueError, match="19 tokens are too few for a window of 10 that can"):
        TextWindows(np.arange(19), 10, random_offset=True)
    with pytest.raises(ValueError, match="too few"):
        TextWindows(np.arange(10), 10)


def test_windows_are_the_same_one_by_one_in_parts_and_in_threads() -> None:
    data = TextWindows(np.arange(500), 8, random_offset=True)
    sub: Subset[Any] = Subset(data, list(range(0, 60, 3)))
    whole = DataLoader(sub, batch_size=5, shuffle=True, seed=3)
    threaded = DataLoader(sub, batch_size=5, shuffle=True, seed=3, num_workers=2)
    one_by_one = DataLoader(_Plain(sub), batch_size=5, shuffle=True, seed=3)
    for _ in range(2):
        for a, b, c in zip(whole, threaded, one_by_one, strict=True):
            assert a[0].tolist() == b[0].tolist() == c[0].tolist()


class _Plain:
    """Hides `__getitems__`."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __getitem__(self, index: int) -> Any:
        return self.data[index]

    def __len__(self) -> int:
        return len(self.data)


def test_resuming_in_the_middle_of_an_epoch_is_exact() -> None:
    ids = np.arange(999) % 50

    def loader() -> DataLoader:
        data: ConcatDataset[Any] = ConcatDataset(
            [MaskedWindows(ids, 9, 50, 51, random=True), MaskedWindows(ids, 9, 50, 51, random=True)]
        )
        return DataLoader(data, batch_size=7, shuffle=True, seed=5)

    first = loader()
    list(first)
    batches = iter(first)
    for _ in range(4):
        next(batches)
    state = json.loads(json.dumps(first.state_dict()))
    again = loader()
    again.load_state_dict(state)
    left, resumed = (
        [[t.tolist() for t in b] for b in batches],
        [[t.tolist() for t in b] for b in again],
    )
    assert left == resumed and len(left) > 10


@pytest.mark.parametrize("ids", [np.zeros((2, 9), int), np.zeros(9), "text"])
def test_what_is_no_row_of_integers_is_refused(ids: Any) -> None:
    with pytest.raises(ValueError, match="one row of integers"):
        TextWindows(ids, 3)


# --- masked windows ---


def test_masking_follows_the_80_10_10_rule() -> None:
    ids = np.random.default_rng(0).integers(2, 30, 400_000)  # 0: <pad>, 1: <mask>
    data = MaskedWindows(ids, 100, 1, 30, specials=2)
    x, y = (t.numpy() for t in data.__getitems__(range(len(data))).columns)
    original = ids[: x.size].reshape(x.shape)
    chosen = y != -100
    assert (chosen.sum(1) == 15).all() and (y[chosen] == original[chosen]).all()
    assert (x[~chosen] == original[~chosen]).all()
    hidden, total = x[chosen], chosen.sum()  # 60,000 tokens: a share's deviation is 0.002
    masked, kept = (hidden == 1), (hidden == original[chosen])
    other = ~masked & ~kept
    assert abs(masked.mean() - 0.8) < 0.01
    # One drawn token in 28 is the one that was there.
    assert abs(other.mean() - 0.1 * 27 / 28) < 0.006 and abs(kept.mean() - 0.1 * 29 / 28) < 0.006
    counts = np.bincount(hidden[other], minlength=30)
    assert (counts[:2] == 0).all() and counts[2:].min() > 0.6 * other.sum() / 28
    by_place = chosen.mean(0)
    assert np.abs(by_place - 0.15).max() < 0.035 and total == 15 * len(data)


def test_masks_are_new_each_epoch_in_training_and_fixed_in_validation() -> None:
    ids = np.arange(4000) % 26

    def epochs(random: bool, seed: int = 0) -> list[Any]:
        loader = DataLoader(MaskedWindows(ids, 40, 26, 27, random=random, seed=seed), 20, seed=1)
        return [[b[1].tolist() for b in loader] for _ in range(2)]

    train, fixed = epochs(True), epochs(False)
    assert train[0] != train[1] and train == epochs(True)
    assert fixed[0] == fixed[1] and fixed[0] != epochs(False, seed=1)[0]
    assert fixed[0][0][0] != fixed[0][0][13]  # the windows differ, 520 tokens (20 · 26) apart


def test_specials_are_neither_hidden_nor_drawn() -> None:
    ids = np.array([0] * 9 + [3])  # nine times <pad>, one token
    x, y = MaskedWindows(ids, 10, 1, 4, p=0.5, specials=2)[0]
    assert y.tolist() == [-100] * 9 + [3] and x.tolist()[:9] == [0] * 9
    assert x.tolist()[9] in (1, 2, 3)
    # The mask amid the other tokens: never drawn, and all others are.
    data = MaskedWindows(np.zeros(5000, int), 5000, 2, 5, p=1.0)
    counts = np.bincount(data[0][0].numpy(), minlength=5)
    assert abs(counts[2] / 5000 - 0.8) < 0.03
    assert counts[[1, 3, 4]].min() > 80 and counts[1] < 180


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"p": 0.0}, "p must lie"),
        ({"mask_id": 9}, "mask_id 9"),
        ({"vocabulary_size": 4}, "numbers must lie in 0 … 3"),
        ({"length": 0}, "length must be positive"),
        ({"specials": 8}, "no token is left"),
    ],
)
def test_masking_that_makes_no_sense_is_refused(given: dict[str, Any], message: str) -> None:
    settings = {"length": 5, "mask_id": 0, "vocabulary_size": 8} | given
    with pytest.raises(ValueError, match=message):
        MaskedWindows(np.arange(50) % 8, **settings)
