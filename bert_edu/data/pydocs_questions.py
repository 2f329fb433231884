"""What does the documentation state? Questions and answers read from the sections of docstrings (chapter 15).

The sections on parameters and on the result, in NumPy's or Google's style, become a context that reads as
prose, and the types, defaults and results that are stated there become answers, each a stretch of it:

    Rank the values. Parameters: axis (int, default 0): The axis to use. values (array). Returns: array.

    What is the type of axis?           int
    Which value does axis have by default?      0
    What is the default of values?      (none is stated)
"""

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from .pydocs import CUT, MARKUP, NEVER_LAST, _is_prose, _paragraphs, _rewritten
from .text import split_sentences, stable_hash

KINDS = ("type", "default", "result type", "result")
CONTEXT_WORDS = 100
DESCRIPTION_WORDS = 30
TYPE_WORDS = 8


class Asked(NamedTuple):
    """Something that can be asked about a context.

    Attributes:
        kind: one of `KINDS`.
        name: the parameter's; "" for a question about the result.
        span: the answer is context[span[0] : span[1]]; None when the context does not tell.
    """

    kind: str
    name: str
    span: tuple[int, int] | None


def context_and_questions(summary: str, text: str, key: str) -> tuple[str, list[Asked]]:
    """Reads a docstring's sections.

    Args:
        summary: one sentence, with which the context begins.
        text: the docstring, without its indentation.
        key: where it stands, like "numpy.linalg.norm"; it decides which of many parameters are taken.

    Returns: the context, and all that can be asked about it; ("", []) when too little is said.
    """
    parameters, results = _parameters(text), _result(text)
    if len(parameters) + len(results) < 2:
        return "", []
    room = CONTEXT_WORDS - sum(len(_rendered(entry).split()) for entry in results)
    parameters = _run(parameters, room, stable_hash(key))
    context, asked = summary, []
    for entry in [*parameters, *results]:
        context += " Parameters: " if parameters and entry is parameters[0] else " "
        for kind, name, span in _asked(entry):
            if span is None or NAMABLE.search(_rendered(entry)[slice(*span)]):
                asked.append(Asked(kind, name, span and (span[0] + len(context), span[1] + len(context))))
        context += _rendered(entry)
    name = key.rpartition(".")[2]
    if not (results or SAYS_RETURN.search(text) or name[:1].isupper() or name == "__init__"):
        asked += [Asked("result", "", None), Asked("result type", "", None)]
    return context, asked


# ---- 1. From a docstring to entries ------------------------------------------------------------------------

# Titles of sections: with a line below them in NumPy's style, with a colon in Google's
PARAMETERS = "Parameters|Args|Arguments"
RESULT = "Returns?|Yields?"
NUMPY_ENTRY = re.compile(r"(\*{0,2}\w+(?:, ?\*{0,2}\w+)*)(?:\s*:\s*(\S.*))?")
GOOGLE_ENTRY = re.compile(r"[*`]{0,4}(\w+)[*`]{0,4} ?(?:\(((?:[^()]|\([^()]*\))*)\))? ?:(?: +(.*))?")
NUMPY_RESULT = re.compile(r"(?:\(?\w+(?:, ?\w+)*\)? ?: +)?(\S.*?)[ :]*")
GOOGLE_RESULT = re.compile(
    r"\(?(?::[\w:]+:)?`{0,2}[~!.]?"
    r"([A-Za-z][\w.]*(?:\[[\w., |\[\]]*\])?(?:(?: or| of|,) [\w.]+)*)"
    r"`{0,2}\)?:\s+(\S.*)"
)
NO_TYPE = r"(?:the|an?|this|same|new|whether|if|number of)\b|.* - "
TYPE = re.compile(rf"(?!{NO_TYPE})[A-Za-z(\[][^{{}}=:;`]*", re.IGNORECASE)
SHORT = re.compile(r"[A-Za-z][\w'-]*(?: [\w'-]+){0,2}\.")  # "Input data."


class Entry(NamedTuple):
    """What a section says about one parameter, or about the result (whose name is "Returns" or "Yields").

    Attributes:
        head: its type and perhaps its default, or "".
        sentences: of its description, as prose.
        raw: the description as it was, with what had to be left out.
    """

    name: str
    head: str
    sentences: list[str]
    raw: str


def _parameters(text: str) -> list[Entry]:
    style, _, lines = _section(text, PARAMETERS)
    entries = []
    for first, following in _blocks(lines):
        found = (NUMPY_ENTRY if style == "numpy" else GOOGLE_ENTRY).fullmatch(first)
        if not found:
            return []  # not of the usual form: better nothing than half of it
        name, head, *rest = found.groups(default="")
        entries.append(_entry(name, head, "\n".join([*rest, following])))
    return entries if all(CUT not in entry.head for entry in entries) else []


def _result(text: str) -> list[Entry]:
    """What is said about the result: a list of one, or of none where it has several parts."""
    style, title, lines = _section(text, RESULT)
    head, description = "", lines
    if style == "numpy":
        blocks = _blocks(lines)
        if len(blocks) != 1:
            return []
        head, description = NUMPY_RESULT.fullmatch(blocks[0][0])[1], blocks[0][1]
        if not _is_type(_plain(head)):
            head, description = "", "\n".join(blocks[0])
    elif found := GOOGLE_RESULT.match(lines):
        head, description = found[1], lines[found.start(2) :]
    entry = _entry("Returns" if title.startswith("R") else "Yields", head, description)
    return [entry] if CUT not in entry.head and (entry.head or entry.sentences) else []


def _section(text: str, titles: str) -> tuple[str, str, str]:
    """The style ("numpy", "google" or "") of a section with one of these titles, its title and its lines."""
    until_next_title = r"((?:(?!\S.*\n-{3,}[ ]*$).*\n)*)"
    text += "\n"
    if found := re.search(rf"^({titles})\n-{{3,}}[ ]*\n{until_next_title}", text, re.MULTILINE):
        return "numpy", found[1], textwrap.dedent(found[2])
    if found := re.search(rf"^({titles}):[ ]*((?:.*\S)?\n(?:[ ]+\S.*\n|[ ]*\n)*)", text, re.MULTILINE):
        return "google", found[1], inspect.cleandoc(found[2]) + "\n"
    return "", "", ""


def _blocks(lines: str) -> list[tuple[str, str]]:
    """Each line that is not indented, and the indented lines below it."""
    found = re.findall(r"^(\S.*)\n((?:[ ]+\S.*\n|[ ]*\n)*)", lines, re.MULTILINE)
    return [(first.rstrip(), textwrap.dedent(following)) for first, following in found]


def _entry(name: str, head: str, description: str) -> Entry:
    sentences, words = [], 0
    for sentence in _sentences(description):
        size = len(sentence.split())
        fits = words + size <= DESCRIPTION_WORDS or DEFAULT_IN_TEXT.search(sentence)
        if fits and sentence not in sentences:
            sentences.append(sentence)
            words += size
    return Entry(name, _plain(head), sentences, description)


def _sentences(description: str) -> Iterator[str]:
    """Like `prose`, but also short ones, and those that state a default."""
    for paragraph in _paragraphs(description):
        plain = _plain(paragraph)
        if re.search(r"[\w)\]\"']$", plain):
            plain += "."
        for sentence in split_sentences(plain):
            short = SHORT.fullmatch(sentence) and sentence.split()[-1].rstrip(".").lower() not in NEVER_LAST
            if CUT not in sentence and (short or _is_prose(sentence) or DEFAULT_IN_TEXT.search(sentence)):
                yield sentence[0].upper() + sentence[1:] if re.match("[a-z]+[ ,]", sentence) else sentence


def _plain(text: str) -> str:
    text = re.sub(r"`[~!](?:[\w.]+\.)?(\w+)`", r"`\1`", text)  # `~matplotlib.axes.Axes`, without its role
    text = re.sub(r"`\.(?=[A-Za-z])", "`", text)  # `.Axes`
    return " ".join(_rewritten(text, MARKUP).split())


def _is_type(text: str) -> bool:
    return TYPE.fullmatch(text) is not None and len(text.split()) <= TYPE_WORDS


# ---- 2. From entries to a context and questions ------------------------------------------------------------

AFTER_TYPE = re.compile(r"[,;.]?\s*\(?(?:optional|default|required|keyword|by default)\b.*")
A_RESULT = re.compile(r"(?!(?:If|When|See|Note|The default)\b)\S+(?: \S+){1,24}$")
LITERAL = (
    r"""(?:True|False|None|"[^"]*"|'[^']*'|[-+]?\.?\d(?:[\w.+-]*\w)?|[A-Za-z_]\w*(?:\.\w+)+(?:\(\))?"""
    r"""|\([^()]*\)|\[[^\[\]]*\])(?=[.,;)]|\s|$)"""
)
DEFAULT_IN_HEAD = re.compile(rf"default(?:s to| is| value|:| ?=)?:? ?({LITERAL}|\w+$)", re.IGNORECASE)
DEFAULT_IN_TEXT = re.compile(
    rf"\bdefault(?:s to| is| value is| value:|:| ?=|s:|ing to) ?({LITERAL})(?=[.,;)]|$)"
    rf"|({LITERAL}) by default",
    re.IGNORECASE,
)
# Where such words stand, the default or the type may be told in a way that the patterns above miss.
HINT_OF_DEFAULT = re.compile(
    r"default|otherwise|\bif (?:not|none|omitted|unspecified|unset|no)\b|is None"
    r"|not (?:given|specified|passed|set)",
    re.IGNORECASE,
)
HINT_OF_TYPE = re.compile(
    r"\b(?:type|int|integer|float|number|str|string|bool|boolean|flag|whether|if|list|tuple|dict|dictionary"
    r"|mapping|set|sequence|iterable|iterator|generator|array|ndarray|tensor|series|dataframe|index|callable"
    r"|function|callback|class|object|instance|module|bytes|file|path|one of|true|false|none|size|count"
    r"|name)s?\b",
    re.IGNORECASE,
)
SAYS_RETURN = re.compile("return|yield", re.IGNORECASE)
NAMABLE = re.compile(r"[A-Za-z]{2}|\d")  # what SQuAD's rules leave something of: neither '.' nor 'a'


def _run(entries: list[Entry], room: int, number: int) -> list[Entry]:
    """Neighbouring entries that fit into `room` words: one of the runs into which all of them are cut."""
    runs, free = [], 0
    for entry in entries:
        size = len(_rendered(entry).split())
        if not runs or size > free:
            runs.append([])
            free = room
        runs[-1].append(entry)
        free -= size
    return runs[number % len(runs)] if runs else []


def _rendered(entry: Entry) -> str:
    """As it stands in a context: "axis (int, default 0): The axis to use."."""
    text = " ".join(entry.sentences)
    if entry.name in ("Returns", "Yields"):
        return " ".join([f"{entry.name}:", *([f"{entry.head}."] if entry.head else []), text]).rstrip()
    name = f"{entry.name} ({entry.head})" if entry.head else entry.name
    return f"{name}: {text}" if text else f"{name}."


def _asked(entry: Entry) -> Iterator[Asked]:
    """What can be asked about an entry; spans are those in `_rendered(entry)`."""
    start = len(entry.name) + 2  # of the head
    if entry.name in ("Returns", "Yields"):
        if entry.head:
            yield Asked("result type", "", (start, start + len(entry.head)))
        elif not HINT_OF_TYPE.search(entry.raw):
            yield Asked("result type", "", None)
        if entry.sentences and A_RESULT.match(entry.sentences[0]):
            start = _start_of_text(entry)
            yield Asked("result", "", (start, start + len(entry.sentences[0].rstrip("."))))
    elif entry.name.isidentifier():  # not *args, nor several at once
        kind = AFTER_TYPE.sub("", entry.head).strip()
        if _is_type(kind):
            yield Asked("type", entry.name, (start, start + len(kind)))
        elif not entry.head and not HINT_OF_TYPE.search(entry.raw):
            yield Asked("type", entry.name, None)
        text, spans = _rendered(entry), _defaults(entry)
        if len({text[begin:end] for begin, end in spans}) == 1:
            yield Asked("default", entry.name, spans[0])
        elif not HINT_OF_DEFAULT.search(f"{entry.head} {entry.raw}"):
            yield Asked("default", entry.name, None)


def _defaults(entry: Entry) -> list[tuple[int, int]]:
    """Where defaults stand in `_rendered(entry)`."""
    places = [
        (len(entry.name) + 2, DEFAULT_IN_HEAD, entry.head),
        (_start_of_text(entry), DEFAULT_IN_TEXT, " ".join(entry.sentences)),
    ]
    spans = []
    for offset, pattern, text in places:
        for found in pattern.finditer(text):
            begin, end = found.span(found.lastindex)
            spans.append((offset + begin, offset + end))
    return spans


def _start_of_text(entry: Entry) -> int:
    return len(_rendered(entry)) - len(" ".join(entry.sentences))
