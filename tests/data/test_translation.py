"""Multi30k's files, the generated dates, and pairs of numbers."""

from __future__ import annotations

import hashlib
import re
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

import toumei as tm
from toumei.data import (
    BucketBatchSampler,
    CharVocabulary,
    DataLoader,
    DatePairs,
    Pairs,
    WordVocabulary,
    bucket_shapes,
    corpus_vocabularies,
    date_sentences,
    load_dates,
    load_multi30k,
    load_translation,
    pad_collate,
)
from toumei.data.files import KNOWN, DataFile
from toumei.data.translation import write_date
from toumei.errors import DataError

# --- dates ---

MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def read_date(text: str) -> date:
    """Read a date by its form alone: "/" is month first, "." day first, words say it all."""
    numeric = re.search(r"(\d+)([./])(\d+)[./](\d+)", text)
    if numeric:
        first, mark, second, year = numeric.groups()
        month, day = (first, second) if mark == "/" else (second, first)
    else:
        words = re.findall(r"[a-z]+", text)
        month = str(1 + next(MONTHS.index(w[:3]) for w in words if w[:3] in MONTHS))
        numbers = re.findall(r"\d+", text)
        year = next((n for n in numbers if len(n) == 4), numbers[-1])
        numbers.remove(year)
        (day,) = numbers
    century = 0 if len(year) == 4 else 1900 if int(year) >= 50 else 2000
    return date(century + int(year), int(month), int(day))


@pytest.mark.parametrize("style", range(14))
def test_a_written_date_means_one_day(style: int) -> None:
    day, last, seen = date(1950, 1, 1), date(2049, 12, 31), set()
    while day <= last:
        text = write_date(day, style)
        assert read_date(text) == day
        for weekday in re.findall("mon|tue|wed|thu|fri|sat|sun", re.sub("month", "", text)):
            assert weekday == WEEKDAYS[day.weekday()]
        seen.add(text)
        day += timedelta(days=37)  # coprime to 7 and to the months' lengths
    assert len(seen) == 988


def test_the_styles_are_those_of_people() -> None:
    day = date(2017, 3, 3)
    written = [write_date(day, style) for style in range(14)]
    assert len(set(written)) == 14
    assert {"the 3rd of march, 2017", "mar 3, 2017", "03/03/17 (friday)"} <= set(written)
    nth = [write_date(date(2000, 1, d), 2).split()[1] for d in (1, 2, 3, 4, 11, 12, 13, 21, 22, 31)]
    assert nth == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "31st"]


def test_the_parts_share_no_date_and_leave_none_out() -> None:
    parts = [date_sentences(part) for part in ("train", "validation", "test")]
    days = [{target for _, target in part} for part in parts]
    assert [len(d) for d in days] == [len(p) for p in parts] == [29_220, 3_652, 3_653]
    assert len(set.union(*days)) == 36_525
    assert all(source != target for part in parts for source, target in part)


def test_dates_are_a_function_of_the_seed() -> None:
    assert date_sentences("train", 50) == date_sentences("train", 80)[:50]
    assert date_sentences("train", 50, seed=1) != date_sentences("train", 50)
    for size in (0, 3_653):
        with pytest.raises(ValueError, match=r"size must lie in 1 … 3652"):
            date_sentences("validation", size)
    with pytest.raises(ValueError, match="part is one of"):
        date_sentences("valid")


def test_all_styles_come_and_none_prevails() -> None:
    day = {target: source for source, target in date_sentences()}
    counts = np.zeros(14)
    for iso, source in day.items():
        counts[[write_date(date.fromisoformat(iso), s) == source for s in range(14)]] += 1
    assert (np.abs(counts / 29_220 * 14 - 1) < 0.15).all()


def test_date_pairs_have_the_same_numbers_in_all_parts() -> None:
    start = time.perf_counter()
    train = DatePairs(size=2000)
    assert time.perf_counter() - start < 0.5
    test = DatePairs("test", size=500, seed=3)
    assert train.source_vocabulary == test.source_vocabulary
    assert train.target_vocabulary == test.target_vocabulary
    for data in (train, test):
        for number, (source, target) in enumerate(data.sentences):
            first, second = data[number]
            assert data.source_vocabulary.decode(first) == source  # nothing became <unk>
            assert data.target_vocabulary.decode(second) == target
            assert first[-1].item() == 3 and (second[0].item(), second[-1].item()) == (2, 3)
    assert (train.lengths[:, 1] == 12).all()


# --- Multi30k ---


@pytest.fixture
def multi30k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny Multi30k."""
    folder = tmp_path / "multi30k"
    folder.mkdir()
    texts = {"de": "ein mann läuft .\nzwei hunde .\n", "en": "a man runs .\ntwo dogs .\n"}
    files = []
    for part, count in (("train", 2), ("val", 1), ("test_2016_flickr", 2)):
        for language, text in texts.items():
            raw = "".join(text.splitlines(keepends=True)[:count]).encode()
            name = f"multi30k_{part}.{language}"
            (folder / name).write_bytes(raw)
            files.append(DataFile(name, len(raw), hashlib.md5(raw).hexdigest()))
    assert [f.name for f in KNOWN["multi30k"].files] == [f.name for f in files]
    monkeypatch.setitem(KNOWN, "multi30k", KNOWN["multi30k"]._replace(files=tuple(files)))
    return tmp_path


def test_multi30k_is_read_line_by_line_in_either_direction(multi30k: Path) -> None:
    corpus = load_multi30k(multi30k)
    pairs = [("ein mann läuft .", "a man runs ."), ("zwei hunde .", "two dogs .")]
    assert corpus.train == corpus.test == pairs and corpus.validation == pairs[:1]
    assert corpus.level == "word" and corpus.title.startswith("Multi30k")
    assert load_multi30k(multi30k, "en", "de").train[0] == pairs[0][::-1]
    assert load_multi30k(multi30k / "multi30k").train == pairs  # the folder itself
    for languages in (("de", "de"), ("de", "fr")):
        with pytest.raises(ValueError, match="has 'de' and 'en'"):
            load_multi30k(multi30k, *languages)


def test_the_real_set_is_preferred_but_never_half_of_it(multi30k: Path, tmp_path: Path) -> None:
    assert load_translation(multi30k).title.startswith("Multi30k")
    dates = load_translation(tmp_path / "nothing")
    assert dates.title.startswith("dates") and dates.level == "char"
    (multi30k / "multi30k" / "multi30k_val.en").unlink()
    with pytest.raises(DataError, match=r"lacks multi30k_val\.en"):
        load_translation(multi30k)
    (multi30k / "multi30k" / "multi30k_val.en").write_bytes(b"another man runs .\n")
    with pytest.raises(DataError, match=r"multi30k_val\.en is"):
        load_translation(multi30k)
    with pytest.raises(DataError, match="toumei data fetch multi30k"):
        load_multi30k(tmp_path / "nothing")


def test_what_is_downloaded_is_what_is_read() -> None:
    for name in ("multi30k", "tinyshakespeare"):
        known = KNOWN[name]
        for file, remote in zip(known.files, known.remotes, strict=True):
            assert (file.name, file.size, file.md5) == (remote.name, remote.size, remote.md5)
            assert not remote.inside and all(url.startswith("https://") for url in remote.urls)
            if name == "multi30k":  # there, a name is PART.lc.norm.tok.LANGUAGE
                part, language = file.name.removeprefix("multi30k_").split(".")
                assert remote.urls[0].endswith(f"/{part}.lc.norm.tok.{language}")


# --- pairs and vocabularies ---


def test_vocabularies_come_from_the_training_part(multi30k: Path) -> None:
    source, _ = corpus_vocabularies(load_multi30k(multi30k), min_freq=1)
    assert isinstance(source, WordVocabulary)
    assert source.tokens[4:] == (".", "ein", "hunde", "läuft", "mann", "zwei")
    assert corpus_vocabularies(load_multi30k(multi30k))[1].tokens[4:] == (".",)
    assert len(corpus_vocabularies(load_multi30k(multi30k), 1, 6)[1]) == 6
    letters, digits = corpus_vocabularies(load_dates(500, 10))
    assert isinstance(letters, CharVocabulary) and digits.tokens[4:] == tuple("-0123456789")


def test_pairs_end_begin_and_leave_out_what_is_too_long() -> None:
    words = WordVocabulary(["a b c d"])
    sentences = [("a b", "c"), ("a b c d", "a"), ("d", "zebra d c b a")]
    data = Pairs(sentences, words, words)
    assert [t.tolist() for t in data[2]] == [[7, 3], [2, 1, 7, 6, 5, 4, 3]]
    assert data[0][0].dtype == tm.int64
    assert data.lengths.tolist() == [[3, 3], [5, 3], [2, 7]] and data.left_out == 0
    short = Pairs(sentences, words, words, max_length=5)
    assert (len(short), short.left_out, short.sentences) == (2, 1, sentences[:2])
    with pytest.raises(ValueError, match="none is left"):
        Pairs(sentences, words, words, max_length=2)
    with pytest.raises(KeyError, match="<eos>"):
        Pairs(sentences, CharVocabulary("abcd"), words)


def test_date_batches_have_at_most_eight_shapes_and_little_padding() -> None:
    data = DatePairs(size=3000)
    shapes = bucket_shapes(data.lengths)
    sampler = BucketBatchSampler(data.lengths, shapes, 64, shuffle=True, drop_last=True)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=pad_collate(shapes), seed=0)
    batches = list(loader)
    assert len({(tuple(x.shape), tuple(y.shape)) for x, y in batches}) <= 8
    assert len(batches) == 3000 // 64
    filled = sum(int((x.numpy() != 0).sum()) for x, _ in batches)
    assert filled > 0.85 * sum(x.numel() for x, _ in batches)
