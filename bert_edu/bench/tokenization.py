"""Text to ids: our own Python beside that of `transformers`, and both fast paths."""

from collections.abc import Callable
from pathlib import Path

from ..data.corpus import load
from ..mini import FOLDER
from ..tokenization import VOCABULARY_FILE, BertTokenizer
from .material import OURS, THEIRS, Settings
from .timing import alternate, has_transformers, medians

PYTHON, THEIR_PYTHON = "ours, in Python", "transformers, in Python"
CHARACTERS = 1_000_000


def paragraphs_of(corpus: str, characters: int = CHARACTERS) -> list[str]:
    """A text's first paragraphs: a line of a file each, or a document of pydocs."""
    found, length = [], 0
    for sentences in load(corpus, "all"):
        found.append(" ".join(sentences))
        length += len(found[-1])
        if length >= characters:
            break
    return found


def encoders(vocabulary: str | Path | None = None) -> dict[str, Callable]:
    """What turns a text into ids, segments and mask; ours give offsets too."""
    vocabulary = FOLDER / VOCABULARY_FILE if vocabulary is None else vocabulary
    found = {OURS: BertTokenizer(vocabulary), PYTHON: BertTokenizer(vocabulary, fast=False)}
    if has_transformers():
        import transformers
        from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

        transformers.logging.set_verbosity_error()  # paragraphs beyond 512 tokens are no concern here
        found[THEIRS] = transformers.BertTokenizer(vocab=found[OURS].vocab)
        found[THEIR_PYTHON] = BertTokenizerLegacy(str(vocabulary))
    return found


def measured(paragraphs: list[str], contestants: dict[str, Callable], rounds: int) -> dict:
    """Each encodes the paragraphs one by one: seconds, ratios, and how many paragraphs differ from ours."""
    expected = [encoding.input_ids for encoding in map(contestants[PYTHON], paragraphs)]
    runs = {name: lambda encode=encode: list(map(encode, paragraphs)) for name, encode in contestants.items()}
    seconds = medians(alternate(runs, rounds))
    figures = {"characters": sum(map(len, paragraphs)), "tokens": sum(map(len, expected))}
    for name, encode in contestants.items():
        differing = sum(encode(text).input_ids != ids for text, ids in zip(paragraphs, expected))
        figures[name] = {"seconds": round(seconds[name], 3), "paragraphs_that_differ": differing}
    for ours, theirs in ((OURS, THEIRS), (PYTHON, THEIR_PYTHON)):
        if theirs in seconds:
            figures[theirs]["ours_over_it"] = round(seconds[theirs] / seconds[ours], 2)
    return figures


def speed(settings: Settings) -> dict:
    """On a megabyte of the corpus."""
    return measured(paragraphs_of(settings.corpus), encoders(), settings.rounds)
