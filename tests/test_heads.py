"""The heads and their losses: what is scored, how it is averaged, and what is refused."""

import math

import pytest
import torch
from torch.nn import functional as F

from bert_edu import (
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from bert_edu.heads import masked_language_model_loss
from helpers import SMALL, batch, pretraining_labels, randomise


def fresh(model_class, *arguments):
    model = model_class(SMALL, *arguments).eval()
    randomise(model)
    return model


def test_masked_language_model_loss_by_hand():
    # Two words; log-odds 0 and ln 3 for the first: -log p = ln 2 and -ln(3/4); the third is not scored.
    logits = torch.tensor([[[0.0, 0.0], [math.log(3.0), 0.0], [9.0, -9.0]]])
    labels = torch.tensor([[1, 0, -100]])
    expected = (math.log(2.0) - math.log(0.75)) / 2
    assert masked_language_model_loss(logits, labels).item() == pytest.approx(expected, abs=1e-6)


def test_only_scored_positions_go_through_the_decoder_and_the_loss_is_the_same():
    model, inputs = fresh(BertForPreTraining), batch(SMALL)
    labels = pretraining_labels(inputs, SMALL)
    through_the_head = []
    model.mlm_head.register_forward_hook(lambda head, given, logits: through_the_head.append(logits.shape))
    everything, scored = model(**inputs), model(**inputs, **labels)
    assert everything.loss is None and everything.prediction_logits.shape == (13, 7, SMALL.vocab_size)
    assert scored.prediction_logits is None
    chosen = labels["labels"] != -100
    assert through_the_head == [(13, 7, SMALL.vocab_size), (int(chosen.sum()), SMALL.vocab_size)]
    torch.testing.assert_close(scored.scored_logits, everything.prediction_logits[chosen])
    full = F.cross_entropy(everything.prediction_logits.transpose(1, 2), labels["labels"], ignore_index=-100)
    torch.testing.assert_close(scored.mlm_loss, full)
    torch.testing.assert_close(scored.loss, scored.mlm_loss + scored.nsp_loss)


def test_positions_that_are_not_scored_may_be_among_the_given_ones():
    model, inputs = fresh(BertForPreTraining), batch(SMALL)
    labels = pretraining_labels(inputs, SMALL)
    labels["labels"][0, 0] = -100
    expected = model(**inputs, **labels)
    positions = (labels["labels"].flatten() != -100).nonzero().flatten()
    padded = torch.cat([positions, torch.zeros(5, dtype=torch.long)])
    found = model(**inputs, **labels, scored_positions=padded)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.scored_logits[: len(positions)], expected.scored_logits)
    gradients = [torch.autograd.grad(out.loss, model.mlm_head.bias)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_unscored_labels_do_not_matter_and_scored_ones_do():
    model, inputs = fresh(BertForPreTraining), batch(SMALL)
    labels = pretraining_labels(inputs, SMALL)["labels"]
    before = model(**inputs, labels=labels).mlm_loss
    row, column = (labels != -100).nonzero()[0]
    other = labels.clone()
    other[row, column] = other[row, column] % (SMALL.vocab_size - 1) + 1
    assert not torch.isclose(before, model(**inputs, labels=other).mlm_loss)
    other[row, column] = -100
    logits, rest = model(**inputs).prediction_logits, other != -100
    torch.testing.assert_close(
        model(**inputs, labels=other).mlm_loss, F.cross_entropy(logits[rest], other[rest])
    )


def test_the_word_with_id_0_is_scored_like_any_other():
    model, inputs = fresh(BertForPreTraining), batch(SMALL)
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, 0] = 0
    expected = -model(**inputs).prediction_logits[:, 0].log_softmax(-1)[:, 0].mean()
    torch.testing.assert_close(model(**inputs, labels=labels).mlm_loss, expected)


def test_no_masked_token_gives_a_finite_loss_and_gradient():
    model, inputs = fresh(BertForPreTraining), batch(SMALL)
    output = model(
        **inputs, labels=torch.full_like(inputs["input_ids"], -100), next_sentence_label=torch.ones(13).long()
    )
    output.loss.backward()
    assert output.mlm_loss.item() == 0.0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(output.loss, output.nsp_loss)


def test_one_objective_alone():
    model, inputs = fresh(BertForPreTraining), batch(SMALL)
    labels = pretraining_labels(inputs, SMALL)
    only_mlm = model(**inputs, labels=labels["labels"])
    assert only_mlm.nsp_loss is None
    torch.testing.assert_close(only_mlm.loss, only_mlm.mlm_loss)
    only_nsp = model(**inputs, next_sentence_label=labels["next_sentence_label"])
    assert only_nsp.mlm_loss is None and only_nsp.prediction_logits is not None
    expected = F.cross_entropy(only_nsp.seq_relationship_logits, labels["next_sentence_label"])
    torch.testing.assert_close(only_nsp.loss, expected)


def test_the_decoder_is_the_embedding_table():
    model = fresh(BertForPreTraining)
    inputs = batch(SMALL)
    model(**inputs, **pretraining_labels(inputs, SMALL)).mlm_loss.backward()
    unused = torch.ones(SMALL.vocab_size, dtype=torch.bool)
    unused[inputs["input_ids"].unique()] = False
    assert unused.any()
    gradient = model.bert.embeddings.token.weight.grad
    assert (gradient[unused] != 0).any(-1).all()  # words that were only candidates get a gradient: tied


def test_classification_and_regression():
    inputs = batch(SMALL)
    model = fresh(BertForSequenceClassification, 5)
    labels = torch.arange(13) % 5
    output = model(**inputs, labels=labels)
    assert output.logits.shape == (13, 5)
    torch.testing.assert_close(output.loss, F.cross_entropy(output.logits, labels))
    regression = fresh(BertForSequenceClassification, 1)
    targets = torch.linspace(-1, 1, 13, dtype=torch.float64)
    output = regression(**inputs, labels=targets)
    torch.testing.assert_close(output.loss, ((output.logits[:, 0] - targets.float()) ** 2).mean())


def test_tagging_ignores_minus_100():
    inputs, model = batch(SMALL), fresh(BertForTokenClassification, 4)
    labels = torch.randint(0, 4, (13, 7), generator=torch.Generator().manual_seed(3))
    labels[inputs["attention_mask"] == 0] = -100
    output = model(**inputs, labels=labels)
    assert output.logits.shape == (13, 7, 4)
    real = labels != -100
    torch.testing.assert_close(output.loss, F.cross_entropy(output.logits[real], labels[real]))


def test_question_answering():
    inputs, model = batch(SMALL), fresh(BertForQuestionAnswering)
    start, end = torch.zeros(13, dtype=torch.long), torch.arange(13) % 7
    output = model(**inputs, start_positions=start, end_positions=end)
    assert output.start_logits.shape == output.end_logits.shape == (13, 7)
    expected = (F.cross_entropy(output.start_logits, start) + F.cross_entropy(output.end_logits, end)) / 2
    torch.testing.assert_close(output.loss, expected)
    assert not torch.equal(output.start_logits, output.end_logits)


@pytest.mark.parametrize(
    "model_class",
    [
        BertForPreTraining,
        BertForSequenceClassification,
        BertForTokenClassification,
        BertForQuestionAnswering,
    ],
)
def test_what_the_body_shows_comes_through_the_heads(model_class):
    model, inputs = fresh(model_class), batch(SMALL) | dict(output_attentions=True, output_hidden_states=True)
    expected, found = model.bert(**inputs), model(**inputs)
    torch.testing.assert_close(found.hidden_states, expected.hidden_states, rtol=0, atol=0)
    torch.testing.assert_close(found.attentions, expected.attentions, rtol=0, atol=0)


@pytest.mark.parametrize(
    "model_class, arguments, change, words",
    [
        (BertForPreTraining, (), dict(labels=torch.zeros(13, 6).long()), ["labels", "(13, 7)", "(13, 6)"]),
        (
            BertForPreTraining,
            (),
            dict(next_sentence_label=torch.zeros(13, 1).long()),
            ["next_sentence_label", "(13,)"],
        ),
        (
            BertForSequenceClassification,
            (3,),
            dict(labels=torch.zeros(13, 3).long()),
            ["labels", "(13,)", "(13, 3)"],
        ),
        (
            BertForTokenClassification,
            (3,),
            dict(labels=torch.zeros(13).long()),
            ["labels", "(13, 7)", "(13,)"],
        ),
        (BertForQuestionAnswering, (), dict(start_positions=torch.zeros(13).long()), ["both or neither"]),
        (
            BertForQuestionAnswering,
            (),
            dict(start_positions=torch.zeros(13).long(), end_positions=torch.zeros(2).long()),
            ["end_positions", "(13,)", "(2,)"],
        ),
    ],
)
def test_bad_labels_are_named(model_class, arguments, change, words):
    with pytest.raises(ValueError) as error:
        fresh(model_class, *arguments)(**batch(SMALL), **change)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((0,), ["num_labels", "at least 1", "0"]),
        ((2.0,), ["num_labels", "2.0"]),
        ((3, ["yes", "no"]), ["2 names", "num_labels = 3"]),
    ],
)
def test_bad_numbers_of_labels(arguments, words):
    with pytest.raises(ValueError) as error:
        BertForTokenClassification(SMALL, *arguments)
    for word in words:
        assert word in str(error.value)
