r"""Text in: corpora as documents, each a list of sentences (chapter 9).

    load("pydocs")            the documentation in Python and in the book's own libraries: nothing to download
    load("novels.txt.xz")     a text file (.txt, .txt.gz, .txt.xz), or a folder of them, read as a stream
    load("wikitext-2")        a file on the network, fetched once and verified: `downloads.py` lists them

How text files are read:

- A blank line ends a document, and so does the end of a file. A file without blank lines is one document.
- A line is a sentence or a paragraph, which `split_sentences` cuts. No sentence runs over the end of a line.
- A line like "= Title =" is dropped, however many signs of equality it has: a heading is no sentence. BERT
  was trained on Wikipedia without its headings too (Devlin et al. 2019, section 3.1).
- Documents and lines are cut at a million characters, so that memory stays bounded whatever the file.

`text.py` cuts sentences and `pydocs.py` makes pydocs; what readers need of both can be imported from here.
"""

import gzip
import hashlib
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..pretrained import replacing
from .downloads import DOWNLOADS, PLAIN, Download, Markup, cache_folder, download
from .pydocs import Document, Source, prose, pydocs_documents, stretches
from .text import SPLITS, check_split, split_sentences, stable_hash

__all__ = [
    "DOWNLOADS",
    "SPLITS",
    "Corpus",
    "Document",
    "Download",
    "Source",
    "cache_folder",
    "download",
    "load",
    "prose",
    "pydocs_documents",
    "split_sentences",
    "stretches",
]

SUFFIXES = (".txt", ".txt.gz", ".txt.xz")
LONGEST = 10**6  # characters of a line or a document
TITLE = re.compile(r"=+ .* =+")
NOT_TEXT = re.compile("[\0\udc80-\udcff]")  # a zero byte, or a byte that "surrogateescape" had to let through


# ---- 1. Corpora --------------------------------------------------------------------------------------------


def load(name_or_path: str | Path, split: str = "train") -> "Corpus":
    """Opens a corpus; its text is read when it is iterated over.

    Args:
        name_or_path: "pydocs", a name in `DOWNLOADS`, or the path of a text file or of a folder of them.
        split: "train", "valid" (held out: 10 % of pydocs, the validation file of an archive that has one, 1 %
            of the documents of anything else) or "all". Text files are dealt by a hash of each document, so
            equal documents are on the same side.

    Raises:
        ValueError: for an unknown split, a corpus without text, and a file that is not text.
        FileNotFoundError: for a name that is neither a corpus nor a path.
        ConnectionError: when a download cannot be had.
    """
    check_split(split)
    name = str(name_or_path)
    if name_or_path == "pydocs":
        corpus = Corpus(name, split, lambda: (document.sentences for document in pydocs_documents(split)))
    elif name_or_path in DOWNLOADS:
        entry, path = DOWNLOADS[name], download(name)
        corpus = Corpus(name, split, lambda: _downloaded(entry, path, split))
    else:
        path = Path(name_or_path)
        if not path.exists():
            known = ", ".join(["pydocs", *DOWNLOADS])
            raise FileNotFoundError(f"{name!r} is neither a corpus ({known}) nor a path of a file or folder")
        corpus = Corpus(name, split, lambda: _dealt(_documents(path), split))
    next(iter(corpus))  # what is empty or no text is refused here, not in the middle of a run
    return corpus


class Corpus:
    """Documents, each a list of sentences; can be iterated over again and again.

    Attributes:
        name: as given to `load`.
        split: "train", "valid" or "all".
    """

    def __init__(self, name: str, split: str, documents: Callable[[], Iterable[list[str]]]):
        self.name = name
        self.split = split
        self._documents = documents

    def __iter__(self) -> Iterator[list[str]]:
        document = None
        for document in self._documents():
            yield document
        if document is None:
            hint = "" if self.split == "all" else f' in its split "{self.split}"; "all" gives every document'
            raise ValueError(f"the corpus {self.name} has no text{hint}")

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}, split={self.split!r})"

    def fingerprint(self) -> str:
        """SHA-256 of the text, in hexadecimal: that of the .txt file that `write` makes."""
        digest = hashlib.sha256()
        for text in self._as_text():
            digest.update(text.encode())
        return digest.hexdigest()

    def write(self, path: str | Path):
        """Writes a text file: one sentence a line, a blank line between documents; .gz and .xz compress.

        Raises:
            OSError: when the file cannot be written; an old file is then still whole.
        """
        path = Path(path)
        if path.is_dir():
            raise IsADirectoryError(f"cannot write {path}: it is a folder")
        try:
            with replacing(path) as temporary, _open(temporary, "wt", path.suffix) as file:
                file.writelines(self._as_text())
        except OSError as error:
            raise OSError(f"cannot write {path}: {error.strerror or error}") from error

    def _as_text(self) -> Iterator[str]:
        for number, sentences in enumerate(self):
            yield ("\n" if number else "") + "\n".join(sentences) + "\n"


# ---- 2. Text files -----------------------------------------------------------------------------------------


def _documents(path: Path) -> Iterator[list[str]]:
    """The documents of a file, or of all text files in a folder and its folders, in order of their names."""
    files = [path]
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.name.lower().endswith(SUFFIXES) and file.is_file()]
    if not files:
        raise ValueError(f"the folder {path} holds no text file ({', '.join(SUFFIXES)})")
    for file in sorted(files, key=Path.as_posix):
        yield from _documents_of_file(file)


def _downloaded(entry: Download, path: Path, split: str) -> Iterator[list[str]]:
    """The documents of a download. An archive has a file for each side, as its makers dealt the text."""
    if not entry.member:
        yield from _dealt(_documents_of_file(path, entry.markup), split)
        return
    for side in ("train", "valid"):
        if split in (side, "all"):
            yield from _documents_of_file(path, entry.markup, entry.member.format(side=side))


def _documents_of_file(path: Path, markup: Markup = PLAIN, member: str = "") -> Iterator[list[str]]:
    between = re.compile(markup.between)
    sentences, size = [], 0
    for line in _lines(path, member):
        text = " ".join(line.lstrip("\ufeff").split())  # Windows marks the beginning of a file with U+FEFF
        ends = between.fullmatch(text)
        if not ends and not TITLE.fullmatch(text):
            for pattern, replacement in markup.rewrites:
                text = re.sub(pattern, replacement, text)  # `re` keeps the compiled patterns
            sentences += split_sentences(text)
            size += len(text)
        if sentences and (ends or size >= LONGEST):
            yield sentences
            sentences, size = [], 0
    if sentences:
        yield sentences


def _lines(path: Path, member: str = "") -> Iterator[str]:
    """The lines of a text file; a byte that is no text is reported with its position in the unpacked file.

    `member` is the name of the text file in a .zip. It is read where it is: nothing is unpacked to a disk, on
    which a file that was cut short would not be noticed.
    """
    position = 0
    try:
        with _open_member(path, member) if member else _open(path, "rt", path.suffix) as file:
            while line := file.readline(LONGEST):
                if found := NOT_TEXT.search(line):
                    position += _size(line[: found.start()])
                    raise ValueError(f"{path} is not UTF-8 text (see byte {position}): convert it first")
                position += _size(line)
                yield line
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is damaged, or no {path.suffix} file: {error}") from error


# newline="" keeps \r\n as two characters, so that positions are right; " ".join(line.split()) drops both.
TEXT = dict(encoding="utf-8", errors="surrogateescape", newline="")


def _open(path: Path, mode: str, suffix: str):
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(suffix.lower(), open)
    return opener(path, mode, **TEXT)


@contextmanager
def _open_member(path: Path, member: str) -> Iterator[TextIO]:
    with zipfile.ZipFile(path) as archive:
        if member not in archive.namelist():
            raise ValueError(f"the archive {path} holds no {member}")
        with archive.open(member) as file:
            yield io.TextIOWrapper(file, **TEXT)


def _size(text: str) -> int:
    return len(text.encode(errors="surrogateescape"))


def _dealt(documents: Iterable[list[str]], split: str) -> Iterator[list[str]]:
    """The documents of one split: a hundredth of them is held out."""
    for sentences in documents:
        side = "valid" if stable_hash(" ".join(sentences)) % 100 == 0 else "train"
        if split in (side, "all"):
            yield sentences
