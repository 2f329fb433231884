"""The program `bert-edu`, run as people run it: what it prints, writes, refuses, and how it stops."""

import inspect
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch
import typer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import bert_edu
from bert_edu import BertForPreTraining, BertTokenizer
from bert_edu.cli import app, main
from bert_edu.cli.pretraining import _progress_bar
from bert_edu.data.corpus import load
from bert_edu.data.pretraining import TokenStore
from bert_edu.data.vocabulary import train_vocabulary
from bert_edu.embeddings import sinusoidal_positions
from bert_edu.heads import IGNORE
from bert_edu.training import checkpoint, loop
from bert_edu.training.checkpoint import list_checkpoints
from bert_edu.training.preparation import held_out_batches
from helpers import bert, little_tokenizer, refuse, succeed

ROOT = Path(__file__).parent.parent
FOOD = {"cow": "grass", "cat": "milk", "dog": "meat", "bird": "seeds", "bear": "honey"}
SWAPPED = dict(zip(FOOD, [*list(FOOD.values())[1:], "grass"]))  # everybody eats what is not theirs


def farm(count, food=FOOD):
    """Documents about one animal each, in which whoever reads the neighbours knows the hidden word."""
    documents = []
    for number in range(count):
        animal = list(food)[number % len(food)]
        sentences = [f"The {animal} eats {food[animal]}.", f"We gave {food[animal]} to the {animal}."]
        documents.append("\n".join(sentences[(number >> turn) % 2] for turn in range(6)))
    return "\n\n".join(documents) + "\n"


SMALL = ["--vocab-size", 200, "--max-length", 24, "--batch-tokens", 64]  # a tiny model takes some 5 ms a step
RUN = [*SMALL, "--max-steps", 3]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "farm.txt").write_text(farm(300))
    (folder / "swapped.txt").write_text(farm(60, SWAPPED))
    (folder / "one_word.txt").write_text("cow\n")
    (folder / "empty.txt").write_text(" \n\n")
    (folder / "picture.txt").write_bytes(bytes(range(256)))
    (folder / "novel.txt").write_text(farm(8).replace("\n\n", "\n"))
    return folder


@pytest.fixture(scope="module")
def trained(texts, tmp_path_factory):
    """A model that has learned who eats what, and the run that made it."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    arguments = ["--corpus", texts / "farm.txt", *SMALL, "--batch-tokens", 256, "--max-steps", 250]
    arguments += ["--learning-rate", 2e-3, "--initializer-range", 0.08, "--evaluate-every", 125]
    return out, succeed("pretrain", "--out", out, *arguments)


@pytest.fixture(scope="module")
def short_run(texts, tmp_path_factory):
    """A folder in which a run of three steps has ended; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "short"
    succeed("pretrain", "--out", out, "--corpus", texts / "farm.txt", *RUN)
    return out


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out):
    return load_file(out / "model.safetensors")


def same_weights(a, b):
    a, b = weights(a), weights(b)
    assert set(a) == set(b)
    return all(torch.equal(a[name], b[name]) for name in a)


# ---- Help --------------------------------------------------------------------------------------------------


def commands(group=None, names=()):
    """Every command with the words that call it."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*names, name))
        else:
            yield (*names, name), command


COMMANDS = dict(commands())


def test_the_commands_are_those_of_the_design():
    tasks = {
        (verb, task) for verb in ("finetune", "evaluate", "predict") for task in ("classify", "tag", "qa")
    }
    others = {
        ("pretrain",),
        ("fill-mask",),
        ("tokenizer", "train"),
        ("evaluate", "mlm"),
        ("bench",),
        ("doctor",),
    }
    of_a_course = {("check",), ("preflight",), ("grade",), ("gradescope", "zip"), ("gradescope", "run")}
    assert set(COMMANDS) == tasks | others | of_a_course


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_help_names_every_option_says_what_it_does_and_shows_its_default(names):
    text = " ".join(succeed(*names, "--help").stdout.split())
    for parameter in COMMANDS[names].params:
        if parameter.name == "help":
            continue
        assert max(parameter.opts, key=len) in text or parameter.make_metavar(None) in text
        assert " ".join(parameter.help.split()) in text, parameter.name
        if isinstance(parameter.default, int | float | str) and not isinstance(parameter.default, bool):
            assert re.search(rf"default: {re.escape(str(parameter.default))}\b", text), parameter.name


def examples(text):
    """The command lines that a help text shows."""
    text = text.replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.strip().startswith("bert-edu ")]


@pytest.mark.parametrize("names", [(), *COMMANDS], ids=lambda names: " ".join(names) or "bert-edu")
def test_the_examples_in_the_help_can_be_typed(names):
    found = examples(succeed(*names, "--help").stdout)
    assert found
    for _, *words in found:
        called = next(called for called in COMMANDS if called == tuple(words[: len(called)]))
        if names:
            assert called == names
        COMMANDS[called].make_context("bert-edu", words[len(called) :])  # raises for what it does not know


@pytest.mark.parametrize("arguments", [[], ["evaluate"], ["tokenizer"], ["finetune"], ["predict"]])
def test_a_group_alone_shows_its_help(arguments):
    assert "Commands:" in bert(*arguments).output


def test_the_entry_point_and_python_m_are_the_same_program():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"bert-edu": f"{main.__module__}:{main.__name__}"}
    assert "from .cli import main" in (ROOT / "bert_edu" / "__main__.py").read_text()
    assert inspect.isfunction(main)
    done = run_program("--version")
    assert done.stdout.startswith(f"bert-edu {bert_edu.__version__}, PyTorch {torch.__version__}")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["pretrain"], "--out"),
        (["pretrain", "--out", "x", "--steps", "5"], "--steps"),
        (["pretrain", "--out", "x", "--preset", "huge"], "huge"),
        (["pretrain", "--out", "x", "--max-steps", "0"], "max-steps"),
        (["pretrain", "--out", "x", "--dropout", "1.5"], "dropout"),
        (["pretrain", "--out", "x", "--initializer-range", "0"], "initializer-range"),
        (["evaluate", "mlm", "--model", "x"], "--data"),
        (["fill-mask", "--model", "x"], "TEXT"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = bert(*arguments)
    assert result.exit_code == 2 and words in result.stderr and not list(tmp_path.iterdir())


# ---- A run -------------------------------------------------------------------------------------------------


def test_what_a_run_leaves(trained, texts):
    out, _ = trained
    model, tokenizer = BertForPreTraining.from_pretrained(out), BertTokenizer.from_pretrained(out)
    assert model.config.vocab_size == len(tokenizer)
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (2, 128)
    lines = metrics(out)
    assert [line["step"] for line in lines if "valid" not in line] == list(range(1, 251))
    assert [line["step"] for line in lines if "valid" in line] == [125, 250]
    record = json.loads((out / "run.json").read_text())
    assert record["command"][0] == "bert-edu"
    assert record["versions"]["torch"] == torch.__version__
    assert record["vocabulary"] == {"size": len(tokenizer), "method": "frequency"}
    train, valid = record["train"][0], record["valid"][0]
    assert train["name"] == valid["name"] == str(texts / "farm.txt")
    assert (train["split"], valid["split"]) == ("train", "valid")
    assert train["documents"] + valid["documents"] == 300 and valid["documents"] > 0
    assert len(train["fingerprint"]) == 64 and train["fingerprint"] != valid["fingerprint"]
    ids = (out / "ids" / "train-0" / "ids.bin").stat().st_size // 2
    assert ids == train["tokens"]


def test_stdout_has_the_last_measurement_and_stderr_the_rest(trained):
    out, result = trained
    shown = dict(line.split() for line in result.stdout.splitlines())
    assert shown["model"] == str(out)
    last = metrics(out)[-1]["valid"]
    measured = ("mask_accuracy", "mlm_loss", "perplexity", "bits_per_character", "nsp_accuracy")
    for name in (*measured, "nsp_balanced_accuracy"):
        assert float(shown[name]) == pytest.approx(last[name], abs=1e-4)
    V = len(BertTokenizer.from_pretrained(out))
    assert (int(shown["scored"]), int(shown["vocab_size"])) == (last["scored"], V)
    assert "step    100  mlm" in result.stderr and "step    250  held-out: [MASK]" in result.stderr
    assert f"a vocabulary of {V} tokens, and no more" in result.stderr
    assert "\r" not in result.stderr  # the progress bar is for terminals


def test_a_progress_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for recipe, steps, seconds in (
        (loop.Recipe(max_steps=40), 10, 99),
        (loop.Recipe(max_seconds=40), 99, 10.9),
    ):
        monkeypatch.setattr(sys, "stderr", Terminal())
        with _progress_bar(recipe) as progress:
            time.sleep(0.15)  # it is not drawn more often
            progress(steps, seconds)
            assert "10/40" in sys.stderr.getvalue()
            time.sleep(0.15)
            progress(steps + 35, seconds + 35)  # a run by seconds ends a little late
            assert "40/40" in sys.stderr.getvalue()


def test_the_same_command_gives_the_same_weights(short_run, texts, tmp_path):
    arguments = ["--corpus", texts / "farm.txt", *RUN]
    succeed("pretrain", "--out", tmp_path / "again", *arguments)
    succeed("pretrain", "--out", tmp_path / "other", *arguments, "--seed", 1)
    assert same_weights(tmp_path / "again", short_run)
    assert not same_weights(tmp_path / "other", short_run)


def test_several_corpora_a_given_tokenizer_and_held_out_text(short_run, texts, tmp_path):
    corpora = ["--corpus", texts / "farm.txt", "--corpus", texts / "novel.txt"]
    arguments = [
        "--valid",
        texts / "swapped.txt",
        "--tokenizer",
        short_run,
        "--max-length",
        24,
        "--max-steps",
        1,
    ]
    succeed("pretrain", "--out", tmp_path, *corpora, *arguments)
    record = json.loads((tmp_path / "run.json").read_text())
    assert [(entry["split"], entry["documents"]) for entry in record["train"]] == [("all", 300), ("all", 1)]
    assert [(entry["split"], entry["documents"]) for entry in record["valid"]] == [("all", 60)]
    assert record["vocabulary"]["method"] == "given"
    assert BertTokenizer.from_pretrained(tmp_path).vocab == BertTokenizer.from_pretrained(short_run).vocab


def test_some_500_inputs_are_measured_while_a_run_goes_on(short_run, texts, tmp_path):
    tokenizer = BertTokenizer.from_pretrained(short_run)
    store = TokenStore.build(load(texts / "farm.txt", "all"), tokenizer)

    def inputs(batches):
        return sum(len(batch.input_ids) for batch in batches)

    some = held_out_batches(store, tokenizer, max_length=24, rows=500)
    assert 500 - 4096 // 24 < inputs(some) <= 500 < inputs(held_out_batches(store, tokenizer, max_length=24))
    for batch in some:
        assert (batch.input_ids[batch.labels != IGNORE] == tokenizer.mask_token_id).all()
    corpora = ["--corpus", texts / "novel.txt", "--valid", texts / "farm.txt", "--tokenizer", short_run]
    result = succeed("pretrain", "--out", tmp_path, *corpora, "--max-length", 24, "--max-steps", 1)
    scored = sum(int((batch.labels != IGNORE).sum()) for batch in some)
    assert ["scored", str(scored)] in [line.split() for line in result.stdout.splitlines()]


def test_a_corpus_of_one_document_has_nothing_to_hold_out(texts, tmp_path):
    result = succeed("pretrain", "--out", tmp_path, "--corpus", texts / "novel.txt", *RUN)
    assert "nothing is held out of" in result.stderr and "mask_accuracy" not in result.stdout
    assert json.loads((tmp_path / "run.json").read_text())["valid"] == []
    assert len(metrics(tmp_path)) == 3


def test_options_of_a_new_model(texts, tmp_path):
    arguments = ["--corpus", texts / "farm.txt", *SMALL, "--max-steps", 1, "--learning-rate", 1e-9]
    changes = ["--initializer-range", 0.05, "--sinusoids", "--dropout", 0.25, "--preset", "mini"]
    succeed("pretrain", "--out", tmp_path / "plain", *arguments)
    succeed("pretrain", "--out", tmp_path / "changed", *arguments, *changes)
    plain = BertForPreTraining.from_pretrained(tmp_path / "plain")
    changed = BertForPreTraining.from_pretrained(tmp_path / "changed")
    assert (plain.config.hidden_dropout_prob, changed.config.hidden_dropout_prob) == (0.0, 0.25)
    assert changed.config.attention_probs_dropout_prob == 0.25
    assert (changed.config.num_hidden_layers, changed.config.hidden_size) == (4, 256)
    # cut at two standard deviations, a normal distribution has 0.8796 of its spread
    spread = changed.bert.encoder.layers[0].feed_forward.expand.weight.std().item()
    assert spread == pytest.approx(0.05 * 0.8796, rel=0.01)
    table = changed.bert.embeddings.position.weight
    waves = sinusoidal_positions(*table.shape)
    torch.testing.assert_close(table, waves * (0.05 * 2**0.5), rtol=0, atol=1e-6)
    assert (plain.bert.embeddings.position.weight - waves[:, :128]).abs().max() > 0.5


# ---- Stop and go on ----------------------------------------------------------------------------------------


def environment():
    return os.environ | {"PYTHONPATH": str(Path(bert_edu.__file__).parent.parent), "OMP_NUM_THREADS": "1"}


def run_program(*arguments):
    command = [sys.executable, "-m", "bert_edu", *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a single process")
def test_ctrl_c_saves_and_resume_ends_bitwise_equal(texts, tmp_path):
    corpus, killed, straight = tmp_path / "farm.txt", tmp_path / "killed", tmp_path / "straight"
    shutil.copy(texts / "farm.txt", corpus)
    arguments = ["--corpus", corpus, *SMALL, "--max-steps", 150, "--dropout", 0.1]
    command = [sys.executable, "-m", "bert_edu", "pretrain", "--out", killed, *arguments]
    with subprocess.Popen(
        list(map(str, command)), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        deadline = time.monotonic() + 120
        while not (killed / "metrics.jsonl").is_file():  # written after the first step
            assert program.poll() is None and time.monotonic() < deadline, program.communicate()
            time.sleep(0.02)
        program.send_signal(signal.SIGINT)
        stdout, stderr = program.communicate(timeout=60)
    assert program.returncode == 130, stderr
    assert stdout == "" and "Traceback" not in stderr
    stopped = int(re.search(r"stopped after step (\d+); --resume goes on from here", stderr)[1])
    assert stderr.splitlines()[-1] == "bert-edu: interrupted: by Ctrl-C"
    assert 1 <= stopped < 150
    assert [path.name for path in list_checkpoints(killed)] == [f"step-{stopped:08d}"]
    assert len(metrics(killed)) == stopped
    assert BertForPreTraining.from_pretrained(killed).load_report.missing == []  # usable as it is

    corpus.unlink()  # the text is not read again
    resumed = succeed("pretrain", "--out", killed, "--resume")
    assert f"resuming after step {stopped}" in resumed.stderr
    shutil.copy(texts / "farm.txt", corpus)
    succeed("pretrain", "--out", straight, *arguments)
    assert same_weights(killed, straight)
    assert [line["step"] for line in metrics(killed)] == [line["step"] for line in metrics(straight)]


def test_ctrl_c_waits_for_the_step_and_a_second_one_does_not():
    before = signal.getsignal(signal.SIGINT)
    with loop.interrupts_noted() as pressed:
        assert not pressed()
        signal.raise_signal(signal.SIGINT)
        assert pressed()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_before_the_first_step(texts, tmp_path, monkeypatch):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("bert_edu.training.preparation.train_vocabulary", interrupted)
    result = bert("pretrain", "--out", tmp_path / "run", "--corpus", texts / "farm.txt", *RUN)
    assert result.exit_code == 130 and result.stderr.endswith("bert-edu: interrupted: by Ctrl-C\n")
    monkeypatch.undo()
    succeed("pretrain", "--out", tmp_path / "run", "--corpus", texts / "farm.txt", *RUN)


def test_resume_begins_where_there_is_nothing_and_ends_where_all_is_done(texts, tmp_path):
    command = ["pretrain", "--out", tmp_path / "run", "--corpus", texts / "farm.txt", *RUN, "--resume"]
    first = succeed(*command)
    weights_before = weights(tmp_path / "run")
    second = succeed(*command)
    assert "resuming after step 3" in second.stderr and second.stdout == first.stdout
    assert all(torch.equal(weights_before[name], value) for name, value in weights(tmp_path / "run").items())


def test_a_run_may_be_made_longer_but_not_another(short_run, texts, tmp_path):
    out = shutil.copytree(short_run, tmp_path / "run")
    for option, value in (("--max-length", 20), ("--seed", 5), ("--corpus", "pydocs"), ("--preset", "mini")):
        message = refuse("pretrain", "--out", out, "--resume", option, value)
        assert f"started with {option}" in message and str(value) in message
    assert [line["step"] for line in metrics(out)][-1] == 3
    succeed("pretrain", "--out", out, "--resume", "--max-steps", 5, "--max-length", 24)
    assert [line["step"] for line in metrics(out) if "valid" not in line] == [1, 2, 3, 4, 5]
    state = json.loads((list_checkpoints(out)[0] / "state.json").read_text())
    succeed("pretrain", "--out", out, "--resume", "--max-seconds", state["seconds"] + 1)
    assert metrics(out)[-1]["step"] > 5


def test_a_full_disk_leaves_the_last_checkpoint(texts, tmp_path, monkeypatch):
    def full(*arguments):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    out = tmp_path / "run"
    succeed("pretrain", "--out", out, "--corpus", texts / "farm.txt", *RUN)
    monkeypatch.setattr(checkpoint, "save_file", full)
    assert "No space left" in refuse("pretrain", "--out", out, "--resume", "--max-steps", 6)
    monkeypatch.undo()
    assert checkpoint.newest_whole(out).name == "step-00000003"
    succeed("pretrain", "--out", out, "--resume", "--max-steps", 6)


def test_a_loss_that_is_not_finite(texts, tmp_path):
    arguments = ["--corpus", texts / "farm.txt", *SMALL, "--max-steps", 50, "--learning-rate", 1e30]
    message = refuse("pretrain", "--out", tmp_path / "run", *arguments)
    assert "not finite at step" in message and "lower learning rate" in message


# ---- A second phase ----------------------------------------------------------------------------------------


def test_init_goes_on_from_a_model(trained, texts, tmp_path):
    out, _ = trained
    arguments = ["--max-length", 48, "--batch-tokens", 256, "--max-steps", 1, "--learning-rate", 1e-9]
    succeed("pretrain", "--out", tmp_path / "b", "--init", out, "--corpus", texts / "farm.txt", *arguments)
    before, after = weights(out), weights(tmp_path / "b")
    assert all(torch.allclose(before[name], after[name], rtol=0, atol=1e-7) for name in before)
    assert BertTokenizer.from_pretrained(tmp_path / "b").vocab == BertTokenizer.from_pretrained(out).vocab
    assert metrics(tmp_path / "b")[0]["mlm_loss"] < 2 < metrics(out)[0]["mlm_loss"]


def test_init_with_longer_inputs(short_run, texts, tmp_path):
    """Training begins with copies of the positions that were trained; a tiny rate leaves them as they are."""
    arguments = ["--corpus", texts / "farm.txt", "--max-length", 60, "--batch-tokens", 64, "--max-steps", 1]
    arguments += ["--learning-rate", 1e-12, "--repeat-positions", 24]
    succeed("pretrain", "--out", tmp_path, "--init", short_run, *arguments)
    table = weights(tmp_path)["bert.embeddings.position_embeddings.weight"]
    before = weights(short_run)["bert.embeddings.position_embeddings.weight"]
    torch.testing.assert_close(table[:24], before[:24])
    torch.testing.assert_close(table[24:48], before[:24])
    assert not torch.allclose(before[24:48], before[:24])


def test_init_with_other_dropout(short_run, texts, tmp_path):
    arguments = [
        "--corpus",
        texts / "farm.txt",
        "--max-length",
        24,
        "--max-steps",
        1,
        "--learning-rate",
        1e-9,
    ]
    succeed("pretrain", "--out", tmp_path, "--init", short_run, *arguments, "--dropout", 0.3)
    model = BertForPreTraining.from_pretrained(tmp_path)
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.3}
    name = "bert.embeddings.word_embeddings.weight"
    torch.testing.assert_close(weights(tmp_path)[name], weights(short_run)[name], rtol=0, atol=1e-7)


# ---- evaluate mlm ------------------------------------------------------------------------------------------


def evaluate(model, data, *arguments):
    return json.loads(
        succeed("evaluate", "mlm", "--model", model, "--data", data, *arguments, "--json").stdout
    )


def test_evaluation_tells_what_was_learned_from_what_was_not(trained, texts):
    out, _ = trained
    known, unknown = evaluate(out, texts / "farm.txt"), evaluate(out, texts / "swapped.txt")
    assert known["mask_accuracy"] > 0.75 > unknown["mask_accuracy"]
    assert known["mlm_loss"] < unknown["mlm_loss"]
    assert known["bits_per_character"] < unknown["bits_per_character"]
    V = len(BertTokenizer.from_pretrained(out))
    assert (known["vocab_size"], known["max_length"], known["split"]) == (V, 24, "all")
    assert set(known) == {
        *("mask_accuracy", "mlm_loss", "perplexity", "bits_per_character", "nsp_accuracy"),
        *("nsp_balanced_accuracy", "scored"),
        *("vocab_size", "max_length", "data", "split", "fingerprint"),
    }


def test_evaluation_can_be_repeated_and_chosen(trained, texts):
    out, _ = trained
    data = texts / "farm.txt"
    first = evaluate(out, data, "--split", "valid")
    assert first == evaluate(out, data, "--split", "valid")
    assert first["mlm_loss"] != evaluate(out, data, "--split", "valid", "--seed", 1)["mlm_loss"]
    run = json.loads((out / "run.json").read_text())
    assert first["fingerprint"] == run["valid"][0]["fingerprint"]
    last = metrics(out)[-1]["valid"]  # the same text, length and seed: the same measurement
    assert {name: first[name] for name in last} == pytest.approx(last, rel=1e-5)
    whole = evaluate(out, data, "--max-length", 64)
    assert whole["max_length"] == 64 and whole["scored"] > 10 * first["scored"]


def test_evaluation_in_lines(trained, texts):
    out, _ = trained
    result = succeed("evaluate", "mlm", "--model", out, "--data", texts / "swapped.txt")
    shown = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    measured = evaluate(out, texts / "swapped.txt")
    assert set(shown) == set(measured)
    assert float(shown["mlm_loss"]) == pytest.approx(measured["mlm_loss"], abs=1e-4)


def without(source, target, part):
    """A copy of a model folder that lacks some weights."""
    shutil.copytree(source, target)
    kept = {name: value for name, value in weights(target).items() if part not in name}
    assert len(kept) < len(weights(target))
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_models_that_lack_a_head(trained, texts, tmp_path):
    out, _ = trained
    measured = evaluate(without(out, tmp_path / "no_nsp", "seq_relationship"), texts / "swapped.txt")
    assert measured["nsp_accuracy"] is None and measured["nsp_balanced_accuracy"] is None
    headless = without(out, tmp_path / "no_mlm", "cls.predictions")
    for command in (["evaluate", "mlm", "--data", texts / "farm.txt"], ["fill-mask", "[MASK]"]):
        assert "no head for masked words" in refuse(*command, "--model", headless)


# ---- fill-mask ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("animal", FOOD)
def test_the_obvious_word_is_filled_in(trained, animal):
    out, _ = trained
    sentence = f"The {animal} eats {FOOD[animal]}."
    text = f"{sentence} {sentence} The {animal} eats [MASK]."
    lines = succeed("fill-mask", "--model", out, text, "--top", 3).stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].split()[1] == FOOD[animal]


def test_several_gaps_as_json(trained):
    out, _ = trained
    text = "The dog eats meat. We gave [MASK] to the [MASK]."
    tokenizer = BertTokenizer.from_pretrained(out)
    V = len(tokenizer)
    found = json.loads(succeed("fill-mask", "--model", out, text, "--top", V, "--json").stdout)
    assert found["text"] == text and len(found["masks"]) == 2
    input_ids = torch.tensor([tokenizer(text).input_ids])
    logits = BertForPreTraining.from_pretrained(out)(input_ids).prediction_logits[0]
    expected = logits[input_ids[0] == tokenizer.mask_token_id].softmax(-1)
    for candidates, chances in zip(found["masks"], expected, strict=True):
        for candidate in candidates:
            number = tokenizer.token_to_id(candidate["token"])
            assert candidate["probability"] == pytest.approx(chances[number].item(), abs=1e-6)
        shown = [candidate["probability"] for candidate in candidates]
        assert shown == sorted(shown, reverse=True) and sum(shown) == pytest.approx(1, abs=1e-5)
        assert len({candidate["token"] for candidate in candidates}) == V
    lines = succeed("fill-mask", "--model", out, text, "--top", 1).stdout.splitlines()
    assert [lines[0], lines[2]] == ["[MASK] 1", "[MASK] 2"]
    best = found["masks"][0][0]
    assert lines[1].split() == [f"{best['probability']:.1%}", best["token"]]


# ---- tokenizer train ---------------------------------------------------------------------------------------


def test_tokenizers_by_either_method(texts, tmp_path):
    made = {}
    for method in ("frequency", "merge-score"):
        out = tmp_path / method
        arguments = ["--vocab-size", 70, "--min-count", 400, "--method", method]
        result = succeed("tokenizer", "train", "--out", out, "--corpus", texts / "farm.txt", *arguments)
        made[method] = list(BertTokenizer.from_pretrained(out).vocab)
        text = load(texts / "farm.txt", "all")
        assert made[method] == train_vocabulary(text, 70, method, 400) != train_vocabulary(text, 70, method)
        assert ["method", method] in [line.split() for line in result.stdout.splitlines()]
    assert made["frequency"] != made["merge-score"]
    message = refuse("tokenizer", "train", "--out", tmp_path / "frequency", "--corpus", texts / "farm.txt")
    assert "holds a tokenizer already" in message


# ---- What cannot be done -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--corpus", "{texts}/empty.txt"], "empty.txt has no text"),
        (["--corpus", "{texts}/picture.txt"], "picture.txt is not UTF-8 text"),
        (["--corpus", "{texts}/nowhere.txt"], "nowhere.txt' is neither a corpus"),
        (["--corpus", "{texts}/one_word.txt"], "at least two different sentences"),
        (["--valid", "{texts}/empty.txt"], "empty.txt has no text"),
        (["--vocab-size", "20"], "vocab_size is 20"),
        (["--vocab-size", "200", "--tokenizer", "{run}"], "not both"),
        (["--max-seconds", "5"], "--max-steps or --max-seconds, not both"),
        (["--max-length", "65"], "batch_tokens (64) must hold at least one input of max_length (65)"),
        (["--warmup", "2"], "warmup is a share"),
        (["--learning-rate", "-1"], "learning_rate must be above 0"),
        (["--device", "toaster"], "not 'toaster'"),
        (["--init", "{texts}"], "has no"),
        (["--init", "{run}", "--preset", "mini"], "--preset is for a new model"),
        (["--repeat-positions", "24"], "--repeat-positions is for a model that is there"),
        (["--init", "{run}", "--max-length", "600", "--batch-tokens", "600"], "--max-length is 600"),
        (["--init", "{run}", "--tokenizer", "{other}"], "is not that of --init"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_runs_that_cannot_begin(arguments, words, texts, short_run, tmp_path):
    other = tmp_path / "other"
    little_tokenizer(["cow"]).save_pretrained(other)
    arguments = [argument.format(texts=texts, run=short_run, other=other) for argument in arguments]
    given = set(arguments)
    defaults = [
        ("--corpus", texts / "farm.txt"),
        ("--max-steps", 3),
        ("--max-length", 24),
        ("--batch-tokens", 64),
    ]
    for option, value in defaults:
        if option not in given:
            arguments += [option, value]
    if not given & {"--init", "--vocab-size"}:
        arguments += ["--vocab-size", 200]
    assert words in refuse("pretrain", "--out", tmp_path / "run", *arguments)
    # It is noticed before there is anything. Too little text shows only later, and a second try is possible.
    assert (tmp_path / "run").exists() == ("one_word" in str(arguments))
    succeed("pretrain", "--out", tmp_path / "run", "--corpus", texts / "farm.txt", *RUN)


def test_what_is_there_is_not_replaced(short_run, trained, texts, tmp_path):
    arguments = ["--corpus", texts / "farm.txt", *RUN]
    before = {path: path.stat().st_mtime_ns for path in short_run.rglob("*")}
    assert "holds a run already" in refuse("pretrain", "--out", short_run, *arguments)
    assert before == {path: path.stat().st_mtime_ns for path in short_run.rglob("*")}
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refuse("pretrain", "--out", tmp_path / "file", *arguments)
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(short_run / "model.safetensors", model)
    for more in ([], ["--resume"]):
        assert "model.safetensors" in refuse("pretrain", "--out", model, *arguments, *more)
    succeed(
        "tokenizer", "train", "--out", tmp_path / "words", "--corpus", texts / "farm.txt", "--vocab-size", 99
    )
    assert "holds a vocab.txt" in refuse("pretrain", "--out", tmp_path / "words", *arguments)


def test_models_that_cannot_be_used(short_run, texts, tmp_path):
    data = ["--data", texts / "farm.txt"]
    assert "is no folder here" in refuse("evaluate", "mlm", "--model", tmp_path / "nowhere", *data)
    assert "there is no [MASK] in the text" in refuse(
        "fill-mask", "--model", short_run, "The cow eats grass."
    )
    long = "cow " * 600 + "[MASK]"
    assert "603 tokens, and the model 512 positions" in refuse("fill-mask", "--model", short_run, long)
    assert "--max-length is 513" in refuse(
        "evaluate", "mlm", "--model", short_run, *data, "--max-length", 513
    )
    assert "is not UTF-8" in refuse("evaluate", "mlm", "--model", short_run, "--data", texts / "picture.txt")

    mixed = shutil.copytree(short_run, tmp_path / "mixed")
    little_tokenizer(["cow"]).save_pretrained(mixed)
    for command in (
        ["fill-mask", "[MASK]"],
        ["evaluate", "mlm", *data],
        ["pretrain", "--out", tmp_path / "x"],
    ):
        option = "--init" if command[0] == "pretrain" else "--model"
        message = refuse(*command, option, mixed)
        assert "has 6 tokens and the model there" in message

    unfinished = shutil.copytree(short_run, tmp_path / "unfinished")
    (unfinished / "model.safetensors").unlink()
    assert "has not come to its end" in refuse("fill-mask", "--model", unfinished, "[MASK]")
    other_shape = shutil.copytree(short_run, tmp_path / "other_shape")
    config = json.loads((other_shape / "config.json").read_text()) | {"intermediate_size": 500}
    (other_shape / "config.json").write_text(json.dumps(config))
    assert "mis-shaped: encoder" in refuse("fill-mask", "--model", other_shape, "[MASK]")
    damaged = shutil.copytree(short_run, tmp_path / "damaged")
    path = damaged / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged or was cut short" in refuse("fill-mask", "--model", damaged, "[MASK]")


def test_an_error_that_nobody_expects_keeps_its_traceback(short_run, monkeypatch):
    monkeypatch.setattr("bert_edu.cli.pretraining.load_model", lambda folder: 1 / 0)
    result = bert("fill-mask", "--model", short_run, "[MASK]")
    assert isinstance(result.exception, ZeroDivisionError)
