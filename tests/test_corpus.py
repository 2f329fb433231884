"""Corpora: files as documents and sentences, splits that do not leak, verified downloads, and pydocs."""

import gzip
import hashlib
import http.server
import io
import lzma
import random
import re
import sys
import threading
import tracemalloc
import zipfile
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_edu.cli.pretraining import CORPUS_HELP
from bert_edu.data import corpus as module
from bert_edu.data import downloads, pydocs
from bert_edu.data.corpus import Download, Source, load, prose, pydocs_documents, split_sentences, stretches

TEXT = "One sentence. And another!\nA second paragraph.\n\nNext document."
DOCUMENTS = [["One sentence.", "And another!", "A second paragraph."], ["Next document."]]


def written(path, content=TEXT):
    """A text file, compressed as its name says."""
    data = content if isinstance(content, bytes) else content.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes({".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)(data))
    return path


def many(count, seed=0):
    """Documents that all differ, with blank lines between them."""
    draw = random.Random(seed)
    return "\n\n".join(f"Document {draw.random()} is here. It ends with {number}." for number in range(count))


# ---- Sentences ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sentences",
    [
        ["It rains.", "We stay!", "Why?", "Because."],
        ["Fruits, e.g. Bananas, i.e. The yellow ones, grow here.", "Cf. Table two."],
        ["Mr. Smith met Dr. Who vs. Mrs. J. R. Jones."],
        ["She went to the U.S. Senate at St. Mary's."],
        ["He lives in the U.S.", "The train was late at 9 a.m.", "It always is."],
        ["Anne (Ph.D. Cambridge) works at Acme Inc. Boston."],
        ["Pi is 3.14.", "Python 3.11.7 has torch.nn and a file.name."],
        ["See no. 63 and Fig. 3 on p. 12.", "She said no.", "Later he left."],
        ["Devlin et al. (2019) did it.", "So did Liu et al.", "They used more data."],
        ['"What?" he asked.', '"Nothing!"', "(So it was.)", "“Really?!”", "Yes…", "And so on...", "Done."],
        ["It was I.", "Nobody else came."],
        ["It costs 5.", "3 men paid it."],
        ["no capital. so no cut here. at all"],
        ["Élan vital.", "Über alles."],
    ],
)
def test_sentences_are_cut_where_they_end(sentences):
    assert split_sentences(" ".join(sentences)) == sentences


@given(st.text(st.sampled_from("aB1 .!?…\"'”)([U.S.\n"), max_size=60))
def test_splitting_loses_nothing_and_a_sentence_stays_one(text):
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() != "" for sentence in sentences)
    assert [split_sentences(sentence) for sentence in sentences] == [[sentence] for sentence in sentences]


# ---- Text files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.xz", "a.TXT"])
def test_blank_lines_and_the_end_of_the_file_end_documents(tmp_path, name):
    corpus = load(written(tmp_path / name), "all")
    assert list(corpus) == DOCUMENTS
    assert list(corpus) == DOCUMENTS  # again and again


def test_what_is_no_sentence_is_dropped(tmp_path):
    text = (
        "\ufeff\n\n= Title =\r\nOne sentence. And\tanother!\r\n== Section ==\r\nA  second paragraph.\r\n"
        " \r\n\n= Empty =\n\nNext document.\n\n"
    )
    assert list(load(written(tmp_path / "a.txt", text), "all")) == DOCUMENTS


def test_a_folder_is_read_in_order_and_only_its_text_files(tmp_path):
    for name in ("b.txt.gz", "a.txt", "c/d.txt.xz", "c.txt"):
        written(tmp_path / name, f"This is {name[0]}.")
    written(tmp_path / "empty.txt", "")
    written(tmp_path / "picture.png", b"\0\xff")
    assert list(load(tmp_path, "all")) == [["This is a."], ["This is b."], ["This is c."], ["This is c."]]
    assert list(load(str(tmp_path / "c"), "all")) == [["This is c."]]


def test_files_are_streamed(tmp_path):
    path = written(tmp_path / "a.txt", b"One.\n\n" * 50_000 + b"\xff")
    documents = iter(load(path, "all"))
    assert [next(documents) for _ in range(1000)] == [["One."]] * 1000  # the broken byte was not reached yet
    with pytest.raises(ValueError):
        list(documents)


@pytest.mark.parametrize("unit", ["A document of one line.\n\n", "A line of an endless document.\n", "word "])
def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch, unit):
    monkeypatch.setattr(module, "LONGEST", 5_000)
    peaks = []
    for size in (100_000, 800_000):
        path = written(tmp_path / "a.txt", unit * (size // len(unit)))
        characters = 0
        tracemalloc.start()
        for document in load(path, "all"):
            assert sum(map(len, document)) <= 10_000
            characters += sum(map(len, document))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert characters > 0.9 * size * len(unit.rstrip()) / len(unit)  # and nothing was left out
    assert peaks[1] < peaks[0] + 50_000 and peaks[1] < 400_000


# ---- Splits, fingerprints, writing -------------------------------------------------------------------------


def test_one_document_in_a_hundred_is_held_out_whatever_stands_around_it(tmp_path):
    path = written(tmp_path / "a.txt", many(5000))
    train, valid, everything = (list(load(path, split)) for split in ("train", "valid", "all"))
    assert sorted(train + valid) == sorted(everything) and len(everything) == 5000
    assert 50 - 5 * 7 < len(valid) < 50 + 5 * 7  # five standard deviations
    longer = written(tmp_path / "b.txt", many(300, seed=1) + "\n\n" + many(5000) + "\n\n" + many(5000))
    held_out = list(load(longer, "valid"))
    assert held_out[-2 * len(valid) :] == valid + valid  # equal documents, equal side
    assert not [document for document in load(longer, "train") if document in valid]


def test_the_fingerprint_is_that_of_the_written_text(tmp_path):
    corpus = load(written(tmp_path / "a.txt"), "all")
    corpus.write(tmp_path / "b.txt")
    expected = "One sentence.\nAnd another!\nA second paragraph.\n\nNext document.\n"
    assert (tmp_path / "b.txt").read_text() == expected
    assert corpus.fingerprint() == hashlib.sha256((tmp_path / "b.txt").read_bytes()).hexdigest()
    assert load(tmp_path / "b.txt", "all").fingerprint() == corpus.fingerprint()
    other = load(written(tmp_path / "c.txt", TEXT.replace("Next", "Last")), "all")
    assert other.fingerprint() != corpus.fingerprint()


@pytest.mark.parametrize("name", ["b.txt", "b.txt.gz", "b.txt.xz"])
def test_what_is_written_is_read_again(tmp_path, name):
    path = tmp_path / name
    load(written(tmp_path / "a.txt"), "all").write(path)
    assert list(load(path, "all")) == DOCUMENTS
    load(path, "all").write(path)  # onto itself
    assert list(load(path, "all")) == DOCUMENTS
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.txt", name]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    source = written(tmp_path / "in" / "a.txt", b"One.\n\n" * 50_000 + b"\xff")
    target = written(tmp_path / "out" / "b.txt", "precious")
    with pytest.raises(ValueError, match="not UTF-8"):
        load(source, "all").write(target)
    assert target.read_text() == "precious" and len(list(target.parent.iterdir())) == 1


def test_its_name_and_split_are_shown(tmp_path):
    path = written(tmp_path / "a.txt")
    assert repr(load(path, "all")) == f"Corpus({str(path)!r}, split='all')"


# ---- What cannot be read or written ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pidocs", "nowhere/text.txt"])
def test_an_unknown_name_is_told_what_there_is(name):
    names = ", ".join(["pydocs", *downloads.DOWNLOADS])
    with pytest.raises(FileNotFoundError, match=rf"'{name}' is neither a corpus \({names}\) nor a path of"):
        load(name)


def test_an_unknown_split_is_refused():
    for function in (lambda: load("pydocs", "test"), lambda: pydocs_documents("test")):
        with pytest.raises(ValueError, match="no split 'test'; choose from train, valid, all"):
            function()


@pytest.mark.parametrize("content", ["", "\n \n\n", "= Only a title =\n"])
def test_an_empty_file_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="a.txt has no text"):
        load(written(tmp_path / "a.txt", content), "all")


def test_an_empty_folder_is_refused(tmp_path):
    written(tmp_path / "notes.md")
    with pytest.raises(ValueError, match=r"holds no text file \(.txt, .txt.gz, .txt.xz\)"):
        load(tmp_path)


def test_an_empty_split_is_refused_and_told_from_an_empty_corpus(tmp_path):
    with pytest.raises(ValueError, match='no text in its split "valid"; "all" gives every document'):
        load(written(tmp_path / "a.txt", "A single document."), "valid")


@pytest.mark.parametrize(
    "content, position",
    [
        ("Café.\n".encode("latin-1"), 3),
        ("Née\r\n\n".encode() + b"ab\xff\n", 9),
        (b"A line.\nPK\x03\x04\0\0", 12),
        ("A line.\n".encode("utf-16"), 0),
        (b"x" * (10**6 - 1) + "é".encode() + b"\xe9", 10**6 + 1),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_file_that_is_no_text_is_refused_at_its_first_wrong_byte(tmp_path, content, position, name):
    path = written(tmp_path / name, content)
    with pytest.raises(ValueError, match=f"{path} is not UTF-8 text \\(see byte {position}\\)"):
        list(load(path, "all"))


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.xz"])
def test_a_damaged_archive_is_refused(tmp_path, name):
    whole = written(tmp_path / name, many(2000)).read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:100] + b"?" * 50 + whole[150:], b"plain text"):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name} is damaged, or no .{name[-2:]} file"):
            list(load(tmp_path / name, "all"))


def test_a_target_that_cannot_be_written_is_named(tmp_path):
    corpus = load(written(tmp_path / "a.txt"), "all")
    for target, reason in (
        (tmp_path, "it is a folder"),
        (tmp_path / "none" / "b.txt", "No such file or directory"),
        (tmp_path / "a.txt" / "b.txt", "Not a directory"),
    ):
        with pytest.raises(OSError, match=f"cannot write {target}: {reason}"):
            corpus.write(target)
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


# ---- Downloads ---------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    """Serves tmp_path/served; gives its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path / "served")

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def register(tmp_path, server, monkeypatch):
    """Puts content on the server and registers it; gives the served file and its copy in the cache folder."""

    def registered(name, file, content, **fields):
        served = written(tmp_path / "served" / file, content)
        data = served.read_bytes()
        entry = Download(f"{server}/{file}", hashlib.sha256(data).hexdigest(), len(data), "none", **fields)
        monkeypatch.setitem(module.DOWNLOADS, name, entry)
        suffix = next(kind for kind in downloads.KINDS if file.endswith(kind))
        return served, tmp_path / "cache" / f"{name}{suffix}"

    monkeypatch.setenv("BERT_EDU_DATA", str(tmp_path / "cache"))
    return registered


@pytest.fixture
def little(register):
    return register("little", "text-v1.txt.gz", TEXT)


def zipped(**members):
    """A zip file of text files: the name of a side and its text."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for side, content in members.items():
            archive.writestr(f"texts/{side}.raw", content)
    return data.getvalue()


SIDES = "texts/{side}.raw"


def test_a_download_is_fetched_once_into_the_folder_that_the_environment_names(little):
    served, cached = little
    assert list(load("little", "all")) == DOCUMENTS and cached.is_file()
    served.unlink()
    assert list(load("little", "all")) == DOCUMENTS
    assert load("little", "all").name == "little"


def test_a_hundredth_of_a_download_without_sides_is_held_out(register):
    register("little", "a.txt", many(3000))
    train, valid, everything = (list(load("little", split)) for split in ("train", "valid", "all"))
    assert 30 - 5 * 5.5 < len(valid) < 30 + 5 * 5.5 and sorted(train + valid) == sorted(everything)


def test_a_damaged_copy_is_fetched_again(little):
    cached = little[1]
    load("little", "all")
    cached.write_bytes(b"damaged")
    assert list(load("little", "all")) == DOCUMENTS


@pytest.mark.parametrize("file", ["text-v1.txt.gz", "text-v1.zip"])
def test_another_file_than_the_registered_one_is_refused_and_not_kept(register, file):
    served, cached = register("little", file, zipped(train=TEXT), member=SIDES if "zip" in file else "")
    written(served, "Something else.")
    with pytest.raises(ValueError, match="is not the file that is registered as little: its SHA-256 is not"):
        load("little")
    assert list(cached.parent.iterdir()) == []


def test_without_the_network_one_is_told_what_to_do(little):
    served, cached = little
    data = served.read_bytes()
    served.unlink()
    with pytest.raises(ConnectionError) as caught:
        load("little")
    assert f"put the file at {cached} yourself; the corpus pydocs needs no download" in str(caught.value)
    cached.write_bytes(data)
    assert list(load("little", "all")) == DOCUMENTS


def test_a_server_that_does_not_answer_is_reported_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("BERT_EDU_DATA", str(tmp_path))
    url = "http://127.0.0.1:9/text.txt"
    monkeypatch.setitem(module.DOWNLOADS, "nowhere", Download(url, "0" * 64, 1, "none"))
    with pytest.raises(ConnectionError, match=f"nowhere could not be fetched from {url}"):
        load("nowhere")


def test_of_an_archive_the_files_of_its_sides_are_read_where_they_are(register):
    archive = zipped(test="Not this.", train=TEXT, valid="Held out.\n\nBy its makers.\n")
    served, cached = register("packed", "text-v1.zip", archive, member=SIDES)
    assert list(load("packed")) == DOCUMENTS
    served.unlink()
    assert list(load("packed", "valid")) == [["Held out."], ["By its makers."]]
    assert list(load("packed", "all")) == [*DOCUMENTS, ["Held out."], ["By its makers."]]
    assert list(cached.parent.iterdir()) == [cached]  # and nothing was unpacked


def test_an_archive_without_the_file_of_a_side_is_refused(register):
    cached = register("packed", "a.zip", zipped(train=TEXT), member=SIDES)[1]
    assert list(load("packed")) == DOCUMENTS
    with pytest.raises(ValueError, match=f"the archive {cached} holds no texts/valid.raw"):
        load("packed", "valid")


def test_an_archive_that_is_damaged_as_it_was_registered_is_refused(register):
    whole = zipped(train=many(2000))
    for damaged in (whole[: len(whole) // 2], whole[:500] + b"?" * 50 + whole[550:], b"plain text"):
        cached = register("packed", "a.zip", damaged, member=SIDES)[1]
        with pytest.raises(ValueError, match=f"{cached} is damaged, or no .zip file"):
            list(load("packed"))


def test_text_in_an_archive_that_is_no_text_is_refused_at_its_first_wrong_byte(register):
    cached = register("packed", "a.zip", zipped(train="Née\r\n\n".encode() + b"ab\xff\n"), member=SIDES)[1]
    with pytest.raises(ValueError, match=f"{cached} is not UTF-8 text \\(see byte 9\\)"):
        list(load("packed"))


# Written as WikiText's raw files are
ARTICLES = """
= Robert Boulter =

He had a guest @-@ starring role in 2000 . It cost $ 1 @.@ 5 million , or 1 @,@ 000 @,@ 000 pounds .
" Was it Teddy 's Story ? " ( they asked ) . He said : " I can 't ! " Then he left .

= = Career = =


= = = 2000 – 2005 = = =

This was at 5 % of it ; so he went on , with " Craig " and " Mr. Deed " .

= Another =

The end of it , " <unk> " .
"""


def test_a_document_of_wikitext_is_an_article_as_it_was_before_it_was_cut_into_words(register):
    articles = "".join(f" {line} \n" for line in ARTICLES.splitlines())
    register("wiki", "a.zip", zipped(train=articles), member=SIDES, markup=downloads.WIKITEXT)
    assert list(load("wiki")) == [
        [
            "He had a guest-starring role in 2000.",
            "It cost $1.5 million, or 1,000,000 pounds.",
            '"Was it Teddy\'s Story?" (they asked).',
            'He said: "I can\'t!"',
            "Then he left.",
            'This was at 5% of it; so he went on, with "Craig" and "Mr. Deed".',
        ],
        ['The end of it, "<unk>".'],
    ]


def test_a_document_of_tinystories_is_a_story_of_several_paragraphs(register):
    stories = (
        'A mole sang. It was dark.\n\n"I\'ll stay," it said.\n<|endoftext|>\n'
        "Once there was Ben.\n<|endoftext|>\n"
    )
    register("stories", "a.txt", stories, markup=downloads.STORIES)
    assert list(load("stories", "all")) == [
        ["A mole sang.", "It was dark.", '"I\'ll stay," it said.'],
        ["Once there was Ben."],
    ]


def test_every_registered_download_is_pinned_and_described():
    assert 2 <= len(module.DOWNLOADS) and "pydocs" not in module.DOWNLOADS
    for name, entry in module.DOWNLOADS.items():
        assert entry.url.startswith("https://") and entry.url.endswith(downloads.KINDS)
        assert re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert entry.url.endswith(".zip") == ("{side}" in entry.member)
        re.compile(entry.markup.between)
        megabytes = f"{entry.size / 1e6:.0f} MB"
        assert re.search(rf"\n    {name} +{megabytes}   {entry.licence}  ", downloads.__doc__)
        assert f"{name} ({megabytes})" in CORPUS_HELP


# ---- From a docstring to prose -----------------------------------------------------------------------------


def test_mark_up_is_removed_and_words_are_kept():
    assert prose(r"""Return a :class:`~torch.Tensor` like ``input`` or *other*, see :func:`torch.abs` [1]_.

        The `manual <https://example.org>`_ and :ref:`the notes <notes>` say how to pass \*args to **it**.
    """) == [
        "Return a Tensor like input or other, see torch.abs.",
        "The manual and the notes say how to pass *args to it.",
    ]


def test_a_full_stop_is_added_and_a_first_letter_made_large_where_they_are_missing():
    assert prose("return the size of it") == ["Return the size of it."]


def test_of_a_list_of_terms_what_is_said_about_them_is_kept():
    assert prose("""Scale it.

        fast
            The values are scaled at once.
        slow
            They are scaled one by one.
    """) == ["The values are scaled at once.", "They are scaled one by one."]


def test_code_tables_formulas_and_lists_of_names_are_dropped_with_what_leads_up_to_them():
    assert prose("""Draw the samples in order.

        This is how it is used. For example::

            the_first = of(some, code)

        Results of the call
        -------------------
        It can be seen here

        >>> draw(4)
        and this is the output of the call.

        The mean is defined as

        .. math::
            m = sum(x) / n

        where n is the number of values. The rest is prose.

        ======  ==============================
        name    what it is in this table here.
        ======  ==============================

        .. versionadded:: 1.2
            It was added in that version.

        After it comes another paragraph.

        .. note:: This is said on the
            side of the page.

        See Also
        --------
        other : The other function is here.
    """) == [
        "Draw the samples in order.",
        "This is how it is used.",
        "The rest is prose.",
        "After it comes another paragraph.",
        "This is said on the side of the page.",
    ]


@pytest.mark.parametrize(
    "docstring",
    [
        """Scale it.

    Parameters
    ----------
    x, y : array_like, optional
        The values to scale
        and to draw.
    size : float
        How large all of it becomes.

    Raises
    ------
    ValueError
        If there is no value in it.
    """,
        """Scale it.

    Args:
        x (Tensor, optional): the values to scale
            and to draw.
        size: How large all of it becomes.

    Raises:
        ValueError: if there is no value in it.
    """,
        """Scale it.

    :param x: the values to scale
        and to draw.
    :type x: array_like
    :param float size: How large all of it becomes.
    :raises ValueError: if there is no value in it.
    """,
    ],
)
def test_of_parameters_the_descriptions_are_kept(docstring):
    assert prose(docstring) == ["The values to scale and to draw.", "How large all of it becomes."]


@pytest.mark.parametrize(
    "sentence",
    [
        "It is short.",
        "alpha, beta, gamma, delta, epsilon, zeta, eta.",
        "WARNING: THIS WILL BE REMOVED IN THE NEXT VERSION.",
        "Set x = y to get the value of it.",
        "It is described at https://example.org in a report.",
        "Elle donne une valeur toujours nulle.",
        "The value is given by",
        "Open (a bracket that is not closed.",
        "Calls foo_bar, baz_qux2 and x.y_z of a_b in c_d.",
    ],
)
def test_what_is_no_english_sentence_is_dropped(sentence):
    assert prose(f"{sentence}\n\nThis is a sentence of prose.") == ["This is a sentence of prose."]


# ---- Reading source files ----------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library in a folder, of which every module stops the program that imports it."""
    files = {
        "__init__.py": '"""This is the package itself."""\nraise SystemExit\n',
        "core.py": '''
raise SystemExit
class A:
    """This is the class in it."""
    if True:
        def method(self):
            """This is the method of it."""
            def inner():
                """This is hidden in a function."""
add_docstr(torch.abs, r"""
    This is about the absolute value of it.
""" + """It goes on for a while after that, as here.""")
relu = _add_docstr(torch.relu, """This one is given back by a call of a function.""")
add_newdoc("lib.core", "B", ("size", """This is the size of the whole array in bytes."""))
_shared_docs = {"head": """This is shared by some of the other methods."""}
_shared_docs["tail"] = """This is shared by some more of the methods."""
template = """This is only a string in the module."""
''',
        "broken.py": "def f(:",
        "latin.py": b'# coding: latin-1\n"""This is a r\xf4le in the old coding."""',
        "tests/test_core.py": '"""This is a test that nobody wants to read."""',
        "copy.py": '"""This is the package itself."""',
    }
    for name, content in files.items():
        written(tmp_path / "library" / name, content)
    monkeypatch.setattr(pydocs, "_folders", lambda: [("lib", tmp_path / "library")])
    monkeypatch.setenv("BERT_EDU_DATA", str(tmp_path / "cache"))
    pydocs._pydocs.cache_clear()
    yield tmp_path / "cache"
    pydocs._pydocs.cache_clear()


LIBRARY = {
    ("lib", "lib", ""): ["This is the package itself."],
    ("lib", "lib.core", "A"): ["This is the class in it."],
    ("lib", "lib.core", "A.method"): ["This is the method of it."],
    ("lib", "lib.core", "torch.abs"): [
        "This is about the absolute value of it.",
        "It goes on for a while after that, as here.",
    ],
    ("lib", "lib.core", "relu"): ["This one is given back by a call of a function."],
    ("lib", "lib.core", "lib.core.B.size"): ["This is the size of the whole array in bytes."],
    ("lib", "lib.core", "_shared_docs.head"): ["This is shared by some of the other methods."],
    ("lib", "lib.core", "_shared_docs"): ["This is shared by some more of the methods."],
    ("lib", "lib.latin", ""): ["This is a rôle in the old coding."],
}


def test_documentation_is_read_from_source_without_importing_it(library):
    found = {document.source: document.sentences for document in pydocs_documents()}
    assert found == LIBRARY
    assert all(isinstance(document.source, Source) for document in pydocs_documents())


def test_pydocs_is_extracted_once_and_a_damaged_cache_is_made_anew(library, monkeypatch):
    first = pydocs_documents()
    (cached,) = library.iterdir()
    pydocs._pydocs.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(pydocs, "_extract", lambda: pytest.fail("extracted again"))
        assert pydocs_documents() == first
    cached.write_text('[["torn')
    pydocs._pydocs.cache_clear()
    assert pydocs_documents() == first
    pydocs._pydocs.cache_clear()
    monkeypatch.setattr(pydocs, "_installed", lambda: {"torch": "another version"})
    pydocs_documents()
    assert len(list(library.iterdir())) == 2


def test_pydocs_works_without_pooch_and_without_a_place_to_keep_it(library, tmp_path, monkeypatch):
    monkeypatch.setenv("BERT_EDU_DATA", str(written(tmp_path / "file")))
    monkeypatch.setitem(sys.modules, "pooch", None)  # importing it would raise
    assert len(list(load("pydocs", "all"))) == len(LIBRARY)


def test_modules_that_share_eight_words_stand_on_one_side_whatever_their_order():
    draw = random.Random(0)

    def text(*shared):
        return " ".join([*(f"w{draw.random()}" for _ in range(20)), *shared])

    sources = {text(): Source("lib", f"m{number}", "") for number in range(200) for _ in range(3)}
    trios = [(f"m{number}", f"m{number + 60}", f"m{number + 120}") for number in range(60)]
    for number, (first, second, third) in enumerate(trios):  # first with second, second with third
        one, two = (f"{side}{number} b c d e f g h" for side in ("one", "two"))
        for module_name, shared in ((first, [one]), (second, [one, two]), (third, [two])):
            sources[text(*shared)] = Source("lib", module_name, "")
    held_out = pydocs._held_out(sources)
    assert {len(held_out.intersection(trio)) for trio in trios} == {0, 3}
    words = Counter()
    for content, source in sources.items():
        words[source.module in held_out] += len(content.split())
    assert 0.08 < words[True] / words.total() <= 0.1
    items = list(sources.items())
    draw.shuffle(items)
    assert pydocs._held_out(dict(items)) == held_out


def test_seven_words_are_not_enough_to_hang_together():
    same = "one two three four five six seven"
    sources = {f"{same} a": Source("lib", "a", ""), f"{same} b": Source("lib", "b", "")}
    assert pydocs._clusters(sources) == {"a": "a", "b": "b"}
    assert stretches([f"{same} A. Z"]) == {f"{same} a.", same.removeprefix("one ") + " a. z"}


# ---- pydocs itself -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def documents():
    """All of it, from what is installed; out of the cache when neither that nor the code has changed."""
    pydocs._pydocs.cache_clear()
    return pydocs_documents()


def side(documents, split):
    return [document.sentences for document in documents if document.split == split]


def leaked(valid, train):
    """Share of the runs of eight words in `valid` that also stand in `train`."""
    known = set().union(*map(stretches, train))
    found = [stretch in known for document in valid for stretch in stretches(document)]
    return sum(found) / len(found)


def test_pydocs_is_a_corpus_of_a_million_words_from_every_library(documents):
    words = Counter()
    for document in documents:
        words[document.source.library] += sum(len(sentence.split()) for sentence in document.sentences)
    assert set(words) == {"python", *pydocs._installed()} and words.total() > 800_000
    assert len({document.source.module for document in documents}) > 1000
    assert sum(len(document.sentences) > 1 for document in documents) > 10_000


def test_no_document_of_pydocs_stands_there_twice(documents):
    texts = Counter("\n".join(document.sentences) for document in documents)
    assert set(texts.values()) == {1}


def test_pydocs_reads_as_english(documents):
    """Function words make up a good third of English; in code, tables and lists of names there are few."""
    text = " ".join(sentence for document in documents for sentence in document.sentences)
    words = [word.strip(".,;:!?()\"'").lower() for word in text.split()]
    common = Counter(words).most_common(5)
    assert {word for word, _ in common} == {"the", "a", "of", "to", "is"}
    assert 0.3 < sum(word in pydocs.FUNCTION_WORDS for word in words) / len(words) < 0.55
    assert sum(word.isalpha() for word in words) > 0.85 * len(words)


def test_nothing_of_the_held_out_side_of_pydocs_stands_on_the_other(documents):
    train, valid = side(documents, "train"), side(documents, "valid")
    known = {sentence for document in train for sentence in document}
    repeated = [sentence in known for document in valid for sentence in document]
    assert leaked(valid, train) == 0
    assert sum(repeated) / len(repeated) < 0.02  # short ones, such as "The default is None."
    modules = {
        split: {d.source.module for d in documents if d.split == split} for split in ("train", "valid")
    }
    assert not modules["train"] & modules["valid"]
    # This is what it is for: dealt at random, a fifth of the held-out text would be known already.
    shuffled = random.Random(0).sample([document.sentences for document in documents], len(documents))
    assert leaked(shuffled[: len(valid)], shuffled[len(valid) :]) > 0.15


def test_a_tenth_of_each_library_is_held_out(documents):
    words = Counter()
    for document in documents:
        words[document.source.library, document.split] += sum(len(s.split()) for s in document.sentences)
    for library in {"python", *pydocs._installed()}:
        share = words[library, "valid"] / (words[library, "train"] + words[library, "valid"])
        assert 0.08 < share < 0.105, library


def test_pydocs_is_a_corpus_like_any_other(documents, tmp_path):
    corpus = load("pydocs", "valid")
    assert list(corpus) == side(documents, "valid") and list(load("pydocs")) == side(documents, "train")
    corpus.write(tmp_path / "valid.txt")
    again = load(tmp_path / "valid.txt", "all")
    assert list(again) == list(corpus) and again.fingerprint() == corpus.fingerprint()
    assert corpus.fingerprint() != load("pydocs").fingerprint()
