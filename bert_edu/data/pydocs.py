"""pydocs: a corpus of the documentation that is on every machine already (chapter 9).

It is read from the source files of Python and of the book's own libraries: nothing to download. The text
differs with the versions that are installed.
"""

import ast
import gc
import hashlib
import inspect
import json
import platform
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

from ..pretrained import replacing
from .downloads import cache_folder
from .text import check_split, split_sentences, stable_hash

# ---- 1. From source files to documents ---------------------------------------------------------------------

LIBRARIES = ("torch", "numpy", "matplotlib", "seaborn", "pandas")
# Tests, copies of other projects, tables of character sets; and the inside of torch's compiler: notes from
# developer to developer, more code than English, and a third of all the source that would be read.
SKIPPED_FOLDERS = frozenset(
    "test tests testing idle_test lib2to3 encodings site-packages dist-packages _bundled _vendor external "
    "externals _inductor _dynamo _functorch _export _higher_order_ops _subclasses _refs _decomp".split()
)


class Source(NamedTuple):
    """Where a text stands: library ("python" is the standard library), module, and class or function."""

    library: str
    module: str
    qualname: str


class Document(NamedTuple):
    """A docstring, cleaned to prose. `split` is the side of the one split that everything uses."""

    source: Source
    sentences: list[str]
    split: str


def pydocs_documents(split: str = "all") -> list[Document]:
    """The documents of pydocs with their sources, in order of library, module and place in the file.

    Source files are read, never imported. The first call takes a while (20 s or so); the cache folder then
    keeps the result, for these versions of the libraries and these rules.

    Raises:
        ValueError: for an unknown split.
    """
    check_split(split)
    return [document for document in _pydocs() if split in (document.split, "all")]


@cache
def _pydocs() -> list[Document]:
    versions = {"python": platform.python_version(), **_installed()}
    # These two files decide what is extracted; after a change of any other the cache still holds.
    files = Path(__file__), Path(__file__).with_name("text.py")
    rules = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    key = hashlib.sha256(json.dumps([versions, rules]).encode()).hexdigest()[:16]
    path = cache_folder() / f"pydocs-{key}.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [Document(Source(*source), sentences, split) for source, sentences, split in rows]
    except (OSError, ValueError):  # not there, or damaged: made anew
        documents = _extract()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(documents), encoding="utf-8")
    except OSError:
        pass  # without a place to keep it, the next run takes as long as this one
    return documents


def _installed() -> dict[str, str]:
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            pass
    return versions


def _extract() -> list[Document]:
    found = {}  # text -> source: of equal texts the first stays
    with _no_garbage_collection():
        for library, folder in _folders():
            for source, docstring in _docstrings_in(library, folder):
                if sentences := prose(docstring):
                    found.setdefault("\n".join(sentences), source)
    valid = _held_out(found)
    return [
        Document(source, text.split("\n"), "valid" if source.module in valid else "train")
        for text, source in found.items()
    ]


@contextmanager
def _no_garbage_collection():
    """Syntax trees have no cycles, and looking for some again and again takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _folders() -> Iterator[tuple[str, Path]]:
    yield "python", Path(sysconfig.get_path("stdlib"))
    for library in _installed():
        spec = util.find_spec(library)  # finds a top-level package without running it
        if spec and spec.submodule_search_locations:
            yield library, Path(spec.submodule_search_locations[0])


def _docstrings_in(library: str, folder: Path) -> Iterator[tuple[Source, str]]:
    for path in sorted(folder.rglob("*.py"), key=Path.as_posix):
        parts = path.relative_to(folder).with_suffix("").parts
        if SKIPPED_FOLDERS.intersection(parts[:-1]):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes such as "\d" in other people's code
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError):  # a template, or written for another version of Python
                continue
        names = parts[:-1] if parts[-1] == "__init__" else parts
        module = ".".join(names if library == "python" else (library, *names))
        for qualname, docstring in _docstrings(tree):
            yield Source(library, module, qualname), docstring


def _docstrings(tree: ast.AST, qualname: str = "") -> Iterator[tuple[str, str]]:
    """Docstrings, and the texts that stand elsewhere because the function is written in C or generated."""
    if isinstance(tree, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        if docstring := ast.get_docstring(tree, clean=False):  # `prose` cleans it
            yield qualname, docstring
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
        return  # what is defined inside a function nobody calls
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(node, f"{qualname}.{node.name}".lstrip("."))
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _docstrings(node, qualname)
        elif isinstance(node, ast.Expr | ast.Assign):
            yield from _docstrings_elsewhere(node)


def _docstrings_elsewhere(node: ast.Expr | ast.Assign) -> Iterator[tuple[str, str]]:
    """add_docstr(torch.abs, "..."), relu = _add_docstr(torch.relu, "..."), _shared_docs = {"name": "..."}"""
    value, target = node.value, _dotted(node.targets[0]) if isinstance(node, ast.Assign) else ""
    if isinstance(value, ast.Call) and "doc" in _dotted(value.func).lower():
        first = _dotted(value.args[0]) if value.args else ""
        named = first or ".".join(text for text in _strings(value) if len(text) < 40)
        yield target or named, _long_text(value)
    elif isinstance(value, ast.Dict) and ("doc" in target.lower() or target == "topics"):
        # `topics` is the language reference, in pydoc_data
        for key, entry in zip(value.keys, value.values):
            yield ".".join([target, *_strings(key)]), _long_text(entry)
    elif "doc" in target.lower():
        yield target.removesuffix(".__doc__"), _long_text(value)


def _dotted(node: ast.AST) -> str:
    """The name of torch.abs, or of _shared_docs["head"] without its key; "" for any other expression."""
    if isinstance(node, ast.Subscript):
        return _dotted(node.value)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}".lstrip(".")
    return node.id if isinstance(node, ast.Name) else ""


def _strings(node: ast.AST | None) -> list[str]:
    nodes = ast.walk(node) if node else []
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def _long_text(node: ast.AST) -> str:
    return "\n\n".join(inspect.cleandoc(text) for text in _strings(node) if len(text) >= 40)


def _held_out(sources: dict[str, Source]) -> set[str]:
    """The modules of the validation split: whole clusters, up to 10 % of each library's words."""
    cluster = _clusters(sources)
    words, sizes, library = Counter(), Counter(), {}
    for text, source in sources.items():
        words[source.library] += len(text.split())
        sizes[cluster[source.module]] += len(text.split())
        library[source.module] = source.library
    room = {name: count // 10 for name, count in words.items()}
    chosen = set()
    for name in sorted(sizes, key=stable_hash):
        if sizes[name] <= room[library[name]]:
            room[library[name]] -= sizes[name]
            chosen.add(name)
    return {module for module, name in cluster.items() if name in chosen}


def _clusters(sources: dict[str, Source]) -> dict[str, str]:
    """For each module the first, by name, of those that it hangs together with.

    Two modules hang together when they share a stretch of eight words, or both do so with a third. The
    functions of torch and the methods of its Tensor, or numpy and numpy.ma, say nearly the same.
    """
    leaders = {source.module: source.module for source in sources.values()}

    def leader(module: str) -> str:
        while leaders[module] != module:
            leaders[module] = module = leaders[leaders[module]]  # shortens the way for the next one
        return module

    first = {}  # stretch -> the module in which it was met first
    for text, source in sources.items():
        for stretch in stretches(text.split("\n")):
            low, high = sorted((leader(first.setdefault(stretch, source.module)), leader(source.module)))
            leaders[high] = low
    return {module: leader(module) for module in leaders}


def stretches(sentences: list[str], length: int = 8) -> set[str]:
    """All runs of `length` words within a sentence, in lower case: what near-duplicates have in common."""
    found = set()
    for sentence in sentences:
        words = sentence.lower().split()
        found.update(" ".join(words[start : start + length]) for start in range(len(words) - length + 1))
    return found


# ---- 2. From a docstring to prose --------------------------------------------------------------------------

# What is removed or rewritten before paragraphs are formed, in this order. Docstrings come in
# reStructuredText and in the styles of NumPy, Google and Sphinx, mixed. CUT marks where something was taken
# out, so that a sentence that led up to it ("For example:") goes too.
CUT = "\0"
DEEPER = r"(?:\1[ ]+\S.*\n|[ ]*\n)*"  # the lines that are indented more than the one before, and blank ones
FIELD = "param|parameter|arg|argument|key|keyword|returns?|yields?|ivar|var|cvar"
BLOCKS = [
    # sections of names, papers and half-sentences: NumPy's, then Google's
    (r"^([ ]*)(?:See [Aa]lso|References|Raises|Warns)\n[ ]*-{3,}\n(?:(?!.+\n[ ]*-{3,}\n).*\n)*", "\n"),
    (rf"^([ ]*)(?:See [Aa]lso|References?|Raises|Throws)::?[ ]*\n{DEEPER}", "\n"),
    # underlined titles
    (r"^(?:[ ]*\S.*\n)?[ ]*([=\-~^\"'*#.])\1{2,}[ ]*\n", "\n"),
    # directives: what stands in a note is prose, all the others go
    (r"^([ ]*)\.\.[ ]+(?:note|warnings?|tip|important|hint|caution|attention)::[ ]*", r"\1- "),
    (rf"^([ ]*)\.\.(?:[ ].*)?\n{DEEPER}", f"\n{CUT}\n"),
    # the indented block after "::", sessions at a prompt, tables, imports, columns
    (rf"^([ ]*)(.*)::[ ]*\n(?:[ ]*\n)+{DEEPER}", rf"\1\2:\n{CUT}\n"),
    (r"^[ ]*(?:>>>|In \[\d*\]|\$ |% ).*\n(?:[ ]*\S.*\n)*", f"\n{CUT}\n"),
    (r"^[ ]*(?:\|.*|[-=+:| ]*(?:--|==|\+-)[-=+:| ]*)\n(?:[ ]*\S.*\n)*", f"\n{CUT}\n"),
    (r"^[ ]*(?:import [\w.]+|from [\w.]+ import ).*\n", f"\n{CUT}\n"),
    (r"^.*\S[ ]{3,}\S.*\n", "\n"),
    # parameters: of ":param x: text" and "x (int): text" the text is kept, "x : int" goes, ":rtype: int" too
    (rf"^([ ]*)[:@](?:{FIELD})\b[^:`\n]*:(?!`)[ ]*", r"\1- "),
    (rf"^([ ]*)[:@]\w+(?:[ ][^:`\n]*)?:(?!`).*\n{DEEPER}", "\n"),
    (r"^[ ]*[\w*][\w*.,`'/\[\]\" ]*[ ]:[ ].*\n", "\n"),
    (r"^([ ]*)(?:[-*][ ]+)?[*`]{0,2}[A-Za-z_][\w.]*[*`]{0,2}[ ]\([^)\n]*\)?\)[ ]?:[ ]+", r"\1- "),
]
BULLET = re.compile(r"(?:[-*•+]|\d{1,2}[.)]|\(?[a-z0-9]\)|#\.)(?:\s+|$)")
ITEM = re.compile(r"""[*`"']{0,2}[A-Za-z_][\w.*\[\]]*[`"']{0,2}:\s+(?=\S)""")  # "name: text"
TYPE = re.compile(r"[\w.\[\]]+(?:(?: or |, )[\w.\[\]]+)*")

# Mark-up inside a line. What cannot be read aloud becomes CUT, and takes its sentence with it.
MARKUP = [
    (r":math:`\s*(\w+)\s*`", r"\1"),
    (r":math:`[^`]*`|\$[^$]*\$|\|\w+\|_?|\{\w*\}", CUT),  # formulas, placeholders
    (r":[\w:+.-]+:`[~!](?:[\w.]+\.)?([^`]*)`", r"\1"),  # :class:`~torch.Tensor`
    (r"(?::[\w:+.-]+:)?`([^`<]*?)\s*<[^`]*>`_{0,2}", r"\1"),  # :ref:`text <target>`, `text <address>`_
    (r"https?://\S+", CUT),
    (r":[\w:+.-]+:`([^`]*)`", r"\1"),  # :func:`torch.abs`
    (r"``(.+?)``", r"\1"),
    (r"`([^`]*)`_{0,2}", r"\1"),
    (r"\s*\[[\w*# -]+\]_", ""),  # [1]_
    (r"\*\*(\w[^*]*?)\*\*", r"\1"),
    (r"(?<![\w*\\])\*(\w(?:[^*]*[^*\s])?)\*(?![\w*])", r"\1"),
    (r"\\([*_`|\\])", r"\1"),
    (r"\s+([.,;])(?=\s|$)", r"\1"),
]

# What a sentence of prose looks like
WORD = re.compile(r"""["'“‘(\[]*(?:[A-Za-z]+(?:['’/-][A-Za-z]+)*|\d+(?:[.,]\d+)*)["'”’)\].,;:!?]*|--?|–""")
BEGIN = re.compile(r"""["'“‘]?[A-Za-z]|[(\[]["'“‘]?[A-Z]""")
END = re.compile(r"""[.!?]["'”’)\]]*$""")
NO_PROSE = re.compile(
    r"[\0{}<>\\|@^~$`=#]|::|\.\.|\[\d|\w\[|\b[Nn]ote:? \["
    r"| : |[.!?] \([a-z]| \d\. |^\w+ -- |\b(?:XXX|TODO|FIXME)\b"
)
FUNCTION_WORDS = frozenset(
    "a an the of to in is are be for and or that this with as not by it on from at if when which can will "
    "has have was its but into than may must should does do no".split()
)
NEVER_LAST = frozenset(
    "a an the of to in is are be for and or with as by from at if when which can will has into than may must "
    "should where use following given like via e.g i.e".split()
)


def prose(docstring: str) -> list[str]:
    """The sentences of a docstring that are English prose: no code, tables, formulas, names or types."""
    sentences = []
    for paragraph in _paragraphs(docstring):
        paragraph = " ".join(_rewritten(paragraph, MARKUP).split())
        if re.search(r"[\w)\]\"']$", paragraph):
            paragraph += "."  # many summaries and descriptions of parameters have none
        if re.match(r"[a-z]+(?:['/-][a-z]+)*[ ,]", paragraph):
            paragraph = paragraph[0].upper() + paragraph[1:]
        sentences += [sentence for sentence in split_sentences(paragraph) if _is_prose(sentence)]
    return sentences


def _rewritten(text: str, rules: list[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)  # `re` keeps the compiled patterns
    return text


def _paragraphs(docstring: str) -> list[str]:
    """Paragraphs, list items and descriptions of parameters, each as one line."""
    lines = _rewritten(inspect.cleandoc(docstring) + "\n", BLOCKS).splitlines()
    found = []
    first = None  # indentation of the open paragraph; None: none is open
    item = cut = False  # whether it is an item "name: text"; whether something was taken out before it
    for line, following in zip(lines, [*lines[1:], ""]):
        words, indent = line.strip(), _indentation(line)
        if words == CUT:
            cut = True
            if len(found) > 1 and not END.search(found[-1]):
                found[-1] += ":"  # it led up to what is gone
        if words in ("", CUT):
            first, item = None, False
            continue
        deeper = _indentation(following) > indent
        bullet, named = BULLET.match(words), ITEM.match(words)
        continues = first is not None and indent >= first and not bullet
        if bullet:
            words, item = words[bullet.end() :], True
            named = ITEM.match(words)
        elif deeper and not continues and not named:
            first = None  # a heading, or the name of what is described below it
            continue
        if named and (not continues or item and indent == first):
            words, item, continues = words[named.end() :], True, False
            if deeper and TYPE.fullmatch(words):
                first = None
                continue
        if continues:
            found[-1] += " " + words
        else:
            goes_on = cut and not bullet and words[:1].islower()  # "where x is ...", after a formula
            found.append(CUT + words if goes_on else words)
            first, cut = indent, False
    return found


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_prose(sentence: str) -> bool:
    words = sentence.split()
    if not 4 <= len(words) <= 70 or NO_PROSE.search(sentence):
        return False
    if not BEGIN.match(sentence) or not END.search(sentence) or words[-1].rstrip(".!?").lower() in NEVER_LAST:
        return False
    if sentence.count("(") != sentence.count(")") or sentence.count("[") != sentence.count("]"):
        return False
    plain = sum(WORD.fullmatch(word) is not None for word in words)
    shouted = sum(word.isupper() and len(word) > 2 for word in words)
    english = sum(word.lower() in FUNCTION_WORDS for word in words)
    return plain >= 0.8 * len(words) and shouted <= 0.25 * len(words) and english >= max(1, len(words) // 10)
