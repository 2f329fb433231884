"""Readers of labelled data: what they give, and what they say about a file that is not right."""

import gzip
import json
import lzma
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_edu.data.tasks import (
    Answer,
    QuestionExample,
    TaggedSentence,
    TextExample,
    read_conll,
    read_conllu,
    read_squad,
    read_tagged,
    read_tsv,
)

READERS = [read_tsv, read_conllu, read_conll, read_tagged, read_squad]


@pytest.fixture
def written(tmp_path):
    """Makes a file of text or bytes, compressed as its name says."""

    def write(content, name="file.txt"):
        data = content if isinstance(content, bytes) else content.encode()
        path = tmp_path / name
        path.write_bytes({".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)(data))
        return path

    return write


def refused(reader, path, *parts, **settings):
    """The reader's one sentence about a bad file names the file and holds the parts, in their order."""
    with pytest.raises(ValueError) as error:
        reader(path, **settings)
    message = str(error.value)
    assert "\n" not in message
    assert re.search(".*".join(map(re.escape, (str(path), *parts))), message), message


# ---- All of them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS)
def test_files_that_hold_nothing_or_no_text(reader, written, tmp_path):
    refused(reader, written(""), "is empty")
    refused(reader, written(" \n\n"), "is empty")
    refused(reader, written(b"sentence\n1\tcaf\xe9"), "line 2", "UTF-8")
    refused(reader, written("sentence\ntext".encode("utf-16")), "line 1", "UTF-8")
    refused(reader, written(b"sentence\n\0\0"), "line 2", "UTF-8")
    (tmp_path / "cut.tsv.gz").write_bytes(gzip.compress(b"sentence\tlabel\n" * 1000)[:40])
    refused(reader, tmp_path / "cut.tsv.gz", "damaged")
    with pytest.raises(FileNotFoundError, match="no such place"):
        reader(tmp_path / "no such place")


def test_packed_files_and_windows_files(written):
    expected = [TextExample("Good.", None, "1"), TextExample("Bad.", None, "0")]
    text = "sentence\tlabel\nGood.\t1\nBad.\t0\n"
    for name in ("a.tsv", "a.tsv.gz", "a.tsv.xz"):
        assert read_tsv(written(text, name)) == expected
    assert read_tsv(written("\ufeff" + text.replace("\n", "\r\n"))) == expected
    assert read_tsv(written("label\tsentence\r\n1\tGood.\r\n0\tBad.\r\n")) == expected


# ---- TSV ---------------------------------------------------------------------------------------------------


def test_tsv_of_single_texts(written):
    assert read_tsv(written('label\tsentence\npos\t"Yes," he said\nneg\tit\'s "\n')) == [
        TextExample('"Yes," he said', None, "pos"),
        TextExample("it's \"", None, "neg"),
    ]
    for name in ("text", "content"):
        assert read_tsv(written(f"label\t{name}\n1\tGood.")) == [TextExample("Good.", None, "1")]


def test_tsv_of_pairs_ignores_other_columns(written):
    table = "index\tsentence1\tlabel\tsentence2\n0\tIt rains.\tyes\tIt is wet.\n1\tA\tno\tB"
    assert read_tsv(written(table)) == [
        TextExample("It rains.", "It is wet.", "yes"),
        TextExample("A", "B", "no"),
    ]


def test_tsv_without_labels(written):
    unlabelled = [TextExample("One."), TextExample("Two.")]
    for table in ("sentence\nOne.\nTwo.\n\n", "sentence\tlabel\nOne.\t\nTwo.\t \n"):
        assert read_tsv(written(table)) == unlabelled
    assert read_tsv(written("sentence\nOne.\n\nTwo.\n\n"))[1] == TextExample("")  # lines stay in step
    refused(read_tsv, written("sentence\nOne.\n"), "line 1", "'label'", "'sentence'", labelled=True)
    refused(read_tsv, written("sentence\tlabel\nOne.\t"), "line 2", "label is missing", labelled=True)
    refused(read_tsv, written("sentence\tlabel\nOne.\tx\nTwo.\t"), "line 3", "label is missing")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["0", "1", "2"], ["0", "1", "2"]),
        (["0", "2.5", "-1e1"], [0.0, 2.5, -10.0]),
        (["0.5", "good"], ["0.5", "good"]),
        (["1.5", "nan"], ["1.5", "nan"]),
        (["3", "3."], [3.0, 3.0]),
    ],
)
def test_labels_are_numbers_when_all_are_and_one_has_a_decimal_point(labels, expected, written):
    table = "\n".join(["sentence\tlabel", *(f"text\t{label}" for label in labels)])
    found = [example.label for example in read_tsv(written(table))]
    assert found == expected
    assert [type(label) for label in found] == [type(label) for label in expected]


def test_whether_labels_are_numbers_can_be_said(written):
    whole, mixed = written("sentence\tlabel\na\t3\nb\t4"), written("sentence\tlabel\na\t3.5\nb\tx", "mixed")
    assert [example.label for example in read_tsv(whole, regression=True)] == [3.0, 4.0]
    assert [example.label for example in read_tsv(mixed, regression=False)] == ["3.5", "x"]
    refused(read_tsv, mixed, "line 3", "'x' is no number", regression=True)


def test_tsv_that_is_not_right(written):
    refused(read_tsv, written("0\tNo header here.\n"), "line 1", "sentence1", "'0', 'No header here.'")
    refused(read_tsv, written("sentence1\tlabel\na\tb"), "line 1", "'sentence1', 'label'")
    refused(read_tsv, written("sentence,label\na,b"), "line 1", "separated by tabs", "'sentence,label'")
    refused(read_tsv, written("sentence\tlabel\na\t1\nb 0\n"), "line 3: 1 columns", "'sentence', 'label'")
    refused(read_tsv, written("sentence\tlabel\na\t1\n\nb\t0\n"), "line 3: 1 columns")
    refused(read_tsv, written("sentence\tlabel\na\tb\t1"), "line 2: 3 columns", "names 2")
    refused(read_tsv, written("sentence\tlabel\n\n"), "header but no examples")


FIELD = st.text(st.characters(exclude_characters="\t\n\r\0", exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None)  # files are written
@given(st.lists(st.tuples(FIELD, FIELD, st.sampled_from(["yes", "no"])), min_size=1))
def test_whatever_is_in_a_field_comes_back(tmp_path_factory, rows):
    """Line separators of Unicode (U+0085, U+2028), quotation marks and spaces among it."""
    path = tmp_path_factory.getbasetemp() / "rows.tsv"
    table = "\n".join(["sentence1\tsentence2\tlabel", *map("\t".join, rows)])
    path.write_bytes(table.encode())
    assert read_tsv(path) == [TextExample(*row) for row in rows]


# ---- CoNLL-U -----------------------------------------------------------------------------------------------

CONTRACTION = """\
# sent_id = 1
# text = I can't 10 000 say
1\tI\tI\tPRON\tPRP\t_\t0\troot\t_\t_
2-3\tcan't\t_\t_\t_\t_\t_\t_\t_\t_
2\tca\tcan\tAUX\tMD\t_\t0\troot\t_\t_
3\tn't\tnot\tPART\tRB\t_\t0\troot\t_\t_
3.1\tever\tever\tADV\tRB\t_\t_\t_\t_\t_
4\t10 000\t10000\tNUM\tCD\t_\t0\troot\t_\t_
5\tsay\tsay\tVERB\tVB\t_\t0\troot\t_\t_

1\t#\t#\tSYM\t$\t_\t0\troot\t_\t_
"""


def test_conllu_skips_ranges_and_empty_nodes(written):
    path = written(CONTRACTION)
    words = ["I", "ca", "n't", "10 000", "say"]
    assert read_conllu(path) == [
        TaggedSentence(words, ["PRON", "AUX", "PART", "NUM", "VERB"]),
        TaggedSentence(["#"], ["SYM"]),
    ]
    assert read_conllu(path, "xpos")[0] == TaggedSentence(words, ["PRP", "MD", "RB", "CD", "VB"])
    assert read_tagged(path) == read_conllu(path)


def test_conllu_without_tags(written):
    text = re.sub("PRON|AUX|PART|NUM|VERB", "_", CONTRACTION)
    first, second = read_conllu(written(text))
    assert first.tags is None and first.words[0] == "I" and second.tags == ["SYM"]
    refused(read_conllu, written(text), "line 3", "'I' has no tag", "5 words", "0 tags", labelled=True)
    untagged = written(text.replace("SYM", "_"))
    assert [sentence.tags for sentence in read_conllu(untagged)] == [None, None]
    refused(read_conllu, untagged, "no sentence has a tag", labelled=True)


def test_conllu_that_is_not_right(written):
    refused(read_conllu, written(CONTRACTION.replace("NUM", "_")), "line 8", "'10 000'", "5 words and 4 tags")
    refused(read_conllu, written(CONTRACTION.replace("2\tca\t", "2 ca\t")), "line 5: 9 columns")
    refused(
        read_conllu, written(CONTRACTION.replace("\n\n", "\n")), "line 10", "'1'", "6 comes next", "blank"
    )
    refused(read_conllu, written(CONTRACTION.replace("4\t10", "x\t10")), "line 8", "'x'", "4 comes next")
    refused(read_conllu, written("# only\n# comments\n"), "no sentence")
    with pytest.raises(ValueError, match="upos, xpos, not 'feats'"):
        read_conllu(written(CONTRACTION), "feats")


# ---- Two columns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", ["\t", " ", "   "])
def test_two_columns(separator, written):
    rows = ["-DOCSTART- O", "", "Ada B-PER", "# O", "", "", "New\u00a0York B-LOC", "-DOCSTART- O", "Hi O"]
    path = written("\n".join(row.replace(" ", separator) for row in rows))
    assert read_conll(path) == [
        TaggedSentence(["Ada", "#"], ["B-PER", "O"]),
        TaggedSentence(["New\u00a0York"], ["B-LOC"]),
        TaggedSentence(["Hi"], ["O"]),
    ]
    assert read_tagged(path) == read_conll(path)


def test_more_columns_and_words_with_spaces(written):
    assert read_conll(written("EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n")) == [
        TaggedSentence(["EU", "rejects"], ["B-ORG", "O"])
    ]
    assert read_conll(written("New York\tB-LOC\nis\tO\n")) == [
        TaggedSentence(["New York", "is"], ["B-LOC", "O"])
    ]
    ten = "\t".join("abcdefghij")
    assert read_tagged(written(ten)) == [TaggedSentence(["a"], ["j"])]  # ten columns do not make CoNLL-U


def test_words_alone(written):
    path = written("Ada\nspoke\n\nHi\n")
    assert read_conll(path) == [TaggedSentence(["Ada", "spoke"], None), TaggedSentence(["Hi"], None)]
    refused(read_conll, path, "no sentence has a tag", labelled=True)


def test_two_columns_that_are_not_right(written):
    refused(
        read_conll, written("Ada B-PER\nspoke O\nup\n. O"), "line 3", "'up' has no tag", "4 words and 3 tags"
    )
    refused(read_conll, written("Ada\tB-PER\nspoke\t\n"), "line 2", "'spoke' has no tag")
    refused(read_conll, written("Ada\tB-PER\n\tO\n"), "line 2", "word is missing")
    refused(read_conll, written("Ada B-PER\nspoke O\nto me O\n"), "line 3: 3 columns", "has 2")
    refused(read_conll, written("-DOCSTART- O\n\n"), "no sentence")
    untagged_sentence = written("Ada B-PER\n\nHi\n")
    assert read_conll(untagged_sentence)[1] == TaggedSentence(["Hi"], None)
    refused(read_conll, untagged_sentence, "line 3", "'Hi' has no tag", labelled=True)


WORD = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=8)
SENTENCE = st.lists(st.tuples(WORD, st.sampled_from(["O", "B-X", "NOUN"])), min_size=1, max_size=6)


@settings(deadline=None)  # files are written
@given(
    st.lists(SENTENCE, min_size=1, max_size=5), st.sampled_from(["\t", " "]), st.sampled_from(["\n", "\r\n"])
)
def test_whatever_the_words_are_they_come_back(tmp_path_factory, sentences, separator, end):
    path = tmp_path_factory.getbasetemp() / "words.txt"
    lines = [separator.join(row) for sentence in sentences for row in (*sentence, "")]
    path.write_bytes(end.join(lines).encode("utf-8-sig"))
    read = [(words, tags) for words, tags in read_conll(path, labelled=True)]
    assert read == [tuple(map(list, zip(*sentence))) for sentence in sentences]


# ---- SQuAD -------------------------------------------------------------------------------------------------

CONTEXT = "Zoë moved to Łódź in 1923. 🙂 She never left."


def squad(*questions, context=CONTEXT):
    return {
        "version": "2.0",
        "data": [{"title": "t", "paragraphs": [{"context": context, "qas": questions}]}],
    }


def question(identity="q1", answers=None, **more):
    entry = {"id": identity, "question": "Where?", **more}
    if answers is not None:
        entry["answers"] = [{"text": text, "answer_start": start} for text, start in answers]
    return entry


def test_squad_of_both_versions(written):
    data = squad(
        question("a", [("Łódź", 13), ("in 1923", 18)]),
        question("b", [("She", 29)], is_impossible=False),
        question("c", [], is_impossible=True, plausible_answers=[{"text": "1923", "answer_start": 21}]),
    )
    path = written(json.dumps(data))
    expected = [
        QuestionExample("a", "Where?", CONTEXT, [Answer("Łódź", 13), Answer("in 1923", 18)], True),
        QuestionExample("b", "Where?", CONTEXT, [Answer("She", 29)], True),
        QuestionExample("c", "Where?", CONTEXT, [], True),
    ]
    assert read_squad(path, labelled=True, report=pytest.fail) == expected


@pytest.mark.parametrize(
    ("entry", "known"),
    [
        (question(), False),
        (question(is_impossible=False), False),
        (question(answers=[], is_impossible=False), False),
        (question(answers=[]), True),
        (question(is_impossible=True), True),
        (question(answers=[("1923", 21)], is_impossible=True), True),
    ],
)
def test_no_answer_or_none_given(entry, known, written):
    path = written(json.dumps(squad(entry)))
    assert read_squad(path) == [QuestionExample("q1", "Where?", CONTEXT, [], known)]
    if known:
        assert read_squad(path, labelled=True) == read_squad(path)
    else:
        refused(read_squad, path, "data[0].paragraphs[0].qas[0]", "is_impossible: true", labelled=True)


def test_questions_alone_are_all_kept(written):
    """Whatever answers stand beside them: to predict, nobody looks at these."""
    data = squad(question("a", [("Paris", 0)]), question("b", [("She", 29)]), question("c"))
    found = read_squad(written(json.dumps(data)), read_answers=False, report=pytest.fail)
    assert found == [QuestionExample(each, "Where?", CONTEXT, [], False) for each in "abc"]


def test_answers_that_are_not_in_the_context_are_counted_and_left_out(written):
    data = squad(
        question("all wrong", [("Zoe", 0), ("Łódź", 12)]),
        question("one wrong", [("She", CONTEXT.index("She") - len(CONTEXT)), ("Łódź", 13)]),
        question("empty", [("", 3)]),
        question("right", [("Zoë", 0)]),
        question("none", [], is_impossible=True),
    )
    said = []
    examples = read_squad(written(json.dumps(data)), report=said.append)
    assert [(example.id, len(example.answers)) for example in examples] == [
        ("one wrong", 1),
        ("right", 1),
        ("none", 0),
    ]
    (line,) = said
    assert (
        "4 of the answers" in line
        and "2 of the questions" in line
        and "'Zoe' at 0, of question all wrong" in line
    )


def test_squad_that_is_not_right(written):
    refused(read_squad, written('{"data": [\n{"title": }]}'), "line 2", "no JSON")
    refused(read_squad, written("[]"), "the file has no list named 'data'")
    refused(read_squad, written('{"data": {}}'), "the file has no list named 'data'")
    refused(read_squad, written('{"data": [{"title": "x"}]}'), "data[0] has no list named 'paragraphs'")
    missing = {"data": [{"paragraphs": [{"qas": []}]}]}
    refused(read_squad, written(json.dumps(missing)), "data[0].paragraphs[0] has no text named 'context'")
    place = "data[0].paragraphs[0].qas[1]"
    for bad, what in (
        ({"id": "x"}, "no text named 'question'"),
        ({"question": "Who?"}, "named 'id'"),
        (question("x", answers=[]) | {"answers": {"text": ["Zoë"]}}, "no list named 'answers'"),
        (question("x") | {"answers": [{"text": "Zoë"}]}, "no whole number named 'answer_start'"),
        (question("q1", [("Zoë", 0)]), "'q1' occurs twice"),
    ):
        refused(read_squad, written(json.dumps(squad(question(), bad))), place, what)
    refused(read_squad, written(json.dumps(squad())), "no question")
    only_wrong = written(json.dumps(squad(question(answers=[("Zoe", 0)]))))
    refused(read_squad, only_wrong, "no question that can be used", report=len)


@settings(deadline=None)  # files are written
@given(st.text(min_size=1), st.data())
def test_any_piece_of_any_context_comes_back(tmp_path_factory, context, data):
    start = data.draw(st.integers(0, len(context) - 1))
    end = data.draw(st.integers(start + 1, len(context)))
    entry = question(answers=[(context[start:end], start)])
    path = tmp_path_factory.getbasetemp() / "squad.json"
    path.write_text(json.dumps(squad(entry, context=context)), encoding="utf-8")
    (example,) = read_squad(path, report=pytest.fail)
    assert (example.context, example.answers) == (context, [Answer(context[start:end], start)])
