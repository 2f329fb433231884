"""The glossary: every word once, in order, linked to a chapter that uses it; and the links to it."""

import json
import re
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

import notebooks

sys.path.append(str(notebooks.ROOT / "book" / "ext"))
import glossary_links

PAGE = Path(notebooks.ROOT) / "book" / "glossary.md"
ENTRY = re.compile(
    r"^(\S.*)\n  (.+) \[(Refresher|Chapter \d+)\]\(\.\./(notebooks/(\d\d)_\w+\.ipynb)\)$", re.M
)


def entries():
    """The term, what is said of it, the chapter's name, file and number, of each entry."""
    inside = PAGE.read_text(encoding="utf-8").split(":::{glossary}\n")[1].split("\n:::")[0]
    found = ENTRY.findall(inside)
    blocks = inside.strip("\n").split("\n\n")
    assert len(found) == len(blocks), f"{len(blocks) - len(found)} entries are not of the form of the others"
    return found


def prose(file: str) -> str:
    """What a notebook says in its Markdown, on one line."""
    cells = notebooks.read(notebooks.ROOT / file).cells
    return " ".join(" ".join(cell.source.split()) for cell in cells if cell.cell_type == "markdown")


def mentions(text: str, term: str) -> bool:
    """As a word of its own, also in the plural or at the start of a sentence."""
    return re.search(rf"(?<![\w-]){re.escape(term)}(?:s|es)?(?![\w-])", text, re.IGNORECASE) is not None


def test_terms_stand_once_and_in_order():
    terms = [term.strip("[]").casefold() for term, *_ in entries()]
    assert len(terms) >= 60
    assert terms == sorted(set(terms))


@pytest.mark.parametrize("term, said, name, file, number", entries(), ids=[term for term, *_ in entries()])
def test_the_chapter_contains_the_term(term, said, name, file, number):
    assert name == ("Refresher" if number == "00" else f"Chapter {int(number)}")
    assert mentions(prose(file), term), f"{file} does not say {term!r}"


@pytest.mark.parametrize("term, said, name, file, number", entries(), ids=[term for term, *_ in entries()])
def test_one_or_two_plain_sentences(term, said, name, file, number):
    assert said.endswith((".", "?")) and len(said.split()) <= 45, said


def test_other_terms_that_are_named_have_an_entry():
    terms = {term for term, *_ in entries()}
    named = {word for _, said, *_ in entries() for word in re.findall(r"see \*([^*]+)\*", said)}
    assert named and named <= terms


def test_a_term_is_not_found_within_another_word():
    assert mentions("Queries, keys and values.", "key") and mentions("Each head looks.", "head")
    assert not mentions("It is ahead of the monkey.", "head") and not mentions("nothing natural", "nat")


# ---- The links: a small book of its own ----

LITTLE_BOOK = {
    "conf.py": """
extensions = ["myst_parser", "glossary_links"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
""",
    "index.md": """
# Token

A token on a page that gets no links.

```{toctree}
book/glossary
notebooks/01_first
notebooks/02_second
```
""",
    "book/glossary.md": """
# Glossary

:::{glossary}
attention
  How a token reads its neighbours, or a zebra. [Chapter 1](../notebooks/01_first.md)

attention mask
  Says of each token "read" & x<y. [Chapter 1](../notebooks/01_first.md)

mini
  The small model. [Chapter 1](../notebooks/01_first.md)

query
  What a token looks for. [Chapter 1](../notebooks/01_first.md)

tensor
  A table. [Chapter 1](../notebooks/01_first.md)

token
  One unit. [Chapter 2](../notebooks/02_second.md)

vocabulary
  All tokens. [Chapter 1](../notebooks/01_first.md)

warm-up
  A slow start. [Chapter 1](../notebooks/01_first.md)
:::
""",
    "notebooks/01_first.md": """
# A token

A **token** and a [token](../index.md), `token` and $token$ are no running text. Attention comes from here.

| token |
|---|
| token |

<details><summary>A token?</summary>

A token in a hint.

</details>

- In a list: tokens and a token.
""",
    "notebooks/02_second.md": """
# Attention

Tensors, tokens and mini are left alone. Queries meet an attention
mask. The attention mask and attention, the query. And (attention).
What a *vocabulary* is, is said here. The vocabulary is explained.

## Exercises

A warm-up.
""",
}


def build(folder):
    """The little book as it stands in `folder`."""
    with docutils_namespace():
        app = Sphinx(folder, folder, folder / "html", folder / "doctrees", "html", status=None, warning=None)
        app.build()


@pytest.fixture(scope="module")
def little_book(tmp_path_factory):
    folder = tmp_path_factory.mktemp("little")
    for name, text in LITTLE_BOOK.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text.lstrip(), encoding="utf-8")
    build(folder)
    return folder


def links_and_definitions(folder, name):
    """Of one page: the words that are links with where they lead; the hidden definition of each."""
    page = BeautifulSoup((folder / "html" / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    links = page.select("a.glossary-link")
    definitions = [page.find(id=link["aria-describedby"]) for link in links]
    assert all("hidden" in said.attrs and said["role"] == "tooltip" for said in definitions)
    assert len(page.select("[role=tooltip]")) == len(links)
    words = [(" ".join(link.text.split()), link["href"]) for link in links]
    return words, [said.text for said in definitions]


def test_the_first_use_of_a_term_becomes_a_link(little_book):
    links, definitions = links_and_definitions(little_book, "notebooks/02_second")
    assert links == [
        ("Queries", "../book/glossary.html#term-query"),
        ("attention mask", "../book/glossary.html#term-attention-mask"),
        ("attention", "../book/glossary.html#term-attention"),
    ]
    assert definitions == [
        "What a token looks for. (Chapter 1)",
        "Says of each token “read” & x<y. (Chapter 1)",
        "How a token reads its neighbours, or a zebra. (Chapter 1)",
    ]


def test_the_text_stays_as_it_is(little_book):
    page = BeautifulSoup((little_book / "html/notebooks/02_second.html").read_text("utf-8"), "html.parser")
    text = " ".join(page.get_text().split())
    assert "Queries meet an attention mask. The attention mask and attention, the query. And (atten" in text


def test_only_running_text_has_links(little_book):
    """No heading, table, code, formula, link or hint; no term of the chapter's own; no other page."""
    links, _ = links_and_definitions(little_book, "notebooks/01_first")
    assert links == [("tokens", "../book/glossary.html#term-token")]
    for name in ("index", "book/glossary"):
        assert links_and_definitions(little_book, name) == ([], [])


def test_the_script_comes_with_the_links(little_book):
    scripts = {
        name: "glossary.js" in (little_book / "html" / f"{name}.html").read_text(encoding="utf-8")
        for name in ("notebooks/01_first", "index")
    }
    assert scripts == {"notebooks/01_first": True, "index": False}


def test_the_search_finds_a_definition_in_the_glossary_alone(little_book):
    text = (little_book / "html" / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    assert index["docnames"][index["terms"]["zebra"]] == "book/glossary"
    # A word that is a link is found where it stands.
    assert index["docnames"].index("notebooks/02_second") in index["terms"]["mask"]


def test_a_page_is_made_anew_when_the_glossary_changes(little_book):
    glossary = little_book / "book" / "glossary.md"
    text = glossary.read_text(encoding="utf-8")
    glossary.write_text(text.replace("What a token looks for.", "Something else."), encoding="utf-8")
    build(little_book)
    _, definitions = links_and_definitions(little_book, "notebooks/02_second")
    assert definitions[0] == "Something else. (Chapter 1)"


@pytest.mark.parametrize(
    "term, text, found",
    [
        ("query", "Queries, not a querying one", ["Queries"]),
        ("key", "The monkey's keys: key-value, Keys", ["keys", "Keys"]),
        ("loss", "losses", ["losses"]),
        ("[CLS]", "At [CLS], [CLS]s", ["[CLS]", "[CLS]s"]),
        ("LayerNorm", "LayerNorms, layernorm", ["LayerNorms"]),
        ("warm-up", "Warm-up, warm-ups, pre-warm-up", ["Warm-up", "warm-ups"]),
        ("half precision", "half\nprecision", ["half\nprecision"]),
    ],
)
def test_what_counts_as_a_use(term, text, found):
    assert re.findall(glossary_links.pattern(term), text) == found


def test_terms_without_links_are_terms():
    elsewhere = glossary_links.OTHER_SENSES
    without = {*glossary_links.WELL_KNOWN, *glossary_links.EVERYDAY, *sum(elsewhere.values(), [])}
    assert without <= {term for term, *_ in entries()}
    assert all((notebooks.ROOT / f"{page}.ipynb").is_file() for page in elsewhere)
