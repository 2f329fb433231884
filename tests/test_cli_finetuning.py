"""The commands `finetune`, `evaluate` and `predict` for each kind of task: what they print, write, refuse."""

import io
import json
import statistics
import sys
import time

import pytest
import torch

from bert_edu import BertForPreTraining, BertModel, BertTokenizer
from bert_edu.cli.finetuning import _bar_of_steps
from bert_edu.data.tasks import read_squad, read_tagged, read_tsv
from bert_edu.finetuning import engine
from bert_edu.finetuning.baselines import baselines as simplest
from bert_edu.finetuning.classification import Classification
from bert_edu.finetuning.tagging import Tagging
from bert_edu.mini import FOLDER as MINI_FOLDER
from helpers import little_config, little_tokenizer, refuse, succeed

ANIMALS, PLACES = ["cow", "cat", "dog", "bird"], ["farm", "house", "wood", "river"]
WORDS = [*ANIMALS, *PLACES, "the", "lives", "in", "where", "does", "live", "?", "."]
TOKENIZER = little_tokenizer([*WORDS, "##s"])
CONFIG = little_config(TOKENIZER, max_position_embeddings=96, initializer_range=0.1)


def statements(count, shift):
    for number in range(count):
        yield ANIMALS[(number + shift) % 4], PLACES[(number // 4 + shift) % 4]


def write_files(folder, side, count, shift):
    said = list(statements(count, shift))
    rows = [
        f"{'home' if place in PLACES[:2] else 'wild'}\tThe {a} lives in the {place} ." for a, place in said
    ]
    (folder / f"{side}.tsv").write_text("label\tsentence\n" + "\n".join(rows) + "\n")
    numbers = [f"The {a} lives in the {place} .\t{10.5 + PLACES.index(place)}" for a, place in said]
    (folder / f"{side}-numbers.tsv").write_text("sentence\tlabel\n" + "\n".join(numbers) + "\n")
    blocks = [f"The O\n{a}s B-animal\nlives O\nin O\nthe O\n{place} B-place\n" for a, place in said]
    (folder / f"{side}.txt").write_text("\n".join(blocks))
    paragraphs = []
    for number, (animal, place) in enumerate(said):
        context = f"The {animal} lives in the {place}."
        answers = [{"text": place, "answer_start": context.index(place)}]
        entry = {"id": f"{side}{number}", "question": f"Where does the {animal} live?", "answers": answers}
        paragraphs.append({"context": context, "qas": [entry]})
    content = {"version": "1.1", "data": [{"title": "animals", "paragraphs": paragraphs}]}
    (folder / f"{side}.json").write_text(json.dumps(content))
    for number, paragraph in enumerate(paragraphs[::3]):  # version 2.0: some ask for what nobody said
        entry = {"id": f"none{number}", "question": "Where does the river live?", "answers": []}
        paragraph["qas"].append(entry | {"is_impossible": True})
    (folder / f"{side}-2.0.json").write_text(json.dumps(content | {"version": "2.0"}))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Training and development files of each kind, and a "pre-trained" model."""
    folder = tmp_path_factory.mktemp("files")
    write_files(folder, "train", 48, 0)
    write_files(folder, "dev", 12, 1)
    torch.manual_seed(0)
    BertForPreTraining(CONFIG).save_pretrained(folder / "model")
    TOKENIZER.save_pretrained(folder / "model")
    BertModel(CONFIG).save_pretrained(folder / "bare")
    return folder


QUICK = ["--batch-size", 8, "--precision", "float32", "--device", "cpu", "--learning-rate", 0.003]
KINDS = {
    "classify": (".tsv", ["accuracy", "macro_f1"], ["majority class", "bag of words"]),
    "tag": (".txt", ["accuracy", "f1"], ["most frequent tag"]),
    "qa": (".json", ["exact_match", "f1"], ["first sentence", "overlapping sentence"]),
}


def finetune(files, out, kind, *more, ending=None, model=None):
    ending = ending or KINDS[kind][0]
    return [
        *("finetune", kind, "--model", model or files / "model", "--out", out),
        *("--train", files / f"train{ending}", "--dev", files / f"dev{ending}", *QUICK, *more),
    ]


@pytest.fixture(scope="module", params=KINDS)
def made(request, files, tmp_path_factory):
    """A kind of task, the folder of two runs for it, and what the command said."""
    out = tmp_path_factory.mktemp("runs") / request.param
    more = ["--max-length", 80] if request.param == "qa" else []
    return request.param, out, succeed(*finetune(files, out, request.param, "--seeds", 2, *more))


def numbers(line):
    """The scores in a line of stdout, by name."""
    words = line[23:].split()
    return {name: float(value) for name, value in zip(words[::2], words[1::2])}


def test_baselines_first_then_each_seed_then_mean_and_deviation(made):
    kind, out, result = made
    _, names, baselines = KINDS[kind]
    lines = result.stdout.splitlines()
    titles = [line[:23].strip() for line in lines]
    assert titles == [*baselines, "seed 0", "seed 1", "mean +- sd", "model"]
    for line in lines[:-2]:
        assert list(numbers(line)) == names
    runs = [numbers(line) for line in lines[-4:-2]]
    for name in names:
        values = [run[name] for run in runs]
        words = lines[-2].split()
        at = words.index(name)
        assert words[at + 2] == "+-"
        assert float(words[at + 1]) == pytest.approx(statistics.fmean(values), abs=1e-4)
        assert float(words[at + 3]) == pytest.approx(statistics.stdev(values), abs=1e-4)
    assert lines[-1].split() == ["model", str(out)]
    epochs = [line for line in result.stderr.splitlines() if "epoch" in line]
    assert len(epochs) == 2 * engine.Recipe.epochs
    assert "48 examples to learn from, 12 to measure on" in result.stderr
    assert "\r" not in result.stderr  # the progress bar is for terminals


def test_what_the_folder_holds(made, files):
    kind, out, result = made
    ending, names, baselines = KINDS[kind]
    short, whole = (json.loads((out / file).read_text()) for file in ("result.json", "scores.json"))
    assert list(short) == names and whole["scores"] == short and list(whole["baselines"]) == baselines
    reader = {"classify": read_tsv, "tag": read_tagged, "qa": read_squad}[kind]
    train, dev = (reader(files / f"{side}{ending}") for side in ("train", "dev"))
    expected = {each.name: each.scores for each in simplest(train, dev)}
    assert whole["baselines"] == {name: pytest.approx(found) for name, found in expected.items()}
    printed = [line for line in result.stdout.splitlines() if line.startswith("seed ")]
    for name in names:
        values = short[name]["values"]
        assert short[name]["mean"] == pytest.approx(statistics.fmean(values))
        assert short[name]["sd"] == pytest.approx(statistics.stdev(values))
        assert [numbers(line)[name] for line in printed] == pytest.approx(values, abs=1e-4)
        assert [run["scores"][name] for run in whole["runs"]] == values
    assert [run["seed"] for run in whole["runs"]] == [0, 1]
    assert all(len(run["history"]) == engine.Recipe.epochs for run in whole["runs"])
    assert whole["task"] == kind and whole["command"][0] == "bert-edu"
    assert whole["recipe"]["batch_size"] == 8 and whole["recipe"]["learning_rate"] == 0.003
    assert whole["versions"]["torch"] == torch.__version__ and whole["versions"]["scikit-learn"]
    metric = whole["main_metric"]
    best = whole["best_seed"]
    assert short[metric]["values"][best] == max(short[metric]["values"])
    same = [
        (out / place / "model.safetensors").read_bytes() for place in ("", f"seed-{best}", f"seed-{1 - best}")
    ]
    assert same[0] == same[1] != same[2]


def test_evaluate_gives_the_same_scores(made, files):
    kind, out, _ = made
    ending, names, _ = KINDS[kind]
    whole = json.loads((out / "scores.json").read_text())
    best = whole["runs"][whole["best_seed"]]["scores"]
    command = ["evaluate", kind, "--model", out, "--data", files / f"dev{ending}"]
    found = json.loads(succeed(*command, "--json").stdout)
    assert {name: found[name] for name in names} == pytest.approx(best)
    assert found["examples"] == 12 and found["data"] == str(files / f"dev{ending}")
    shown = dict(line.split() for line in succeed(*command).stdout.splitlines())
    assert float(shown[names[0]]) == pytest.approx(best[names[0]], abs=1e-4)


def test_predictions_are_lines_of_json_with_probabilities(made, files, tmp_path):
    kind, out, _ = made
    ending, names, _ = KINDS[kind]
    command = ["predict", kind, "--model", out, "--data", files / f"dev{ending}"]
    result = succeed(*command)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == 12
    if kind == "classify":
        gold = [example.label for example in read_tsv(files / "dev.tsv")]
        score = statistics.fmean(one["label"] == label for one, label in zip(found, gold))
        assert all(sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5) for one in found)
    elif kind == "tag":
        gold = ["O", "B-animal", "O", "O", "O", "B-place"]
        score = statistics.fmean(tag == right for one in found for tag, right in zip(one["tags"], gold))
        assert all(0 < share <= 1 for one in found for share in one["probabilities"])
        assert found[0]["words"] == ["The", "cats", "lives", "in", "the", "house"]
    else:
        gold = [place for _, place in statements(12, 1)]
        score = statistics.fmean(one["answer"] == place for one, place in zip(found, gold))
        assert all(0 < one["probability"] <= 1 for one in found)
    short = json.loads((out / "scores.json").read_text())
    assert score == pytest.approx(short["runs"][short["best_seed"]]["scores"][names[0]])

    place = tmp_path / "found.jsonl"
    written = succeed(*command, "--out", place)
    assert place.read_text() == result.stdout and written.stdout == "" and "12 predictions" in written.stderr
    place.write_text("mine")
    assert "nothing is written over" in refuse(*command, "--out", place)
    assert place.read_text() == "mine"


def test_predictions_need_no_labels(made, files, tmp_path):
    kind, out, _ = made
    ending = KINDS[kind][0]
    bare = tmp_path / f"bare{ending}"
    if kind == "classify":
        texts = [example.first for example in read_tsv(files / "dev.tsv")]
        bare.write_text("sentence\n" + "\n".join(texts) + "\n")
    elif kind == "tag":
        lines = (files / "dev.txt").read_text().splitlines()
        bare.write_text("\n".join(line.split(" ")[0] for line in lines))
    else:
        content = json.loads((files / "dev.json").read_text())
        for paragraph in content["data"][0]["paragraphs"]:
            del paragraph["qas"][0]["answers"]
        bare.write_text(json.dumps(content))
    with_labels = succeed("predict", kind, "--model", out, "--data", files / f"dev{ending}")
    assert succeed("predict", kind, "--model", out, "--data", bare).stdout == with_labels.stdout
    assert "error" in refuse("evaluate", kind, "--model", out, "--data", bare)
    if kind != "qa":  # labels that training never saw do not matter
        strange = tmp_path / f"strange{ending}"
        text = (files / f"dev{ending}").read_text()
        strange.write_text(text.replace("home\t", "sea\t").replace("B-place", "B-sea"))
        assert succeed("predict", kind, "--model", out, "--data", strange).stdout == with_labels.stdout
        assert "sea" in refuse("evaluate", kind, "--model", out, "--data", strange)


def test_it_learns(made):
    kind, out, _ = made
    whole = json.loads((out / "scores.json").read_text())
    if kind != "qa":  # that takes longer than a test may
        assert whole["scores"][whole["main_metric"]]["mean"] > 0.8  # of six seeds' the worst two have 0.87
    first, last = whole["runs"][0]["history"][0], whole["runs"][0]["history"][-1]
    assert last["loss"] < 0.9 * first["loss"]


def test_numbers_as_labels_make_a_regression(files, tmp_path):
    result = succeed(*finetune(files, tmp_path / "out", "classify", "--epochs", 8, ending="-numbers.tsv"))
    lines = {line[:23].strip(): line for line in result.stdout.splitlines()}
    assert list(lines) == ["mean", "bag of words", "seed 0", "model"]
    assert numbers(lines["seed 0"])["pearson"] > 0.9 and numbers(lines["mean"])["pearson"] == 0
    data = files / "dev-numbers.tsv"
    found = json.loads(
        succeed("evaluate", "classify", "--model", tmp_path / "out", "--data", data, "--json").stdout
    )
    assert found["pearson"] == pytest.approx(numbers(lines["seed 0"])["pearson"], abs=1e-3)
    whole = tmp_path / "whole.tsv"  # whole numbers are numbers too, where training had numbers
    whole.write_text("label\tsentence\n10\tThe cow lives in the farm .\n13\tThe cow lives in the river .\n")
    succeed("evaluate", "classify", "--model", tmp_path / "out", "--data", whole)
    predicted = succeed("predict", "classify", "--model", tmp_path / "out", "--data", data).stdout
    assert json.loads(predicted.splitlines()[0]).keys() == {"label"}
    assert json.loads((tmp_path / "out" / "result.json").read_text())["pearson"]["sd"] is None


def test_questions_without_an_answer_get_a_threshold(files, tmp_path):
    def scores(*more):
        command = ["evaluate", "qa", "--model", out, "--data", files / "dev-2.0.json", "--json"]
        return json.loads(succeed(*command, *more).stdout)

    def answers(*more):
        found = succeed("predict", "qa", "--model", out, "--data", files / "dev-2.0.json", *more).stdout
        return [json.loads(line)["answer"] for line in found.splitlines()]

    out, short = tmp_path / "out", ["--max-length", 80, "--max-steps", 10]
    result = succeed(*finetune(files, out, "qa", *short, ending="-2.0.json"))
    shown = {line[:23].strip(): line[23:] for line in result.stdout.splitlines()}
    assert list(shown)[0] == "no answer" and list(shown)[-2:] == ["null_threshold", "model"]
    record = json.loads((out / "scores.json").read_text())
    threshold = record["null_threshold"]
    assert float(shown["null_threshold"]) == pytest.approx(threshold, abs=1e-4) and threshold != 0
    own = scores()
    assert own["null_threshold"] == threshold
    assert own["f1"] == pytest.approx(record["scores"]["f1"]["mean"])
    assert own["f1"] >= scores("--null-threshold", 0)["f1"]
    assert scores("--null-threshold", 1000)["unanswerable_accuracy"] == 0
    assert all(answers("--null-threshold", 1000))
    nothing = scores("--null-threshold", -1000)
    assert nothing["unanswerable_accuracy"] == 1 and nothing["null_threshold"] == -1000
    assert set(answers("--null-threshold", "-1e3")) == {""}

    given = [*short, "--null-threshold", -1.5]
    succeed(*finetune(files, tmp_path / "given", "qa", *given, ending="-2.0.json"))
    for folder in (tmp_path / "given", tmp_path / "given" / "seed-0"):
        assert json.loads((folder / "finetuning.json").read_text())["null_threshold"] == -1.5
    assert "finite" in refuse(*finetune(files, tmp_path / "x", "qa", "--null-threshold", "nan"))


def test_a_threshold_where_every_question_has_an_answer_is_refused(files, tmp_path):
    words = "--null-threshold is for questions that may have no answer"
    out, more = tmp_path / "out", ["--max-length", 80, "--max-steps", 1]
    assert words in refuse(*finetune(files, out, "qa", *more, "--null-threshold", 1))
    assert not out.exists()
    result = succeed(*finetune(files, out, "qa", *more))
    assert "null_threshold" not in result.stdout + (out / "result.json").read_text()
    for verb in ("evaluate", "predict"):
        command = [verb, "qa", "--model", out, "--data", files / "dev.json"]
        assert words in refuse(*command, "--null-threshold", 1)
        assert "null_threshold" not in succeed(*command).stdout


def recipe_of(out):
    return json.loads((out / "scores.json").read_text())["recipe"]


def test_options_reach_the_recipe(files, tmp_path, monkeypatch):
    seen = {}
    own = engine.several_seeds

    def several_seeds_that_tells(task, *arguments, **more):
        seen["task"] = task
        return own(task, *arguments, **more)

    monkeypatch.setattr(engine, "several_seeds", several_seeds_that_tells)
    given = {"epochs": 2, "batch-size": 5, "learning-rate": 0.01, "layer-decay": 0.5, "dropout": 0.25}
    given |= {"max-steps": 3, "seed": 8, "precision": "bf16", "device": "cpu"}
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    more = [*options, "--max-length", 20, "--class-weights", "--init-random"]
    succeed(*finetune(files, tmp_path / "one", "classify", *more))
    recipe = recipe_of(tmp_path / "one")
    for name, value in given.items():
        assert recipe[name.replace("-", "_")] == value
    assert recipe["init_random"] is True and recipe["frozen"] is False
    assert seen["task"].max_length == 20 and seen["task"].class_weights is not None
    assert (tmp_path / "one" / "seed-8").is_dir()

    plain = ["--train", files / "train.tsv", "--dev", files / "dev.tsv", "--max-steps", 1]
    for name, extra in (("tuned", []), ("frozen", ["--frozen"])):
        succeed("finetune", "classify", "--model", files / "model", "--out", tmp_path / name, *plain, *extra)
    tuned, frozen = recipe_of(tmp_path / "tuned"), recipe_of(tmp_path / "frozen")
    assert (tuned["epochs"], tuned["learning_rate"], tuned["frozen"]) == (4, 3e-4, False)
    assert {name: frozen[name] for name in engine.HEAD_ALONE} == engine.HEAD_ALONE and frozen["frozen"]
    succeed(*finetune(files, tmp_path / "given", "classify", "--frozen", "--epochs", 2, "--max-steps", 1))
    given = recipe_of(tmp_path / "given")
    assert (given["epochs"], given["learning_rate"]) == (2, 0.003)  # what is asked for comes first
    assert seen["task"].max_length == 96 and seen["task"].class_weights is None  # what the model takes
    more = ["--max-length", 90, "--stride", 7, "--max-steps", 1]
    succeed(*finetune(files, tmp_path / "qa", "qa", *more))
    assert (seen["task"].max_length, seen["task"].stride) == (90, 7)


def test_frozen_leaves_the_encoder_alone(files, tmp_path):
    succeed(*finetune(files, tmp_path / "out", "tag", "--frozen", "--epochs", 2))
    _, model = Tagging.load(tmp_path / "out")
    before = BertModel.from_pretrained(files / "model", add_pooling_layer=False).state_dict()
    assert all(torch.equal(weight, before[name]) for name, weight in model.bert.state_dict().items())


def test_mini_is_the_model_of_the_book(tmp_path, files):
    more = ["--max-steps", 1, "--max-length", 16]
    succeed(*finetune(files, tmp_path / "out", "classify", *more, model="mini"))
    task, model = Classification.load(tmp_path / "out")
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (4, 256)
    assert model.config.hidden_dropout_prob == 0.1
    assert task.tokenizer.vocab == BertTokenizer.from_pretrained(MINI_FOLDER).vocab
    filled = [succeed("fill-mask", "--model", name, "a [MASK] .").stdout for name in ("mini", MINI_FOLDER)]
    assert filled[0] == filled[1]


def test_a_bar_of_steps_on_a_terminal_counts_the_steps_of_each_seed(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with _bar_of_steps() as progress:
        for done in (10, 40, 1, 30):  # the second seed begins at 1
            time.sleep(0.15)  # it is not drawn more often
            progress(done, 40)
        drawn = sys.stderr.getvalue().split("\r")
        assert any("40/40 steps" in line for line in drawn) and "30/40 steps" in drawn[-1]


# ---- What is refused ---------------------------------------------------------------------------------------


def test_bad_files_are_named(files, tmp_path):
    out, train = tmp_path / "out", files / "train.tsv"
    bad = tmp_path / "bad.tsv"

    def complaint(kind="classify", train=train, dev=bad):
        options = ["--model", files / "model", "--out", out, "--train", train, "--dev", dev]
        return refuse("finetune", kind, *options, *QUICK)

    bad.write_text("label\tsentence\nhome\tThe cow .\nsea\tThe fish .\n")
    message = complaint()
    assert f"{bad}, line 3" in message and "'sea'" in message and "home, wild" in message
    assert f"{bad}, line 3" in complaint_of_evaluation(files, tmp_path, bad)
    bad.write_text("label\ttitle\nhome\tThe cow .\n")
    assert str(bad) in complaint() and "'title'" in complaint()
    bad.write_text("")
    assert f"{bad} is empty" in complaint()
    assert "nothing.tsv" in complaint(dev=tmp_path / "nothing.tsv")
    bad.write_text("label\tsentence\nhome\tThe cow .\nhome\tThe cat .\n")
    assert "at least two different classes" in complaint(train=bad, dev=train)
    bad.write_text("The O\ncow B-animal\n\nthe O\nsea B-sea\n")
    message = complaint("tag", files / "train.txt")
    assert str(bad) in message and "sentence 2" in message and "'B-sea'" in message and "word 2" in message
    assert "JSON" in complaint("qa", files / "train.json")
    assert not out.exists()


def complaint_of_evaluation(files, tmp_path, data):
    made = tmp_path / "for-evaluation"
    if not made.exists():
        succeed(*finetune(files, made, "classify", "--max-steps", 1))
    return refuse("evaluate", "classify", "--model", made, "--data", data)


def test_answers_that_are_not_in_the_text_are_counted_and_left_out(files, tmp_path):
    content = json.loads((files / "dev.json").read_text())
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] = 1
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(content))
    options = ["--train", bad, "--dev", bad, "--max-length", 80, "--max-steps", 1, *QUICK]
    result = succeed("finetune", "qa", "--model", files / "model", "--out", tmp_path / "out", *options)
    assert "left out 1 of the answers" in result.stderr and "11 examples to learn from" in result.stderr


def test_nothing_is_written_over_and_nothing_is_half_done(files, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    assert "not empty" in refuse(*finetune(files, tmp_path / "full", "classify"))
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    out = tmp_path / "out"
    for words, message in (
        (["--max-length", 97], "96 positions"),
        (["--learning-rate", 0], "learning_rate"),
        (["--layer-decay", 0], "layer_decay"),
        (["--layer-decay", 0.5, "--frozen"], "do not freeze"),
        (["--device", "cuda:99x"], "device"),
    ):
        assert message in refuse(*finetune(files, out, "classify", *words))
    assert "has no tokenizer" in refuse(*finetune(files, out, "classify", model=files / "bare"))
    (tmp_path / "void").mkdir()
    assert str(tmp_path / "void") in refuse(*finetune(files, out, "classify", model=tmp_path / "void"))
    assert "is no folder here" in refuse(*finetune(files, out, "classify", model=tmp_path / "nowhere"))
    assert not out.exists()


def test_a_model_for_another_task_is_refused(made, files):
    kind, out, _ = made
    other = {"classify": "tag", "tag": "qa", "qa": "classify"}[kind]
    ending = KINDS[other][0]
    for verb in ("evaluate", "predict"):
        message = refuse(verb, other, "--model", out, "--data", files / f"dev{ending}")
        assert "is needed, and the model in" in message and "bert-edu finetune" in message


def test_a_loss_that_is_not_finite_is_an_error_of_one_line(files, tmp_path):
    message = refuse(*finetune(files, tmp_path / "out", "classify", "--learning-rate", 1e38))
    assert "not finite" in message or "the loss is" in message
    assert not (tmp_path / "out").exists()
