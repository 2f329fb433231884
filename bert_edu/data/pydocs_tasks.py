"""Four tasks with natural labels, made from the documentation that is installed (chapters 13 to 15).

    topic      from which library a docstring's first paragraph comes          -> TextExample
    pair       whether a body belongs to a summary                             -> TextExample with `second`
    tagging    which words are the function's own parameters, or exceptions    -> TaggedSentence
    qa         what type, default or result the documentation states, if any   -> QuestionExample

Nothing is downloaded and nobody annotated anything: docstrings and their places come from pydocs, signatures
from the syntax trees. Examples differ with the versions that are installed; pydocs_tasks.md is the data card.

The sides follow the one split that pydocs has. Training examples come from its training side, on which the
model that comes with the book was pre-trained. Development and test examples come from its held-out modules,
dealt out in whole clusters of near-duplicate ones. Training (and development) examples that still repeat a
text of another side are left out.
"""

import ast
import builtins
import hashlib
import inspect
import json
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ..pretrained import replacing
from .downloads import cache_folder
from .pydocs import (
    FUNCTION_WORDS,
    Document,
    Source,
    _clusters,
    _docstrings_in,
    _dotted,
    _folders,
    _installed,
    _no_garbage_collection,
    prose,
    pydocs_documents,
    stretches,
)
from .pydocs_questions import KINDS, context_and_questions
from .tasks import Answer, QuestionExample, TaggedSentence, TextExample
from .text import stable_hash

PYDOCS_TASKS = ("topic", "pair", "tagging", "qa")
SIDES = ("train", "dev", "test")
Example = TextExample | TaggedSentence | QuestionExample


def pydocs_task(name: str, side: str) -> list[Example]:
    """The examples of one side of a task, always in the same order, which is random: a prefix is a sample.

    The first call of all takes a while (a minute or so); the cache folder then keeps the tasks, for these
    versions of the libraries and these rules.

    Args:
        name: one of `PYDOCS_TASKS`.
        side: "train", "dev" or "test".

    Raises:
        ValueError: for an unknown name or side.
    """
    for what, value, known in (("task", name, PYDOCS_TASKS), ("side", side, SIDES)):
        if value not in known:
            raise ValueError(f"there is no {what} {value!r}; choose from {', '.join(known)}")
    return list(_tasks()[name][side])


def fingerprint(name: str) -> str:
    """SHA-256 of all examples of a task, in hexadecimal: what a result should be reported with."""
    return hashlib.sha256(json.dumps([pydocs_task(name, side) for side in SIDES]).encode()).hexdigest()


def write_task(name: str, folder: str | Path) -> dict[str, Path]:
    """Writes the three sides of a task as the files that `bert-edu finetune` reads.

    topic and pair are written as TSV, tagging as a word and its tag a line, qa as SQuAD's JSON.

    Returns: the file of each side, {"train": folder / "topic-train.tsv", ...}

    Raises:
        FileExistsError: when one of the files is there already; nothing is written then.
    """
    formats = {"tagging": (".conll", _as_conll), "qa": (".json", _as_squad)}
    suffix, as_text = formats.get(name, (".tsv", _as_tsv))
    texts = {side: as_text(pydocs_task(name, side)) for side in SIDES}
    paths = {side: Path(folder) / f"{name}-{side}{suffix}" for side in SIDES}
    for path in paths.values():
        if path.exists():
            raise FileExistsError(f"{path} is there already; choose another folder, or remove it")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for side, path in paths.items():
        path.write_text(texts[side], encoding="utf-8", newline="\n")
    return paths


# ---- 1. Docstrings with their signatures -------------------------------------------------------------------


class Docstring(NamedTuple):
    """A docstring of pydocs, as its authors wrote it.

    Attributes:
        text: without the indentation.
        sentences: its prose, which is the document in pydocs.
        opening: those of them that are the first paragraph; empty where that is no prose.
        side: of the task.
        parameters: of the function, or of the class's __init__; None where no syntax tree tells them.
        raised: the exceptions that its own body raises, by their last names.
    """

    source: Source
    text: str
    sentences: list[str]
    opening: list[str]
    side: str
    parameters: list[str] | None
    raised: list[str]


class Signature(NamedTuple):
    parameters: list[str] | None
    raised: list[str]


def _read() -> tuple[list[Docstring], set[str]]:
    """All docstrings that are documents of pydocs, and the names of all classes of exceptions."""
    documents = pydocs_documents()
    sides = task_sides(documents)
    wanted = {}
    for source, sentences, _ in documents:
        wanted.setdefault(source, []).append(sentences)
    found, bases = [], {}
    with _no_garbage_collection():
        for library, folder in _folders():
            by_module = groupby(_docstrings_in(library, folder), key=lambda pair: pair[0].module)
            for module, pairs in by_module:
                signatures = _signatures(_file_of(library, folder, module), bases)
                for source, raw in pairs:
                    sentences = prose(raw)
                    if sentences not in wanted.get(source, []):
                        continue  # no prose, or the repetition of another one
                    wanted[source].remove(sentences)
                    text = inspect.cleandoc(raw)
                    opening = _opening(text, sentences)
                    signature = signatures.get((source.qualname, raw), Signature(None, []))
                    found.append(Docstring(source, text, sentences, opening, sides[module], *signature))
    return found, _exceptions(bases)


def task_sides(documents: list[Document]) -> dict[str, str]:
    """The side of each module: pydocs' training side, and its held-out clusters dealt to dev and test.

    Clusters are dealt from the largest to the smallest, each to the side that has fewer words of the library.
    """
    sides = {document.source.module: "train" for document in documents}
    held_out = {"\n".join(d.sentences): d.source for d in documents if d.split == "valid"}
    cluster = _clusters(held_out)
    words, library = Counter(), {}
    for text, source in held_out.items():
        words[cluster[source.module]] += len(text.split())
        library[source.module] = source.library
    given, side_of = Counter(), {}
    for name in sorted(words, key=lambda name: (-words[name], stable_hash(name))):
        side = min(("dev", "test"), key=lambda side: given[library[name], side])
        given[library[name], side] += words[name]
        side_of[name] = side
    return sides | {module: side_of[name] for module, name in cluster.items()}


def _file_of(library: str, folder: Path, module: str) -> Path:
    names = module.split(".") if library == "python" else module.split(".")[1:]
    path = folder.joinpath(*names)
    return path.with_suffix(".py") if names and path.with_suffix(".py").exists() else path / "__init__.py"


def _signatures(path: Path, bases: dict[str, list[str]]) -> dict[tuple[str, str], Signature]:
    """What the syntax tree of a file says about each docstring in it; adds the file's classes to `bases`."""
    signatures = {}
    for qualname, node in _definitions(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ClassDef):
            bases.setdefault(node.name, [_last(base) for base in node.bases])
        if docstring := ast.get_docstring(node, clean=False):
            signatures[qualname, docstring] = Signature(_parameters(node), _raised(node))
    return signatures


def _definitions(tree: ast.AST, qualname: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{qualname}.{node.name}".lstrip(".")
            yield name, node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node, name)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _definitions(node, qualname)


def _parameters(node: ast.AST) -> list[str] | None:
    if isinstance(node, ast.ClassDef):
        constructors = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        return _parameters(constructors[-1]) if constructors else None  # inherited, or generated
    args = node.args
    every = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
    return [arg.arg for arg in every if arg and arg.arg not in ("self", "cls")]


def _raised(node: ast.AST) -> list[str]:
    raises = [n.exc for n in ast.walk(node) if isinstance(n, ast.Raise)]
    return [_last(exc.func if isinstance(exc, ast.Call) else exc) for exc in raises if exc]


def _last(node: ast.AST) -> str:
    return _dotted(node).rpartition(".")[2]


def _exceptions(bases: dict[str, list[str]]) -> set[str]:
    """Python's own exceptions, and all classes that derive from one, over as many steps as it takes."""
    values = vars(builtins).items()
    known = {n for n, value in values if isinstance(value, type) and issubclass(value, BaseException)}
    while new := {name for name, above in bases.items() if name not in known and known.intersection(above)}:
        known |= new
    return known


SECTION = re.compile(r"(?:[A-Z]\w+(?: [A-Za-z]\w+)?\n-{3,}|(?:Args|Arguments|Returns?|Yields|Raises):\n)")


def _opening(text: str, sentences: list[str]) -> list[str]:
    """The sentences of the first paragraph that has any; only a line with a signature may stand before it."""
    for paragraph in re.split(r"\n[ ]*\n", text)[:2]:
        opening = prose(paragraph) if not SECTION.match(paragraph) else []
        if opening:
            return opening if sentences[: len(opening)] == opening else []
    return []


# ---- 2. Choosing examples: apart, and as many as fine-tune in about a minute -------------------------------


OF_ONE_MODULE = 40  # at most, on the sides that measure: no score should hang on a single author


class Candidate(NamedTuple):
    """An example that may be chosen; no example of another side may have one of its `traces`."""

    example: Example
    group: str
    module: str
    side: str
    traces: set[str]


def traces(texts: list[str]) -> set[str]:
    """What a near duplicate has too: one of the texts as a whole, or eight words in a row.

    Whole texts are compared without capitals, digits and punctuation, so that "Return the 2-D case." and
    "return the 3-D case" are the same.
    """
    plain = (" ".join(re.findall(r"[^\W\d]+", text.lower())) for text in texts)
    return {text for text in plain if text} | stretches(texts)


def _chosen(candidates: Iterable[Candidate], limits: Callable[[str, str], int]) -> dict[str, list[Example]]:
    """Of each group at most limits(side, group) examples a side, in an order that only their texts decide."""
    ordered = sorted(candidates, key=lambda candidate: stable_hash(json.dumps(candidate.example)))
    of_group, of_module, seen = Counter(), Counter(), set()
    chosen = {side: [] for side in SIDES}
    for example, group, module, side, _ in _apart(ordered):
        key = json.dumps(_given(example))
        full = of_group[side, group] == limits(side, group)
        if key in seen or full or (side != "train" and of_module[side, module] == OF_ONE_MODULE):
            continue
        seen.add(key)
        of_group[side, group] += 1
        of_module[side, module] += 1
        chosen[side].append(example)
    return chosen


def _given(example: Example) -> tuple:
    """What a model is given: the example without its label and its id."""
    if isinstance(example, QuestionExample):
        return example.question, example.context
    return example.words if isinstance(example, TaggedSentence) else (example.first, example.second)


def _apart(candidates: list[Candidate]) -> list[Candidate]:
    """Leaves out near duplicates of another side: dev gives way to test, and train to both."""
    used, kept = set(), []
    for side in reversed(SIDES):
        here = [c for c in candidates if c.side == side and not c.traces & used]
        kept += here
        used.update(*(candidate.traces for candidate in here))
    return kept


# ---- 3. Topic: which library is this? ----------------------------------------------------------------------

# A text that names a library would give the answer away, or a wrong one.
LIBRARY_NAMES = re.compile(
    r"torch|numpy|\bnp\b|pandas|\bpd\b|matplotlib|\bmpl|pyplot|pylab|\bplt\b|seaborn|\bsns\b|python|\baten\b|\bc10",
    re.IGNORECASE,
)
TOPIC_WORDS = 6, 60  # fewer say too little
TOPIC_LIMITS = {"train": 1000, "dev": 130, "test": 130}  # of each library


def _topic(docstrings: list[Docstring]) -> dict[str, list[TextExample]]:
    candidates = []
    for docstring in docstrings:
        text = " ".join(docstring.opening)
        if TOPIC_WORDS[0] <= len(text.split()) <= TOPIC_WORDS[1] and not LIBRARY_NAMES.search(text):
            library, module, _ = docstring.source
            example = TextExample(text, None, library)
            candidates.append(Candidate(example, library, module, docstring.side, traces([text])))
    libraries = {}
    for candidate in candidates:
        libraries.setdefault(candidate.example.first.lower(), set()).add(candidate.group)
    clear = [c for c in candidates if len(libraries[c.example.first.lower()]) == 1]
    return _chosen(clear, lambda side, _: TOPIC_LIMITS[side])


# ---- 4. Pair: does this body belong to this summary? -------------------------------------------------------

BODY_WORDS = 8, 45
PAIR_LIMITS = {"train": 1500, "dev": 300, "test": 300}  # of each answer


class Halves(NamedTuple):
    """A docstring cut into its first sentence and what follows."""

    module: str
    side: str
    summary: str
    body: str

    @property
    def traces(self) -> set[str]:
        return traces([self.summary, self.body])


def _pair(docstrings: list[Docstring]) -> dict[str, list[TextExample]]:
    """Each summary and each body is in one example only: neither alone says anything about the answer."""
    found = [half for half in map(_halves, docstrings) if half]
    found.sort(key=lambda half: stable_hash(half.summary + half.body))
    halves, seen = [], set()
    for half in found:
        if half.summary not in seen and half.body not in seen:
            seen.update((half.summary, half.body))
            halves.append(half)
    candidates = []
    for side in SIDES:
        here = [half for half in halves if half.side == side]
        near, far = _near_and_far(here[1::2])
        groups = {"same": zip(here[0::2], here[0::2]), "near": _swapped_within(near), "far": _swapped(far)}
        for group, pairs in groups.items():
            candidates += [_pair_candidate(first, second, group) for first, second in pairs]
    return _chosen(candidates, lambda side, group: PAIR_LIMITS[side] // (1 if group == "same" else 2))


def _halves(docstring: Docstring) -> Halves | None:
    if not docstring.opening:
        return None
    summary, *rest = docstring.sentences
    while len(" ".join(rest).split()) > BODY_WORDS[1]:
        rest.pop()
    body = " ".join(rest)
    if len(body.split()) < BODY_WORDS[0]:
        return None
    return Halves(docstring.source.module, docstring.side, summary, body)


def _near_and_far(halves: list[Halves]) -> tuple[list[Halves], list[Halves]]:
    """Whole modules, about half of all, in which bodies can be swapped; and the rest. Ordered by module."""
    near, far = [], []
    ordered = sorted(halves, key=lambda half: stable_hash(half.module))
    for _, group in groupby(ordered, key=lambda half: half.module):
        group = list(group)
        (near if len(group) > 1 and len(near) < len(halves) / 2 else far).extend(group)
    return near, far


def _swapped_within(near: list[Halves]) -> Iterator[tuple[Halves, Halves]]:
    for _, group in groupby(near, key=lambda half: half.module):
        group = list(group)
        yield from _strangers(zip(group, group[1:] + group[:1]))


def _swapped(far: list[Halves]) -> Iterator[tuple[Halves, Halves]]:
    step = max(Counter(half.module for half in far).values(), default=0)  # past every module
    pairs = _strangers(zip(far, far[step:] + far[:step]))
    return (pair for pair in pairs if pair[0].module != pair[1].module)


def _strangers(pairs: Iterable[tuple[Halves, Halves]]) -> Iterator[tuple[Halves, Halves]]:
    """Only those in which the second's body would not suit the first as well."""
    for first, second in pairs:
        if not first.traces & second.traces:
            yield first, second


def _pair_candidate(first: Halves, second: Halves, group: str) -> Candidate:
    label = "same" if group == "same" else "other"
    example = TextExample(first.summary, second.body, label)
    return Candidate(example, group, first.module, first.side, first.traces | second.traces)


# ---- 5. Tagging: which words are parameters, or exceptions? ------------------------------------------------

PARAMETER, EXCEPTION, OTHER = "B-PARAM", "B-EXC", "O"
TAGGING_LIMITS = {"train": 4000, "dev": 600, "test": 600}
WITHOUT = 1 / 3  # the share of sentences in which there is nothing to find
# A word in a sentence: with inner points and hyphens, but without an 's; or one mark of punctuation
WORD = re.compile(
    r"(?:[A-Za-z]\.){2,}|(?:(?<!\S)\.)?\w+(?:[.-]\w+|['’](?:t|re|ll|ve|d|m)\b)*|['’]s\b|[^\w\s]"
)
UNMISTAKABLE = re.compile(r".*[A-Za-z0-9]_+[A-Za-z0-9]|.*\d|.*[a-z][A-Z]")
# `axis`, *axis*, :attr:`axis`
MARKED_UP = re.compile(r"(?<![\w`*])(``?|\*\*?|:[\w:]+:`)(\w+(?:\.\w+)*)(?=[`*])")
SET_OFF = "qzq"  # appended to such a name while a docstring becomes prose, which has no mark-up


def _tagging(docstrings: list[Docstring], exceptions: set[str]) -> dict[str, list[TaggedSentence]]:
    candidates = []
    for docstring in docstrings:
        if docstring.parameters is not None:
            candidates += _tagged(docstring, exceptions)

    def limits(side: str, group: str) -> int:
        share = WITHOUT if group == "without" else 1 - WITHOUT
        return round(TAGGING_LIMITS[side] * share)

    return _chosen(candidates, limits)


def _tagged(docstring: Docstring, exceptions: set[str]) -> Iterator[Candidate]:
    """The sentences of one docstring with their tags.

    A parameter's name is often a word as well ("the key of a dict"), so what counts is that the authors set
    it off, or that it can be nothing else ("skip_rows"). Where they never set a name off but use the word,
    nobody can tell: those sentences are left out.
    """
    parameters = set(docstring.parameters)
    marked = _set_off(docstring.text, parameters | exceptions)
    set_off = set(re.findall(rf"(\w+){SET_OFF}", marked))
    known = set(docstring.sentences)
    for sentence in prose(marked) if set_off else docstring.sentences:
        plain = sentence.replace(SET_OFF, "")
        if plain not in known:
            continue
        words, tags = [], []
        for token in WORD.findall(sentence):
            word = token.replace(SET_OFF, "")
            name = word if words or word in parameters else word[0].lower() + word[1:]
            words.append(word)
            if name in parameters and (token != word or UNMISTAKABLE.match(name)):
                tags.append(PARAMETER)
            elif name in parameters and name not in set_off and name not in FUNCTION_WORDS:
                break
            elif _is_exception(word, token != word, docstring.raised, exceptions):
                tags.append(EXCEPTION)
            else:
                tags.append(OTHER)
        if len(tags) == len(words):
            group = "without" if set(tags) == {OTHER} else "with"
            example = TaggedSentence(words, tags)
            marks = traces([plain, " ".join(words)])
            yield Candidate(example, group, docstring.source.module, docstring.side, marks)


def _set_off(text: str, names: set[str]) -> str:
    def mark(found: re.Match) -> str:
        return found[0] + (SET_OFF if found[2] in names or found[2].rpartition(".")[2] in names else "")

    return MARKED_UP.sub(mark, text)


def _is_exception(word: str, set_off: bool, raised: list[str], exceptions: set[str]) -> bool:
    """Whether it names one, and is no word as well (Empty, Warning), or is raised here, or set off."""
    name = word.rpartition(".")[2]
    return name in exceptions and (set_off or name in raised or UNMISTAKABLE.match(name) is not None)


# ---- 6. Question answering: what type, default or result is stated? ----------------------------------------

QA_LIMITS = {"train": 2400, "dev": 500, "test": 500}
UNANSWERABLE = 1 / 3  # of the questions of each kind, where there are as many
QUESTIONS_OF_A_KIND = 2  # at most, about one docstring
WORDINGS = {
    "type": ["What is the type of {}?", "What type does {} have?", "Of which type is {}?"],
    "default": ["What is the default of {}?", "What is {} by default?", "What does {} default to?"],
    "result type": ["What type is returned?", "What is the type of the result?", "What type does it return?"],
    "result": ["What is returned?", "What does it return?", "What is the result?"],
}


def _qa(docstrings: list[Docstring]) -> dict[str, list[QuestionExample]]:
    candidates = [candidate for docstring in docstrings for candidate in _questions(docstring)]

    def limits(side: str, group: str) -> int:
        share = UNANSWERABLE if group.endswith("without answer") else 1 - UNANSWERABLE
        return round(QA_LIMITS[side] / len(KINDS) * share)

    return _chosen(candidates, limits)


def _questions(docstring: Docstring) -> Iterator[Candidate]:
    if not docstring.opening:
        return
    key = f"{docstring.source.module}.{docstring.source.qualname}"
    context, asked = context_and_questions(docstring.sentences[0], docstring.text, key)
    asked.sort(key=lambda one: stable_hash(f"{key} {one.kind} {one.name}"))
    of_kind, marks = Counter(), traces([context])
    for kind, name, span in asked:
        of_kind[kind] += 1
        if of_kind[kind] > QUESTIONS_OF_A_KIND:
            continue
        wordings = WORDINGS[kind]
        question = wordings[stable_hash(f"{key} {name}") % len(wordings)].format(name)
        answers = [Answer(context[span[0] : span[1]], span[0])] if span else []
        identity = f"{key}: {f'{kind} of {name}' if name else kind}"
        group = kind if answers else f"{kind} without answer"
        example = QuestionExample(identity, question, context, answers)
        yield Candidate(example, group, docstring.source.module, docstring.side, marks)


# ---- 7. The cache, and files -------------------------------------------------------------------------------

# These files decide which examples there are; after a change of any other the cache still holds.
RULES = [
    Path(__file__).with_name(f"{name}.py") for name in ("pydocs", "text", "pydocs_tasks", "pydocs_questions")
]


@cache
def _tasks() -> dict[str, dict[str, list[Example]]]:
    versions = {"python": platform.python_version(), **_installed()}
    rules = [hashlib.sha256(file.read_bytes()).hexdigest() for file in RULES]
    key = hashlib.sha256(json.dumps([versions, rules]).encode()).hexdigest()[:16]
    path = cache_folder() / f"pydocs-tasks-{key}.json"
    try:
        return _read_back(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: made anew
        tasks = make_tasks()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(tasks), encoding="utf-8")
    except OSError:
        pass  # without a place to keep them, the next run takes as long as this one
    return tasks


def make_tasks() -> dict[str, dict[str, list[Example]]]:
    """All four tasks, made anew: task -> side -> examples."""
    docstrings, exceptions = _read()
    return {
        "topic": _topic(docstrings),
        "pair": _pair(docstrings),
        "tagging": _tagging(docstrings, exceptions),
        "qa": _qa(docstrings),
    }


def _read_back(stored: dict[str, dict[str, list]]) -> dict[str, dict[str, list[Example]]]:
    """JSON has no named tuples, only lists."""
    return {
        name: {side: [_example(name, row) for row in stored[name][side]] for side in SIDES}
        for name in PYDOCS_TASKS
    }


def _example(name: str, row: list) -> Example:
    if name == "tagging":
        return TaggedSentence(*row)
    if name == "qa":
        identity, question, context, answers, labelled = row
        return QuestionExample(identity, question, context, [Answer(*a) for a in answers], labelled)
    return TextExample(*row)


def _as_tsv(examples: list[TextExample]) -> str:
    pair = any(example.second is not None for example in examples)
    header = ["sentence1", "sentence2", "label"] if pair else ["sentence", "label"]
    rows = [[e.first, e.second, e.label] if pair else [e.first, e.label] for e in examples]
    return "".join("\t".join(row) + "\n" for row in [header, *rows])


def _as_conll(examples: list[TaggedSentence]) -> str:
    sentences = ["".join(f"{word}\t{tag}\n" for word, tag in zip(*example)) for example in examples]
    return "\n".join(sentences)


def _as_squad(examples: list[QuestionExample]) -> str:
    paragraphs = {}
    for example in examples:
        answers = [{"text": answer.text, "answer_start": answer.start} for answer in example.answers]
        entry = {"id": example.id, "question": example.question, "answers": answers}
        entry["is_impossible"] = not answers
        paragraphs.setdefault(example.context, []).append(entry)
    rows = [{"context": context, "qas": entries} for context, entries in paragraphs.items()]
    return json.dumps({"version": "v2.0", "data": [{"title": "pydocs", "paragraphs": rows}]}, indent=1) + "\n"
