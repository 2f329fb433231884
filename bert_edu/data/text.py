"""What every corpus is made with: cutting text into sentences, and the sides train and valid (chapter 9)."""

import hashlib
import re

SPLITS = ("train", "valid", "all")


def check_split(split: str):
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}; choose from {', '.join(SPLITS)}")


def stable_hash(text: str) -> int:
    """The same on every machine and in every run, which Python's own `hash` is not."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


# A sentence may end at . ! ? or ... (with the quotes and brackets that close there), if white space follows
# and then a capital or a digit. So neither 3.14, torch.nn, version 2.0.1 nor "What?" he said, ends one.
BOUNDARY = re.compile(r"""[.!?…]["'”’)\]]*\s+["'“‘(\[]*(?=([A-ZÀ-ÖØ-Þ0-9]\w*))""")
OPENING = "\"'“‘(["
# The full stop of these never ends a sentence,
ABBREVIATIONS = frozenset(
    "mr mrs ms mx messrs dr prof gen col capt lt sgt maj rev hon gov sen rep e.g i.e cf viz vs v".split()
)
# that of these not before a number,
BEFORE_NUMBERS = frozenset(
    "no nos vol vols p pp fig figs eq eqs sec ch art c ca approx "
    "jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
# and that of these only before a word with which sentences often begin: initials, U.S., a.m., Ph.D., et al.
SHORTENED = re.compile(r"[A-HJ-Z]|(?:[A-Za-z]\.)+[A-Za-z]|Ph\.D|Jr|Sr|Inc|Co|Corp|Ltd|Bros|St|Mt|al|etc")
BEGINNINGS = frozenset(
    "A After All An And As At But By For From He Her His However If In It Its Not On One She So Some Since "
    "That The Their Then There These They This Those Though To We What When Where While With You".split()
)


def split_sentences(text: str) -> list[str]:
    """Cuts a paragraph of English into sentences, by the plain rules above; a few cuts will be wrong."""
    sentences, start = [], 0
    for found in BOUNDARY.finditer(text):
        word = text[max(start, found.start() - 20) : found.start() + 1].split()[-1].lstrip(OPENING)
        if not _is_shortened(word, found[1]):
            end = found.end() - len(found[0]) + len(found[0].rstrip(OPENING))
            sentences.append(text[start:end].strip())
            start = end
    return [sentence for sentence in [*sentences, text[start:].strip()] if sentence]


def _is_shortened(word: str, following: str) -> bool:
    """Whether `word` ends with the full stop of an abbreviation and not with that of a sentence."""
    if not word.endswith("."):
        return False
    word = word[:-1]
    if word.lower() in ABBREVIATIONS or (word.lower() in BEFORE_NUMBERS and following[0].isdigit()):
        return True
    return SHORTENED.fullmatch(word) is not None and following not in BEGINNINGS
