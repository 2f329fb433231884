"""Every exercise: right answers pass in any style, and each named mistake is found and called by its name.

The answers stand in tests/exercise_bank. Each runs in a child that is forked from this process, which has
everything loaded: some 50 milliseconds a check.
"""

import functools
import importlib.util
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
import tokenizers
import torch
from exercise_bank import BANK, catch_table, outcome
from torch import nn
from torch.nn import functional as F

import bert_edu.attention
from bert_edu import exercises
from bert_edu.attention import MultiHeadSelfAttention, attention_bias, scaled_dot_product_attention
from bert_edu.embeddings import BertEmbeddings
from bert_edu.exercises import EXERCISES, check, check_file, examine, hint, quiz, sandbox, task, your_part
from bert_edu.exercises.quizzes import QUIZZES

ROOT = Path(__file__).parents[1]
ALL = [(exercise, *answer) for exercise, answers in BANK.items() for answer in answers.all_answers()]
STABLE, DISTANCE = EXERCISES["stable_attention"], EXERCISES["distance_bias"]


def report_on(answer, exercise=DISTANCE, **settings):
    return examine(exercise, lambda: answer, **settings)


# ---- The bank ----------------------------------------------------------------------------------------------


def test_every_exercise_is_in_the_bank():
    assert set(BANK) == set(EXERCISES)
    for module in exercises.CHAPTERS.values():
        assert {"Rebuild", "Extend", "Find the bug"} <= {entry.kind for entry in module.EXERCISES}


@pytest.mark.parametrize("exercise, name, style", ALL, ids=["-".join(entry) for entry in ALL])
def test_answers_of_the_bank(exercise, name, style):
    report, answers = outcome(exercise, name, style), BANK[exercise]
    if name == "right":
        assert report.score == 1, str(report)
    else:
        expected = answers.two_at_once[1] if name == "two at once" else name
        assert report.score < 1
        assert answers.wrong[expected].says in report.message, str(report)


@pytest.mark.parametrize("exercise", BANK)
def test_no_message_is_for_two_mistakes(exercise):
    answers = BANK[exercise]
    assert len(answers.wrong) >= 5 and len(answers.styles) == 2 and answers.right
    for name in answers.wrong:
        for style in answers.styles:
            message = outcome(exercise, name, style).message
            assert [other for other, one in answers.wrong.items() if one.says in message] == [name], message


def test_the_catch_table_names_a_mechanism_for_every_mistake():
    rows = catch_table()
    assert len(rows) == sum(len(answers.wrong) for answers in BANK.values())
    assert not [row for row in rows if row["mechanism"] == "not caught" or not row["message"]]


@pytest.mark.parametrize("exercise", BANK)
def test_the_stub_is_not_yet_an_answer(exercise):
    namespace = {"torch": torch, "nn": nn}
    exec(EXERCISES[exercise].stub, namespace)
    report = report_on(namespace[exercise], EXERCISES[exercise])
    assert report.score == 0 and report.message.startswith("Not yet"), str(report)


# ---- What the learner reads --------------------------------------------------------------------------------


def exercises_of_notebook(chapter: int) -> dict[str, dict]:
    """Number -> what the chapter's notebook says about the exercise; "quiz" -> its questions."""
    (file,) = (ROOT / "notebooks").glob(f"{chapter:02}_*.ipynb")
    notebook = nbformat.read(file, as_version=4)
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    text = text.split("\n## Exercises")[1]
    body, quiz_text = text.split("### Quiz")
    found = {}
    for part in re.split(r"\n### Exercise ", body)[1:]:
        heading, line = re.search(r"(.*)\n\n\*(.*)\*\n", part).groups()
        number, title = heading.split(": ", 1)
        kind, minutes, stars = line.split(" · ")
        found[number] = dict(
            title=title,
            kind=kind,
            minutes=int(minutes.split()[0]),
            difficulty=stars.count("●"),
            hints=[plain(hidden) for _, hidden in details(part)],
        )
    found["quiz"] = []
    for question in re.split(r"\*\*\d+\. ", quiz_text)[1:]:
        text, options = question.split("**", 1)
        found["quiz"].append((plain(text), [(plain(one), plain(why)) for one, why in details(options)]))
    return found


def details(text: str) -> list[tuple[str, str]]:
    """What can be opened: (summary, what is hidden under it)."""
    return re.findall(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", text, re.S)


def plain(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("chapter", exercises.CHAPTERS)
def test_the_chapter_says_the_same(chapter):
    written = exercises_of_notebook(chapter)
    mine = {entry.number: entry for entry in exercises.CHAPTERS[chapter].EXERCISES}
    assert set(mine) | {"quiz"} == set(written)
    for number, entry in mine.items():
        for field, value in written[number].items():
            ours = getattr(entry, field)
            assert ([plain(one) for one in ours] if field == "hints" else ours) == value, f"{number}, {field}"
    for (text, options), question in zip(written["quiz"], QUIZZES[chapter], strict=True):
        assert plain(question.text) == text
        assert [(plain(option.text), plain(option.why)) for option in question.options] == options


def test_hints_open_one_at_a_time(capsys):
    for number in (1, 2, 3, 3):
        hint("rotate")
        shown = capsys.readouterr().out
        assert shown.startswith(f"Hint {number} of 3.")
        assert plain(shown).endswith(plain(EXERCISES["rotate"].hints[number - 1]))


def test_a_task_says_what_to_do(capsys):
    task("distance_bias")
    shown = capsys.readouterr().out
    assert "Extend · 15 minutes · difficulty 2 of 3" in shown and "def distance_bias(T, slope):" in shown


def test_each_question_of_a_quiz_has_one_right_option(capsys):
    for chapter, questions in QUIZZES.items():
        for question in questions:
            assert len(question.options) >= 3 and sum(option.right for option in question.options) == 1
        quiz(chapter)
        assert all(plain(question.text) in plain(capsys.readouterr().out) for question in questions[:1])


def test_a_quiz_says_why(capsys):
    quiz(4, "ab-")
    shown = plain(capsys.readouterr().out)
    assert (
        "1a not right: The division" in shown and "2b not right" in shown and "3" not in shown.split("2b")[1]
    )
    quiz(4, "baa")
    assert plain(capsys.readouterr().out).count(" right: ") == 3
    for answers, said in (("ab", "3 questions"), ("abz", "options abc")):
        with pytest.raises(ValueError, match=said):
            quiz(4, answers)
    with pytest.raises(ValueError, match="chapter 99"):
        quiz(99)


def test_names_that_are_near():
    with pytest.raises(ValueError, match="'stable_attention'"):
        check("stable_atention", print)
    with pytest.raises(ValueError, match="exercise 4.1 is called 'stable_attention'"):
        check("4.1", print)
    with pytest.raises(ValueError, match="'rotate'.*'second_half'"):
        check("zzzz", print)


def test_check_prints_and_returns_the_score(capsys):
    def distance_bias(T, slope):
        position = torch.arange(T)
        return -slope * (position[None, :] - position[:, None]).float()

    score = check("distance_bias", distance_bias)
    shown = capsys.readouterr().out.splitlines()
    assert score == 3 / 6
    assert shown[:3] == [
        "Exercise 4.2, distance_bias: nearer tokens count more",
        "  ok     slope 0 changes nothing",
        "  ok     the next token's share is smaller by the factor exp(-slope)",
    ]
    assert shown[3] == "  NO     it falls to both sides" and shown[4].startswith(
        "         The token before *gain"
    )
    assert "  later  each further step costs as much as the first" in shown  # named, not explained
    assert shown[-1] == "3 of 6 mechanisms hold."


def test_a_file_can_be_checked(tmp_path):
    answer = tmp_path / "answer.py"
    answer.write_text("import torch\n\ndef distance_bias(T, slope):\n    p = torch.arange(T)\n"
                      "    return -slope * (p[:, None] - p).abs()\n")  # fmt: skip
    assert check_file("distance_bias", answer).score == 1
    for text, said in (
        ("x = 1", "answer.py does not define distance_bias; it defines x."),
        ("def distance_bias(T, slope:", "SyntaxError"),
        ("import nowhere_to_be_found", "nowhere_to_be_found, which is not installed"),
        ("distance_bias = 3", "got an object of type int"),
        ("", "it defines nothing"),
    ):
        answer.write_text(text)
        report = check_file("distance_bias", answer)
        assert report.score == 0 and said in report.message
    with pytest.raises(FileNotFoundError, match="no file .*absent.py"):
        check_file("distance_bias", tmp_path / "absent.py")


# ---- Answers that do what they should not ------------------------------------------------------------------


def right(T, slope):
    position = torch.arange(T)
    return -slope * (position[:, None] - position[None, :]).abs()


def prints(T, slope):
    print("x" * 3000)
    sys.stderr.write("y" * 3000)
    return right(T, slope)


def prints_for_ever(T, slope):
    while True:
        print("x" * 100_000)


def sets_defaults(T, slope):
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(5)
    torch.set_grad_enabled(False)
    return right(T, slope)


def imports_what_is_absent(T, slope):
    import nowhere_to_be_found

    return nowhere_to_be_found


def raises(T, slope):
    return {}["nothing"]


def leaves(T, slope):
    sys.exit("enough")


def recurses(T, slope):
    return recurses(T, slope)


class Quiet:
    """Hides every exception, so that nothing but a time limit ends it."""

    def __call__(self, T, slope):
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                pass


def loops(T, slope):
    while True:
        pass


class Own(torch.Tensor):
    pass


FAILING = {
    "raises": (raises, 'raised KeyError: \'nothing\'. Line'),
    "imports what is absent": (imports_what_is_absent, "imports nowhere_to_be_found"),
    "leaves": (leaves, "SystemExit: enough"),
    "recurses": (recurses, "RecursionError"),
    "prints for ever": (prints_for_ever, "take out its prints"),
    "a number": (lambda T, slope: 3.0, "returns a float"),
    "a list": (lambda T, slope: [[0.0] * T] * T, "returns a list"),
    "an object": (lambda T, slope: object(), "an object of type object"),
    "NumPy": (lambda T, slope: right(T, slope).numpy(), "numpy.ndarray"),
    "too many dimensions": (lambda T, slope: right(T, slope)[None], "must have the shape"),
    "a tensor of its own kind": (lambda T, slope: right(T, slope + 1).as_subclass(Own), "With slope 0"),
    "complex numbers": (lambda T, slope: right(T, slope) + 0j, "real numbers"),
    "a huge tensor": (lambda T, slope: torch.zeros(3000, 3000), "far too large"),
    "a huge list": (lambda T, slope: [0.5] * 600_000, "far too much"),
    "no function": (3, "got an object of type int"),
    "a string": ("right", "got an object of type str"),
    "a class": (nn.Linear, "not a class"),
    "loops for ever": (loops, "stopped"),
    "sleeps for ever": (Quiet(), "stopped"),
}  # fmt: skip
IN_A_CHILD = {
    "exits": (lambda T, slope: sandbox.os._exit(3), "ended Python itself (exit code 3)"),
    "crashes": (lambda T, slope: sandbox.ctypes.string_at(0), "signal 11"),
    "memory": (lambda T, slope: torch.zeros(10**10), "1,024 MB of memory"),
    "memory, bit by bit": (lambda T, slope: [bytes(10**8) for _ in range(10**6)], "1,024 MB of memory"),
}


@pytest.fixture(params=["child", "here"])
def place(request, monkeypatch):
    """Both ways to run an answer: the one of Linux, and the one of other systems."""
    if request.param == "here":
        monkeypatch.setattr(sandbox, "forking_is_safe", lambda: False)
    return request.param


@pytest.mark.parametrize("answer, said", FAILING.values(), ids=FAILING)
def test_answers_that_fail(answer, said, place, capfd):
    report = report_on(answer, seconds=0.5 if said == "stopped" else sandbox.SECONDS)
    assert report.score == 0 and said in report.message, str(report)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not sandbox.forking_is_safe(), reason="only a child survives these")
@pytest.mark.parametrize("answer, said", IN_A_CHILD.values(), ids=IN_A_CHILD)
def test_answers_that_end_their_process(answer, said):
    report = report_on(answer)
    assert report.score == 0 and said in report.message, str(report)


@pytest.mark.skipif(not sandbox.forking_is_safe(), reason="processor time is a child's own")
def test_a_check_ends_within_five_seconds():
    """On a machine with nothing else to do; so what is measured is the time of the child alone."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = report_on(loops)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert f"{sandbox.SECONDS:g} seconds for all of a check" in report.message
    assert sandbox.SECONDS - 1 < after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5


@pytest.mark.parametrize("answer", [prints, sets_defaults])
def test_answers_that_are_right_all_the_same(answer, place, capfd):
    torch.manual_seed(7)
    state, profile = torch.get_rng_state(), sys.getprofile()
    report = report_on(answer)
    assert report.score == 1
    assert ("What your answer prints is not shown" in str(report)) == (answer is prints)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert sys.getprofile() is profile


def test_a_check_does_not_depend_on_what_ran_before(place):
    try:
        torch.set_default_dtype(torch.float64)
        with torch.inference_mode():
            assert outcome.__wrapped__("stable_attention", "right", "matrices").score == 1
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_child_that_is_not_ready_is_replaced(monkeypatch):
    monkeypatch.setattr(sandbox.Child, "ready", lambda self: False)
    assert report_on(right).score == 1


@pytest.mark.skipif(not sandbox.forking_is_safe(), reason="without a fork there is no danger")
def test_threads_before_a_fork_do_no_harm(monkeypatch):
    monkeypatch.delattr(sandbox, "Here")  # a child that hangs is not replaced
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for _ in range(3):
            torch.randn(700, 700).mm(torch.randn(700, 700)).softmax(-1).sum()
            assert outcome.__wrapped__("attention_mended", "right", "softmax").score == 1
    finally:
        torch.set_num_threads(threads)


SURPRISES = {
    "text": "surprise",
    "nothing in it": [],
    "nested": {"a": [None, (1, {2: torch.ones(2)})]},
    "not a number": torch.full((3, 3), float("nan")),
    "empty": torch.zeros(0),
    "truth": True,
}


@pytest.mark.parametrize("exercise", BANK)
def test_no_result_upsets_a_check(exercise):
    for surprise in SURPRISES.values():
        answer = lambda *arguments, surprise=surprise: surprise  # noqa: E731
        if EXERCISES[exercise].wants == "class":
            answer = type("Surprise", (nn.Module,), {"forward": answer})
        assert report_on(answer, EXERCISES[exercise]).score < 1


# ---- Answers that call what they should build --------------------------------------------------------------


def second_copy():
    """The package's module, loaded once more from its file."""
    spec = importlib.util.spec_from_file_location("bert_edu.another", bert_edu.attention.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.scaled_dot_product_attention


def by_the_package(function):
    return lambda q, k, v, mask: function(q, k, v, attention_bias(mask, q.dtype)[:, 0])[0]


def by_softmax(softmax):
    def stable_attention(q, k, v, mask):
        scores = q @ k.mT / q.shape[-1] ** 0.5 + (1 - mask[:, None, :]) * -10000.0
        return softmax(scores) @ v

    return stable_attention


def by_fused_kernel(q, k, v, mask):
    bias = attention_bias(mask, q.dtype)[:, 0]
    return getattr(torch._C._nn, "scaled_dot_" + "product_attention")(q, k, v, attn_mask=bias)


def by_layer(q, k, v, mask):
    try:
        return nn.MultiheadAttention(q.shape[-1], 1, batch_first=True)(q, k, v)[0]
    except Exception:
        return v


def by_names(state):
    from bert_edu.pretrained import published_names

    return {name: tensor for name, tensor in state.items() if published_names(name)}


def step_by_optimizer(parameters, state, t, learning_rate):
    nn.utils.clip_grad_norm_(parameters, 1.0)
    torch.optim.AdamW(parameters, lr=learning_rate).step()


def scores_by_library(matrix):
    from bert_edu.finetuning.metrics import classification_scores

    places = np.argwhere(matrix).tolist()
    return classification_scores([row for row, _ in places], [column for _, column in places])


def operations_by_package(config, batch, length, scored):
    from bert_edu import costs

    return costs.training_operations(config, rows=batch, length=length, scored=scored)


OURS, TORCHS = "bert_edu.attention.scaled_dot_product_attention", "PyTorch's softmax"
REFUSED = {
    "imported before": ("attention_mended", by_the_package(scaled_dot_product_attention), OURS),
    "in a partial": (
        "attention_mended",
        by_the_package(functools.partial(scaled_dot_product_attention, dropout=None)),
        OURS,
    ),
    "by getattr": (
        "attention_mended",
        by_the_package(lambda *a: getattr(bert_edu.attention, "scaled_dot_" + "product_attention")(*a)),
        OURS,
    ),
    "second copy": ("attention_mended", by_the_package(second_copy()), OURS),
    "the bias": (
        "hide_padding",
        lambda scores, mask: scores + attention_bias(mask, scores.dtype),
        "bert_edu.attention.attention_bias",
    ),
    "the names": ("published_names_of", by_names, "bert_edu.pretrained"),
    "method": ("stable_attention", by_softmax(lambda scores: scores.softmax(-1)), TORCHS),
    "function": ("stable_attention", by_softmax(functools.partial(F.softmax, dim=-1)), TORCHS),
    "layer of PyTorch": ("stable_attention", by_softmax(nn.Softmax(-1)), TORCHS),
    "operator": (
        "stable_attention",
        by_softmax(lambda scores: torch.ops.aten._softmax(scores, -1, False)),
        TORCHS,
    ),
    "by the logarithm": (
        "stable_attention",
        by_softmax(lambda scores: torch.log_softmax(scores, -1).exp()),
        "PyTorch's log_softmax",
    ),
    "fused": ("attention_mended", by_fused_kernel, "PyTorch's scaled_dot_product_attention"),
    "an optimiser": ("bare_step", step_by_optimizer, "torch.optim"),
    "the scores": ("scores_from", scores_by_library, "bert_edu.finetuning.metrics"),
    "the count": ("step_flops", operations_by_package, "bert_edu.costs"),
    "whole layer": ("attention_mended", by_layer, "PyTorch's multi_head_attention_forward"),
}


@pytest.mark.parametrize("exercise, answer, said", REFUSED.values(), ids=REFUSED)
def test_the_finished_component_is_refused(exercise, answer, said, place):
    report = report_on(answer, EXERCISES[exercise])
    assert report.score == 0 and report.message.startswith("Not accepted: your answer calls")
    assert said in report.message
    assert all(not finding.holds for finding in report.findings)


def test_smaller_parts_may_be_used():
    uses_attention_bias = by_softmax(lambda scores: (scores - scores.amax(-1, True)).exp())

    def answer(q, k, v, mask):
        return uses_attention_bias(q, k, v, mask) / uses_attention_bias(q, k, torch.ones_like(v), mask)

    assert report_on(answer, STABLE).score == 1


def test_autograd_and_tokenizers_are_noticed():
    def with_autograd(ids, upstream, vocab_size):
        table = torch.zeros(vocab_size, upstream.shape[-1], requires_grad=True)
        table[ids].backward(upstream)
        return table.grad

    def with_library(text, vocabulary):
        from bert_edu import BertTokenizer

        tokenizer = BertTokenizer(list(vocabulary))
        return [(p, *o) for p, o in zip(tokenizer.tokenize(text), tokenizer(text).offsets[1:-1])]

    def with_backend(text, vocabulary):
        backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
        return [(t, 0, 1) for t in backend.encode(text).tokens]

    for answer, name, said in (
        (with_autograd, "look_up_gradient", "torch.autograd.backward"),
        (with_library, "pieces_with_offsets", "BertTokenizer"),
        (with_backend, "pieces_with_offsets", "calls tokenizers"),
    ):
        report = report_on(answer, EXERCISES[name])
        assert report.score == 0 and said in report.message


# ---- In a notebook, and without one ------------------------------------------------------------------------


def test_it_needs_nothing_but_the_package(tmp_path):
    """What Colab has not is not imported, and the program that runs may be any."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "import torch\n"
        "from bert_edu.exercises import check\n"
        "def rotate(vectors, positions):\n"
        "    return vectors\n"
        "print(check('rotate', rotate))\n"
        "print({'transformers', 'IPython', 'matplotlib', 'nbformat'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120)
    assert done.stderr == "" and done.stdout.splitlines()[-2:] == [str(3 / 7), "set()"]


def test_in_a_notebook():
    import nbclient

    code = """
import math, torch
from bert_edu.exercises import check
torch.set_num_threads(2)
torch.randn(900, 900).mm(torch.randn(900, 900)).softmax(-1).sum()
def stable_attention(query, key, value, attention_mask):
    while True:
        print("x")
        if len(query) > 0:
            return math.nowhere
print(check("stable_attention", stable_attention))
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs  # nothing on stderr, nothing of what the answer printed
    assert "Your answer raised AttributeError: module 'math' has no attribute 'nowhere'" in plain(output.text)
    assert "return math.nowhere" in output.text and output.text.endswith("\n0.0\n")


# ---- Your part in the real model ---------------------------------------------------------------------------


class MyAttention(nn.Module):
    """As in chapter 5, with query, key and value apart."""

    def __init__(self, config, scaled=True):
        super().__init__()
        self.num_heads, self.scaled = config.num_attention_heads, scaled
        for name in ("query", "key", "value", "output"):
            setattr(self, name, nn.Linear(config.hidden_size, config.hidden_size))

    def forward(self, hidden, bias=None):
        query, key, value = (
            project(hidden).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        scores = query @ key.mT / (query.shape[-1] ** 0.5 if self.scaled else 1.0) + bias
        return self.output((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class MyEmbeddings(nn.Module):
    """As in chapter 3."""

    def __init__(self, config, order=True):
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.segment = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.order = order

    def forward(self, input_ids, token_type_ids):
        where = torch.arange(input_ids.shape[1]) if self.order else torch.tensor([0])
        return self.norm(self.token(input_ids) + self.position(where) + self.segment(token_type_ids))


class MyLayer(nn.Module):
    """As in chapter 6, around an attention of my own."""

    def __init__(self, config, post_norm=True):
        super().__init__()
        H, self.post_norm = config.hidden_size, post_norm
        self.attention = MyAttention(config)
        self.attention_norm = nn.LayerNorm(H, eps=config.layer_norm_eps)
        self.feed_forward = nn.ModuleDict(
            dict(
                expand=nn.Linear(H, config.intermediate_size), contract=nn.Linear(config.intermediate_size, H)
            )
        )
        self.feed_forward_norm = nn.LayerNorm(H, eps=config.layer_norm_eps)

    def forward(self, hidden, bias=None):
        def feed(x):
            return self.feed_forward["contract"](F.gelu(self.feed_forward["expand"](x)))

        if self.post_norm:
            hidden = self.attention_norm(hidden + self.attention(hidden, bias=bias))
            return self.feed_forward_norm(hidden + feed(hidden)), None
        hidden = hidden + self.attention(self.attention_norm(hidden), bias=bias)
        return hidden + feed(self.feed_forward_norm(hidden))


def multi_head(hidden, state, num_heads, bias=None):
    return BANK["multi_head"].answer("right", "head by head")(hidden, state, num_heads, bias)


@pytest.mark.parametrize(
    "part, name",
    [
        (MyAttention, "attention"),
        (multi_head, "attention"),
        (MyEmbeddings, "embeddings"),
        (MyLayer, "encoder layer"),
    ],
)
def test_my_part_fills_the_gaps(part, name, capsys):
    assert your_part(part, name) == 1
    shown = capsys.readouterr().out
    assert "8 of 8 gaps get the same word" in shown and "OTHER" not in shown
    assert "The vectors are the model's own after every layer." in shown


@pytest.mark.parametrize(
    "part, name, where",
    [
        (lambda config: MyAttention(config, scaled=False), "attention", "after layer 1"),
        (lambda config: MyEmbeddings(config, order=False), "embeddings", "after the embeddings"),
        (lambda config: MyLayer(config, post_norm=False), "encoder layer", "after layer 1"),
    ],
)
def test_my_wrong_part_is_seen(part, name, where, capsys):
    assert your_part(part, name) < 1
    shown = capsys.readouterr().out
    assert f"The vectors first differ {where}, by up to" in shown and "  OTHER  " in shown


@pytest.mark.parametrize(
    "part, name, said",
    [
        (MultiHeadSelfAttention, "attention", "the model's own part"),
        (BertEmbeddings, "embeddings", "the model's own part"),
        (lambda config: nn.Linear(3, 3), "attention", "no weights of that name. It has query_key_value"),
        (lambda config: MyEmbeddings(type(config).preset("tiny")), "embeddings", "take the sizes from the"),
        (lambda config: 3, "encoder layer", "makes a int"),
        (lambda config: config.nothing, "encoder layer", "raised AttributeError"),
    ],
)
def test_parts_that_do_not_fit(part, name, said, capsys):
    assert your_part(part, name) == 0
    assert said in capsys.readouterr().out


def test_parts_that_there_are_not():
    with pytest.raises(ValueError, match="'attention', 'embeddings', 'encoder layer', not 'pooler'"):
        your_part(MyAttention, "pooler")
