"""The interactive figures: what they hold is what the model computes, and they work in a browser.

The second half puts each figure into a notebook, renders it as the book does, opens the page in headless
Chromium, and uses it by keyboard and mouse; and so with the figures that the chapters store. It is skipped
where no Chromium (or Chrome) is installed.
"""

import itertools
import json
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

pytest.importorskip("altair", reason="altair is not installed")
from matplotlib import pyplot as plt
from test_book import AXE_OPTIONS, CHROMIUM_ARGUMENTS, STICKING_OUT

from bert_edu import BertConfig, BertForPreTraining, BertModel, BertTokenizer, interactive
from bert_edu.tokenization import SPECIAL_TOKENS, wordpiece
from helpers import randomise

ROOT = Path(__file__).parent.parent
LETTERS = "abcdefghiklmnoprstuvwy"
TEXT, PAIR = "The old ferry sank.", "Nobody was on it."
SENTENCE = "A ferryman sank in the river."
PAIRS = [(TEXT, PAIR), ("It was old.", "The river was </script> wide."), ("On the river.", "In it.")]
L, A = 2, 3
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PATIENCE = 20_000  # milliseconds that a busy machine may take to draw


@pytest.fixture(scope="module")
def tokenizer():
    words = [
        "the",
        "old",
        "fer",
        "##ry",
        "##man",
        "sank",
        "nobody",
        "was",
        "on",
        "it",
        "in",
        "river",
        ".",
        "##x",
    ]
    return BertTokenizer(
        [*SPECIAL_TOKENS, *words, *LETTERS, *(f"##{letter}" for letter in LETTERS), "<", ">", "/"]
    )


@pytest.fixture(scope="module")
def model(tokenizer):
    """Random and far from even, so that no two layers or heads look alike."""
    config = BertConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=36, num_hidden_layers=L, num_attention_heads=A,
        intermediate_size=37, max_position_embeddings=41,
    )  # fmt: skip
    model = BertForPreTraining(config)
    randomise(model, std=0.6)
    return model.eval()


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def figures(model, tokenizer):
    made = {
        "explorer": interactive.attention_explorer(model, tokenizer, TEXT, PAIR, layer=1, head=2),
        "second": interactive.attention_explorer(model, tokenizer, SENTENCE),
        "stepper": interactive.wordpiece_stepper(tokenizer, ["ferryman", "Sanky", "fjord"]),
        "sum": interactive.embedding_sum(model, tokenizer, TEXT, PAIR, components=7),
        "painter": interactive.mask_painter(model, tokenizer, SENTENCE),
        "builder": interactive.next_sentence_builder(model, tokenizer, PAIRS),
    }
    assert not plt.get_fignums(), "a still picture is left open, and a notebook would show it twice"
    return made


def rows(figure):
    return figure.spec["datasets"]["rows"]


def percent(number):
    return round(100 * float(number))


# ---- What they hold ----


def test_the_explorer_holds_every_share_of_the_model(figures, model, tokenizer):
    encoding = tokenizer(TEXT, PAIR)
    output = model.bert(
        torch.tensor([encoding.input_ids]),
        token_type_ids=torch.tensor([encoding.token_type_ids]),
        output_attentions=True,
    )
    found = rows(figures["explorer"])
    T = len(encoding.input_ids)
    assert len(found) == L * A * T
    for row in found:
        expected = output.attentions[row["layer"]][0, row["head"], row["query"]]  # (T,)
        shares = torch.tensor([int(share) for share in row["shares"].split()])
        assert len(shares) == T and ((shares - 100 * expected).abs() < 0.51).all()
        assert shares[row["most"]] == shares.max()


def test_the_stepper_takes_the_steps_of_wordpiece(figures, tokenizer):
    for word, attempts in zip(("ferryman", "sanky", "fjord"), figures["stepper"].data["attempts"]):
        found = [(start, end) for start, end, known in attempts if known]
        whole = bool(found) and found[-1][1] == len(word)
        pieces = [word[start:end] if start == 0 else f"##{word[start:end]}" for start, end in found]
        assert (pieces if whole else ["[UNK]"]) == wordpiece(word, tokenizer.vocab)
        for (start, end, known), (start_after, end_after, _) in zip(attempts, attempts[1:]):
            assert (start_after, end_after) == ((end, len(word)) if known else (start, end - 1))
        assert attempts[0][:2] == (0, len(word))


def test_the_sum_is_what_the_embeddings_add_up(figures, model, tokenizer):
    encoding = tokenizer(TEXT, PAIR)
    before_norm = []
    hook = model.bert.embeddings.norm.register_forward_pre_hook(
        lambda _, inputs: before_norm.append(inputs[0][0])
    )
    model.bert(torch.tensor([encoding.input_ids]), token_type_ids=torch.tensor([encoding.token_type_ids]))
    hook.remove()
    vectors = {
        (row["table"], row["index"]): torch.tensor([float(value) for value in row["values"].split()])
        for row in rows(figures["sum"])
    }
    for place, segment in enumerate(encoding.token_type_ids):
        total = vectors["token", place] + vectors["position", place] + vectors["segment", segment]  # (7,)
        assert ((total - before_norm[0][place, :7]).abs() < 0.0016).all()  # three roundings


@pytest.mark.parametrize("fate", range(3))
def test_the_painter_holds_what_the_model_expects(figures, model, tokenizer, fate):
    data = figures["painter"].data
    ids = tokenizer(SENTENCE).input_ids
    places = range(1, len(ids) - 1)
    cases = {case["hidden"]: case for case in data["cases"] if case["fate"] == fate}
    assert set(cases) == {(one,) for one in places} | {(i, j) for i in places for j in places if i < j}
    for hidden in [(2,), (1, len(ids) - 2)]:
        shown = ids[:]
        for place, token in zip(hidden, cases[hidden]["shown"]):
            shown[place] = tokenizer.token_to_id(token)
            assert fate != 0 or token == "[MASK]"
            assert fate != 1 or shown[place] == ids[place]
            assert fate != 2 or shown[place] not in tokenizer.special_ids
        chances = model(torch.tensor([shown])).prediction_logits[0].softmax(-1)  # (T, V)
        for place, guesses, right in zip(hidden, cases[hidden]["guesses"], cases[hidden]["right"]):
            assert right == pytest.approx(float(chances[place, ids[place]]), abs=1e-5)
            top = chances[place].topk(5)
            assert [chance for _, chance in guesses] == pytest.approx(top.values.tolist(), abs=1e-5)
            assert guesses[0][0] == tokenizer.id_to_token(int(top.indices[0]))


def test_the_builder_holds_the_next_sentence_head(figures, model, tokenizer):
    for row in rows(figures["builder"]):
        encoding = tokenizer(PAIRS[row["first"]][0], PAIRS[row["second"]][1])
        output = model(
            torch.tensor([encoding.input_ids]), token_type_ids=torch.tensor([encoding.token_type_ids])
        )
        is_next = output.seq_relationship_logits.softmax(-1)[0, 0]  # label 0: is next
        assert abs(row["share"] - 100 * float(is_next)) < 0.51
    assert len({row["share"] for row in rows(figures["builder"])}) > 2


def test_a_transformers_model_can_be_explored(tokenizer):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.BertConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=36, num_hidden_layers=L, num_attention_heads=A,
        intermediate_size=37, attn_implementation="eager",
    )  # fmt: skip
    other = transformers.BertForPreTraining(config)
    found = interactive.attention_explorer(other, tokenizer, TEXT).data["attentions"]
    assert found.shape[:2] == (L, A) and torch.allclose(found.sum(-1), torch.ones(found.shape[:3]))


def test_the_model_is_left_as_it_was(model, tokenizer):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shares = [interactive.attention_explorer(model, tokenizer, TEXT).data["attentions"] for _ in range(2)]
    assert model.training and torch.equal(*shares)  # dropout is off meanwhile
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(TypeError):
        interactive.attention_explorer(model, tokenizer, 5)
    with pytest.raises(ValueError):  # raised inside the model: an id that it does not have
        interactive.attention_explorer(
            model, BertTokenizer([*SPECIAL_TOKENS, *map(str, range(500)), "the"]), "the"
        )
    assert model.training
    model.eval()


# ---- How they are stored ----


def test_the_same_figure_is_stored_the_same_twice(figures, model, tokenizer):
    """Names that count up, or an order that changes, would fail the comparison of notebooks."""
    again = interactive.mask_painter(model, tokenizer, SENTENCE)
    for one, other in zip(
        figures["painter"]._repr_mimebundle_().values(), again._repr_mimebundle_().values()
    ):
        assert one == other


def test_a_bundle_has_the_chart_a_picture_and_words(figures):
    for figure in figures.values():
        bundle = figure._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "image/png", interactive.MIME_TYPE}
        assert (
            bundle["text/plain"].startswith("Interactive figure. ") and " at 0x" not in bundle["text/plain"]
        )
        hosts = set(re.findall(r"https?://([^/\"]+)", json.dumps(bundle[interactive.MIME_TYPE])))
        assert hosts == {"vega.github.io"}  # the name of Vega-Lite's format, which nobody fetches


def test_figures_weigh_little(figures):
    weights = {name: len(json.dumps(figure.spec)) for name, figure in figures.items()}
    assert max(weights.values()) < 100_000, weights


def test_a_large_explorer_stays_below_two_megabytes_or_is_refused(tokenizer):
    config = BertConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=24, num_hidden_layers=12, num_attention_heads=12,
        intermediate_size=8,
    )  # fmt: skip
    base = BertModel(config)
    figure = interactive.attention_explorer(base, tokenizer, "the river " * 14)  # 30 tokens in 144 heads
    assert len(json.dumps(figure.spec)) < 2_000_000
    with pytest.raises(ValueError, match="MB.*take a shorter text"):
        interactive.attention_explorer(base, tokenizer, "the river " * 40)


# ---- Bad input ----


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda m, t: interactive.attention_explorer(m, t, ""), ValueError, "the text is empty"),
        (lambda m, t: interactive.attention_explorer(m, t, TEXT, layer=2), ValueError, "head 0 in layer 2"),
        (lambda m, t: interactive.attention_explorer(m, t, TEXT, head=-1), ValueError, "2 layers of 3 heads"),
        (lambda m, t: interactive.attention_explorer(torch.nn.Linear(2, 2), t, "a"), TypeError, "its attent"),
        (lambda m, t: interactive.wordpiece_stepper(t, "word"), ValueError, "list of words"),
        (lambda m, t: interactive.wordpiece_stepper(t, []), ValueError, "list of words"),
        (lambda m, t: interactive.wordpiece_stepper(t, ["a", "two words"]), ValueError, r"words\[1\] must"),
        (lambda m, t: interactive.wordpiece_stepper(t, ["a" * 21]), ValueError, "at most 20 letters"),
        (lambda m, t: interactive.embedding_sum(m, t, " "), ValueError, "the text is empty"),
        (lambda m, t: interactive.embedding_sum(torch.nn.Linear(2, 2), t, TEXT), TypeError, "embeddings"),
        (lambda m, t: interactive.mask_painter(m, t, "a " * 17), ValueError, "1 to 16 .* has 17"),
        (lambda m, t: interactive.mask_painter(m.bert, t, SENTENCE), TypeError, "predicts no words"),
        (lambda m, t: interactive.next_sentence_builder(m, t, PAIRS[:1]), ValueError, "2 to 9"),
        (lambda m, t: interactive.next_sentence_builder(m.bert, t, PAIRS), TypeError, "no next-sent"),
    ],
)  # fmt: skip
def test_bad_input_gets_a_clear_error(model, tokenizer, make, error, message):
    with pytest.raises(error, match=message):
        make(model, tokenizer)


def test_a_model_without_attentions_gets_a_clear_error(model, tokenizer):
    class Silent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids, **inputs):
            return types.SimpleNamespace(attentions=None)

    with pytest.raises(TypeError, match="Silent returned no attention"):
        interactive.attention_explorer(Silent(), tokenizer, TEXT)


# ---- What the chapters store ----


def stored_figures(path):
    """The cells of a chapter that show an interactive figure, and what they store of it."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = ((cell, output) for cell in cells for output in cell.get("outputs", []))
    return [(cell, output) for cell, output in outputs if interactive.MIME_TYPE in output.get("data", {})]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_figures_of_a_chapter_weigh_at_most_two_megabytes(path):
    stored = [output["data"] for _, output in stored_figures(path)]
    assert all(set(data) == {interactive.MIME_TYPE, "image/png", "text/plain"} for data in stored)
    weights = [
        len(json.dumps(data[kind])) for data in stored for kind in (interactive.MIME_TYPE, "image/png")
    ]
    assert sum(weights) < interactive.LARGEST


def test_the_chapters_that_speak_of_a_figure_have_it():
    made_in = {
        name: {path.stem[:2] for path in CHAPTERS for _, output in stored_figures(path)
               if output["data"][interactive.MIME_TYPE]["name"] == name}
        for name in ("attention_explorer", "wordpiece_stepper", "embedding_sum", "mask_painter",
                     "next_sentence_builder")
    }  # fmt: skip
    assert {"01", "05", "08"} <= made_in["attention_explorer"] and {"01", "09"} <= made_in["mask_painter"]
    assert "02" in made_in["wordpiece_stepper"] and "03" in made_in["embedding_sum"]
    assert "10" in made_in["next_sentence_builder"]


# ---- On a page of the book, in a browser ----


@pytest.fixture(scope="module")
def site(figures, tmp_path_factory):
    """A book of two pages, all kinds of figures and those of the chapters, configured as the real one is."""
    from nbformat import from_dict, v4, write

    folder = tmp_path_factory.mktemp("figures")
    (folder / "book").symlink_to(ROOT / "book")
    shutil.copy(ROOT / "_config.yml", folder)
    pages = "[{file: notebooks/figures}, {file: notebooks/chapters}]"
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters: {pages}\n")
    (folder / "index.md").write_text("# Start\n\nA page without figures.\n")
    cells = [v4.new_markdown_cell("# Figures\n\n" + "A long way down.\n\n" * 40)]
    for name, figure in figures.items():
        output = v4.new_output("execute_result", data=figure._repr_mimebundle_(), execution_count=1)
        settings = {
            "image": {"alt": f"The still of {name}."},
            "figure": {"caption": f"The caption of {name}."},
        }
        cells.append(v4.new_markdown_cell(f"## {name}"))
        cells.append(
            v4.new_code_cell("draw()", outputs=[output], execution_count=1, metadata={"mystnb": settings})
        )
    of_chapters = [v4.new_markdown_cell("# Figures of the chapters")]
    for path in CHAPTERS:
        for cell, _ in stored_figures(path):
            source = {"source": "".join(cell["source"]), "outputs": [from_dict(o) for o in cell["outputs"]]}
            of_chapters.append(v4.new_markdown_cell(f"## {path.stem}"))
            of_chapters.append(v4.new_code_cell(execution_count=1, metadata=cell["metadata"], **source))
    (folder / "notebooks").mkdir()
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for name, page in (("figures", cells), ("chapters", of_chapters)):
        notebook = v4.new_notebook(cells=page, metadata={"kernelspec": kernel})
        write(notebook, folder / "notebooks" / f"{name}.ipynb")
    name = "jupyter-book"
    command = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert command, "jupyter-book is not installed: pip install -r requirements.txt"
    build = subprocess.run(
        [command, "build", str(folder), "-n", "-W", "--keep-going"], capture_output=True, text=True
    )
    assert build.returncode == 0, (build.stdout + build.stderr)[-3000:]
    return folder / "_build" / "html"


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium or Chrome on this machine, so the figures are not tried")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


class Opened:
    """The page of figures, opened afresh; what goes wrong on it is noted."""

    def __init__(self, browser, address, **settings):
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.errors, self.requests = [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", lambda request: self.errors.append(f"failed: {request.url}"))
        self.page.on("console", self._listen)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)

    def _listen(self, message):
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def figure(self, number):
        """One figure, scrolled to and drawn."""
        figure = self.page.locator(".interactive-figure").nth(number)
        figure.scroll_into_view_if_needed()
        figure.locator("svg").wait_for(timeout=PATIENCE)
        return figure


@pytest.fixture
def opened(browser, site):
    """Opens a page; afterwards there must have been no error and no request to another place."""
    pages = []

    def open_page(name="figures", **settings):
        settings = {"viewport": {"width": 1280, "height": 844}} | settings
        pages.append(Opened(browser, (site / "notebooks" / f"{name}.html").as_uri(), **settings))
        return pages[-1]

    yield open_page
    for page in pages:
        page.context.close()
        assert page.errors == []
        assert [url for url in page.requests if not url.startswith((site.as_uri(), "data:"))] == []


def says(figure, *sentences):
    """Wait until the figure's message is this."""
    from playwright.sync_api import expect

    expect(figure.locator(".message_marks text")).to_have_text(list(sentences), timeout=PATIENCE)


def focus_by_tab(page, figure, label):
    """Reach a control as somebody without a mouse does."""
    control = figure.get_by_label(label)
    for _ in range(80):
        page.keyboard.press("Tab")
        if control.evaluate("element => element === document.activeElement"):
            return control
    raise AssertionError(f"the tab key does not reach “{label}”")


def attention_sentence(figure, layer, head, query):
    tokens, shares = figure.data["tokens"], (100 * figure.data["attentions"]).round()[layer, head, query]
    most = int(shares.argmax())
    return f"Layer {layer}, head {head}: “{tokens[query]}” reads “{tokens[most]}” most, {int(shares[most])} %"


def test_the_explorer_by_keyboard(opened, figures):
    opened = opened()
    explorer, page = opened.figure(0), opened.page
    says(explorer, attention_sentence(figures["explorer"], 1, 2, 1))
    focus_by_tab(page, explorer, "reading token")
    page.keyboard.press("ArrowDown")
    says(explorer, attention_sentence(figures["explorer"], 1, 2, 2))
    focus_by_tab(page, explorer, "layer")
    page.keyboard.press("ArrowLeft")
    says(explorer, attention_sentence(figures["explorer"], 0, 2, 2))
    focus_by_tab(page, explorer, "head")
    page.keyboard.press("ArrowLeft")
    says(explorer, attention_sentence(figures["explorer"], 0, 1, 2))
    explorer.locator(".spoken", has_text=attention_sentence(figures["explorer"], 0, 1, 2)).wait_for(
        state="attached", timeout=PATIENCE
    )


def test_the_explorer_by_mouse_and_beside_a_second_one(opened, figures):
    opened = opened()
    explorer, second = opened.figure(0), opened.figure(1)
    opened.figure(0)
    for query in (5, 3, 0):
        explorer.locator(".spots_marks path").nth(query).hover()
        says(explorer, attention_sentence(figures["explorer"], 1, 2, query))
        assert explorer.get_by_label("reading token").input_value() == str(
            query
        )  # the list follows the mouse
    opened.page.mouse.move(5, 5)  # away: the choice stays
    says(explorer, attention_sentence(figures["explorer"], 1, 2, 0))
    second.get_by_label("layer").press("ArrowRight")
    says(second, attention_sentence(figures["second"], 1, 0, 1))
    says(explorer, attention_sentence(figures["explorer"], 1, 2, 0))


def test_the_stepper_to_the_end_of_each_word(opened, figures, tokenizer):
    opened = opened()
    stepper = opened.figure(2)
    slider = stepper.get_by_label("step")
    says(stepper, "“ferryman” has 8 letters. Nothing has been tried yet.")
    slider.press("ArrowRight")
    says(stepper, "1. “ferryman” is not in the vocabulary: try a letter less.")
    slider.press("End")
    attempts = figures["stepper"].data["attempts"]
    says(stepper, f"{len(attempts[0])}. “##man” is in the vocabulary: take it. Done.")
    assert "pieces: fer ##ry ##man" in stepper.locator("svg text").all_text_contents()
    colours = [box.get_attribute("fill") for box in stepper.locator("path[stroke='#8A949E']").all()]
    assert [len(list(piece)) for _, piece in itertools.groupby(colours)] == [3, 2, 3]  # fer ##ry ##man
    stepper.get_by_label("word").select_option(label="fjord")
    says(stepper, f"{len(attempts[2])}. “##j” is not in the vocabulary either: the whole word is [UNK].")
    assert "pieces: [UNK]" in stepper.locator("svg text").all_text_contents()


def test_the_sum_adds_what_is_chosen(opened, figures):
    opened = opened()
    figure, data = opened.figure(3), figures["sum"].data

    def check(token, position, segment, component):
        vectors = data["token"][token], data["position"][position], data["segment"][segment]
        parts = [round(float(vector[component]), 3) for vector in vectors]
        total = f"{sum(parts):+.3f}".replace("-", "−")  # Vega writes a true minus sign
        says(figure, f"Component {component} of the sum: {total}")
        shown = figure.locator("svg text").all_text_contents()
        assert {f"{part:+.3f}".replace("-", "−") for part in parts} <= set(shown)
        assert f"+ position {position}" in shown

    check(3, 3, 0, 0)
    figure.get_by_label("token").select_option("1")
    figure.get_by_label("position").press("ArrowRight")
    figure.get_by_label("segment").select_option(label="B")
    check(1, 4, 1, 0)
    figure.get_by_label("component").press("End")
    check(1, 4, 1, 6)
    figure.get_by_label("component").press("Home")
    check(1, 4, 1, 0)
    figure.locator(".spots_marks path").nth(2).hover()
    check(1, 4, 1, 2)


def test_the_painter_hides_one_word_and_two(opened, figures):
    opened = opened()
    painter = opened.figure(4)
    data = figures["painter"].data
    tokens = data["tokens"]

    def check(hidden, fate):
        case = next(case for case in data["cases"] if (case["hidden"], case["fate"]) == (hidden, fate))
        says(painter, *(
            f"At place {place}, “{tokens[place]}” gets {percent(right) or 'under 1'} %; "
            f"first guess: “{guesses[0][0]}”"
            for place, right, guesses in zip(hidden, case["right"], case["guesses"])
        ))  # fmt: skip
        shown = painter.locator("svg text").all_text_contents()
        for place, token in zip(hidden, case["shown"]):
            assert f"place {place} shows {token}" in shown

    painter.get_by_label("first word").select_option("2")
    check((2,), 0)
    painter.get_by_label("shows").select_option("2")
    check((2,), 2)
    painter.get_by_label("second word").select_option("1")  # the order of choosing does not matter
    check((1, 2), 2)
    painter.get_by_label("shows").select_option("1")
    check((1, 2), 1)
    painter.locator(".spots_marks path").nth(4).click()  # the fifth word that can be hidden, at place 5
    check((1, 5), 1)
    painter.locator(".spots_marks path").nth(6).click(modifiers=["Shift"])
    check((5, 7), 1)


def test_the_builder_puts_sentences_together(opened, figures):
    opened = opened()
    builder = opened.figure(5)

    def check(first, second):
        share = percent(figures["builder"].data["is_next"][first, second])
        truth = "B follows A." if first == second else "B comes from elsewhere."
        says(builder, f"Is next: {share} %. Random: {100 - share} %. In truth {truth}")
        assert f"A{first + 1}  {PAIRS[first][0]}" in builder.locator("svg text").all_text_contents()

    check(0, 0)
    builder.get_by_label("second sentence").select_option("1")
    check(0, 1)
    builder.get_by_label("first sentence").press("ArrowDown")
    check(1, 1)
    builder.locator(".spots_marks path").nth(
        6
    ).click()  # row by row: the third first sentence, the first second
    check(2, 0)


def test_narrow_and_dark_nothing_sticks_out_and_all_is_accessible(opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    opened = opened(viewport={"width": 390, "height": 844}, color_scheme="dark")
    for number in range(6):
        opened.figure(number)
    assert opened.page.evaluate(STICKING_OUT) == []
    found = axe.run(opened.page, context=".interactive-figure", options=AXE_OPTIONS).response
    serious = [v["id"] for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert serious == []


# Another choice, by a key that works in Chromium whatever is chosen now.
OTHER = """control => control.matches("select") ? (control.selectedIndex ? "ArrowUp" : "ArrowDown")
                              : (control.value === control.max ? "Home" : "End")"""


def test_every_control_in_the_chapters_works_by_keyboard_on_a_narrow_page(opened):
    from playwright.sync_api import expect

    opened = opened("chapters", viewport={"width": 390, "height": 844})
    names = [
        output["data"][interactive.MIME_TYPE]["name"]
        for path in CHAPTERS
        for _, output in stored_figures(path)
    ]
    assert opened.page.locator(".interactive-figure").count() == len(names) >= 7
    for number, name in enumerate(names):
        figure = opened.figure(number)
        drawn, controls = figure.locator("svg"), figure.locator("select, input").all()
        assert figure.locator(".message_marks text").first.text_content() and len(controls) >= 2
        for control in controls:
            before = drawn.text_content()
            control.press(control.evaluate(OTHER))
            expect(drawn, f"{name}, figure {number}").not_to_have_text(before, timeout=PATIENCE)
    assert opened.page.evaluate(STICKING_OUT) == []


def test_libraries_come_when_a_figure_comes_near(opened):
    opened = opened(viewport={"width": 1280, "height": 100})
    opened.page.evaluate("window.scrollTo(0, 0)")
    opened.page.wait_for_timeout(300)
    assert not [url for url in opened.requests if "/vega/" in url]
    opened.figure(5)
    opened.figure(0)
    after = [url.split("/")[-1] for url in opened.requests if "/vega/" in url]
    assert len(after) == 3  # once for all figures
    assert all((ROOT / "book/vendor/_static/vega" / name).is_file() for name in after)


def test_pages_without_figures_load_nothing_of_it(site):
    assert "interactive.js" in (site / "notebooks" / "figures.html").read_text()
    assert "interactive.js" not in (site / "index.html").read_text()


def test_the_still_picture_stands_in_on_paper_and_without_scripts(opened, browser, site):
    opened = opened()
    opened.figure(0)
    still = opened.page.locator("img.still").first
    assert still.get_attribute("alt") == "The still of explorer." and not still.is_visible()
    opened.page.emulate_media(media="print")
    assert still.is_visible() and not opened.page.locator(".interactive-figure").first.is_visible()
    bare = browser.new_context(java_script_enabled=False)
    page = bare.new_page()
    page.goto((site / "notebooks" / "figures.html").as_uri())
    assert page.locator("img.still").first.is_visible()
    bare.close()


def test_colab_gets_a_page_that_draws_itself(figures, browser, monkeypatch):
    """Colab shows HTML in a frame of its own; what that wants from the network, the book's copies answer."""
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    bundle = figures["explorer"]._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    context = browser.new_context()

    def answer(route):
        name = re.search(r"(vega(-lite|-embed)?)@", route.request.url)[1]
        route.fulfill(path=ROOT / "book" / "vendor" / "_static" / "vega" / f"{name}.min.js")

    context.route(re.compile("^https:"), answer)
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content(bundle["text/html"])
    page.locator("svg").wait_for(timeout=PATIENCE)
    page.get_by_label("layer").press("ArrowLeft")
    says(page, attention_sentence(figures["explorer"], 0, 2, 1))
    assert not errors
    context.close()
