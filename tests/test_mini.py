"""The shipped model: small, whole, as good as its card says, and read by `transformers` too."""

import json

import pytest
import torch
import train_mini
import transformers

from bert_edu import load_mini
from bert_edu.data.corpus import load
from bert_edu.data.pretraining import TokenStore
from bert_edu.mini import FOLDER
from bert_edu.notebook import results
from bert_edu.training.metrics import evaluate_pretraining
from bert_edu.training.preparation import held_out_batches

LIMIT = 16_000_000  # bytes


@pytest.fixture(scope="module")
def mini():
    return load_mini()


def test_it_is_small():
    assert sum(file.stat().st_size for file in FOLDER.iterdir() if file.is_file()) < LIMIT


def test_its_shape(mini):
    model, tokenizer = mini
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size, config.max_position_embeddings) == (4, 256, 512)
    assert config.vocab_size == len(tokenizer) == 8192
    assert not model.training and not model.load_report.missing and not model.load_report.unexpected
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert tokenizer("The Ferry").input_ids == tokenizer("the ferry").input_ids


def test_transformers_reads_it_and_agrees(mini):
    model, tokenizer = mini
    theirs = transformers.BertForPreTraining.from_pretrained(FOLDER, dtype=torch.float32).eval()
    batch = tokenizer.batch(["The ferry left the [MASK].", "Return a [MASK] array."])
    with torch.inference_mode():
        ours = model(batch.input_ids, attention_mask=batch.attention_mask)
        expected = theirs(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    real = batch.attention_mask.bool()
    torch.testing.assert_close(
        ours.prediction_logits[real], expected.prediction_logits[real], rtol=0, atol=1e-3
    )
    torch.testing.assert_close(
        ours.seq_relationship_logits, expected.seq_relationship_logits, rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("length", [128, 512])
def test_it_is_as_good_as_its_card_says(mini, length):
    """On a part of the held-out documentation, which other versions of the libraries change a little."""
    model, tokenizer = mini
    documents = TokenStore.build(load("pydocs", "valid"), tokenizer)
    batches = held_out_batches(documents, tokenizer, max_length=length, rows=400)
    found = evaluate_pretraining(model, batches, tokenizer)
    published = results("mini_model")["figures"][f"pydocs, {length} tokens"]
    assert found["mask_accuracy"] == pytest.approx(published["mask_accuracy"], abs=0.04)
    assert found["mask_accuracy"] > published["baselines"]["two-sided trigram"]


def test_inputs_of_512_tokens_are_the_longest(mini):
    model, tokenizer = mini
    ids = torch.tensor([tokenizer("it returns a new array . " * 100).input_ids])
    with torch.inference_mode():
        assert model(ids[:, :512]).prediction_logits.isfinite().all()
    with pytest.raises(ValueError, match="512"):
        model(ids[:, :513])


def test_long_inputs_are_read_as_well_as_short_ones():
    """The last part of the training was for this."""
    figures = results("mini_model")["figures"]
    for text in ("wikipedia", "pydocs"):
        short, long = (figures[f"{text}, {length} tokens"]["mask_accuracy"] for length in (128, 512))
        assert long > 0.95 * short, text


def test_the_card_is_made_from_the_results():
    expected = train_mini.card(results("mini_model")["figures"])
    assert (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8") == expected
    assert "{{" not in expected


def test_the_curve_covers_all_parts():
    lines = [json.loads(line) for line in (FOLDER / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines]
    assert steps == sorted(steps) and {line["part"] for line in lines} == set(train_mini.PARTS)
    record = json.loads((FOLDER / "training.json").read_text())
    total = sum(part["steps"] for part in record.values())
    assert total - 10 < max(steps) <= total
