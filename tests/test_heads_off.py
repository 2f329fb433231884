"""A head that is switched off adds nothing, the others are not touched, and afterwards all is as before."""

import pytest
import torch
from torch import nn

from bert_edu import BertConfig, BertForPreTraining, BertModel
from bert_edu.introspection import heads_off

L, A, D, B, T = 3, 4, 6, 5, 7
H = A * D
CONFIG = BertConfig(99, hidden_size=H, num_hidden_layers=L, num_attention_heads=A, intermediate_size=37)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = BertForPreTraining(CONFIG).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)  # so that nothing is 0 by itself
    return model


@pytest.fixture
def ids():
    return torch.randint(99, (B, T), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def scores(model, ids):
    return model(ids).prediction_logits


def hooks(model):
    return sum(len(part._forward_pre_hooks) for part in model.modules())


@pytest.mark.parametrize("heads", [[(0, 0)], [(1, 3)], [(2, 1), (0, 2)], [(1, 0), (1, 2)], [(2, 1), (2, 1)]])
def test_same_as_zero_columns(model, ids, heads):
    before = scores(model, ids)
    with heads_off(model, iter(heads)):
        found = scores(model, ids)
    for layer, head in heads:
        model.bert.encoder.layers[layer].attention.output.weight.data[:, head * D : (head + 1) * D] = 0
    torch.testing.assert_close(found, scores(model, ids))
    assert (found - before).abs().max() > 1e-3


def test_only_the_bias_is_left_of_a_layer_without_heads(model):
    attention = model.bert.encoder.layers[1].attention
    with torch.no_grad(), heads_off(model, [(1, head) for head in range(A)]):
        found, _ = attention(torch.randn(B, T, H, dtype=torch.float64))
    torch.testing.assert_close(found, attention.output.bias.detach().expand(B, T, H))


def test_all_as_before_afterwards(model, ids):
    before, state = scores(model, ids), {name: value.clone() for name, value in model.state_dict().items()}
    with heads_off(model, [(0, 1), (2, 2)]):
        scores(model, ids)
    with pytest.raises(ZeroDivisionError), heads_off(model, [(0, 1)]):
        scores(model, ids)
        raise ZeroDivisionError
    assert torch.equal(scores(model, ids), before) and hooks(model) == 0
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_blocks_add_up_and_no_heads_change_nothing(model, ids):
    with heads_off(model, []):
        assert hooks(model) == 0
    with heads_off(model, [(0, 1), (1, 0)]):
        together = scores(model, ids)
    with heads_off(model, [(0, 1)]), heads_off(model, [(1, 0)]):
        torch.testing.assert_close(scores(model, ids), together)


def test_the_silent_head_gets_no_gradient_and_the_others_do(model, ids):
    with heads_off(model, [(1, 2)]):
        model(ids).prediction_logits.pow(2).mean().backward()
    rows = model.bert.encoder.layers[1].attention.query_key_value.weight.grad.view(3, A, D, H)
    reached = rows[2].abs().amax((1, 2)) > 0  # the values
    assert reached.tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    "heads, message",
    [
        ([(3, 0)], "no head 0 in layer 3: this model has layers 0 to 2 with heads 0 to 3"),
        ([(0, 4)], "no head 4 in layer 0"),
        ([(-1, 0)], "no head 0 in layer -1"),
    ],
)
def test_a_head_that_does_not_exist(model, heads, message):
    with pytest.raises(ValueError, match=message), heads_off(model, [(0, 0), *heads]):
        pass
    assert hooks(model) == 0


def test_only_our_models(model, ids):
    for other in (nn.Linear(3, 3), nn.Module(), torch.compile(model)):
        with pytest.raises(TypeError, match="heads_off takes a BertModel"), heads_off(other, [(0, 0)]):
            pass
    bare = BertModel(CONFIG).eval()
    with heads_off(bare, [(0, 0)]):
        assert hooks(bare) == 1
