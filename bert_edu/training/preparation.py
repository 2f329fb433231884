"""What a pre-training run needs before its first step, kept in the run's folder (chapter 11).

    ids/train-0, ...     the texts to train on, as ids; ids/valid-0, ... those that are held out
    vocab.txt, ...       the tokenizer
    run.json             how it all came about: the command, versions, each text with its fingerprint

`run.json` is written last: with it the folder is complete, and a run that resumes reads no text again.
"""

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import takewhile
from pathlib import Path

from torch.utils.data import ConcatDataset

from .. import __version__
from ..data.corpus import DOWNLOADS, Corpus, load
from ..data.pretraining import PreTrainingBatch, PreTrainingBatches, TokenStore
from ..data.vocabulary import train_vocabulary
from ..pretrained import read_json, replacing
from ..tokenization import BertTokenizer

RUN_FILE = "run.json"


@dataclass
class Prepared:
    """The content of a prepared folder; `train` and `valid` are documents as ids, `valid` may be None."""

    tokenizer: BertTokenizer
    train: Sequence
    valid: Sequence | None
    record: dict


def prepare(
    out: Path,
    corpora: list[str],
    *,
    valid: str | None = None,
    tokenizer: BertTokenizer | None = None,
    vocab_size: int = 4096,
    record: dict | None = None,
    report=print,
) -> Prepared:
    """Turns texts into ids, with a vocabulary made from them unless there is one.

    Args:
        out: the run's folder.
        corpora: names or paths, as `bert_edu.data.corpus.load` takes them.
        valid: a name or path of held-out text; None holds out a part of each corpus that is large enough.
        tokenizer: None makes a vocabulary of `vocab_size` tokens, by frequency.
        record: what else is to stand in `run.json`.
        report: called with every line for the person who waits.

    Raises:
        ValueError: for text that is empty or no text, and the like.
        FileNotFoundError: for a corpus that is not there.
    """
    report(f"reading {', '.join(corpora)}")
    train_texts, valid_texts = open_texts(corpora, valid, report)
    made_by = "given"
    if tokenizer is None:
        made_by = "frequency"
        names = ", ".join(text.name for text in train_texts)
        report(f"making a vocabulary of {vocab_size:,} tokens from {names}")
        tokenizer = BertTokenizer(train_vocabulary(Joined(train_texts), vocab_size, made_by))
        if len(tokenizer) < vocab_size:
            report(f"the text gives a vocabulary of {len(tokenizer):,} tokens, and no more")
    record = (record or {}) | {
        "versions": versions(),
        "vocabulary": {"size": len(tokenizer), "method": made_by},
        "train": [],
        "valid": [],
    }
    for part, texts in (("train", train_texts), ("valid", valid_texts)):
        for number, text in enumerate(texts):
            store = TokenStore.build(text, tokenizer, out / "ids" / f"{part}-{number}")
            report(f"{text.name}, {part}: {len(store):,} documents, {store.token_count:,} tokens")
            entry = {"name": text.name, "split": text.split, "fingerprint": text.fingerprint()}
            record[part].append(entry | {"documents": len(store), "tokens": store.token_count})
    tokenizer.save_pretrained(out)
    with replacing(out / RUN_FILE) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return open_prepared(out)


def open_prepared(out: Path) -> Prepared:
    """Opens what `prepare` wrote."""
    record, tokenizer = read_json(out / RUN_FILE), BertTokenizer.from_pretrained(out)

    def stores(part):
        return [
            TokenStore.open(out / "ids" / f"{part}-{number}", tokenizer)
            for number in range(len(record[part]))
        ]

    valid = ConcatDataset(stores("valid")) if record["valid"] else None
    return Prepared(tokenizer, ConcatDataset(stores("train")), valid, record)


def open_texts(names: list[str], valid: str | None = None, report=print) -> tuple[list[Corpus], list[Corpus]]:
    """The texts to train on and the held-out ones.

    Files and folders are used as a whole when `valid` names the held-out text; otherwise a hundredth of their
    documents is held out. A corpus with a name always keeps its own two sides.
    """
    if valid is not None:
        train = [load(name, "all" if is_path(name) else "train") for name in names]
        return train, [load(valid, "all" if is_path(valid) else "valid")]
    train, held_out = [], []
    for name in names:
        whole = load(name, "all")
        try:
            sides = load(name, "train"), load(name, "valid")
        except ValueError as error:  # so few documents that all are on one side
            report(f"nothing is held out of {name}: {error}")
            train.append(whole)
        else:
            train.append(sides[0])
            held_out.append(sides[1])
    return train, held_out


def is_path(name_or_path: str) -> bool:
    """Whether it is a file or folder; the name of a corpus never is, not for `load` either."""
    return name_or_path not in ("pydocs", *DOWNLOADS) and Path(name_or_path).exists()


def held_out_batches(
    documents: Sequence, tokenizer: BertTokenizer, *, max_length: int, rows: int | None = None, seed: int = 0
) -> list[PreTrainingBatch]:
    """Masked batches to measure a model on: the same for the same seed, each chosen word shown as [MASK].

    Args:
        documents: a `TokenStore` or another sequence of documents.
        max_length: the most tokens of an input.
        rows: about how many inputs at most; None makes one pass over the documents.
    """
    stream = PreTrainingBatches(
        documents,
        tokenizer,
        max_length=max_length,
        batch_tokens=max(4096, max_length),
        seed=seed,
        share_masked=1.0,
        share_random=0.0,
    )
    one_pass = takewhile(lambda item: item[0].epoch == 0, stream.read_from())
    batches, found = [], 0
    for _, batch in one_pass:
        if rows is not None and batches and found + len(batch.input_ids) > rows:
            break
        batches.append(batch)
        found += len(batch.input_ids)
    return batches


def versions() -> dict[str, str]:
    """What computes here: versions of the package, of Python and of what it rests on."""
    found = {"bert_edu": __version__, "python": platform.python_version(), "system": platform.platform()}
    return found | {name: metadata.version(name) for name in ("torch", "tokenizers", "numpy")}


class Joined:
    """Several corpora read one after the other, as often as wanted."""

    def __init__(self, texts: list[Corpus]):
        self._texts = texts

    def __iter__(self) -> Iterator[list[str]]:
        for text in self._texts:
            yield from text
