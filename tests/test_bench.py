"""`bert-edu bench`: everybody gets the same work, it is counted right, and what comes out says so."""

import json
import time

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bert_edu.bench import inference, loading, material, pretraining, time_to_loss, timing
from bert_edu.bench.material import OURS, THEIRS, Settings, check_same_loss, real_pairs, tokenizer
from bert_edu.bench.pretraining import CONTESTANTS, GROUPED, PACKED, Rounds
from helpers import refuse, succeed


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Documents of two sentences, of many lengths."""
    file = tmp_path_factory.mktemp("text") / "ferry.txt"
    sentences = [" ".join(["ferry", "river"] * (n % 9 + 1)) + f" {n}." for n in range(96)]
    file.write_text("\n\n".join("\n".join(sentences[start : start + 2]) for start in range(0, 96, 2)))
    return str(file)


def small(text, **changes):
    usual = dict(corpus=text, preset="tiny", vocab_size=8200, max_length=48, batch_tokens=288)
    return Settings(**usual | dict(texts=20, rounds=1, dropout=0.0) | changes)


# ---- Taking turns ------------------------------------------------------------------------------------------


def test_contestants_take_turns_after_a_round_that_does_not_count(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def contestant(name, durations):
        def run():
            calls.append(name)
            now[0] += durations.pop(0)

        return run

    contestants = {"a": contestant("a", [100.0, 1.0, 5.0, 2.0]), "b": contestant("b", [100.0, 4.0, 3.0, 8.0])}
    seconds = timing.alternate(contestants, rounds=3)
    assert calls == ["a", "b"] * 4
    assert seconds == {"a": [1.0, 5.0, 2.0], "b": [4.0, 3.0, 8.0]}
    assert timing.medians(seconds) == {"a": 2.0, "b": 4.0}


def test_a_matrix_product_counts_its_operations():
    run, operations = timing.matrix_product("cpu")
    with FlopCounterMode(display=False) as counter:
        run()
    assert operations == counter.get_total_flops()


def test_peak_memory_sees_what_is_gone_again():
    before = timing.peak_megabytes("cpu")
    taken = torch.ones(2**28)  # 1 GB
    del taken
    assert timing.peak_megabytes("cpu") > before + 400


def test_a_fresh_process_has_its_own_peak(text):
    held = torch.ones(2**28)
    asked = {"contestant": OURS, "settings": vars(small(text, texts=4))}
    found = timing.in_fresh_process("pretraining", asked)
    assert 50 < found["loaded_mb"] < found["peak_mb"] < timing.peak_megabytes("cpu")
    del held


def test_a_fresh_process_that_fails_says_why(text):
    with pytest.raises(RuntimeError, match="KeyError: 'nobody'"):
        timing.in_fresh_process("pretraining", {"contestant": "nobody", "settings": vars(small(text))})


# ---- The same work for all ---------------------------------------------------------------------------------


def seen_by(run, monkeypatch):
    """The tokens that all models embed while a contestant runs, without padding, and all places."""
    tokens, places = [], []
    look_up = torch.nn.Embedding.forward

    def noting(table, ids):
        if table.num_embeddings == 8200:
            tokens.append(int((ids != 0).sum()))
            places.append(ids.numel())
        return look_up(table, ids)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Embedding, "forward", noting)
        run()
    return sum(tokens), sum(places)


def test_every_contestant_trains_on_the_same_texts(text, monkeypatch):
    rounds = Rounds(small(text))
    expected = sum(len(pair) for pair in rounds.pairs)
    found = {name: seen_by(rounds.named(name), monkeypatch) for name in CONTESTANTS}
    assert {tokens for tokens, _ in found.values()} == {expected}
    assert found[OURS][1] == found[GROUPED][1] < found[THEIRS][1]
    assert found[PACKED][1] < found[THEIRS][1]


def test_their_model_learns_from_the_same_labels_as_ours(text, monkeypatch):
    """Their loss is the sum of both objectives, over the hidden tokens only."""
    rounds = Rounds(small(text))
    ours = rounds.model()
    theirs = material.theirs_like(ours, "BertForPreTraining")
    rounds.check_same(ours, theirs)
    with torch.no_grad():
        theirs.cls.predictions.bias[100:] += 1
    with pytest.raises(RuntimeError, match="do not compute the same"):
        rounds.check_same(ours, theirs)


def test_losses_that_differ_are_refused():
    check_same_loss(torch.tensor(2.0), torch.tensor(2.0005))
    with pytest.raises(RuntimeError, match=r"ours gives the loss 2.0000 and transformers 2.0100"):
        check_same_loss(torch.tensor(2.0), torch.tensor(2.01))


def test_operations_are_those_of_each_text_alone(text):
    """As PyTorch counts them, a text a row and no padding."""
    rounds = Rounds(small(text, texts=5))
    model, generator = rounds.model(), torch.Generator().manual_seed(7)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        for pair in rounds.pairs:
            batch = rounds.masked([pair], generator)
            model(**pretraining.as_their_arguments(batch)).loss.backward()
    assert rounds.operations() == counter.get_total_flops()


def test_vectors_that_differ_are_refused(text):
    settings = small(text)
    batch = inference.batches_of(settings)[0]
    torch.manual_seed(0)
    model = pretraining.BertForPreTraining(settings.config).bert.eval()
    models = {OURS: (inference.packed_vectors, model), "padded": (inference.padded_vectors, model)}
    inference.check_same_vectors(models, batch)
    models["wrong"] = (lambda model, batch: inference.padded_vectors(model, batch) + 0.01, model)
    with pytest.raises(RuntimeError, match="wrong gives vectors that differ from ours by 0.01"):
        inference.check_same_vectors(models, batch)


def test_pairs_are_always_the_same_and_enough(text):
    first, second = real_pairs(small(text)), real_pairs(small(text))
    assert first == second and len(first) == 20
    with pytest.raises(ValueError, match="sentence pairs, and 5000 texts were asked for"):
        real_pairs(small(text, texts=5000))


# ---- Figures -----------------------------------------------------------------------------------------------


def with_seconds(monkeypatch, seconds):
    """Measures nothing: `alternate` gives these seconds to the contestants."""
    for module in (pretraining, inference, loading):
        monkeypatch.setattr(
            module, "alternate", lambda runs, rounds: {name: [seconds[name]] for name in runs}
        )


def test_pretraining_figures(text, monkeypatch):
    product, operations = timing.matrix_product("cpu")
    monkeypatch.setattr(pretraining, "matrix_product", lambda device, dtype: (product, operations))
    seconds = {OURS: 2.0, PACKED: 4.0, THEIRS: 9.0, GROUPED: 5.0, "matrix product": 0.5}
    with_seconds(monkeypatch, seconds)
    rounds = Rounds(small(text))
    tokens, share = sum(map(len, rounds.pairs)), rounds.operations() / (operations / 0.5)
    assert pretraining.speed(small(text)) == {
        "tokens": tokens,
        "matrix_peak_gflops": round(operations / 0.5 / 1e9, 1),
        OURS: {
            "tokens_per_second": round(tokens / 2),
            "share_of_matrix_peak": pytest.approx(share / 2, abs=1e-3),
        },
        PACKED: {
            "tokens_per_second": round(tokens / 4),
            "share_of_matrix_peak": pytest.approx(share / 4, abs=1e-3),
        },
        THEIRS: {"tokens_per_second": round(tokens / 9), "ours_over_it": 4.5},
        GROUPED: {"tokens_per_second": round(tokens / 5), "ours_over_it": 2.5},
    }


def test_loading_figures(text, monkeypatch):
    with_seconds(monkeypatch, {OURS: 0.5, THEIRS: 2.0})
    packages = []
    monkeypatch.setattr(loading, "fresh_process", lambda package, folder: packages.append(package) or 3.0)
    found = loading.speed(small(text))
    assert found[THEIRS] == {"seconds": 2.0, "seconds_with_imports": 3.0, "ours_over_it": 4.0}
    assert packages == ["bert_edu", "transformers"] * 3


def test_memory_is_compared_as_a_share(text, monkeypatch):
    peaks = {OURS: 300, PACKED: 280, THEIRS: 1000, GROUPED: 600}
    asked = lambda module, arguments: {"loaded_mb": 100, "peak_mb": peaks[arguments["contestant"]]}  # noqa: E731
    monkeypatch.setattr(pretraining, "in_fresh_process", asked)
    found = pretraining.memory(small(text))
    assert found[THEIRS]["ours_as_a_share"] == 0.3 and found[GROUPED]["ours_as_a_share"] == 0.5


# ---- Time to a loss ----------------------------------------------------------------------------------------


def quick(text, monkeypatch, turns=2, **changes):
    """Two texts are measured on and six learned from; two steps a turn."""
    for name, value in dict(EVERY=2, TURNS=turns, TRAINING_TEXTS=3, WARMUP=1).items():
        monkeypatch.setattr(time_to_loss, name, value)
    return small(text, texts=2, **changes)


def test_nobody_learns_from_the_texts_that_are_measured(text, monkeypatch):
    training, held_out = time_to_loss.training_and_held_out(quick(text, monkeypatch))
    assert len(training) == 6 and len(held_out) == 2
    assert not {tuple(pair.first) for pair in training} & {tuple(pair.first) for pair in held_out}


def test_both_start_with_the_same_held_out_loss_which_is_the_model_s_own(text, monkeypatch):
    runs, held_out = time_to_loss.runs_of(quick(text, monkeypatch))
    ours, theirs = (time_to_loss.held_out_loss(runs[name].model, held_out) for name in (OURS, THEIRS))
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert len(held_out) == 1
    with torch.inference_mode():
        own = runs[OURS].model(**pretraining.as_their_arguments(held_out[0])).mlm_loss
    assert ours == pytest.approx(float(own), abs=1e-4)


def test_training_lowers_the_loss_of_both_and_rises_the_rate_first(text, monkeypatch):
    settings = quick(text, monkeypatch)
    monkeypatch.setattr(time_to_loss, "WARMUP", 8)
    runs, held_out = time_to_loss.runs_of(settings)
    for run in runs.values():
        before = time_to_loss.held_out_loss(run.model, held_out)
        rates = []
        for _ in range(5):
            run.turn()
            rates.append(run.schedule.get_last_lr()[0])
        assert run.steps == 10 and run.seconds > 0
        assert rates[0] == pytest.approx(1e-3 * 3 / 8) and rates[-1] == pytest.approx(1e-3)
        assert time_to_loss.held_out_loss(run.model, held_out) < before - 0.1


def test_time_ends_with_the_turn_that_reaches_the_loss(text, monkeypatch):
    """Losses and seconds are given: ours is there after two turns, theirs after three."""
    settings = quick(text, monkeypatch, turns=9, target_loss=5.0)
    turns = {OURS: iter([9.0, 6.0, 5.0]), THEIRS: iter([9.0, 8.0, 7.0, 4.5])}

    class Given:
        def __init__(self, name, seconds):
            self.model, self.each, self.seconds, self.steps = name, seconds, 0.0, 0

        def turn(self):
            self.seconds += self.each
            self.steps += 2

    monkeypatch.setattr(time_to_loss, "held_out_loss", lambda name, batches: next(turns[name]))
    given = {OURS: Given(OURS, 1.0), THEIRS: Given(THEIRS, 4.0)}
    monkeypatch.setattr(time_to_loss, "runs_of", lambda settings: (given, []))
    assert time_to_loss.speed(settings) == {
        "target_loss": 5.0,
        OURS: {"seconds": 2.0, "steps": 4, "held_out_loss": 5.0},
        THEIRS: {"seconds": 12.0, "steps": 6, "held_out_loss": 4.5, "ours_over_it": 6.0},
    }


def test_a_loss_out_of_reach_has_no_time(text, monkeypatch):
    found = time_to_loss.speed(quick(text, monkeypatch, target_loss=0.1))
    assert found[OURS]["seconds"] is None and found[OURS]["steps"] == 4
    assert "ours_over_it" not in found[THEIRS]


# ---- The command -------------------------------------------------------------------------------------------

COMMAND = (
    "bench",
    "--preset",
    "tiny",
    "--texts",
    8,
    "--rounds",
    1,
    "--max-length",
    48,
    "--batch-tokens",
    192,
)


def test_the_command_prints_json_and_writes_it(text, tmp_path):
    out = tmp_path / "bench.json"
    parts = ("inference", "tokenization")
    result = succeed(*COMMAND, *parts, "--corpus", text, "--json", "--out", out, "--vocab-size", 8192)
    found = json.loads(result.stdout)
    assert found == json.loads(out.read_text())
    assert set(found) == {"date", "machine", "versions", "settings", "figures"}
    assert set(found["figures"]) == set(parts)
    assert found["settings"]["texts"] == 8 and found["versions"]["torch"] == torch.__version__
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert found["figures"]["tokenization"][THEIRS]["paragraphs_that_differ"] == 0
    assert found["figures"]["inference"][OURS]["tokens_per_second"] > 0


def test_without_transformers_ours_is_measured_alone(text, monkeypatch):
    for module in (timing, pretraining, inference, __import__("bert_edu.cli.bench", fromlist=["bench"])):
        monkeypatch.setattr(module, "has_transformers", lambda: False)
    result = succeed(*COMMAND, "pretraining", "--corpus", text)
    assert "pip install transformers" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "pretraining" and any(line.startswith("  ours, packed") for line in lines)
    assert "transformers" not in result.stdout


def test_what_cannot_be_measured_is_refused(text):
    assert "there is no part 'speed' to measure; there are memory, pretraining" in refuse("bench", "speed")
    assert f"at least {len(tokenizer()):,}" in refuse("bench", "--vocab-size", 100)
    assert "must hold at least one text" in refuse("bench", "--batch-tokens", 64)
