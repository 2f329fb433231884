"""The encoder: its numbers, its masks, its dropout, its initial weights, and what it says to bad input."""

import math

import pytest
import torch
from torch.nn import functional as F

from bert_edu import (
    BertConfig,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)
from bert_edu.attention import MultiHeadSelfAttention, attention_bias, scaled_dot_product_attention
from bert_edu.embeddings import (
    BertEmbeddings,
    repeat_positions,
    sinusoidal_positions,
    start_from_sinusoids,
)
from bert_edu.encoder import EncoderLayer, FeedForward
from bert_edu.model import initialise_weights
from helpers import ODD_CONFIGS, SMALL, batch, pretraining_labels, randomise

PUBLISHED_COUNTS = {  # BertModel with V = 30,522
    "tiny": 4_385_920,
    "mini": 11_170_560,
    "small": 28_763_648,
    "medium": 41_373_184,
    "base": 109_482_240,
    "large": 335_141_888,
}


@pytest.fixture
def model():
    model = BertModel(SMALL).eval()
    randomise(model)
    return model


@pytest.mark.parametrize("config", ODD_CONFIGS.values(), ids=ODD_CONFIGS)
def test_shapes(config):
    B, T, H, L, A = 13, 7, config.hidden_size, config.num_hidden_layers, config.num_attention_heads
    output = BertModel(config)(**batch(config), output_attentions=True, output_hidden_states=True)
    assert output.last_hidden_state.shape == (B, T, H)
    assert output.pooler_output.shape == (B, H)
    assert [state.shape for state in output.hidden_states] == [(B, T, H)] * (L + 1)
    assert [attention.shape for attention in output.attentions] == [(B, A, T, T)] * L
    torch.testing.assert_close(output.hidden_states[-1], output.last_hidden_state, rtol=0, atol=0)


def test_nothing_extra_is_kept_unless_asked_for(model):
    output = model(**batch(SMALL))
    assert output.hidden_states is None and output.attentions is None


def test_hidden_states_are_a_chain_from_the_embeddings(model):
    inputs = batch(SMALL)
    states = model(**inputs, output_hidden_states=True).hidden_states
    embedded = model.embeddings(inputs["input_ids"], token_type_ids=inputs["token_type_ids"])
    torch.testing.assert_close(states[0], embedded, rtol=0, atol=0)
    bias = attention_bias(inputs["attention_mask"], embedded.dtype)
    for layer, before, after in zip(model.encoder.layers, states, states[1:]):
        torch.testing.assert_close(layer(before, bias=bias)[0], after, rtol=0, atol=0)


def test_defaults_are_all_ones_and_all_zeros(model):
    ids = batch(SMALL)["input_ids"]
    spelled_out = model(ids, attention_mask=torch.ones_like(ids), token_type_ids=torch.zeros_like(ids))
    torch.testing.assert_close(model(ids).last_hidden_state, spelled_out.last_hidden_state)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("config", ODD_CONFIGS.values(), ids=ODD_CONFIGS)
@pytest.mark.parametrize("masked", [True, False])
def test_written_out_and_fused_attention_agree(config, dtype, tolerance, masked):
    model = BertModel(config).to(dtype).eval()
    randomise(model)
    inputs = batch(config)
    if not masked:
        del inputs["attention_mask"]
    fused = model(**inputs).last_hidden_state
    written_out = model(**inputs, output_attentions=True).last_hidden_state
    torch.testing.assert_close(fused, written_out, rtol=0, atol=tolerance)


def test_the_fused_kernel_is_used_unless_attentions_are_asked_for(model, monkeypatch):
    calls = []
    original = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or original(*a, **k)
    )
    model(**batch(SMALL), output_attentions=True)
    assert calls == []
    model(**batch(SMALL))
    assert len(calls) == SMALL.num_hidden_layers


def test_attention_by_hand():
    # Two tokens, D = 1: scores [[0, 0], [0, ln 3]], so the second query gives the second key 3/4.
    query = torch.tensor([[0.0], [math.log(3.0)]])
    key = torch.tensor([[0.0], [1.0]])
    value = torch.tensor([[0.0], [8.0]])
    context, probabilities = scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(probabilities, torch.tensor([[0.5, 0.5], [0.25, 0.75]]))
    torch.testing.assert_close(context, torch.tensor([[4.0], [6.0]]))


def test_attention_rows_sum_to_one_over_visible_keys(model):
    inputs = batch(SMALL)
    for attention in model(**inputs, output_attentions=True).attentions:  # (B, A, T, T)
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
        hidden_keys = (inputs["attention_mask"] == 0)[:, None, None, :].expand_as(attention)
        assert (attention[hidden_keys] == 0).all()


def test_multi_head_attention_against_torch():
    config = ODD_CONFIGS["twelve heads, gelu_new, sixteen segments"]
    ours = MultiHeadSelfAttention(config).eval()
    randomise(ours)
    theirs = torch.nn.MultiheadAttention(
        config.hidden_size, config.num_attention_heads, batch_first=True
    ).eval()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.query_key_value.weight,
            "in_proj_bias": ours.query_key_value.bias,
            "out_proj.weight": ours.output.weight,
            "out_proj.bias": ours.output.bias,
        }
    )
    hidden = torch.randn(3, 5, config.hidden_size, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    expected, weights = theirs(hidden, hidden, hidden, key_padding_mask=mask == 0, average_attn_weights=False)
    found, probabilities = ours(hidden, bias=attention_bias(mask, hidden.dtype), output_attentions=True)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(probabilities, weights)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_encoder_layer_against_torch(activation):
    config = BertConfig(
        vocab_size=50,
        hidden_size=36,
        num_hidden_layers=1,
        num_attention_heads=6,
        intermediate_size=41,
        hidden_act=activation,
    )
    ours = EncoderLayer(config).eval()
    randomise(ours)
    theirs = torch.nn.TransformerEncoderLayer(
        36, 6, 41, activation=activation, layer_norm_eps=1e-12, batch_first=True
    )
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": ours.attention.query_key_value.weight,
            "self_attn.in_proj_bias": ours.attention.query_key_value.bias,
            "self_attn.out_proj.weight": ours.attention.output.weight,
            "self_attn.out_proj.bias": ours.attention.output.bias,
            "linear1.weight": ours.feed_forward.expand.weight,
            "linear1.bias": ours.feed_forward.expand.bias,
            "linear2.weight": ours.feed_forward.contract.weight,
            "linear2.bias": ours.feed_forward.contract.bias,
            "norm1.weight": ours.attention_norm.weight,
            "norm1.bias": ours.attention_norm.bias,
            "norm2.weight": ours.feed_forward_norm.weight,
            "norm2.bias": ours.feed_forward_norm.bias,
        }
    )
    hidden = torch.randn(3, 5, 36, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(hidden)[0], theirs.eval()(hidden))


def test_padding_never_changes_a_valid_output(model):
    inputs = batch(SMALL, B=5, T=7)
    padded = model(**inputs)
    for row, length in enumerate(inputs["attention_mask"].sum(1)):
        alone = {name: tensor[row : row + 1, :length] for name, tensor in inputs.items()}
        torch.testing.assert_close(
            model(**alone).last_hidden_state[0], padded.last_hidden_state[row, :length]
        )
        torch.testing.assert_close(model(**alone).pooler_output[0], padded.pooler_output[row])


def test_what_stands_under_the_padding_does_not_matter(model):
    inputs = batch(SMALL)
    valid = inputs["attention_mask"].bool()
    before = model(**inputs).last_hidden_state[valid]
    inputs["input_ids"] = torch.where(valid, inputs["input_ids"], 5)
    torch.testing.assert_close(model(**inputs).last_hidden_state[valid], before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("output_attentions", [True, False])
def test_a_fully_masked_row_stays_finite(model, dtype, output_attentions):
    inputs = batch(SMALL, B=3)
    inputs["attention_mask"][1] = 0
    output = model.to(dtype)(**inputs, output_attentions=output_attentions)
    assert output.last_hidden_state.isfinite().all()


def test_a_token_reads_both_sides_and_only_its_own_row(model):
    ids = batch(SMALL, B=2)["input_ids"].clamp(min=1)
    before = model(ids).last_hidden_state
    ids[0, 4] = ids[0, 4] % (SMALL.vocab_size - 1) + 1  # another token in the middle of row 0
    changed = (model(ids).last_hidden_state != before).any(-1)  # (B, T)
    assert changed[0].all() and not changed[1].any()


def test_the_longest_sequence_fits(model):
    longest = SMALL.max_position_embeddings
    ids = torch.arange(longest)[None]
    assert model(ids).last_hidden_state.shape == (1, longest, SMALL.hidden_size)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float32])
def test_masks_of_every_type_and_short_ids_give_the_same(model, dtype):
    inputs = batch(SMALL)
    expected = model(**inputs).last_hidden_state
    found = model(
        inputs["input_ids"].int(),
        attention_mask=inputs["attention_mask"].to(dtype),
        token_type_ids=inputs["token_type_ids"].int(),
    ).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_it_compiles_in_one_piece(model):
    """Checking ids looks at their values, and in a compiled graph that would be a break."""
    inputs = batch(SMALL)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(
        compiled(**inputs).last_hidden_state, model(**inputs).last_hidden_state, rtol=0, atol=0
    )


def test_positions_and_segments_matter(model):
    ids = torch.tensor([[5, 6, 7]])
    straight = model(ids).last_hidden_state[0]
    assert not torch.allclose(straight, model(ids.flip(1)).last_hidden_state[0].flip(0), atol=1e-3)
    other_segment = model(ids, token_type_ids=torch.tensor([[0, 1, 1]])).last_hidden_state[0]
    assert not torch.allclose(straight, other_segment, atol=1e-3)


def test_sinusoids():
    positions = sinusoidal_positions(50, 6)
    assert positions.shape == (50, 6)
    for p, i in [(0, 0), (3, 1), (49, 2)]:
        angle = p / 10000 ** (2 * i / 6)
        assert positions[p, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
        assert positions[p, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)
    with pytest.raises(ValueError, match="even.*not 7"):
        sinusoidal_positions(10, 7)


@pytest.mark.parametrize("name", PUBLISHED_COUNTS)
def test_published_parameter_counts(name):
    with torch.device("meta"):
        model = BertModel(BertConfig.preset(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED_COUNTS[name]


def test_the_decoder_adds_only_its_transform_and_bias():
    with torch.device("meta"):
        model = BertForPreTraining(BertConfig.preset("base"))
    H, V = 768, 30522
    extra = sum(p.numel() for p in model.parameters()) - PUBLISHED_COUNTS["base"]
    assert extra == (H * H + H) + 2 * H + V + (2 * H + 2)  # dense, LayerNorm, bias, next sentence


def test_initial_weights():
    torch.manual_seed(0)
    model = BertForPreTraining(BertConfig.preset("tiny"))
    for name, parameter in model.named_parameters():
        if "norm.weight" in name:
            assert (parameter == 1).all(), name
        elif parameter.dim() == 1:
            assert (parameter == 0).all(), name
        else:
            assert parameter.abs().max() <= 0.04, name
            if parameter.numel() > 10_000:  # 0.02 * sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)) = 0.017592
                assert parameter.std().item() == pytest.approx(0.017592, rel=0.02), name
    assert model.bert.embeddings.token.weight[0].any()  # no row of zeros for [PAD]


@pytest.mark.parametrize(
    "model_class",
    [
        BertModel,
        BertForPreTraining,
        BertForSequenceClassification,
        BertForTokenClassification,
        BertForQuestionAnswering,
    ],
)
def test_every_part_of_every_model_starts_from_its_initializer_range(model_class):
    torch.manual_seed(0)
    model = model_class(BertConfig(**(SMALL.to_dict() | dict(initializer_range=0.1))))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert (parameter == float("norm.weight" in name)).all(), name
        else:
            assert 0.1 < parameter.abs().max() <= 0.2, name
        if parameter.numel() > 1000:
            assert parameter.std().item() == pytest.approx(0.088, rel=0.06), name


def test_weights_can_be_initialised_again(model):
    initialise_weights(model, 0.1)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert (parameter == float("norm.weight" in name)).all(), name
        else:
            assert 0.1 < parameter.abs().max() <= 0.2, name


@pytest.mark.parametrize("preset, vocab_size", [("tiny", 30522), ("mini", 8192)])
def test_the_first_loss_is_near_chance(preset, vocab_size):
    torch.manual_seed(0)
    config = BertConfig.preset(preset, vocab_size=vocab_size)
    model = BertForPreTraining(config)
    inputs = batch(config, B=16, T=64)
    output = model(**inputs, **pretraining_labels(inputs, config))
    assert output.mlm_loss.item() == pytest.approx(math.log(vocab_size), abs=0.35)
    assert output.nsp_loss.item() == pytest.approx(math.log(2), abs=0.1)


def places_of_dropout(model, monkeypatch, **inputs):
    """What dropout is applied to in one pass, in order: shapes, or "probabilities" inside the kernel."""
    places = []
    dropout, attention = F.dropout, F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "dropout",
        lambda x, p, training, *a: (
            places.append((tuple(x.shape), p * training)) or dropout(x, p, training, *a)
        ),
    )
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *a, **k: places.append(("probabilities", k["dropout_p"])) or attention(*a, **k),
    )
    model(**inputs)
    monkeypatch.undo()
    return [place for place in places if place[1] > 0]


@pytest.mark.parametrize(
    "model_class, last",
    [
        (BertModel, []),
        (BertForPreTraining, []),
        (BertForQuestionAnswering, []),
        (BertForSequenceClassification, [((2, 34), 0.2)]),
        (BertForTokenClassification, [((2, 7, 34), 0.2)]),
    ],
)
def test_dropout_stands_in_exactly_five_kinds_of_places(model_class, last, monkeypatch):
    config = BertConfig(**(SMALL.to_dict() | dict(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3)))
    model, inputs = model_class(config), batch(config, B=2)
    vector, probabilities = ((2, 7, 34), 0.2), ("probabilities", 0.3)
    expected = [vector] + [probabilities, vector, vector] * config.num_hidden_layers + last
    assert places_of_dropout(model.train(), monkeypatch, **inputs) == expected
    assert places_of_dropout(model.eval(), monkeypatch, **inputs) == []


def test_dropout_on_the_written_out_path_falls_on_the_probabilities():
    config = BertConfig(**(SMALL.to_dict() | dict(attention_probs_dropout_prob=0.5)))
    attention = MultiHeadSelfAttention(config).train()
    seen = []
    attention.dropout.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    torch.manual_seed(0)
    _, probabilities = attention(torch.randn(2, 7, 34), output_attentions=True)
    ((before, after),) = seen
    torch.testing.assert_close(before, probabilities)  # what is returned is not thinned out
    assert set((after / before).round(decimals=4).unique().tolist()) == {0.0, 2.0}


def test_embeddings_and_feed_forward_drop_where_they_say():
    config = BertConfig(**(SMALL.to_dict() | dict(hidden_dropout_prob=0.5)))
    torch.manual_seed(0)
    embedded = BertEmbeddings(config).train()(torch.ones(4, 20, dtype=torch.long))
    assert (embedded == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)  # after LayerNorm
    assert not [part for part in FeedForward(config).modules() if isinstance(part, torch.nn.Dropout)]


def test_dropout_falls_on_what_is_added_and_never_on_the_residual():
    layer = EncoderLayer(SMALL).train()
    randomise(layer)
    layer.dropout = torch.nn.Dropout(1.0)  # all of it: what is left has not been through dropout
    hidden = torch.randn(2, 7, 34, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer(hidden)[0], layer.feed_forward_norm(layer.attention_norm(hidden)))


@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(input_ids=torch.zeros(2, 7)), TypeError, ["input_ids", "whole numbers", "torch.float32"]),
        (dict(input_ids=torch.zeros(7, dtype=torch.long)), ValueError, ["input_ids", "(B, T)", "(7,)"]),
        (
            dict(input_ids=torch.zeros(2, 0, dtype=torch.long)),
            ValueError,
            ["input_ids", "at least one token", "(2, 0)"],
        ),
        (dict(input_ids=torch.zeros(2, 30, dtype=torch.long)), ValueError, ["30 tokens", "positions for 29"]),
        (dict(input_ids=torch.tensor([[1, 2], [3, 89]])), ValueError, ["input_ids[1, 1] is 89", "0 to 88"]),
        (dict(input_ids=torch.tensor([[1, -2]])), ValueError, ["input_ids[0, 1] is -2", "vocab_size is 89"]),
        (dict(attention_mask=torch.ones(2, 6)), ValueError, ["attention_mask", "(2, 7)", "(2, 6)"]),
        (dict(attention_mask=torch.ones(2, 1, 1, 7)), ValueError, ["attention_mask", "(2, 1, 1, 7)"]),
        (
            dict(token_type_ids=torch.full((2, 7), 3)),
            ValueError,
            ["token_type_ids[0, 0] is 3", "type_vocab_size is 3"],
        ),
        (dict(token_type_ids=torch.zeros(2, 7)), TypeError, ["token_type_ids", "torch.float32"]),
    ],
)
def test_bad_input_is_named(model, change, error, words):
    inputs = dict(input_ids=torch.ones(2, 7, dtype=torch.long)) | change
    with pytest.raises(error) as caught:
        model(**inputs)
    for word in words:
        assert word in str(caught.value)


def test_masks_cannot_be_passed_by_position(model):
    ids = torch.ones(2, 7, dtype=torch.long)
    with pytest.raises(TypeError, match="positional"):
        model(ids, torch.ones_like(ids))


# Starting positions


def test_positions_start_as_sinusoids_of_the_spread_asked_for():
    embeddings = BertModel(BertConfig.preset("tiny", vocab_size=50)).embeddings
    start_from_sinusoids(embeddings, 0.05)
    table = embeddings.position.weight.detach()
    torch.testing.assert_close(table, sinusoidal_positions(*table.shape) * 0.05 * 2**0.5)
    assert float(table.square().mean().sqrt()) == pytest.approx(0.05, rel=1e-3)
    assert embeddings.position.weight.requires_grad


def test_later_positions_become_copies_of_the_first():
    embeddings = BertModel(BertConfig.preset("tiny", vocab_size=50, max_position_embeddings=11)).embeddings
    before = embeddings.position.weight.detach().clone()
    repeat_positions(embeddings, 4)
    assert torch.equal(embeddings.position.weight, before[[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]])
    for trained in (0, 12):
        with pytest.raises(ValueError, match="1 to 11"):
            repeat_positions(embeddings, trained)
