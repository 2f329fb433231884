"""The configuration: published sizes, the published file's fields, and clear refusals."""

import json

import pytest

from bert_edu import BertConfig


def test_defaults_are_bert_base():
    assert BertConfig() == BertConfig.preset("base")


@pytest.mark.parametrize(
    "name, layers, hidden, heads",
    [
        ("tiny", 2, 128, 2),
        ("mini", 4, 256, 4),
        ("small", 4, 512, 8),
        ("medium", 8, 512, 8),
        ("base", 12, 768, 12),
        ("large", 24, 1024, 16),
    ],
)
def test_presets(name, layers, hidden, heads):
    config = BertConfig.preset(name)
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (
        layers,
        hidden,
        heads,
    )
    assert config.intermediate_size == 4 * hidden
    assert config.head_size == 64  # every published size has heads 64 wide


def test_preset_takes_changes():
    config = BertConfig.preset("mini", vocab_size=8192, intermediate_size=300)
    assert (config.vocab_size, config.intermediate_size, config.hidden_size) == (8192, 300, 256)


def test_round_trip_through_json(tmp_path):
    config = BertConfig.preset("tiny", hidden_act="relu", layer_norm_eps=1e-5, hidden_dropout_prob=0.0)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_dict() | {"torch_dtype": "float32", "an_unknown_field": 3}))
    assert BertConfig.from_json(path) == config


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(hidden_size=10, num_attention_heads=3), ["hidden_size (10)", "num_attention_heads (3)"]),
        (dict(hidden_act="swish"), ["hidden_act", "gelu, gelu_new, relu", "'swish'"]),
        (dict(hidden_dropout_prob=1.0), ["hidden_dropout_prob", "below 1", "1.0"]),
        (dict(attention_probs_dropout_prob=-0.1), ["attention_probs_dropout_prob", "-0.1"]),
        (dict(hidden_dropout_prob=float("nan")), ["hidden_dropout_prob", "nan"]),
        (dict(hidden_dropout_prob="0.1"), ["hidden_dropout_prob", "'0.1'"]),
        (dict(num_hidden_layers=0), ["num_hidden_layers", "at least 1", "0"]),
        (dict(vocab_size=30522.0), ["vocab_size", "whole number", "30522.0"]),
        (dict(type_vocab_size=True), ["type_vocab_size", "True"]),
        (dict(layer_norm_eps=0.0), ["layer_norm_eps", "above 0"]),
        (dict(layer_norm_eps=True), ["layer_norm_eps", "True"]),
        (dict(initializer_range=float("inf")), ["initializer_range", "inf"]),
        (dict(vocab_size=50, pad_token_id=50), ["pad_token_id", "0 to 49", "50"]),
        (dict(pad_token_id=None), ["pad_token_id", "None"]),
    ],
)
def test_bad_values_name_the_field(changes, words):
    with pytest.raises(ValueError) as error:
        BertConfig(**changes)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "type_vocab_size",
    ],
)
def test_every_size_is_checked(name):
    for value in (0, -1, 2.0, None, "2"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, not {value!r}"):
            BertConfig(**{name: value})


def test_unknown_preset():
    with pytest.raises(ValueError, match="tiny, mini, small, medium, base, large, not 'huge'"):
        BertConfig.preset("huge")


@pytest.mark.parametrize(
    "published",
    [
        {"model_type": "roberta"},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"add_cross_attention": True},
    ],
)
def test_another_architecture_is_refused(published):
    with pytest.raises(ValueError, match=next(iter(published))):
        BertConfig.from_dict(published)
