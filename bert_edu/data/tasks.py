r"""Labelled data in: texts with a class, sentences with tags, questions about a text (chapters 13 to 15).

    read_tsv("train.tsv")        a text or a pair of texts a line, with a class or a number -> TextExample
    read_conllu("dev.conllu")    Universal Dependencies' format, ten columns                -> TaggedSentence
    read_conll("dev.txt")        a word and its tag a line, a blank line ends a sentence    -> TaggedSentence
    read_tagged("dev.txt")       one of the last two, whichever the file holds              -> TaggedSentence
    read_squad("dev.json")       SQuAD's JSON, version 1.1 or 2.0                           -> QuestionExample

Files are UTF-8 text, as they are or packed (.gz, .xz). All readers return examples in the file's order, and
refuse what they cannot read right with a ValueError that names the file, the line and what would be right.
Labels may be missing, because predictions need none; `labelled=True` refuses a file in which any is missing.
"""

import gzip
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

SINGLE = ("sentence", "text", "content")  # GLUE's name of a text's column, and two that copies of GLUE use
PAIR = ("sentence1", "sentence2")
LABEL = "label"
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
CONLLU_FIELDS = 10
CONLLU_COLUMNS = {"upos": 3, "xpos": 4}


class TextExample(NamedTuple):
    """One text, or a pair of texts, to be classified or given a number.

    Attributes:
        second: None for a single text.
        label: a class's name, or a number when the task is regression; None when nobody gave one.
    """

    first: str
    second: str | None = None
    label: str | float | None = None


class TaggedSentence(NamedTuple):
    """A sentence in words, and a tag for each of them; `tags` is None when nobody gave any."""

    words: list[str]
    tags: list[str] | None = None


class Answer(NamedTuple):
    """An answer's text and where it stands: context[start : start + len(text)] == text."""

    text: str
    start: int


class QuestionExample(NamedTuple):
    """A question about a text.

    Attributes:
        answers: one, or in a development set what several people answered; empty when the text has no answer.
        labelled: False when `answers` is empty because nobody said what the answer is.
    """

    id: str
    question: str
    context: str
    answers: list[Answer]
    labelled: bool = True


# ---- 1. Texts with a class or a number: TSV ----------------------------------------------------------------


def read_tsv(
    path: str | Path, *, labelled: bool = False, regression: bool | None = None
) -> list[TextExample]:
    """Reads texts from a table with a header, its columns separated by tabs, as GLUE's files are.

    The columns are `sentence` (or `text`, or `content`), or `sentence1` and `sentence2`; and `label`, which
    may be missing, or empty in every line. Other columns are ignored. Quotation marks mean nothing special.

    Args:
        labelled: whether labels are needed.
        regression: whether labels are numbers (True) or names of classes (False). None decides by the file:
            regression when every label is a number and at least one has a decimal point, so that 0 and 1 are
            classes and 2.5 is not. Where training was regression, pass True for the development file: all of
            its numbers may happen to be whole.

    Raises:
        ValueError: for an empty file, a missing column, a line with too few or too many columns, labels in
            some lines only, and a label that is no number where numbers are asked for.
    """
    lines = _lines(path)
    while len(lines) > 1 and not lines[-1].strip(" "):
        lines.pop()  # blank lines at the end of a file are nobody's text
    header = [name.strip() for name in lines[0].split("\t")]
    texts, label = _text_columns(header, path), header.index(LABEL) if LABEL in header else None
    if labelled and label is None:
        raise ValueError(f"{path}, line 1: there is no column {LABEL!r}, only {_listed(header)}")
    if len(lines) == 1:
        raise ValueError(f"{path} holds a header but no examples: one a line would be right")
    rows = [line.split("\t") for line in lines[1:]]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {number}: {len(row)} columns, but the header names {len(header)} "
                f"({_listed(header)}); columns are separated by one tab each"
            )
    labels = [None if label is None else row[label].strip() or None for row in rows]
    labels = _checked_labels(labels, path, labelled, regression)
    pair = len(texts) == 2
    return [
        TextExample(row[texts[0]], row[texts[1]] if pair else None, label) for row, label in zip(rows, labels)
    ]


def _text_columns(header: list[str], path: str | Path) -> list[int]:
    """The numbers of the one or two columns that hold text."""
    if all(name in header for name in PAIR):
        return [header.index(name) for name in PAIR]
    for name in SINGLE:
        if name in header:
            return [header.index(name)]
    raise ValueError(
        f"{path}, line 1: no column with text; the first line must name sentence, or sentence1 and sentence2 "
        f"(and label), separated by tabs, but names {_listed(header)}"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name[:40]) for name in names[:10]) + (", ..." if len(names) > 10 else "")


def _checked_labels(
    labels: list[str | None], path: str | Path, labelled: bool, regression: bool | None
) -> list[str | None] | list[float]:
    given = [label for label in labels if label is not None]
    if not given and not labelled:
        return labels
    if len(given) < len(labels):
        raise ValueError(f"{path}, line {labels.index(None) + 2}: the label is missing; every line needs one")
    no_number = [label for label in labels if not NUMBER.fullmatch(label)]
    if regression is None:
        regression = not no_number and any("." in label for label in labels)
    if not regression:
        return labels
    if no_number:
        line = labels.index(no_number[0]) + 2
        raise ValueError(f"{path}, line {line}: the label {no_number[0]!r} is no number, as regression needs")
    return [float(label) for label in labels]


# ---- 2. Sentences with tags: CoNLL-U and two columns -------------------------------------------------------


def read_tagged(path: str | Path, *, labelled: bool = False) -> list[TaggedSentence]:
    """Reads tagged sentences from a CoNLL-U file (its `upos` column) or one with a word and a tag a line.

    A file is CoNLL-U when its first line that is neither blank nor a comment has ten columns and begins with
    a number. See `read_conllu` and `read_conll` for the rest.
    """
    first = next((line for line in _lines(path) if line.strip() and not line.startswith("#")), "")
    fields = first.split("\t")
    is_conllu = len(fields) == CONLLU_FIELDS and fields[0][:1].isdecimal()
    return (read_conllu if is_conllu else read_conll)(path, labelled=labelled)


def read_conllu(path: str | Path, column: str = "upos", *, labelled: bool = False) -> list[TaggedSentence]:
    """Reads sentences in Universal Dependencies' format.

    Words are syntactic words: the range "1-2 can't" of a contraction is skipped and its parts, 1 and 2, are
    read; so is the empty node "8.1", which stands for a word that nobody wrote. Comments (#) are skipped.
    Source: universaldependencies.org/format.html.

    Args:
        column: "upos" (universal parts of speech) or "xpos" (the language's own).
        labelled: whether every sentence needs tags. A sentence whose tags are all "_" has none.

    Raises:
        ValueError: for an empty file, a line that has not ten columns, words that are not numbered 1, 2, 3
            ..., and a word without a tag in a sentence that has tags.
    """
    if column not in CONLLU_COLUMNS:
        raise ValueError(f"column must be one of {', '.join(CONLLU_COLUMNS)}, not {column!r}")
    return _sentences(_conllu_rows(path, CONLLU_COLUMNS[column]), path, labelled)


def _conllu_rows(path: str | Path, column: int) -> Iterator[tuple[int, str, str] | None]:
    """Line, word and tag ("" where there is none) of each word; None between sentences."""
    last = 0
    for number, line in enumerate(_lines(path), start=1):
        if line.startswith("#"):
            continue
        if not line.strip():
            last = 0
            yield None
            continue
        fields = line.split("\t")
        if len(fields) != CONLLU_FIELDS:
            raise ValueError(
                f"{path}, line {number}: {len(fields)} columns, but CoNLL-U has {CONLLU_FIELDS}, "
                "separated by tabs"
            )
        if re.fullmatch(r"[0-9]+[-.][0-9]+", fields[0]):  # a range of words, or an empty node
            continue
        if fields[0] != str(last + 1):
            raise ValueError(
                f"{path}, line {number}: the word is numbered {fields[0]!r}, but {last + 1} comes next; "
                "a blank line ends a sentence"
            )
        last += 1
        tag = fields[column].strip()
        yield number, fields[1], "" if tag == "_" else tag


def read_conll(path: str | Path, *, labelled: bool = False) -> list[TaggedSentence]:
    """Reads sentences with a word and its tag a line, separated by a tab or spaces.

    A blank line ends a sentence. Lines that begin with -DOCSTART- are skipped. Where there are more columns,
    as in CoNLL-2003, the first is the word and the last the tag; a single one is a word without a tag.

    Args:
        labelled: whether every sentence needs tags.

    Raises:
        ValueError: for an empty file, a line with more or fewer columns than the first, and a word without a
            tag in a sentence that has tags.
    """
    return _sentences(_conll_rows(path), path, labelled)


def _conll_rows(path: str | Path) -> Iterator[tuple[int, str, str] | None]:
    columns = None
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip() or line.startswith("-DOCSTART-"):
            yield None
            continue
        # Only tabs and spaces separate: str.split() would also cut at a no-break space inside a word.
        fields = line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))
        columns = columns or len(fields)
        if len(fields) not in (columns, 1):  # `_sentences` reports a word that is alone
            raise ValueError(
                f"{path}, line {number}: {len(fields)} columns, but the first line has {columns}"
            )
        yield number, fields[0].strip(), fields[-1].strip() if len(fields) > 1 else ""


def _sentences(
    rows: Iterator[tuple[int, str, str] | None], path: str | Path, labelled: bool
) -> list[TaggedSentence]:
    """Gathers rows (line, word, tag) into sentences, which end at a None."""
    groups = [[]]
    for row in rows:
        if row is not None:
            groups[-1].append(row)
        elif groups[-1]:
            groups.append([])
    groups = [group for group in groups if group]
    if not groups:
        raise ValueError(f"{path} holds no sentence: a word and its tag a line would be right")
    if labelled and not any(tag for group in groups for _, _, tag in group):
        raise ValueError(f"{path}: no sentence has a tag, but a word and its tag a line are needed here")
    return [_sentence(group, path, labelled) for group in groups]


def _sentence(rows: list[tuple[int, str, str]], path: str | Path, labelled: bool) -> TaggedSentence:
    lines, words, tags = map(list, zip(*rows))
    if "" in words:
        raise ValueError(f"{path}, line {lines[words.index('')]}: the word is missing before its tag")
    if not any(tags) and not labelled:
        return TaggedSentence(words, None)
    if "" in tags:
        at = tags.index("")
        raise ValueError(
            f"{path}, line {lines[at]}: {words[at]!r} has no tag; its sentence has {len(words)} words and "
            f"{len(words) - tags.count('')} tags, but every word needs one"
        )
    return TaggedSentence(words, tags)


# ---- 3. Questions about a text: SQuAD ----------------------------------------------------------------------


def read_squad(
    path: str | Path,
    *,
    labelled: bool = False,
    read_answers: bool = True,
    report: Callable[[str], None] = print,
) -> list[QuestionExample]:
    """Reads questions with their answers, in the JSON of SQuAD (Rajpurkar et al. 2016, 2018).

    A question has no answer when it is marked `is_impossible`, or when its list of answers is empty and it
    has no such mark; it is not labelled when the list is missing, or is empty although the mark is false.

    An answer that does not stand at its `answer_start` in the context is left out. A question that loses all
    its answers so is left out too: it must not be taken for one that has none.

    Args:
        labelled: whether every question needs answers, or the mark that it has none.
        read_answers: False takes the questions alone, as if none had answers, and leaves none out.
        report: is told, in one line, how many answers and questions were left out, if any were.

    Raises:
        ValueError: for a file that is no such JSON, one without a question, and an id that occurs twice.
    """
    examples, strays, left_out, seen = [], [], 0, set()
    for where, context, qa in _questions(_json(path), path):
        identity = str(qa["id"])
        if identity in seen:
            raise ValueError(
                f"{path}, {where}: the id {identity!r} occurs twice; every question needs its own"
            )
        seen.add(identity)
        given, known = _answers(qa, where, path) if read_answers else ([], False)
        if labelled and not known:
            raise ValueError(
                f"{path}, {where}: no answers; a question that has none needs is_impossible: true"
            )
        answers = [answer for answer in given if _stands_in(context, answer)]
        strays += [(identity, answer) for answer in given if not _stands_in(context, answer)]
        if given and not answers:
            left_out += 1
        else:
            examples.append(QuestionExample(identity, qa["question"], context, answers, known))
    if strays:
        identity, answer = strays[0]
        report(
            f"{path}: left out {len(strays)} of the answers, which do not stand at their answer_start in the "
            f"context, and {left_out} of the questions, which have no other answer; the first is "
            f"{answer.text[:60]!r} at {answer.start}, of question {identity}"
        )
    if not examples:
        raise ValueError(f"{path} holds no question that can be used")
    return examples


def _json(path: str | Path) -> object:
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: this is no JSON ({error.msg})") from error


def _questions(data: object, path: str | Path) -> Iterator[tuple[str, str, dict]]:
    """Where it stands in the file, the context and the entry of each question."""
    for i, article in enumerate(_item(data, "data", list, "the file", path)):
        for j, paragraph in enumerate(_item(article, "paragraphs", list, f"data[{i}]", path)):
            where = f"data[{i}].paragraphs[{j}]"
            context = _item(paragraph, "context", str, where, path)
            for k, qa in enumerate(_item(paragraph, "qas", list, where, path)):
                here = f"{where}.qas[{k}]"
                _item(qa, "question", str, here, path)
                _item(qa, "id", (str, int), here, path)
                yield here, context, qa


def _item(holder: object, key: str, kind: type | tuple[type, ...], where: str, path: str | Path):
    """holder[key], where that is of the right kind."""
    if isinstance(holder, dict) and isinstance(holder.get(key), kind):
        return holder[key]
    name = {list: "list", dict: "object", int: "whole number"}.get(kind, "text")
    raise ValueError(f"{path} is no SQuAD file: {where} has no {name} named {key!r}")


def _answers(qa: dict, where: str, path: str | Path) -> tuple[list[Answer], bool]:
    """The answers of a question, and whether anybody said what they are."""
    if qa.get("is_impossible"):
        return [], True  # SQuAD 2.0 lists what one might take for an answer under another key
    if "answers" not in qa:
        return [], False
    answers = []
    for number, answer in enumerate(_item(qa, "answers", list, where, path)):
        here = f"{where}.answers[{number}]"
        answers.append(
            Answer(_item(answer, "text", str, here, path), _item(answer, "answer_start", int, here, path))
        )
    return answers, bool(answers) or "is_impossible" not in qa


def _stands_in(context: str, answer: Answer) -> bool:
    text, start = answer
    return bool(text) and start >= 0 and context[start : start + len(text)] == text


# ---- 4. Text files -----------------------------------------------------------------------------------------


def _lines(path: str | Path) -> list[str]:
    """The lines of a text file, without their ends.

    Only a line feed ends a line (a carriage return before it is dropped): str.splitlines() would also cut at
    U+0085 or U+2028, which occur inside texts.
    """
    return [line.removesuffix("\r") for line in _text(path).split("\n")]


def _text(path: str | Path) -> str:
    content = _unpacked(Path(path))
    bad = content.find(b"\0")  # a sign of UTF-16, or of a file that is no text at all
    try:
        text = content.decode("utf-8-sig")  # Windows marks the beginning of a file with U+FEFF
    except UnicodeDecodeError as error:
        bad = error.start
    if bad >= 0:
        line = content.count(b"\n", 0, bad) + 1
        raise ValueError(f"{path}, line {line}: this is not UTF-8 text; convert the file first")
    if not text.strip():
        raise ValueError(f"{path} is empty")
    return text


def _unpacked(path: Path) -> bytes:
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix.lower(), open)
    try:
        with opener(path, "rb") as file:
            return file.read()
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise ValueError(f"{path} is damaged, or no {path.suffix} file: {error}") from error
