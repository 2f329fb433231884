"""The four tasks from pydocs: right labels, sides that share nothing, the same examples every time."""

import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import describe_pydocs_tasks as program
import pytest

from bert_edu.data import pydocs, pydocs_tasks
from bert_edu.data.pydocs import Document, Source, pydocs_documents, stretches
from bert_edu.data.pydocs_questions import context_and_questions
from bert_edu.data.pydocs_tasks import (
    PYDOCS_TASKS,
    SIDES,
    Docstring,
    fingerprint,
    pydocs_task,
    task_sides,
    traces,
    write_task,
)
from bert_edu.data.tasks import (
    QuestionExample,
    TaggedSentence,
    TextExample,
    read_conll,
    read_squad,
    read_tsv,
)
from bert_edu.notebook import results

READERS = {"topic": read_tsv, "pair": read_tsv, "tagging": read_conll, "qa": read_squad}
KINDS = {"topic": TextExample, "pair": TextExample, "tagging": TaggedSentence, "qa": QuestionExample}
EXCEPTIONS = {"ValueError", "KeyError", "Empty"}


# ---- Tagging: labels from the syntax tree and from mark-up -------------------------------------------------


def tagged(text, parameters, raised=()):
    """The sentences that are kept, with [brackets] around parameters and <brackets> around exceptions."""
    docstring = Docstring(
        Source("lib", "lib", "f"), text, pydocs.prose(text), [], "train", parameters, raised
    )
    shown = {"O": "{}", "B-PARAM": "[{}]", "B-EXC": "<{}>"}
    return [
        " ".join(shown[tag].format(word) for word, tag in zip(*candidate.example))
        for candidate in pydocs_tasks._tagged(docstring, EXCEPTIONS)
    ]


@pytest.mark.parametrize("mark", ["`{}`", "``{}``", "*{}*", "**{}**", ":attr:`{}`", ":py:obj:`{}`"])
def test_a_name_counts_where_its_authors_set_it_off(mark):
    text = f"Return the key of a dict for which {mark.format('key')} is not None.\n"
    assert tagged(text, ["key"]) == ["Return the key of a dict for which [key] is not None ."]
    assert tagged(text, ["value"]) == ["Return the key of a dict for which key is not None ."]


def test_a_name_that_can_be_no_word_counts_anyway():
    for name in ("skip_rows", "x1", "maxSize", "_key_0"):
        assert tagged(f"If {name} is given, it is used.", [name]) == [f"If [{name}] is given , it is used ."]


def test_where_nobody_can_tell_the_sentence_is_left_out():
    text = "Look up the key in the dict.\n\nThis is a sentence of its own."
    assert tagged(text, ["key"]) == ["This is a sentence of its own ."]
    assert tagged("It is a part of the whole.", ["a"]) == ["It is a part of the whole ."]  # an article


def test_a_sentence_may_begin_with_a_name():
    assert tagged("*axis* is the axis of the sum.\n", ["axis"]) == ["[Axis] is the axis of the sum ."]


def test_words_are_cut_from_punctuation():
    text = "Sort the items' keys (e.g. ``key``'s own), as torch.sort does; it isn't in-place."
    expected = "Sort the items ' keys ( e.g. [key] 's own ) , as torch.sort does ; it isn't in-place ."
    assert tagged(text, ["key"]) == [expected]


def test_exceptions_count_where_they_are_no_words():
    text = "Raise ValueError if the queue.KeyError is Empty."
    assert tagged(text, []) == ["Raise <ValueError> if the <queue.KeyError> is Empty ."]
    assert tagged(text, [], ["Empty"]) == ["Raise <ValueError> if the <queue.KeyError> is <Empty> ."]
    assert tagged("Raise `Empty` if it is Empty.", []) == ["Raise <Empty> if it is Empty ."]
    assert tagged("It is no OtherError at all.", []) == ["It is no OtherError at all ."]


SOURCE = '''
class Problem(Exception):
    """This is raised when there is one."""
class Trouble(lib.Problem):
    """This is raised when there are two."""
class Other:
    """This is a class of its own."""
    def __init__(self, size, /, *args, key=None, **kwargs):
        """This is the constructor of it."""
    @classmethod
    async def make(cls, path):
        """This is another way to make one."""
        raise lib.Trouble("no")
class Inherits(Other):
    """This has the constructor of the other."""
'''


def test_signatures_and_exceptions_are_read_from_the_syntax_tree(tmp_path):
    (tmp_path / "a.py").write_text(SOURCE)
    bases = {}
    found = pydocs_tasks._signatures(tmp_path / "a.py", bases)
    by_name = {qualname: signature for (qualname, _), signature in found.items()}
    assert by_name["Other"] == (["size", "args", "key", "kwargs"], ["Trouble"])  # in one of its methods
    assert by_name["Other.__init__"] == (["size", "args", "key", "kwargs"], [])
    assert by_name["Other.make"] == (["path"], ["Trouble"])
    assert by_name["Inherits"].parameters is None  # who knows where its constructor is
    exceptions = pydocs_tasks._exceptions(bases)
    assert {"Problem", "Trouble", "ValueError", "KeyboardInterrupt"} <= exceptions
    assert not {"Other", "Inherits", "int"} & exceptions


# ---- Question answering: sections into a context and answers -----------------------------------------------

NUMPY = """
Rank the values.

Parameters
----------
values : np.ndarray or `~lib.Array`
    The values to rank.
axis : {0, 1}, optional, default 0
method : str, default: 'min'
    How ties are broken. See below.

    .. versionadded:: 2.0
other, another : int
key
    What it is called.

Returns
-------
out : ndarray of int
    The rank of each value. It may be a copy.

Notes
-----
This takes a while.
"""
GOOGLE = """
Rank the values.

Args:
    values (Tensor): the values to
        rank.
    axis (int, optional): the axis. Default: ``None``.
    *args: many other things
    key: What it is called.
    out (dict): If not given, it is made.

Returns:
    Tensor: the ranks.
"""


def asked(text, key="lib.rank"):
    """The context; and for each question the answer, or None."""
    context, questions = context_and_questions("Rank the values.", text.strip() + "\n", key)
    return context, {
        f"{kind} {name}".strip(): span and context[slice(*span)] for kind, name, span in questions
    }


def test_sections_in_the_style_of_numpy_become_a_context_with_answers():
    context, answers = asked(NUMPY)
    assert context == (
        "Rank the values. Parameters: values (np.ndarray or Array): The values to rank. "
        "axis ({0, 1}, optional, default 0). method (str, default: 'min'): How ties are broken. See below. "
        "other, another (int). key: What it is called. "
        "Returns: ndarray of int. The rank of each value. It may be a copy."
    )
    assert answers == {
        "type values": "np.ndarray or Array",
        "default values": None,
        "default axis": "0",  # a choice of values is no type
        "type method": "str",
        "default method": "'min'",
        "type key": None,
        "default key": None,
        "result type": "ndarray of int",
        "result": "The rank of each value",
    }


def test_sections_in_the_style_of_google_become_a_context_with_answers():
    context, answers = asked(GOOGLE)
    assert context == (
        "Rank the values. Parameters: values (Tensor): The values to rank. "
        "axis (int, optional): The axis. Default: None. args: Many other things. key: What it is called. "
        "out (dict): If not given, it is made. Returns: Tensor. The ranks."
    )
    assert answers["type axis"] == "int" and answers["default axis"] == "None"
    assert answers["type key"] is None and answers["default key"] is None
    assert "default out" not in answers  # "if not given" may tell it in other words
    assert (answers["result type"], answers["result"]) == ("Tensor", "The ranks")


@pytest.mark.parametrize(
    ("said", "default"),
    [
        ("x (int, default 3)", "3"),
        ("x (int, default=-1.5e-3)", "-1.5e-3"),
        ("x (str, optional, defaults to 'red, blue')", "'red, blue'"),
        ("x (int): how many. Defaults to lib.MANY.", "lib.MANY"),
        ("x (int): how many (default: True).", "True"),
        ("x (int): how many, (1, 2) by default.", "(1, 2)"),
        ("x (int): how many. Default: the number of values.", ...),  # no value that can be cut out
        ("x (int, default 3): how many. Default: 4.", ...),  # which?
        ("x (int): how many. If None, all.", ...),
        ("x (int): how many there are.", None),
        ("x (int, optional): how many there are.", None),
    ],
)
def test_defaults_are_found_where_they_are_stated(said, default):
    said += "" if ":" in said else ": how many."
    _, answers = asked(f"Args:\n    {said}\n    y (int): how many others.\n")
    assert answers.get("default x", ...) == default
    assert answers["type x"] == ("str" if "str" in said else "int")


def test_a_result_is_missing_only_where_nothing_hints_at_one():
    text = "Args:\n    x (int): how many.\n    y (int): how many others.\n"
    missing = {"result": None, "result type": None}
    assert missing.items() <= asked(text)[1].items()
    for other in (
        asked(f"Return all.\n\n{text}"),
        asked(text, "lib.Class"),
        asked(text, "lib.Class.__init__"),
    ):
        assert not missing.keys() & other[1].keys()


def test_what_has_not_the_usual_form_is_left_alone():
    assert asked("Args:\n    x (int): how many.\n") == ("", {})  # a single entry
    assert asked("Args:\n    x (int): how many.\n    all the others.\n") == ("", {})
    assert asked("Nothing but a sentence.") == ("", {})


# ---- Sides -------------------------------------------------------------------------------------------------


def test_held_out_clusters_stay_whole_and_are_dealt_evenly():
    draw = random.Random(0)

    def text(words, *shared):
        return [" ".join([*(str(draw.random()) for _ in range(words)), *shared])]

    together = [f"w{i}" for i in range(8)]
    documents = [Document(Source("lib", f"m{i}", ""), text(50), "valid") for i in range(20)]
    documents += [Document(Source("lib", name, ""), text(100, *together), "valid") for name in ("a", "b")]
    documents += [Document(Source("lib", "t", ""), text(300), "train")]
    sides = task_sides(documents)
    assert sides["a"] == sides["b"] != "train" and sides["t"] == "train"
    words = Counter()
    for source, sentences, _ in documents:
        words[sides[source.module]] += len(sentences[0].split())
    assert abs(words["dev"] - words["test"]) <= 50
    assert task_sides(documents[::-1]) == sides


def test_near_duplicates_have_a_trace_in_common():
    long = "One two three four five six seven eight nine ten."
    assert traces([long]) & traces([f"Before that, {long.lower()}"])
    assert traces(["Return the 2-D case."]) & traces(["return the 3-D case"])
    assert not traces(["Return the case."]) & traces(["Return the cases."])
    assert not traces([long]) & traces(["Eight seven six five four three two one."])


def test_an_example_gives_way_to_its_near_duplicate_on_a_rarer_side():
    def candidate(text, side, group="g"):
        return pydocs_tasks.Candidate(TextExample(text, None, group), group, "m", side, traces([text]))

    texts = {"Only here.": 1, "Also in dev.": 2, "In all.": 3, "Once more only here.": 1}
    candidates = [candidate(text, side) for text, count in texts.items() for side in SIDES[:count]]
    chosen = pydocs_tasks._chosen(candidates, lambda side, group: 9)
    assert {side: sorted(example.first for example in chosen[side]) for side in SIDES} == {
        "train": ["Once more only here.", "Only here."],
        "dev": ["Also in dev."],
        "test": ["In all."],
    }
    twice = [candidate("Only here.", "train"), candidate("Only here.", "train", "another label")]
    assert len(pydocs_tasks._chosen(twice, lambda side, group: 9)["train"]) == 1
    few = pydocs_tasks._chosen(candidates, lambda side, group: 1)
    assert [len(few[side]) for side in SIDES] == [1, 1, 1]


def test_no_module_fills_a_side_that_measures():
    def candidates(side):
        texts = [f"{side} {'x' * i}" for i in range(100)]
        return [pydocs_tasks.Candidate(TextExample(t, None, "g"), "g", "m", side, {t}) for t in texts]

    chosen = pydocs_tasks._chosen(candidates("train") + candidates("dev"), lambda side, group: 100)
    assert len(chosen["train"]) == 100 and len(chosen["dev"]) == pydocs_tasks.OF_ONE_MODULE


# ---- From a library to tasks: every time the same ----------------------------------------------------------

MODULE = '''
"""This module is about the {0} and nothing else."""
def make_{0}(path, size=0):
    """Make a new {0} from the file of a {0}.

    The {0} is read from `path` by the {0}, and has the `size` of a {0}, if the {0} can do that.

    Args:
        path (str): where the {0} lies.
        size (int): how large the {0} gets. Default: 0.

    Returns:
        {0}: the one that was made of the {0}.
    """
def end_{0}(it):
    """Take a {0} to pieces, as gently as a {0} can be taken, by a program.

    The pieces of the {0} are put away where no {0} is going to look for them.
    """
'''
THINGS = (
    "boat tree house road river hill lamp chair shelf wall bell wheel ship bush barn lane brook cliff torch "
    "stool desk fence horn axle raft"
)
SCRIPT = """
import sys
from pathlib import Path
from bert_edu.data import pydocs, pydocs_tasks
pydocs._folders = pydocs_tasks._folders = lambda: [("lib", Path(sys.argv[1]))]
print(*map(pydocs_tasks.fingerprint, pydocs_tasks.PYDOCS_TASKS))
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    folder = tmp_path / "lib"
    folder.mkdir()
    for name in THINGS.split():
        (folder / f"{name}.py").write_text(MODULE.format(name))
    for module in (pydocs, pydocs_tasks):
        monkeypatch.setattr(module, "_folders", lambda: [("lib", folder)])
    monkeypatch.setenv("BERT_EDU_DATA", str(tmp_path / "cache"))
    for function in (pydocs._pydocs, pydocs_tasks._tasks):
        function.cache_clear()
    yield folder
    for function in (pydocs._pydocs, pydocs_tasks._tasks):
        function.cache_clear()


def test_a_library_becomes_four_tasks(library):
    examples = {name: [e for side in SIDES for e in pydocs_task(name, side)] for name in PYDOCS_TASKS}
    assert TextExample("Make a new boat from the file of a boat.", None, "lib") in examples["topic"]
    assert {example.label for example in examples["pair"]} <= {"same", "other"} and examples["pair"]
    words = "The boat is read from path by the boat , and has the size of a boat , if the boat can do that ."
    tags = ["B-PARAM" if word in ("path", "size") else "O" for word in words.split()]
    assert TaggedSentence(words.split(), tags) in examples["tagging"]
    answers = [e.answers[0].text for e in examples["qa"] if e.id == "lib.boat.make_boat: default of size"]
    assert answers == ["0"]
    sizes = {name: [len(pydocs_task(name, side)) for side in SIDES] for name in PYDOCS_TASKS}
    assert all(dev and test and train > dev + test for train, dev, test in sizes.values()), sizes


def test_tasks_are_made_once_and_a_damaged_cache_is_made_anew(library, monkeypatch):
    first = {name: [pydocs_task(name, side) for side in SIDES] for name in PYDOCS_TASKS}
    (cached,) = (library.parent / "cache").glob("pydocs-tasks-*.json")

    def again():
        pydocs_tasks._tasks.cache_clear()
        return {name: [pydocs_task(name, side) for side in SIDES] for name in PYDOCS_TASKS}

    with monkeypatch.context() as patch:
        patch.setattr(pydocs_tasks, "make_tasks", lambda: pytest.fail("made again"))
        read = again()
    assert read == first
    for name, of_sides in read.items():
        assert all(type(example) is KINDS[name] for examples in of_sides for example in examples)
    for damaged in ('{"topic', "[]", '{"topic": {}}'):
        cached.write_text(damaged)
        assert again() == first
    pydocs_task("topic", "train").clear()  # a caller's copy
    assert again() == first and pydocs_task("topic", "train") == first["topic"][0]


def test_they_do_not_depend_on_the_order_of_sets(library, monkeypatch):
    expected = " ".join(map(fingerprint, PYDOCS_TASKS))
    for seed in "12":
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        monkeypatch.setenv("BERT_EDU_DATA", str(library.parent / f"cache-{seed}"))
        run = subprocess.run([sys.executable, "-c", SCRIPT, str(library)], capture_output=True, text=True)
        assert run.stdout.strip() == expected, run.stderr


@pytest.mark.parametrize("name", PYDOCS_TASKS)
def test_what_is_written_is_read_again(library, tmp_path, name):
    paths = write_task(name, tmp_path / "new" / "folder")
    assert list(paths) == list(SIDES)
    for side, path in paths.items():
        assert sorted(READERS[name](path)) == sorted(pydocs_task(name, side))
    before = {path: path.read_bytes() for path in paths.values()}
    paths["train"].unlink()
    with pytest.raises(FileExistsError, match=f"{name}-dev.* is there already"):
        write_task(name, tmp_path / "new" / "folder")
    assert not paths["train"].exists() and paths["dev"].read_bytes() == before[paths["dev"]]


def test_an_unknown_task_or_side_is_refused():
    with pytest.raises(ValueError, match="no task 'topics'; choose from topic, pair, tagging, qa"):
        pydocs_task("topics", "train")
    with pytest.raises(ValueError, match="no side 'valid'; choose from train, dev, test"):
        pydocs_task("topic", "valid")
    with pytest.raises(ValueError, match="no task"):
        write_task("squad", "nowhere")
    assert not Path("nowhere").exists()


# ---- The tasks themselves, from what is installed ----------------------------------------------------------


@pytest.fixture(scope="module")
def tasks():
    for function in (pydocs._pydocs, pydocs_tasks._tasks):
        function.cache_clear()
    return {name: {side: pydocs_task(name, side) for side in SIDES} for name in PYDOCS_TASKS}


@pytest.fixture(scope="module")
def documents_from():
    """The documents that begin with a sentence."""
    found = {}
    for document in pydocs_documents():
        found.setdefault(document.sentences[0], []).append(document)
    return found


def beginning(text, documents_from):
    """The documents with which a text begins."""
    words = text.split()
    for count in range(len(words), 0, -1):
        if found := documents_from.get(" ".join(words[:count])):
            return found
    raise AssertionError(f"no document begins like {text!r}")


def texts(example):
    if isinstance(example, TaggedSentence):
        return [" ".join(example.words)]
    if isinstance(example, QuestionExample):
        return [example.context]
    return [text for text in example[:2] if text is not None]


@pytest.mark.parametrize("name", PYDOCS_TASKS)
def test_there_are_enough_examples_but_not_too_many(tasks, name):
    sizes = {side: len(examples) for side, examples in tasks[name].items()}
    assert 2000 <= sizes["train"] <= 6000 and 300 <= sizes["dev"] <= 1000 and 300 <= sizes["test"] <= 1000
    for side in SIDES:
        given = [json.dumps(pydocs_tasks._given(example)) for example in tasks[name][side]]
        assert len(set(given)) == len(given)
        lengths = [len(" ".join(texts(example)).split()) for example in tasks[name][side]]
        assert max(lengths) <= 250 and sum(lengths) / len(lengths) < 70


@pytest.mark.parametrize("name", PYDOCS_TASKS)
def test_the_sides_share_no_near_duplicates(tasks, name):
    found = {side: [traces(texts(example)) for example in tasks[name][side]] for side in SIDES}
    every = {side: set().union(*found[side]) for side in SIDES}
    assert all(len(of_side) > 1000 for of_side in every.values())
    assert not every["dev"] & every["test"]
    assert not every["train"] & (every["dev"] | every["test"])
    pretraining = set().union(*(stretches(sentences) for _, sentences, _ in pydocs_documents("train")))
    for side in ("dev", "test"):
        runs = set().union(*(stretches(texts(example)) for example in tasks[name][side]))
        assert len(runs & pretraining) == 0


def test_examples_come_from_their_own_side_of_pydocs(tasks, documents_from):
    sides = task_sides(pydocs_documents())
    assert {sides[d.source.module] for d in pydocs_documents("train")} == {"train"}
    assert {sides[d.source.module] for d in pydocs_documents("valid")} == {"dev", "test"}
    for side in SIDES:
        for example in tasks["topic"][side] + tasks["pair"][side]:
            found = beginning(example.first, documents_from)
            assert side in {sides[document.source.module] for document in found}, example
        for example in tasks["qa"][side]:
            names = example.id.partition(": ")[0].split(".")
            modules = {".".join(names[:i]) for i in range(1, len(names))}
            assert side in {sides[module] for module in modules if module in sides}, example


def test_topics_are_balanced_and_not_named(tasks):
    libraries = {"python", *pydocs._installed()}
    owners = {}
    for side in SIDES:
        counts = Counter(example.label for example in tasks["topic"][side])
        assert set(counts) == libraries
        large = [count for name, count in counts.items() if name != "seaborn"]
        assert min(large) > max(large) / 3 and counts.most_common(1)[0][1] < len(tasks["topic"][side]) / 4
        for first, _, label in tasks["topic"][side]:
            assert not any(name in first.lower() for name in libraries)
            owners.setdefault(first.lower(), set()).add(label)
    assert all(len(labels) == 1 for labels in owners.values())


def test_a_pair_is_told_neither_by_its_summary_nor_by_its_body(tasks):
    for side in SIDES:
        examples = tasks["pair"][side]
        assert Counter(example.label for example in examples)["same"] == len(examples) / 2
        for part in (0, 1):
            assert len({example[part] for example in examples}) == len(examples)


def test_half_of_the_wrong_bodies_come_from_the_same_module(tasks, documents_from):
    bodies = {}
    for document in pydocs_documents():
        bodies.setdefault(" ".join(document.sentences[1:])[:60], set()).add(document.source.module)
    for side in SIDES:
        near = Counter()
        for example in tasks["pair"][side]:
            documents = beginning(example.first, documents_from)
            own = any(" ".join(d.sentences[1:]).startswith(example.second) for d in documents)
            assert own == (example.label == "same"), example
            modules = set().union(*(bodies.get(key, ()) for key in (example.second[:60],)))
            near[example.label] += bool(modules & {document.source.module for document in documents})
        assert 0.4 < near["other"] / (len(tasks["pair"][side]) / 2) < 0.65


def test_tags_cannot_be_told_by_spelling_alone(tasks):
    tags_of, counts = {}, Counter()
    for words, tags in tasks["tagging"]["train"]:
        assert len(words) == len(tags) and all(word == word.strip() != "" for word in words)
        for word, tag in zip(words, tags):
            tags_of.setdefault(word.lower(), set()).add(tag)
            counts[tag] += 1
    assert set(counts) == {"O", "B-PARAM", "B-EXC"}
    assert 0.03 < counts["B-PARAM"] / counts.total() < 0.1 and counts["B-EXC"] > 100
    names = [tags for tags in tags_of.values() if "B-PARAM" in tags]
    assert 0.2 < sum("O" in tags for tags in names) / len(names) < 0.6
    for side in SIDES:
        empty = [set(tags) == {"O"} for _, tags in tasks["tagging"][side]]
        assert 0.25 < sum(empty) / len(empty) < 0.5
        assert not any(pydocs_tasks.SET_OFF in word for words, _ in tasks["tagging"][side] for word in words)


def test_answers_stand_in_the_context_and_some_questions_have_none(tasks):
    for side in SIDES:
        examples = tasks["qa"][side]
        assert len({example.id for example in examples}) == len(examples)
        for example in examples:
            assert example.labelled and len(example.answers) <= 1
            for text, start in example.answers:
                assert example.context[start : start + len(text)] == text == text.strip() != ""
                assert re.search(r"[A-Za-z]{2}|\d", text)
        assert 0.25 < sum(not example.answers for example in examples) / len(examples) < 0.45
        kinds = Counter((example.id.partition(": ")[2].partition(" of ")[0]) for example in examples)
        assert set(kinds) == set(pydocs_tasks.WORDINGS) and min(kinds.values()) > len(examples) / 8
        by_wording = Counter((example.question, bool(example.answers)) for example in examples)
        for wording in pydocs_tasks.WORDINGS["result"]:  # the wording does not tell
            assert by_wording[wording, True] and by_wording[wording, False]


def test_a_question_without_an_answer_asks_for_what_its_entry_does_not_state(tasks):
    for example in tasks["qa"]["train"]:
        kind, _, name = example.id.partition(": ")[2].partition(" of ")
        if example.answers or not name:
            continue
        heads = re.findall(rf"(?:Parameters:|\.) {re.escape(name)} \((.*?)\)[:.]", example.context)
        assert f" {name}" in example.context
        assert not heads if kind == "type" else "default" not in "".join(heads).lower()


def test_the_data_card_is_made_from_the_results():
    figures = results("pydocs_tasks")["figures"]
    assert program.CARD.read_text(encoding="utf-8") == program.card(figures)
    scores = {name: about["baselines"]["test"] for name, about in figures["tasks"].items()}
    # A task that words alone solve would teach nothing, nor one that they say nothing about.
    assert 0.3 < scores["topic"]["bag of words"]["accuracy"] < 0.75
    assert 0.55 < scores["pair"]["bag of words"]["accuracy"] < 0.8
    assert 0.55 < figures["tasks"]["pair"]["overlap"]["test"] < 0.8
    assert 0.2 < scores["tagging"]["most frequent tag"]["f1"] < 0.6
    assert max(scores["qa"][name]["f1"] for name in scores["qa"]) < 0.45


@pytest.mark.parametrize("name", PYDOCS_TASKS)
def test_the_results_describe_what_is_there(tasks, name):
    about = results("pydocs_tasks")["figures"]["tasks"][name]
    if fingerprint(name) != about["fingerprint"]:
        pytest.skip("the results are those of other versions of the libraries")
    assert program.description(name).items() <= about.items()


def test_the_overlap_of_a_pair_by_hand():
    assert program.shared_words(TextExample("Sort the values.", "The values are not a list.")) == 0.5
    assert program.with_gaps("Return it.") == {"_ it.", "return _"}
