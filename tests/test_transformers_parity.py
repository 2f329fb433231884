"""Our models against `transformers`: same weights, same numbers, in both directions, gradients too."""

import pytest
import torch
import transformers

import bert_edu
from bert_edu.pretrained import published_names
from helpers import ODD_CONFIGS, batch, pretraining_labels, randomise

transformers.utils.logging.disable_progress_bar()

MODELS = {
    "BertModel": {},
    "BertForPreTraining": {},
    "BertForSequenceClassification": {"num_labels": 5},
    "BertForTokenClassification": {"num_labels": 3},
    "BertForQuestionAnswering": {},
}
COMPARED = (
    "last_hidden_state",
    "pooler_output",
    "prediction_logits",
    "seq_relationship_logits",
    "logits",
    "start_logits",
    "end_logits",
)

every_model_and_config = pytest.mark.parametrize(
    "name, config",
    [(name, config) for name in MODELS for config in ODD_CONFIGS.values()],
    ids=[f"{name}: {which}" for name in MODELS for which in ODD_CONFIGS],
)


def ours_and_reference(name, config):
    ours = getattr(bert_edu, name)(config, **MODELS[name]).eval()
    settings = transformers.BertConfig(**config.to_dict(), **MODELS[name])
    return ours, getattr(transformers, name)(settings).eval()


def assert_same_outputs(ours, reference, config, name):
    inputs = batch(config)
    with torch.no_grad():
        found = ours(**inputs, output_hidden_states=True)
        expected = reference(**inputs, output_hidden_states=True)
    compared = [field for field in COMPARED if getattr(expected, field, None) is not None]
    assert compared
    real = inputs["attention_mask"].bool()
    for field in compared:
        mine, theirs = getattr(found, field), getattr(expected, field)
        if mine.shape[:2] == real.shape:  # what stands under the padding is nobody's business
            mine, theirs = mine[real], theirs[real]
        torch.testing.assert_close(
            mine, theirs, rtol=0, atol=1e-4, msg=lambda text: f"{name}.{field}: {text}"
        )
    for layer, (mine, theirs) in enumerate(zip(found.hidden_states, expected.hidden_states, strict=True)):
        torch.testing.assert_close(
            mine[real], theirs[real], rtol=0, atol=1e-4, msg=lambda text: f"layer {layer}: {text}"
        )


def test_defaults_are_those_of_the_reference():
    reference = transformers.BertConfig().to_dict()
    for name, value in bert_edu.BertConfig().to_dict().items():
        assert value == reference[name], name


@every_model_and_config
def test_they_read_what_we_write(name, config, tmp_path):
    ours, _ = ours_and_reference(name, config)
    randomise(ours)
    ours.save_pretrained(tmp_path)
    reference, report = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert_same_outputs(ours, reference.eval(), config, name)


@every_model_and_config
def test_we_read_what_they_write(name, config, tmp_path):
    _, reference = ours_and_reference(name, config)
    randomise(reference)
    reference.save_pretrained(tmp_path)
    ours = getattr(bert_edu, name).from_pretrained(tmp_path)
    assert (ours.load_report.missing, ours.load_report.unexpected, ours.load_report.mis_shaped) == (
        [],
        [],
        [],
    )
    assert ours.config == config
    assert_same_outputs(ours, reference, config, name)


@pytest.mark.parametrize("config", ODD_CONFIGS.values(), ids=ODD_CONFIGS)
def test_every_gradient_of_a_pre_training_batch(config, tmp_path):
    ours, reference = ours_and_reference("BertForPreTraining", config)
    randomise(ours)
    ours.save_pretrained(tmp_path)
    reference = type(reference).from_pretrained(tmp_path).double().eval()
    ours = ours.double()
    inputs = batch(config)
    labels = pretraining_labels(inputs, config)
    mine, theirs = ours(**inputs, **labels), reference(**inputs, **labels)
    torch.testing.assert_close(mine.loss, theirs.loss, rtol=0, atol=1e-5)
    mine.loss.backward()
    theirs.loss.backward()
    expected = {
        name.removeprefix("bert."): parameter.grad for name, parameter in reference.named_parameters()
    }
    compared = set()
    for name, parameter in ours.named_parameters():
        parts = published_names(name)
        for part, piece in zip(parts, parameter.grad.chunk(len(parts))):
            torch.testing.assert_close(
                piece, expected[part], rtol=0, atol=1e-5, msg=lambda text: f"{name}: {text}"
            )
            compared.add(part)
    assert compared == set(expected)
    assert (
        sum(gradient.abs().max() > 1e-3 for gradient in expected.values()) > len(expected) / 2
    )  # not all zero


def test_padding_idx_is_the_one_difference(tmp_path):
    """`transformers` gives [PAD]'s row no gradient from look-ups; ours, like Google's, is like any other."""
    config = ODD_CONFIGS["five layers, gelu, large eps"]
    ours, _ = ours_and_reference("BertModel", config)
    randomise(ours)
    ours.save_pretrained(tmp_path)
    reference = transformers.BertModel.from_pretrained(tmp_path).eval()
    ids = torch.tensor([[3, 0, 4]])  # [PAD] as an ordinary, visible token
    ours(ids).last_hidden_state.square().sum().backward()
    reference(ids).last_hidden_state.square().sum().backward()
    mine, theirs = ours.embeddings.token.weight.grad, reference.embeddings.word_embeddings.weight.grad
    torch.testing.assert_close(mine[1:], theirs[1:], rtol=1e-4, atol=1e-4)
    assert (theirs[0] == 0).all() and (mine[0] != 0).any()


@pytest.mark.parametrize(
    "name, labels",
    [
        ("BertForSequenceClassification", dict(labels=torch.arange(13) % 5)),
        ("BertForTokenClassification", dict(labels=torch.arange(13 * 7).reshape(13, 7) % 3)),
        (
            "BertForQuestionAnswering",
            dict(start_positions=torch.arange(13) % 7, end_positions=torch.arange(13) % 5),
        ),
    ],
)
def test_losses_of_the_task_heads(name, labels, tmp_path):
    config = ODD_CONFIGS["odd head size, three segments"]
    ours, _ = ours_and_reference(name, config)
    randomise(ours)
    ours.save_pretrained(tmp_path)
    reference = getattr(transformers, name).from_pretrained(tmp_path).eval()
    inputs = batch(config)
    inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
    torch.testing.assert_close(
        ours(**inputs, **labels).loss, reference(**inputs, **labels).loss, rtol=0, atol=1e-5
    )


def test_class_names_survive_both_ways(tmp_path):
    config, names = ODD_CONFIGS["odd head size, three segments"], ["bad", "fair", "good"]
    bert_edu.BertForSequenceClassification(config, 3, names).save_pretrained(tmp_path / "ours")
    reference = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "ours")
    assert [reference.config.id2label[number] for number in range(3)] == names
    assert reference.config.label2id == {"bad": 0, "fair": 1, "good": 2}
    reference.save_pretrained(tmp_path / "theirs")
    assert bert_edu.BertForSequenceClassification.from_pretrained(tmp_path / "theirs").label_names == names
