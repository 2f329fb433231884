"""Fine-tuning: the engine, classification and tagging, on tiny models with random weights."""

import copy
import json
import math
import statistics
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from bert_edu import BertForPreTraining, BertModel
from bert_edu.data.tasks import TaggedSentence, TextExample
from bert_edu.finetuning import engine
from bert_edu.finetuning.batches import grouped_by_length
from bert_edu.finetuning.classification import Classification, TextFeature, balanced_weights
from bert_edu.finetuning.engine import (
    HEAD_ALONE,
    Recipe,
    evaluate,
    finetune,
    optimizer_for,
    predict,
    several_seeds,
)
from bert_edu.finetuning.frozen import EncoderCache
from bert_edu.finetuning.models import set_dropout, tokenizer_of
from bert_edu.finetuning.tagging import Tagging, align, spread, stretches
from bert_edu.heads import IGNORE, BertForSequenceClassification, BertForTokenClassification
from bert_edu.training.loop import TrainingError
from helpers import little_config, little_tokenizer, randomise

FILLERS = ["the", "film", "was", "a", "play", "walk", "dog", "house", "we", "saw", "it", "on", "day"]
PIECES = ["##s", "##ing", "##ed"]
TOKENIZER = little_tokenizer([*FILLERS, *PIECES, "good", "bad", ".", ","])
CONFIG = little_config(
    TOKENIZER,
    max_position_embeddings=64,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.1,
)
QUICK = dict(epochs=3, batch_size=8, learning_rate=2e-3, precision="float32", device="cpu")


def quiet(line):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A "pre-trained" model with its heads and its tokenizer."""
    place = tmp_path_factory.mktemp("models") / "pretrained"
    torch.manual_seed(0)
    BertForPreTraining(CONFIG).save_pretrained(place)
    TOKENIZER.save_pretrained(place)
    return place


def reviews(count, seed=0, pairs=False):
    """Texts of different lengths in which one word decides."""
    draw = torch.Generator().manual_seed(seed)

    def words(number):
        return [FILLERS[int(at)] for at in torch.randint(len(FILLERS), (number,), generator=draw)]

    examples = []
    for number in range(count):
        verdict = ("good", "bad")[number % 2]
        text = words(3 + number % 9)
        text[int(torch.randint(len(text), (), generator=draw))] = verdict
        second = " ".join(words(1 + number % 4)) if pairs else None
        examples.append(TextExample(" ".join(text), second, {"good": "yes", "bad": "no"}[verdict]))
    return examples


TRAIN, DEV = reviews(80), reviews(30, seed=1)


def classification(**settings):
    return Classification.of(TOKENIZER, TRAIN, **{"max_length": 32} | settings)


def run(folder, task=None, train=TRAIN, dev=DEV, report=quiet, out=None, cache=True, **changes):
    recipe = Recipe(**QUICK | changes)
    return finetune(task or classification(), folder, train, dev, recipe, report=report, out=out, cache=cache)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


# ---- Batches -----------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=70), st.integers(1, 9), st.none() | st.integers(0, 9)
)
def test_every_row_is_in_one_batch(lengths, batch_size, seed):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    batches = grouped_by_length(lengths, batch_size, generator)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    assert len(batches) == math.ceil(len(lengths) / batch_size)


def test_rows_of_a_batch_are_nearly_equally_long_and_the_order_is_random():
    lengths = torch.randint(5, 100, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    generator = torch.Generator().manual_seed(3)
    first, second = (grouped_by_length(lengths, 20, generator) for _ in range(2))
    for batches in (first, second):
        padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
        assert sum(lengths) / padded > 0.9  # in a random order of the rows it is about 0.55
        means = [statistics.fmean(lengths[row] for row in batch) for batch in batches]
        assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3  # short and long ones take turns
    assert set(map(frozenset, first)) != set(map(frozenset, second))  # others meet in the next epoch
    assert first == grouped_by_length(lengths, 20, torch.Generator().manual_seed(3))
    in_order = [lengths[row] for batch in grouped_by_length(lengths, 20) for row in batch]
    assert in_order == sorted(lengths)


# ---- The optimiser -----------------------------------------------------------------------------------------


def peaks(model, recipe):
    """The learning rate of every parameter, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for group in optimizer_for(model, recipe).param_groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = group["peak"]
            assert group["weight_decay"] == (recipe.weight_decay if parameter.dim() > 1 else 0.0)
            assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-6)
    return found


def test_layer_decay_by_hand():
    model = BertForSequenceClassification(CONFIG)
    found = peaks(model, Recipe(learning_rate=0.8, layer_decay=0.5, weight_decay=0.3))
    assert found.keys() == dict(model.named_parameters()).keys()
    by_part = {
        "classifier.": 0.8,
        "bert.pooler.": 0.8,
        "bert.encoder.layers.1.": 0.4,
        "bert.encoder.layers.0.": 0.2,
        "bert.embeddings.": 0.1,
    }
    for name, rate in found.items():
        [part] = [part for part in by_part if name.startswith(part)]
        assert rate == pytest.approx(by_part[part]), name
    assert set(peaks(model, Recipe(learning_rate=0.8)).values()) == {0.8}


def test_the_schedule_the_clipping_and_what_is_clipped(folder, monkeypatch):
    rates, clipped = [], []
    make, clip = engine.optimizer_for, torch.nn.utils.clip_grad_norm_

    def optimizer_that_tells(model, recipe):
        optimizer = make(model, recipe)
        step = optimizer.step
        optimizer.step = lambda: (rates.append({g["lr"] for g in optimizer.param_groups}), step())
        return optimizer

    def clip_that_tells(parameters, norm):
        clipped.append((len(parameters), norm))
        return clip(parameters, norm)

    monkeypatch.setattr(engine, "optimizer_for", optimizer_that_tells)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip_that_tells)
    run(folder, learning_rate=0.01, warmup=0.3, max_steps=10, clip_norm=0.5)
    # up in 3 steps of 10, then down: neither the first nor the last is 0
    expected = [1 / 3, 2 / 3, 1, *[(11 - step) / 8 for step in range(4, 11)]]
    assert [rate for [rate] in rates] == pytest.approx([0.01 * share for share in expected])
    everything = len(list(BertForSequenceClassification(CONFIG).parameters()))
    assert clipped == [(everything, 0.5)] * 10
    clipped.clear()
    run(folder, frozen=True, max_steps=1)
    assert clipped == [(2, 1.0)]


def test_layer_decay_slows_the_lower_layers(folder):
    before = classification().new_model(folder)

    def moved(**changes):
        """The longest way of a weight in the embeddings, and in the head."""
        after = run(folder, max_steps=1, dropout=0.0, weight_decay=0.0, **changes).model
        parts = (before.bert.embeddings, after.bert.embeddings), (before.classifier, after.classifier)
        return [
            max(float((a - b).detach().abs().max()) for a, b in zip(x.parameters(), y.parameters()))
            for x, y in parts
        ]

    plain, decayed = moved(), moved(layer_decay=0.5)
    assert decayed[0] == pytest.approx(plain[0] / 8, rel=0.01)  # two layers lie between them and the head
    assert decayed[1] == pytest.approx(plain[1], rel=0.01)


# ---- A run -------------------------------------------------------------------------------------------------


def test_it_learns_what_the_majority_class_cannot(folder):
    result = run(folder, epochs=6)
    assert result.scores["accuracy"] > 0.9 and result.scores["macro_f1"] > 0.9  # majority: 0.5
    assert result.history[0]["loss"] > 2 * result.history[-1]["loss"]
    assert len(result.losses) == 60 and result.history[-1]["step"] == 60
    assert result.history[1]["loss"] == pytest.approx(statistics.fmean(result.losses[10:20]))
    assert not result.model.training
    assert all(parameter.requires_grad for parameter in result.model.parameters())
    assert all(parameter.grad is None for parameter in result.model.parameters())  # none is left over
    tokens = sum(len(feature.input_ids) for feature in result.task.features(TRAIN))  # padding is no token
    for line in result.history:
        assert line["tokens_per_second"] * line["seconds"] == pytest.approx(tokens)


def test_a_pair_is_read_as_a_pair(folder):
    train, dev = reviews(80, pairs=True), reviews(30, seed=1, pairs=True)
    feature = classification().features(train)[5]
    assert feature.input_ids == TOKENIZER(train[5].first, train[5].second).input_ids
    assert feature.token_type_ids == TOKENIZER(train[5].first, train[5].second).token_type_ids
    assert 1 in feature.token_type_ids
    assert run(folder, train=train, dev=dev, epochs=6).scores["accuracy"] > 0.9


def test_two_runs_are_equal_and_another_seed_is_another_run(folder):
    first = run(folder)
    torch.manual_seed(99)  # whatever happened before does not matter
    second, other, dry = run(folder), run(folder, seed=1), run(folder, dropout=0.0)
    assert first.losses == second.losses and same(first.model, second.model)
    assert first.scores == second.scores and first.best_epoch == second.best_epoch
    assert first.losses[0] != other.losses[0] and not same(first.model, other.model)
    assert first.losses[0] != dry.losses[0]


def test_the_seed_decides_the_order_and_every_epoch_has_its_own(folder):
    def batches(**changes):
        """The texts of each batch that training saw, in order."""
        task, seen = classification(), []
        collate = task.collate

        def collate_that_tells(features):
            seen.append([feature.example for feature in features])
            return collate(features)

        task.collate = collate_that_tells
        run(folder, task, dev=DEV[:1], epochs=2, **changes)
        return seen[:10], seen[11:21]  # between the two the development text was read

    first, second = batches()
    for epoch in (first, second):
        assert sorted(number for batch in epoch for number in batch) == list(range(80))
    assert first != second
    assert batches() == (first, second) and batches(seed=1)[0] != first


def test_dropout_is_on_though_the_pretrained_model_had_none(folder):
    model = engine._starting_model(classification(), folder, Recipe())
    rates = [part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)]
    assert rates == [0.1] * (1 + 1 + 2 * CONFIG.num_hidden_layers)
    for config in (model.config, model.bert.config):
        assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.1, 0.1)
    assert BertModel.from_pretrained(folder).config.hidden_dropout_prob == 0.0


def test_the_head_starts_anew_and_the_encoder_does_not(folder):
    encoder = BertModel.from_pretrained(folder)
    torch.manual_seed(1)
    one = engine._starting_model(classification(), folder, Recipe())
    two = engine._starting_model(classification(), folder, Recipe())
    assert same(one.bert, encoder) and same(two.bert, encoder)
    assert not torch.equal(one.classifier.weight, two.classifier.weight)
    control = engine._starting_model(classification(), folder, Recipe(init_random=True))
    for name, weight in control.bert.state_dict().items():
        if weight.dim() > 1:
            assert not torch.equal(weight, encoder.state_dict()[name]), name
    spread = control.bert.embeddings.position.weight.std().item()
    assert spread == pytest.approx(0.1 * 0.88, rel=0.1)  # the configuration's, cut at two of it


@pytest.mark.parametrize(
    "scores, best",
    [([0.2, 0.9, 0.9, 0.5], 2), ([0.9, 0.1, 0.2, 0.3], 1), ([math.nan, 0.1, math.nan, 0.1], 2)],
)
def test_the_best_epoch_is_the_one_returned(folder, monkeypatch, scores, best):
    task, states, measure = classification(), [], engine._raw
    given_scores = iter(scores)

    def raw_that_looks(task, model, features, *more):
        assert [feature.input_ids for feature in features] == [row.input_ids for row in task.features(DEV)]
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        return measure(task, model, features, *more)

    def calibrated(examples, predictions):
        chosen = copy.copy(task)
        chosen.epoch = len(states)
        return chosen, [found | {"epoch": len(states)} for found in predictions]

    def score(examples, found):
        assert examples is DEV and {one["epoch"] for one in found} == {len(states)}
        return {"accuracy": next(given_scores), "other": 1.0}

    monkeypatch.setattr(engine, "_raw", raw_that_looks)
    monkeypatch.setattr(task, "calibrated", calibrated, raising=False)
    monkeypatch.setattr(task, "score", score)
    result = run(folder, task, epochs=4)
    assert result.best_epoch == result.task.epoch == best and result.scores["accuracy"] == scores[best - 1]
    for number, state in enumerate(states, start=1):
        is_it = all(torch.equal(value, state[name]) for name, value in result.model.state_dict().items())
        assert is_it == (number == best)


def test_max_steps_ends_the_run_and_its_schedule(folder):
    result = run(folder, max_steps=13)
    assert len(result.losses) == 13 and [line["step"] for line in result.history] == [10, 13]
    assert len(run(folder, max_steps=1000).losses) == 30  # the epochs are over before


def test_progress_and_report(folder):
    steps, lines = [], []
    finetune(
        classification(),
        folder,
        TRAIN,
        DEV,
        Recipe(**QUICK | {"epochs": 2}),
        report=lines.append,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(done, 20) for done in range(1, 21)]
    assert [line.split()[:2] for line in lines] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert "accuracy 0." in lines[0] or "accuracy 1." in lines[0]


def test_a_loss_that_is_not_finite_stops_the_run(folder, tmp_path):
    task = classification()
    own = task.loss
    count = iter(range(1000))
    task.loss = lambda output, batch: own(output, batch) * (math.nan if next(count) == 16 else 1)
    with pytest.raises(TrainingError, match=r"loss is nan at step 17 \(epoch 2\).*lower learning rate"):
        run(folder, task, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(folder, precision):
    half, full = run(folder, precision=precision, epochs=6), run(folder, epochs=6)
    assert half.losses[0] == pytest.approx(full.losses[0], rel=0.02)
    assert half.losses != full.losses and half.scores["accuracy"] > 0.9
    assert half.model.classifier.weight.dtype == torch.float32


@pytest.mark.parametrize("frozen, cache", [(False, False), (True, False), (True, True)])
def test_predictions_are_made_in_float32_whatever_trains(folder, frozen, cache):
    task, trained, predicted = classification(), set(), set()
    loss, raw = task.loss, task.raw
    task.loss = lambda output, batch: trained.add(output.logits.dtype) or loss(output, batch)
    task.raw = lambda output, features: predicted.add(output.logits.dtype) or raw(output, features)
    run(folder, task, epochs=1, precision="bf16", frozen=frozen, cache=cache)
    assert (trained, predicted) == ({torch.bfloat16}, {torch.float32})


# ---- A frozen encoder --------------------------------------------------------------------------------------


@pytest.fixture
def computed(monkeypatch):
    """How many rows the encoder has computed."""
    rows, forward = [], BertModel.forward

    def forward_that_counts(self, input_ids, **inputs):
        rows.append(len(input_ids))
        return forward(self, input_ids, **inputs)

    monkeypatch.setattr(BertModel, "forward", forward_that_counts)
    return rows


def both_tasks():
    return [
        (classification(), TRAIN, DEV),
        (Tagging.of(TOKENIZER, tagged(60), max_length=32), tagged(60), tagged(20, seed=1)),
    ]


@pytest.mark.parametrize("number", [0, 1], ids=["classification", "tagging"])
def test_a_frozen_encoder_keeps_every_weight_and_computes_once(folder, computed, number):
    task, train, dev = both_tasks()[number]
    lines = []
    settings = dict(frozen=True, epochs=5, learning_rate=0.02, dropout=0.3)
    cached = run(folder, task, train, dev, report=lines.append, **settings)
    assert sum(computed) == len(train) + len(dev)
    assert "computed once" in lines[0]
    computed.clear()
    uncached = run(folder, task, train, dev, cache=False, **settings)
    assert sum(computed) == 5 * (len(train) + len(dev))

    before = task.new_model(folder)
    for after in (cached.model, uncached.model):
        assert same(after.bert, before.bert)
        assert all(parameter.requires_grad for parameter in after.parameters())
    assert not torch.equal(cached.model.classifier.weight, before.classifier.weight)
    torch.testing.assert_close(
        torch.tensor(cached.losses), torch.tensor(uncached.losses), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        cached.model.classifier.weight, uncached.model.classifier.weight, rtol=1e-3, atol=1e-4
    )
    assert cached.scores == pytest.approx(uncached.scores, abs=0.02)
    assert type(cached.model.bert) is BertModel
    assert evaluate(task, cached.model, dev, device="cpu") == pytest.approx(cached.scores, abs=0.02)


@pytest.mark.parametrize("number", [0, 1], ids=["classification", "tagging"])
def test_a_cache_holds_what_the_encoder_says(folder, number):
    task = both_tasks()[number][0]
    model, features = task.new_model(folder), task.features([reviews(60, pairs=True), tagged(60)][number])
    set_dropout(model, 0.5)
    cache = EncoderCache(task, model.train(), features, 7, engine.contextlib.nullcontext)
    batch = task.collate(features[:9])
    alone = model.eval()(**batch).logits
    with cache.answers(model, list(range(9))):
        again = model(**batch).logits
    read = slice(None) if number == 0 else batch["attention_mask"].bool()
    torch.testing.assert_close(again[read], alone[read], rtol=1e-4, atol=1e-5)
    held = sum(row.numel() * row.element_size() for row in cache.rows)
    vectors = len(features) if number == 0 else sum(len(feature.input_ids) for feature in features)
    assert EncoderCache.bytes_for(model, features) == held == 4 * 32 * vectors


def test_a_cache_that_is_too_large_is_not_made(folder, computed, monkeypatch):
    monkeypatch.setattr(engine, "CACHE_LIMIT", 100)
    lines = []
    run(folder, frozen=True, epochs=2, report=lines.append)
    assert sum(computed) == 2 * (len(TRAIN) + len(DEV)) and "computed in every epoch" in lines[0]


def test_a_frozen_head_learns_with_its_own_recipe(folder):
    recipe = Recipe(frozen=True, **HEAD_ALONE | {"precision": "float32", "device": "cpu"})
    result = finetune(classification(), folder, TRAIN, DEV, recipe, report=quiet)
    assert result.losses[-1] < result.losses[0]
    dry, wet = (run(folder, frozen=True, dropout=rate, max_steps=1) for rate in (0.0, 0.5))
    assert dry.losses != wet.losses  # the encoder has no dropout, the head has


def test_labels_keep_their_order_in_a_folder(folder, tmp_path):
    """Not the alphabet's: the order is that of the model's scores."""
    texts, sentences = reviews(6), tagged(6)
    for task, examples in (
        (Classification(TOKENIZER, ["yes", "no", "maybe"], max_length=32), texts),
        (Tagging(TOKENIZER, ["VERB", "OTHER", "NOUN"], max_length=32), sentences),
    ):
        model = task.new_model(folder).eval()
        randomise(model)
        task.save(model, tmp_path)
        loaded_task, loaded = type(task).load(tmp_path)
        found = predict(task, model, examples, device="cpu")
        assert predict(loaded_task, loaded, examples, device="cpu") == found
        (tmp_path / "finetuning.json").unlink()  # as in a folder that others made
        loaded_task, loaded = type(task).load(tmp_path)
        assert loaded_task.max_length == 64 and predict(loaded_task, loaded, examples, device="cpu") == found


# ---- What a run writes, and what it refuses ----------------------------------------------------------------


def test_what_is_written_can_be_read_again(folder, tmp_path):
    out = tmp_path / "out"
    result = run(folder, out=out)
    task, model = Classification.load(out)
    assert same(model, result.model) and task.label_names == ["no", "yes"] and task.max_length == 32
    assert evaluate(task, model, DEV) == result.scores
    assert predict(task, model, DEV) == predict(result.task, result.model, DEV)
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["epochs"] == 3 and recipe["precision"] == "float32" and recipe["device"] == "cpu"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines == result.history and lines[0].keys() >= {"epoch", "step", "loss", "accuracy", "seconds"}
    assert json.loads((out / "config.json").read_text())["id2label"] == {"0": "no", "1": "yes"}


def test_transformers_reads_it_and_says_the_same(folder, tmp_path):
    result = run(folder, out=tmp_path / "out")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    batch = result.task.collate(result.task.features(DEV))
    with torch.no_grad():
        torch.testing.assert_close(theirs(**batch).logits, result.model(**batch).logits, rtol=1e-4, atol=1e-5)


def test_nothing_is_written_over(folder, tmp_path, computed):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="not empty"):
        run(folder, out=tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        run(folder, out=tmp_path / "mine.txt")
    with pytest.raises(ValueError, match="not empty"):
        several_seeds(classification(), folder, TRAIN, DEV, Recipe(**QUICK), 2, out=tmp_path, report=quiet)
    assert not computed and [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"clip_norm": -1}, "clip_norm"),
        ({"warmup": 1.0}, "warmup"),
        ({"dropout": 1.0}, "dropout"),
        ({"layer_decay": 0.0}, "layer_decay"),
        ({"layer_decay": 1.1}, "layer_decay"),
        ({"layer_decay": 0.9, "frozen": True}, "do not freeze"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_impossible_recipes(change, words):
    with pytest.raises(ValueError, match=words):
        Recipe(**change)


def test_labels_that_training_never_saw_and_labels_that_are_missing(folder):
    odd = [*DEV[:4], TextExample("we saw it", None, "perhaps")]
    message = r"development examples: example 5 \('we saw it'\) has the label 'perhaps'.*never saw.*no, yes"
    with pytest.raises(ValueError, match=message):
        run(folder, dev=odd)
    with pytest.raises(ValueError, match="development example 2 has no label"):
        run(folder, dev=[DEV[0], TextExample("we saw it", None, None)])
    with pytest.raises(ValueError, match="training example 1 has no label"):
        run(folder, train=[TextExample("we saw it", None, None)])
    with pytest.raises(ValueError, match="no training examples"):
        run(folder, train=[])
    with pytest.raises(ValueError, match="no development examples"):
        run(folder, dev=[])
    task, model = classification(), classification().new_model(folder)
    with pytest.raises(ValueError, match="no evaluation examples"):
        evaluate(task, model, [])
    with pytest.raises(ValueError, match="evaluation example 1 has no label"):
        evaluate(task, model, [TextExample("a", None, None)])
    assert predict(task, model, []) == []


def test_parts_that_do_not_belong_together(folder, tmp_path):
    other = little_tokenizer(["a"])
    with pytest.raises(ValueError, match=f"tokenizer has 6 tokens.*vocabulary of {len(TOKENIZER)}"):
        run(folder, Classification(other, ["no", "yes"]))
    with pytest.raises(ValueError, match="max_length is 65, but the model in .* has 64 positions"):
        run(folder, classification(max_length=65))
    task, model = classification(max_length=99), classification().new_model(folder)
    with pytest.raises(ValueError, match="an input has 70 tokens, but the model has 64 positions"):
        predict(task, model, [TextExample(" ".join(["film"] * 68))], device="cpu")
    BertModel(CONFIG).save_pretrained(tmp_path / "bare")
    with pytest.raises(FileNotFoundError, match="bare has no tokenizer"):
        tokenizer_of(tmp_path / "bare")
    assert tokenizer_of(folder).vocab == TOKENIZER.vocab


@pytest.mark.parametrize("kind", ["encoder", "pre-training", "three classes", "tagging"])
def test_any_folder_with_an_encoder_gives_a_fresh_head_without_a_warning(tmp_path, kind):
    models = {
        "encoder": BertModel(CONFIG),
        "pre-training": BertForPreTraining(CONFIG),
        "three classes": BertForSequenceClassification(CONFIG, num_labels=3),
        "tagging": BertForTokenClassification(CONFIG, num_labels=3),
    }
    randomise(models[kind])
    models[kind].save_pretrained(tmp_path)
    tasks = [Tagging(TOKENIZER, ["A", "B"], max_length=32), classification()]
    for task in tasks[: 1 if kind == "tagging" else 2]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = task.new_model(tmp_path)
        source = models[kind] if kind == "encoder" else models[kind].bert
        for name, weight in model.bert.state_dict().items():
            assert torch.equal(weight, source.state_dict()[name]), name
        assert model.classifier.weight.std() < 0.15  # initial values; those in the folder have 0.2
    if kind == "tagging":
        with pytest.warns(UserWarning, match="has no pooler"):
            classification().new_model(tmp_path)


def test_a_model_made_for_something_else_is_not_loaded(folder, tmp_path):
    run(folder, out=tmp_path / "classes", epochs=1)
    tags = Tagging.of(TOKENIZER, tagged(60), max_length=32)
    run(folder, tags, tagged(60), tagged(20), out=tmp_path / "tags", epochs=1)
    for task, place, found in (
        (Tagging, tmp_path / "classes", "is a BertForSequenceClassification"),
        (Classification, tmp_path / "tags", "is a BertForTokenClassification"),
        (Classification, folder, "is a BertForPreTraining"),
    ):
        with pytest.raises(ValueError, match=found):
            task.load(place)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": None}
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    (tmp_path / "old" / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="has no such head"):
        Classification.load(tmp_path / "old")
    (tmp_path / "tags" / "vocab.txt").unlink()
    (tmp_path / "tags" / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="no tokenizer"):
        Tagging.load(tmp_path / "tags")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="config.json"):
        Tagging.load(tmp_path / "empty")


# ---- Several seeds -----------------------------------------------------------------------------------------


def test_several_seeds(folder, tmp_path):
    seen = []
    recipe = Recipe(**QUICK | {"seed": 4, "learning_rate": 5e-4, "epochs": 2})
    out = tmp_path / "out"
    found = several_seeds(
        classification(), folder, TRAIN, DEV, recipe, 3, out=out, report=quiet, after_each=seen.append
    )
    assert [entry["seed"] for entry in found.runs] == [4, 5, 6] and seen == found.runs
    for name in ("accuracy", "macro_f1"):
        values = [entry["scores"][name] for entry in found.runs]
        assert found.mean[name] == pytest.approx(sum(values) / 3)
        assert found.sd[name] == pytest.approx(statistics.stdev(values))
    assert found.sd["accuracy"] > 0 or len({str(entry["history"]) for entry in found.runs}) == 3
    best = max(found.runs, key=lambda entry: entry["scores"]["accuracy"])
    assert found.best.scores == best["scores"] and found.best_seed == best["seed"]
    alone = finetune(classification(), folder, TRAIN, DEV, replace(recipe, seed=best["seed"]), report=quiet)
    assert same(alone.model, found.best.model)
    for place in (out, out / f"seed-{best['seed']}"):
        assert same(Classification.load(place)[1], alone.model)
    assert not same(Classification.load(out / "seed-4")[1], Classification.load(out / "seed-5")[1])


def test_seeds_by_name_and_a_task_made_for_each(folder):
    made = []

    def make():
        made.append(classification())
        return made[-1]

    recipe = Recipe(**QUICK | {"max_steps": 1})
    found = several_seeds(make, folder, TRAIN, DEV, recipe, [7, 3], report=quiet)
    assert [entry["seed"] for entry in found.runs] == [7, 3] and len(made) == 2
    one = several_seeds(make, folder, TRAIN, DEV, recipe, 1, report=quiet)
    assert one.sd == {"accuracy": None, "macro_f1": None} and one.mean == one.runs[0]["scores"]
    with pytest.raises(ValueError, match="at least one seed"):
        several_seeds(make, folder, TRAIN, DEV, recipe, 0, report=quiet)


# ---- Classification ----------------------------------------------------------------------------------------


def test_predictions_come_in_the_order_of_the_examples(folder):
    task = classification()
    model = run(folder, epochs=6).model
    unlabelled = [TextExample(first, second) for first, second, _ in DEV]
    together = predict(task, model, unlabelled, batch_size=4)
    alone = [predict(task, model, [example])[0] for example in unlabelled]
    for one, other in zip(together, alone):
        assert one["label"] == other["label"] == max(one["probabilities"], key=one["probabilities"].get)
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    right = sum(one["label"] == example.label for one, example in zip(together, DEV))
    assert task.score(DEV, together)["accuracy"] == right / len(DEV) > 0.9
    json.dumps(together)


def test_labels_are_put_in_order():
    def names(labels):
        return Classification.of(TOKENIZER, [TextExample("a", None, label) for label in labels]).label_names

    assert names(["yes", "no", "yes"]) == ["no", "yes"]
    assert names(["10", "2", "0"]) == ["0", "2", "10"]
    for labels in (["yes", "yes"], []):
        with pytest.raises(ValueError, match="at least two different classes"):
            names(labels)


def test_long_texts_are_cut_as_the_tokenizer_does_and_counted_once(folder):
    long, short = " ".join(["film"] * 40), "we saw it"
    examples = [
        TextExample(long, short, "yes"),
        TextExample(short, long, "no"),
        TextExample(short, None, "no"),
    ]
    task = classification(max_length=16)
    features = task.features(examples)
    assert [feature.truncated for feature in features] == [True, True, False]
    full = " ".join(["film"] * 14)  # with [CLS] and [SEP] exactly 16
    [feature] = task.features([TextExample(full, None, "no")])
    assert len(feature.input_ids) == 16 and not feature.truncated
    for feature, example in zip(features, examples):
        assert feature.input_ids == TOKENIZER(example.first, example.second, 16).input_ids
    assert TOKENIZER.decode(features[0].input_ids).endswith(short)  # of the short one nothing was lost
    lines = []
    run(folder, task, examples, DEV, report=lines.append)
    assert [line for line in lines if "cut off" in line] == [
        "2 of 3 training examples are longer than 16 tokens: cut off"
    ]


def test_class_weights_by_hand(folder):
    task = Classification(TOKENIZER, ["no", "yes"], class_weights=[3.0, 0.5])
    logits = torch.tensor([[1.0, 2.0], [0.5, 0.0], [0.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    surprise = -logits.log_softmax(-1)[torch.arange(3), labels]
    by_hand = (3.0 * surprise[0] + 0.5 * surprise[1] + 0.5 * surprise[2]) / 4.0
    output = engine.replace(BertForSequenceClassification(CONFIG)(torch.tensor([[1]])), logits=logits)
    torch.testing.assert_close(task.loss(output, {"labels": labels}), by_hand)
    assert balanced_weights(["a", "a", "a", "b"], ["a", "b"]) == pytest.approx([2 / 3, 2])
    assert classification().class_weights is None
    assert classification(balanced=True).class_weights == [1.0, 1.0]
    lopsided = Classification(TOKENIZER, ["no", "yes"], max_length=32, class_weights=[50.0, 1.0])
    weighted = run(folder, lopsided, max_steps=20)
    labels = [found["label"] for found in predict(weighted.task, weighted.model, DEV)]
    assert labels.count("no") > 20


@pytest.mark.parametrize(
    "names, weights, words",
    [
        (["a"], None, "two different"),
        (["a", "a"], None, "two different"),
        (["a", "b"], [1.0], "1 class_weights for 2"),
        (None, [1.0], "for classes"),
    ],
)
def test_impossible_classes(names, weights, words):
    with pytest.raises(ValueError, match=words):
        Classification(TOKENIZER, names, class_weights=weights)


def priced(count, seed):
    """Texts with a number around 1,000 that depends on the verdict and the length."""
    return [
        TextExample(text, None, 1000.0 + 50 * (label == "yes") + len(text.split()))
        for text, _, label in reviews(count, seed)
    ]


def test_regression_learns_numbers_of_any_size(folder, tmp_path):
    train, dev = priced(80, 0), priced(30, 1)
    task = Classification.of(TOKENIZER, train, max_length=32)
    assert task.is_regression and task.main_metric == "pearson"
    labels = [example.label for example in train]
    assert task.center == pytest.approx(np.mean(labels)) and task.scale == pytest.approx(np.std(labels))
    result = run(folder, task, train, dev, epochs=8, out=tmp_path / "out")
    assert result.scores["pearson"] > 0.9 and result.scores.keys() == {"pearson", "spearman"}
    found = predict(task, result.model, dev)
    assert found[0].keys() == {"label"}
    errors = [abs(one["label"] - example.label) for one, example in zip(found, dev)]
    assert np.mean(errors) < 10  # the mean of all is 25 away

    # the stored model gives the labels' own numbers, to us and to others
    loaded_task, loaded = Classification.load(tmp_path / "out")
    assert loaded_task.is_regression and (loaded_task.center, loaded_task.scale) == (0.0, 1.0)
    again = predict(loaded_task, loaded, dev)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    batch = task.collate(task.features(dev))
    del batch["labels"]
    with torch.no_grad():
        numbers = theirs(**batch).logits.squeeze(1).tolist()
    for one, other, number in zip(found, again, numbers):
        assert one["label"] == pytest.approx(other["label"], abs=0.01) == pytest.approx(number, abs=0.01)
    assert evaluate(loaded_task, loaded, dev) == pytest.approx(result.scores, abs=1e-4)


def test_regression_and_classes_do_not_mix():
    train = priced(4, 0)
    task = Classification.of(TOKENIZER, train)
    with pytest.raises(ValueError, match="example 1 .*'good'.*were numbers"):
        task.features([TextExample("a", None, "good")])
    with pytest.raises(ValueError, match="example 1 .*1.5.*never saw"):
        classification().features([TextExample("a", None, 1.5)])
    with pytest.raises(ValueError, match="nothing to learn"):
        Classification.of(TOKENIZER, [TextExample("a", None, 1.5)] * 2)
    with pytest.raises(ValueError, match="for classes"):
        Classification.of(TOKENIZER, train, balanced=True)


def test_features_without_labels_make_a_batch_without_labels():
    features = [TextFeature([1, 2, 3], [0, 0, 0], 1, 0), TextFeature([1], [0], None, 1)]
    batch = classification().collate(features)
    assert "labels" not in batch and batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


# ---- Tagging -----------------------------------------------------------------------------------------------

TAGS = {"play": "VERB", "walk": "VERB", "dog": "NOUN", "house": "NOUN", "film": "NOUN"}
ENDINGS = ["", "s", "ing", "ed"]
NOTHING = "\u200b"  # a word of which the tokenizer leaves no piece


def tagged(count, seed=0):
    """Sentences with words of one piece and of two; the stem decides the tag."""
    draw = torch.Generator().manual_seed(seed)
    sentences = []
    for number in range(count):
        words, tags = [], []
        for _ in range(2 + number % 7):
            stem = FILLERS[int(torch.randint(len(FILLERS), (), generator=draw))]
            words.append(stem + ENDINGS[int(torch.randint(4, (), generator=draw))])
            tags.append(TAGS.get(stem, "OTHER"))
        sentences.append(TaggedSentence(words, tags))
    return sentences


TAGGING = Tagging(TOKENIZER, ["NOUN", "OTHER", "VERB"], max_length=32, usual_tag="OTHER")
ALL_WORDS = [stem + ending for stem in FILLERS for ending in ENDINGS] + [
    NOTHING,
    "good.bad",
    "xyz",
    "dogsingeds",
]


def test_the_first_piece_carries_the_label_by_hand():
    sentence = TaggedSentence(["dogs", NOTHING, "walked", "on"], ["NOUN", "OTHER", "VERB", "OTHER"])
    [feature] = TAGGING.features([sentence])
    tokens = [TOKENIZER.id_to_token(number) for number in feature.input_ids]
    assert tokens == ["[CLS]", "dog", "##s", "walk", "##ed", "on", "[SEP]"]
    assert feature.labels == [IGNORE, 0, IGNORE, 2, IGNORE, 1, IGNORE]
    assert feature.places == [1, None, 3, 5]
    longer = TAGGING.features([TaggedSentence(["a"] * 8, ["OTHER"] * 8)])[0]
    batch = TAGGING.collate([feature, longer])
    assert batch["labels"][0].tolist() == [*feature.labels, IGNORE, IGNORE, IGNORE]
    assert align([[7], [8, 9], [], [5]], 3) == ([7, 8, 9], [1, 2, None, 4])
    assert spread([3, 4, 5], [1, 3, None], 5) == [IGNORE, 3, IGNORE, 4, IGNORE]


@st.composite
def sentences(draw):
    words = draw(st.lists(st.sampled_from(ALL_WORDS), min_size=1, max_size=40))
    tags = draw(st.lists(st.sampled_from(TAGGING.tag_names), min_size=len(words), max_size=len(words)))
    return TaggedSentence(words, tags)


@settings(deadline=None)
@given(st.lists(sentences(), min_size=1, max_size=4), st.integers(3, 20))
def test_every_word_gets_the_prediction_of_its_own_first_piece(examples, max_length):
    task = Tagging(TOKENIZER, TAGGING.tag_names, max_length=max_length, usual_tag="OTHER")
    features = task.features(examples)
    raw = []
    for feature in features:
        assert len(feature.input_ids) <= max_length and len(feature.labels) == len(feature.input_ids)
        logits = np.full((len(feature.input_ids), 3), 0.0, dtype=np.float32)
        logits[:, 1] = 1.0  # what an unlabelled piece says would be OTHER ...
        for place, label in enumerate(feature.labels):
            if label != IGNORE:
                logits[place] = [2.0 * (label == tag) for tag in range(3)]  # ... and a labelled one is right
        raw.append(logits)
    for sentence, found in zip(examples, task.predictions(examples, features, raw)):
        assert found["words"] == sentence.words
        for word, tag, predicted, share in zip(*sentence, found["tags"], found["probabilities"]):
            pieces = TOKENIZER.tokenize(word)
            assert predicted == (tag if pieces else "OTHER") and (share is None) == (not pieces)

    # and the labelled pieces, in order, are the first pieces of the words
    labelled = [
        (TOKENIZER.id_to_token(feature.input_ids[place]), task.tag_names[label])
        for feature in features
        for place, label in enumerate(feature.labels)
        if label != IGNORE
    ]
    first_pieces = [
        (TOKENIZER.tokenize(word)[0], tag)
        for sentence in examples
        for word, tag in zip(*sentence)
        if TOKENIZER.tokenize(word)
    ]
    assert labelled == first_pieces


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 12))
def test_stretches_cover_every_word_once(lengths, room):
    cut = stretches(lengths, room)
    assert [word for start, end in cut for word in range(start, end)] == list(range(len(lengths)))
    for start, end in cut:
        assert sum(lengths[start:end]) <= room or sum(length > 0 for length in lengths[start:end]) == 1


def test_a_sentence_that_fits_is_not_cut_and_a_longer_one_is_cut_evenly():
    assert stretches([2, 2, 2], 6) == [(0, 3)] and stretches([0, 0], 6) == [(0, 2)]
    assert stretches([2, 2, 2, 0], 6) == [(0, 4)] and stretches([3, 0, 3, 0], 3) == [(0, 2), (2, 4)]
    assert stretches([1] * 7, 6) == [(0, 4), (4, 7)]
    assert stretches([9, 1], 6) == [(0, 1), (1, 2)]


def test_a_word_without_pieces_counts_as_an_error_only_if_it_is_one():
    examples = [TaggedSentence(["dog", NOTHING, "walk"], ["NOUN", tag, "VERB"]) for tag in ("OTHER", "VERB")]
    features = TAGGING.features(examples)
    raw = [np.eye(3, dtype=np.float32)[[1, 0, 2, 1]] for _ in examples]  # [CLS] dog walk [SEP]
    found = TAGGING.predictions(examples, features, raw)
    assert [one["tags"] for one in found] == [["NOUN", "OTHER", "VERB"]] * 2
    assert found[0]["probabilities"][1] is None
    assert found[0]["probabilities"][0] == pytest.approx(math.e / (math.e + 2))
    assert TAGGING.score(examples, found)["accuracy"] == 5 / 6
    only = [TaggedSentence([NOTHING], ["OTHER"])]
    assert TAGGING.predictions(only, TAGGING.features(only), [np.zeros((2, 3))])[0]["tags"] == ["OTHER"]


def test_tagging_learns_and_can_be_read_again(folder, tmp_path):
    train, dev = tagged(120), tagged(40, seed=1)
    dev[3].words[0], dev[3].tags[0] = NOTHING, "OTHER"
    task = Tagging.of(TOKENIZER, train, max_length=12)
    assert task.tag_names == ["NOUN", "OTHER", "VERB"] and task.usual_tag == "OTHER"
    result = run(folder, task, train, dev, epochs=6, out=tmp_path / "out")
    usual = np.mean([tag == "OTHER" for sentence in dev for tag in sentence.tags])
    assert result.scores["accuracy"] > 0.95 > usual + 0.2
    assert result.scores.keys() == {"accuracy", "f1"}
    loaded_task, loaded = Tagging.load(tmp_path / "out")
    assert (loaded_task.tag_names, loaded_task.max_length, loaded_task.usual_tag) == (
        task.tag_names,
        12,
        "OTHER",
    )
    assert predict(loaded_task, loaded, dev) == predict(task, result.model, dev)
    theirs = AutoModelForTokenClassification.from_pretrained(tmp_path / "out").eval()
    batch = task.collate(task.features(dev))
    with torch.no_grad():
        read = batch["attention_mask"].bool()
        torch.testing.assert_close(
            theirs(**batch).logits[read], result.model(**batch).logits[read], rtol=1e-4, atol=1e-5
        )
    untagged = [TaggedSentence(sentence.words) for sentence in dev]
    assert predict(task, result.model, untagged) == predict(task, result.model, dev)


def test_entities_are_scored_as_entities():
    task = Tagging(TOKENIZER, ["B-x", "I-x", "O"])
    assert task.main_metric == "f1" and task.usual_tag == "O" and TAGGING.main_metric == "accuracy"
    gold = [TaggedSentence(["a", "dog", "on", "it"], ["B-x", "I-x", "O", "B-x"])]
    found = [{"tags": ["B-x", "O", "O", "B-x"]}]
    assert task.score(gold, found) == {"accuracy": 0.75, "f1": 0.5}  # one of two, and one of two is right
    plain = TAGGING.score([TaggedSentence(["a", "b"], ["NOUN", "VERB"])], [{"tags": ["NOUN", "NOUN"]}])
    assert plain == {"accuracy": 0.5, "f1": pytest.approx((2 / 3 + 0) / 2)}


def test_bad_sentences():
    odd = [TaggedSentence(["a"], ["NOUN"]), TaggedSentence(["we", "saw"], ["OTHER", "ADV"])]
    with pytest.raises(ValueError, match=r"sentence 2 \('we saw'\), word 2 \('saw'\) .*'ADV'.*never saw"):
        TAGGING.features(odd)
    with pytest.raises(ValueError, match="2 words and 1 tags"):
        TAGGING.features([TaggedSentence(["we", "saw"], ["OTHER"])])
    with pytest.raises(ValueError, match="sentence 1 has no words"):
        TAGGING.features([TaggedSentence([], [])])
    with pytest.raises(ValueError, match="training sentence 2 has no tags"):
        Tagging.of(TOKENIZER, [TaggedSentence(["a"], ["X"]), TaggedSentence(["a"])])
    with pytest.raises(ValueError, match="two different tags"):
        Tagging.of(TOKENIZER, [TaggedSentence(["a"], ["X"])])
    with pytest.raises(ValueError, match="two different tags"):
        Tagging.of(TOKENIZER, [])
    with pytest.raises(ValueError, match="max_length is 2"):
        Tagging(TOKENIZER, ["A", "B"], max_length=2)
    with pytest.raises(ValueError, match="usual tag 'C'"):
        Tagging(TOKENIZER, ["A", "B"], usual_tag="C")
