"""See inside any model: recordings change nothing, shapes do not lie, faults are found where they are."""

import copy
import dataclasses
import functools
import math
import types
from collections.abc import Callable

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F

import bert_edu
from bert_edu import museum
from bert_edu.attention import scaled_dot_product_attention
from bert_edu.introspection import (
    checks,
    compare,
    compare_with_file,
    load_reference,
    record,
    trace_shapes,
)
from bert_edu.introspection.stored import SHIPPED
from bert_edu.training.optim import adamw
from helpers import SMALL, batch, pretraining_labels, randomise

transformers.utils.logging.disable_progress_bar()

INPUTS = batch(SMALL, B=5, T=7)
INPUTS["attention_mask"] = INPUTS["attention_mask"].flip(0)  # the first row is the longest


@pytest.fixture(scope="module")
def ours():
    model = bert_edu.BertModel(SMALL).eval()
    randomise(model)
    return model


@pytest.fixture(scope="module")
def theirs(ours, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    ours.save_pretrained(folder)
    return transformers.BertModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def pretraining():
    torch.manual_seed(0)
    return bert_edu.BertForPreTraining(SMALL)


def labelled():
    return INPUTS | pretraining_labels(INPUTS, SMALL)


def hooks_of(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(part, kind)) for part in model.modules() for kind in kinds)


class Own(nn.Module):
    """A reader's model: PyTorch's layers, its own names, arguments by position; length first on request."""

    def __init__(self, source, batch_first=True):
        super().__init__()
        H, self.batch_first = SMALL.hidden_size, batch_first
        self.words = nn.Embedding(SMALL.vocab_size, H)
        self.places = nn.Embedding(SMALL.max_position_embeddings, H)
        self.sentences = nn.Embedding(SMALL.type_vocab_size, H)
        self.first_norm = nn.LayerNorm(H, eps=1e-12)
        layer = nn.TransformerEncoderLayer(
            H,
            SMALL.num_attention_heads,
            SMALL.intermediate_size,
            activation="gelu",
            layer_norm_eps=1e-12,
            batch_first=batch_first,
        )
        self.blocks = nn.TransformerEncoder(layer, SMALL.num_hidden_layers, enable_nested_tensor=False)
        embeddings = source.embeddings
        self.words.load_state_dict(embeddings.token.state_dict())
        self.places.load_state_dict(embeddings.position.state_dict())
        self.sentences.load_state_dict(embeddings.segment.state_dict())
        self.first_norm.load_state_dict(embeddings.norm.state_dict())
        for block, its in zip(self.blocks.layers, source.encoder.layers):
            block.self_attn.in_proj_weight.data.copy_(its.attention.query_key_value.weight)
            block.self_attn.in_proj_bias.data.copy_(its.attention.query_key_value.bias)
            block.self_attn.out_proj.load_state_dict(its.attention.output.state_dict())
            block.linear1.load_state_dict(its.feed_forward.expand.state_dict())
            block.linear2.load_state_dict(its.feed_forward.contract.state_dict())
            block.norm1.load_state_dict(its.attention_norm.state_dict())
            block.norm2.load_state_dict(its.feed_forward_norm.state_dict())
        self.eval()

    def forward(self, ids, mask, kinds):
        positions = torch.arange(ids.shape[1])
        x = self.first_norm(self.words(ids) + self.sentences(kinds) + self.places(positions))
        x = x if self.batch_first else x.transpose(0, 1)
        x = self.blocks(x, src_key_padding_mask=mask == 0)
        return x if self.batch_first else x.transpose(0, 1)


POSITIONAL = (INPUTS["input_ids"], INPUTS["attention_mask"], INPUTS["token_type_ids"])


# ---- Recording ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [False, True])
def test_recording_a_step_changes_no_number(keep):
    models, results = [], []
    for recorded in (False, True):
        torch.manual_seed(0)
        model = bert_edu.BertForPreTraining(SMALL)  # with dropout
        optimizer = adamw(model, 1e-3)
        seen = record(model, keep=keep) if recorded else None
        for _ in range(2):
            with seen if seen and not seen._rows else torch.enable_grad():
                loss = model(**labelled()).loss
                loss.backward()
                optimizer.step()
        models.append(model)
        results.append((loss, torch.get_rng_state()))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    for one, other in zip(models[0].parameters(), models[1].parameters()):
        assert torch.equal(one, other) and torch.equal(one.grad, other.grad)
    assert hooks_of(models[1]) == 0


def test_recording_changes_no_output_of_other_peoples_models(ours, theirs):
    for model, arguments in ((theirs, INPUTS), (Own(ours), dict(zip(("ids", "mask", "kinds"), POSITIONAL)))):
        expected = model(**arguments)
        with record(model):
            found = model(**arguments)
        for a, b in zip(expected if isinstance(expected, tuple) else [expected], [found]):
            a, b = getattr(a, "last_hidden_state", a), getattr(b, "last_hidden_state", b)
            assert torch.equal(a, b)


def test_no_hook_is_left_after_an_exception(ours):
    from torch.optim import optimizer

    before = len(optimizer._global_optimizer_pre_hooks), len(optimizer._global_optimizer_post_hooks)
    broken = copy.deepcopy(ours)
    broken.encoder.layers[1].feed_forward.activation = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError), record(broken) as seen:
        broken(**INPUTS)
    assert hooks_of(broken) == 0
    assert before == (len(optimizer._global_optimizer_pre_hooks), len(optimizer._global_optimizer_post_hooks))
    assert "embeddings" in [row.name for row in seen.rows]  # what came before can be looked at
    assert torch.overrides._len_torch_function_stack() == 0


def test_rows_say_what_the_modules_gave_out(ours):
    with record(ours, keep=True) as seen:
        output = ours(**INPUTS, output_hidden_states=True)
    states = output.hidden_states
    for name, expected in (("embeddings", states[0]), ("encoder.layers.1", states[2])):
        row = seen[name]
        assert row.shapes == [tuple(expected.shape)] and torch.equal(row.tensor, expected)
        assert row.mean == pytest.approx(expected.mean().item(), abs=1e-6)
        assert row.sd == pytest.approx(expected.std(correction=0).item(), rel=1e-5)
    names = [row.name for row in seen.rows]
    assert names.index("encoder.layers.0") < names.index("encoder.layers.1") < names.index("pooler")
    assert seen["encoder.layers.0.dropout"].call == 2  # one module, called twice
    text = str(seen)
    assert "encoder.layers.1.feed_forward.expand" in text and "(5, 7, 31)" in text


def test_a_mean_of_mere_rounding_is_printed_as_0():
    def printed(shift, scale):
        model = nn.LayerNorm(64)
        nn.init.constant_(model.weight, scale)
        nn.init.constant_(model.bias, shift)
        with record(model) as seen:
            model(torch.randn(50, 64))
        return seen.rows[0].mean, str(seen).splitlines()[1].split()

    mean, line = printed(0.0, 1.0)
    assert 0 < abs(mean) < 1e-6 and line[-5] == "0"
    assert printed(1e-4, 1.0)[1][-5] == "0.0001" and printed(1e-9, 1e-8)[1][-5] == "1e-09"


def test_zeros_and_nan_are_counted():
    model = nn.Sequential(nn.ReLU(), nn.Identity())
    with record(model) as seen:
        model(torch.tensor([[-1.0, 2.0, -3.0, 4.0]]))
    assert seen["0"].zeros == 0.5 and seen["0"].nans == 0.0
    with record(model) as seen:
        model(torch.tensor([[math.nan, 2.0, -3.0, 4.0]]))
    assert seen["0"].nans == 0.25
    assert "NaN in 3 modules, first in 0" in str(seen)


def test_gradients_and_updates(pretraining):
    model = copy.deepcopy(pretraining).eval()
    before = {name: part.detach().clone() for name, part in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record(model) as seen:
        output = model(**labelled(), output_hidden_states=True)
        output.hidden_states[1].retain_grad()
        output.loss.backward()
        optimizer.step()
    gradient = output.hidden_states[1].grad
    assert seen["bert.encoder.layers.0"].gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-5)
    rows = {row.name: row for row in seen.parameters}
    for name, part in model.named_parameters():
        row = rows[name]
        assert row.gradient_norm == pytest.approx(float(part.grad.norm()), rel=1e-5)
        moved, length = float((part - before[name]).norm()), float(before[name].norm())
        if length:
            assert row.update == pytest.approx(moved / length, rel=1e-4)
            assert row.update == pytest.approx(0.1 * row.gradient_norm / length, rel=1e-3)


def test_without_a_backward_pass_there_are_no_gradients(pretraining):
    model = copy.deepcopy(pretraining)
    model(**labelled()).loss.backward()  # gradients from before the block do not count
    with record(model) as seen:
        model(**labelled())
    assert all(row.gradient_norm is None for row in seen.rows)
    assert all(row.gradient_norm is None and row.update is None for row in seen.parameters)


def test_attention_without_asking_the_model_for_it(ours, theirs):
    """Fused kernels store no probabilities, and yet they are recorded: those the model would have given."""
    probabilities = torch.stack(ours(**INPUTS, output_attentions=True).attentions)  # (L, B, A, T, T)
    real = INPUTS["attention_mask"].bool()
    for model, arguments, positional in (
        (ours, INPUTS, ()),
        (theirs, INPUTS, ()),
        (Own(ours), {}, POSITIONAL),
    ):
        with record(model, keep=True) as seen:
            model(*positional, **arguments)
        rows = seen.attention
        assert [row.head for row in rows] == [0, 1, 0, 1]
        for number, row in enumerate(rows):
            expected = probabilities[number // 2, :, number % 2]  # (B, T, T)
            torch.testing.assert_close(row.probabilities[real], expected[real], rtol=0, atol=1e-5)
    with record(ours) as seen:
        ours(**INPUTS)
    row, expected = seen.attention[0], probabilities[0, :, 0][real]  # (N, T)
    entropy = -(expected * expected.clamp(min=1e-30).log()).sum(-1).mean()
    assert row.entropy == pytest.approx(float(entropy), abs=1e-4)
    assert row.largest == pytest.approx(float(expected.max(-1).values.mean()), abs=1e-4)
    assert row.share == pytest.approx(float(expected.mean(0).max()), abs=1e-4)
    assert row.key == int(expected.mean(0).argmax()) and not row.one_position


def test_a_head_that_reads_one_position_is_told():
    class OneKey(nn.Module):
        def forward(self, x):
            scores = torch.zeros(2, 1, 4, 4)
            scores[..., 2] = 20.0
            return scores.softmax(-1) @ x

    model = OneKey()
    with record(model) as seen:
        model(torch.randn(2, 1, 4, 3))
    (row,) = seen.attention
    assert row.one_position and row.key == 2 and "hardly another" in str(seen)


def test_bad_input_of_record(ours):
    with record(ours) as empty:
        pass
    for ask in (lambda: empty.rows, lambda: empty.attention, lambda: str(empty), lambda: empty["pooler"]):
        with pytest.raises(ValueError, match="nothing was recorded"):
            ask()
    with pytest.raises(KeyError, match="near it are 'encoder.layers.1'"):
        record(ours, only=["encoder.layer.1"])
    with record(ours, only=["embeddings", "encoder.layers.0.attention.output"]) as seen:
        ours(**INPUTS)
    assert [row.name for row in seen.rows] == ["embeddings", "encoder.layers.0.attention.output"]
    with pytest.raises(KeyError, match="encoder.layers.0.attention.output"):
        seen["encoder.layers.0.attention.outputs"]
    plain = nn.Linear(3, 2)
    with record(plain) as seen:
        plain(torch.randn(4, 3))
    with pytest.raises(ValueError, match="Linear has no attention"):
        _ = seen.attention
    with pytest.raises(ValueError, match="is on meta and the model on cpu"), record(ours):
        ours(INPUTS["input_ids"].to("meta"))
    assert hooks_of(ours) == 0
    compiled = nn.Module()
    compiled._orig_mod = ours  # as in what torch.compile returns
    with pytest.raises(ValueError, match="compiled"):
        record(compiled)
    with pytest.raises(TypeError, match="not a dict"):
        record({})
    with pytest.raises(RuntimeError, match="made once"), seen:
        pass


# ---- Shapes ------------------------------------------------------------------------------------------------


def letters_in(ledger, module, what):
    return [row.letters for row in ledger.rows if (row.module, row.what) == (module, what)]


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_letters_where_nearly_all_sizes_are_two(kind, capsys):
    config = bert_edu.BertConfig.preset("tiny", vocab_size=128, num_hidden_layers=1)  # A = S = 2, V = H
    if kind == "ours":
        model, attention = bert_edu.BertModel(config).eval(), "encoder.layers.0.attention"
        tables = "embeddings.token", "embeddings.segment"
    else:
        model = transformers.BertModel(transformers.BertConfig(**config.to_dict())).eval()
        attention = "encoder.layer.0.attention.self"
        tables = "embeddings.word_embeddings", "embeddings.token_type_embeddings"
    ledger = trace_shapes(model, batch(config, B=2, T=2))
    assert letters_in(ledger, tables[0], "weight") == ["(V, H)"]
    assert letters_in(ledger, tables[1], "weight") == ["(S, H)"]
    assert letters_in(ledger, attention, "softmax") == ["(B, A, T, T)"]
    assert letters_in(ledger, attention, "view") == ["(B, T, A, D)"] * 3
    assert letters_in(ledger, attention, "matmul") == ["(B, A, T, T)", "(B, A, T, D)"]
    assert ledger.sizes["D"] == 64
    printed = capsys.readouterr().out
    assert "(B, A, T, D)" in printed and "A = 2 (heads)" in printed
    for row in ledger.rows:  # every letter has its value, every product too
        for name, size in zip(row.letters.strip("(,)").split(", "), row.shape):
            times = int(name[0]) if name[0].isdigit() and not name.isdigit() else 1
            letters = name.lstrip("0123456789")
            value = times * math.prod(ledger.sizes[letter] for letter in letters) if letters else int(name)
            assert value == size, row


def test_what_depends_on_the_labels_is_no_fixed_size(pretraining, capsys):
    ledger = trace_shapes(pretraining, labelled())
    assert letters_in(ledger, "mlm_head.dense", "linear") == ["(N, H)"]
    assert letters_in(ledger, "nsp_head", "linear") == ["(B, 2)"]  # two answers, not A and not S
    assert letters_in(ledger, "mlm_head", "linear") == ["(N, V)"]


def test_a_model_without_a_config_gets_numbers(capsys):
    ledger = trace_shapes(nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 2)), torch.randn(7, 5))
    assert letters_in(ledger, "0", "linear") == ["(B, 7)"] and letters_in(ledger, "1", "linear") == ["(B, 2)"]
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    ledger = trace_shapes(layer, torch.randn(3, 5, 8), sizes={"H": 8})
    assert letters_in(ledger, "norm1", "layer_norm") == ["(B, T, H)"]
    assert letters_in(ledger, "self_attn", "softmax") == ["(B, 2, T, T)"]
    assert any("go by their values" in note for note in ledger.notes)


def test_tracing_changes_nothing(pretraining, capsys):
    state, weights = torch.get_rng_state(), copy.deepcopy(pretraining.state_dict())
    trace_shapes(pretraining, labelled())
    assert torch.equal(state, torch.get_rng_state()) and hooks_of(pretraining) == 0
    assert all(torch.equal(part, weights[name]) for name, part in pretraining.state_dict().items())
    with pytest.raises(ValueError, match="is on meta and the model on cpu"):
        trace_shapes(pretraining, {"input_ids": INPUTS["input_ids"].to("meta")})


# ---- First divergence: no false alarm ----------------------------------------------------------------------


def test_equal_models_raise_no_alarm(ours, theirs):
    for mine, reference in ((ours, copy.deepcopy(ours)), (ours, theirs), (theirs, ours)):
        found = compare(mine, reference, INPUTS)
        assert found.agree and found.first is None and not found.causes and not found.parameters
        assert not found.notes and "agree in last_hidden_state, pooler_output" in str(found)
        assert len(found.rows) > 10 and max(row.relative for row in found.rows) < 1e-12


@pytest.mark.parametrize("batch_first", [True, False])
def test_an_own_model_under_other_names(ours, batch_first):
    own = Own(ours, batch_first)
    found = compare(own, ours, POSITIONAL, reference_batch=INPUTS)
    assert found.agree, found
    own.blocks.layers[1].norm1.eps = 1e-5
    found = compare(own, ours, POSITIONAL, reference_batch=INPUTS)
    assert (found.first.mine, found.first.reference) == (
        "blocks.layers.1.norm1",
        "encoder.layers.1.attention_norm",
    )
    assert found.causes[0].to_the_end and "1e-05" in found.causes[0].text


def test_pretraining_models_with_and_without_labels(pretraining, tmp_path):
    pretraining.save_pretrained(tmp_path)
    reference = transformers.BertForPreTraining.from_pretrained(tmp_path).eval()
    mine = copy.deepcopy(pretraining).eval()
    for inputs in (INPUTS, labelled()):
        assert compare(mine, reference, inputs).agree and compare(reference, mine, inputs).agree
    assert compare(mine.bert, reference, INPUTS).agree  # what one returns the other has inside
    mine.mlm_head.activation = F.relu
    found = compare(mine, reference, labelled())
    assert found.first.mine == "mlm_head" and "computes relu" in found.causes[0].text
    mine = copy.deepcopy(pretraining).eval()
    mine.register_forward_hook(lambda module, inputs, output: setattr(output, "loss", 2 * output.loss))
    found = compare(mine, reference, INPUTS | pretraining_labels(INPUTS, SMALL))
    assert not found.agree and [name for name, apart, _ in found.outputs if apart > 1e-6] == ["loss"]


def test_what_stands_under_the_padding_is_nobodys_business(ours, theirs):
    mine = copy.deepcopy(ours)
    real = INPUTS["attention_mask"].unsqueeze(-1)  # (B, T, 1)
    mine.embeddings.register_forward_hook(lambda module, inputs, output: output * real)
    assert compare(mine, theirs, INPUTS).agree


def test_comparing_leaves_the_models_as_they_were(ours, theirs):
    mine, state = copy.deepcopy(ours), torch.get_rng_state()
    handle = mine.embeddings.register_forward_hook(lambda module, inputs, output: 1.5 * output)
    hooks = hooks_of(mine), hooks_of(theirs)
    compare(mine, theirs, INPUTS)
    assert (hooks_of(mine), hooks_of(theirs)) == hooks and torch.equal(state, torch.get_rng_state())
    handle.remove()
    for part, before in zip(mine.parameters(), ours.parameters()):
        assert part.dtype == torch.float32 and torch.equal(part, before)
    assert torch.get_default_dtype() == torch.float32


# ---- First divergence: faults ------------------------------------------------------------------------------


def replace_forward(module: nn.Module, forward: Callable, name: str = "forward"):
    setattr(module, name, types.MethodType(forward, module))


def attention_forward(scores_of=None, probabilities_of=None):
    """The written-out attention with a chance to spoil the scores or the probabilities."""

    def forward(self, hidden, *, bias=None, output_attentions=False):
        query, key, value = (self.split_heads(part) for part in self.query_key_value(hidden).chunk(3, dim=-1))
        scores = query @ key.transpose(-2, -1)
        scores = (scores_of or (lambda s, b: s / math.sqrt(self.head_size) + b))(scores, bias)
        probabilities = scores.softmax(-1)
        if probabilities_of:
            probabilities = probabilities_of(probabilities, bias)
        return self.output(self.merge_heads(probabilities @ value)), None

    return forward


def spoil_attention(layers, **how):
    def fault(model):
        for number in layers:
            replace_forward(model.encoder.layers[number].attention, attention_forward(**how))

    return fault


def split_without_transpose(self, hidden):
    B, T, _ = hidden.shape
    return hidden.reshape(B, self.num_heads, T, self.head_size)


def split_interleaved(self, hidden):
    B, T, _ = hidden.shape
    return hidden.reshape(B, T, self.head_size, self.num_heads).permute(0, 3, 1, 2)


def spoil_layer(number, forward):
    return lambda model: replace_forward(model.encoder.layers[number], forward)


def spoil_each_layer(part, forward):
    """The same in every layer: in the layer itself where `part` is "", else in that part of it."""

    def fault(model):
        for layer in model.encoder.layers:
            replace_forward(layer.get_submodule(part), forward)

    return fault


def spoil_embeddings(forward):
    return lambda model: replace_forward(model.embeddings, forward)


def without_first_residual(self, hidden, *, bias=None, output_attentions=False):
    hidden = self.attention_norm(self.attention(hidden, bias=bias)[0])
    return self.feed_forward_norm(hidden + self.feed_forward(hidden)), None


def residual_from_the_layers_input(self, hidden, *, bias=None, output_attentions=False):
    middle = self.attention_norm(hidden + self.attention(hidden, bias=bias)[0])
    return self.feed_forward_norm(hidden + self.feed_forward(middle)), None


def pre_norm(self, hidden, *, bias=None, output_attentions=False):
    hidden = hidden + self.attention(self.attention_norm(hidden), bias=bias)[0]
    return hidden + self.feed_forward(self.feed_forward_norm(hidden)), None


def without_segments(self, input_ids, *, token_type_ids=None, **others):
    return self.norm(self.token(input_ids) + self.position(torch.arange(input_ids.shape[1])))


def positions_off_by_one(self, input_ids, *, token_type_ids=None, **others):
    positions = self.position.weight[1 : input_ids.shape[1] + 1]
    return self.norm(self.token(input_ids) + positions + self.segment(token_type_ids))


def tokens_scaled(self, input_ids, *, token_type_ids=None, **others):
    positions = self.position(torch.arange(input_ids.shape[1]))
    return self.norm(math.sqrt(34) * self.token(input_ids) + positions + self.segment(token_type_ids))


def norm_of_the_tokens_only(self, input_ids, *, token_type_ids=None, **others):
    positions = self.position(torch.arange(input_ids.shape[1]))
    return self.norm(self.token(input_ids)) + positions + self.segment(token_type_ids)


def activation_last(self, hidden):
    return self.activation(self.contract(self.expand(hidden)))


def norms_exchanged(self, hidden, *, bias=None, output_attentions=False):
    hidden = self.feed_forward_norm(hidden + self.attention(hidden, bias=bias)[0])
    return self.attention_norm(hidden + self.feed_forward(hidden)), None


def keys_for_values(self, hidden, *, bias=None, output_attentions=False):
    query, value, key = (self.split_heads(part) for part in self.query_key_value(hidden).chunk(3, dim=-1))
    return self.output(self.merge_heads(scaled_dot_product_attention(query, key, value, bias)[0])), None


def divided_by_the_variance(self, x):
    return self.weight * (x - x.mean(-1, keepdim=True)) / x.var(-1, keepdim=True, correction=0) + self.bias


def mask_and_segments_swapped(model):
    right = model.forward  # bound to the model: a copy of it would not do

    def forward(input_ids, *, attention_mask=None, token_type_ids=None):
        return right(input_ids, attention_mask=token_type_ids + 1, token_type_ids=attention_mask)

    model.forward = forward


def mask_dropped_after_layer_one(model):
    layer = model.encoder.layers[1]
    right = layer.forward
    layer.forward = lambda hidden, *, bias=None, output_attentions=False: right(hidden, bias=None)


def variance_for_its_root(model):
    for layer in model.encoder.layers:
        replace_forward(layer.attention_norm, divided_by_the_variance)


def eps_outside(model):
    norm = model.encoder.layers[1].feed_forward_norm

    def forward(self, x):
        return (
            self.weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True, correction=0) + 1e-6)
            + self.bias
        )

    replace_forward(norm, forward)


def unbiased_variance(model):
    def forward(self, x):
        variance = x.var(-1, keepdim=True)
        return self.weight * (x - x.mean(-1, keepdim=True)) / (variance + self.eps).sqrt() + self.bias

    replace_forward(model.encoder.layers[0].attention_norm, forward)


def set_eps(model):
    model.embeddings.norm.eps = 3e-4


def tanh_form(model):
    model.encoder.layers[1].feed_forward.activation = functools.partial(F.gelu, approximate="tanh")


def relu_everywhere(model):
    for layer in model.encoder.layers:
        layer.feed_forward.activation = F.relu


def no_activation(model):
    model.encoder.layers[1].feed_forward.activation = lambda x: x


def norm_replaced_by_nothing(model):
    model.encoder.layers[1].attention_norm = nn.Identity()


def one_weight(model):
    with torch.no_grad():
        model.encoder.layers[1].feed_forward.contract.weight[3, 4] += 1e-3


def query_and_key_exchanged(model):
    with torch.no_grad():
        for part in model.encoder.layers[0].attention.query_key_value.parameters():
            query, key, value = part.chunk(3)
            part.copy_(torch.cat([key, query, value]).clone())


def output_transposed(model):
    weight = model.encoder.layers[1].attention.output.weight
    with torch.no_grad():
        weight.copy_(weight.T.clone())


def last_token_pooled(model):
    replace_forward(model.pooler, lambda self, hidden: torch.tanh(self.dense(hidden[:, -1])))


def last_layer_left_out(model):
    def forward(self, hidden, *, bias=None, **options):
        for layer in self.layers[:-1]:
            hidden, _ = layer(hidden, bias=bias)
        return hidden, None, None

    replace_forward(model.encoder, forward)


def a_hook_that_scales(model):
    model.encoder.layers[0].feed_forward.register_forward_hook(lambda module, inputs, output: 1.01 * output)


def train_mode_somewhere(model):
    model.encoder.layers[1].attention.train()


def each_split(split):
    def fault(model):
        for layer in model.encoder.layers:
            replace_forward(layer.attention, split, "split_heads")

    return fault


FIRST, SECOND = "encoder.layers.0", "encoder.layers.1"
OUR_FAULTS = {  # name: (fault, module of mine, words of the cause)
    "no scale": (spoil_attention([0, 1], scores_of=lambda s, b: s + b), f"{FIRST}.attention", "1/sqrt(D)"),
    "no scale in one layer": (
        spoil_attention([1], scores_of=lambda s, b: s + b),
        f"{SECOND}.attention",
        "1/sqrt(D)",
    ),
    "scale by sqrt(H)": (
        spoil_attention([0, 1], scores_of=lambda s, b: s / math.sqrt(34) + b),
        f"{FIRST}.attention",
        "sqrt(H)",
    ),
    "no mask": (
        spoil_attention([0, 1], scores_of=lambda s, b: s / math.sqrt(17)),
        f"{FIRST}.attention",
        "made of the input attention_mask",
    ),
    "mask after softmax": (
        spoil_attention(
            [0, 1], scores_of=lambda s, b: s / math.sqrt(17), probabilities_of=lambda p, b: p * (b == 0)
        ),
        f"{FIRST}.attention",
        "after the softmax, not before it",
    ),
    "mask dropped after layer one": (mask_dropped_after_layer_one, f"{SECOND}.attention", "attention_mask"),
    "softmax over queries": (
        spoil_attention([1], probabilities_of=lambda p, b: p.transpose(-2, -1)),
        f"{SECOND}.attention",
        "transpose",
    ),
    "heads split without transpose": (
        each_split(split_without_transpose),
        f"{FIRST}.attention",
        "without swapping",
    ),
    "heads interleaved": (each_split(split_interleaved), f"{FIRST}.attention", "every A-th"),
    "eps": (set_eps, "embeddings.norm", "eps=0.0003"),
    "eps outside the root": (eps_outside, f"{SECOND}.feed_forward_norm", "eps 1e-06 outside the root"),
    "unbiased variance": (
        unbiased_variance,
        f"{FIRST}.attention_norm",
        "unbiased variance and eps 1e-12 inside",
    ),
    "tanh form": (tanh_form, f"{SECOND}.feed_forward", "approximate=tanh"),
    "relu": (relu_everywhere, f"{FIRST}.feed_forward", "computes relu where the reference computes gelu"),
    "no activation": (no_activation, f"{SECOND}.feed_forward", "leaves out `gelu`"),
    "no norm": (norm_replaced_by_nothing, f"{SECOND}.attention_norm", "leaves out `layer_norm"),
    "no residual": (spoil_layer(0, without_first_residual), FIRST, "leaves out `add`"),
    "wrong residual": (
        spoil_layer(1, residual_from_the_layers_input),
        SECOND,
        "reads the result of `layer_norm`",
    ),
    "pre-norm": (spoil_layer(1, pre_norm), f"{SECOND}.attention_norm", "pre-norm"),
    "no segments": (
        spoil_embeddings(without_segments),
        "embeddings.segment",
        "token_type_embeddings",
    ),
    "mask and segments swapped": (
        mask_and_segments_swapped,
        "embeddings.segment",
        "of the input attention_mask",
    ),
    "one weight": (one_weight, f"{SECOND}.feed_forward.contract", "largest difference 0.001"),
    "q and k": (query_and_key_exchanged, f"{FIRST}.attention", "it has the numbers of"),
    "transposed": (output_transposed, f"{SECOND}.attention.output", "transposed"),
    "last token pooled": (last_token_pooled, "pooler", "getitem(:, -1)"),
    "last layer left out": (last_layer_left_out, SECOND, "output.LayerNorm"),
    "a hook that scales": (a_hook_that_scales, f"{FIRST}.feed_forward", "mul by 1.01"),
    "train mode": (train_mode_somewhere, f"{SECOND}.attention", "call .eval()"),
}


# Faults that stand in both layers, or in the embeddings: one cause accounts for all of the difference.
WHOLE_FAULTS = {
    "no residual": (spoil_each_layer("", without_first_residual), FIRST, "leaves out `add`"),
    "two softmaxes": (
        spoil_attention([0, 1], probabilities_of=lambda p, b: p.softmax(-1)),
        f"{FIRST}.attention",
        "does something that the reference does not: `softmax",
    ),
    "activation last": (
        spoil_each_layer("feed_forward", activation_last),
        f"{FIRST}.feed_forward",
        "before `gelu`",
    ),
    "norms exchanged": (
        spoil_each_layer("", norms_exchanged),
        f"{FIRST}.feed_forward_norm",
        "exchanges the parameters",
    ),
    "keys for values": (
        spoil_each_layer("attention", keys_for_values),
        f"{FIRST}.attention",
        "exchanges the parameters of encoder.layer.0.attention.self.key and",
    ),
    "variance for its root": (variance_for_its_root, f"{FIRST}.attention_norm", "in the place of its root"),
    "positions off by one": (spoil_embeddings(positions_off_by_one), "embeddings", "getitem(1:8)"),
    "tokens scaled": (spoil_embeddings(tokens_scaled), "embeddings", "mul by 5.831 = sqrt(H)"),
    "norm of the tokens only": (
        spoil_embeddings(norm_of_the_tokens_only),
        "embeddings",
        "normalises the result of `embedding` in embeddings.word_embeddings before the sum",
    ),
}


@pytest.mark.parametrize("fault, place, cause", WHOLE_FAULTS.values(), ids=WHOLE_FAULTS)
def test_one_cause_accounts_for_all(ours, theirs, fault, place, cause):
    mine = copy.deepcopy(ours)
    fault(mine)
    found = compare(mine, theirs, INPUTS)
    assert found.first.mine == place, found
    assert len(found.causes) == 1 and cause in found.causes[0].text and found.causes[0].to_the_end, found


def test_a_decoder_of_its_own(pretraining):
    reference = copy.deepcopy(pretraining).eval()
    randomise(reference)
    mine = copy.deepcopy(reference)
    mine.mlm_head.table = nn.Parameter(torch.randn(SMALL.vocab_size, SMALL.hidden_size))
    right = mine.mlm_head.forward
    mine.mlm_head.forward = lambda hidden, table: right(hidden, mine.mlm_head.table)
    found = compare(mine, reference, INPUTS)
    assert found.first.mine == "mlm_head" and found.causes[0].to_the_end, found
    assert "uses mlm_head.table, which the reference does not have" in found.causes[0].text, found


class HeadByHead(nn.Module):
    """An attention with a list of heads, longer than the list of layers, and norms in a list of their own."""

    def __init__(self, source):
        super().__init__()
        H, D, A = SMALL.hidden_size, source.head_size, source.num_heads
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(H, 3 * D)) for _ in range(A))
        for part in ("weight", "bias"):
            rows = getattr(source.query_key_value, part).detach().unflatten(0, (3, A, D))
            for number, head in enumerate(self.heads):
                getattr(head[0], part).data = rows[:, number].flatten(0, 1).clone()
        self.output = source.output

    def forward(self, hidden, *, bias=None, output_attentions=False):
        bias = None if bias is None else bias[:, 0]
        read = [scaled_dot_product_attention(*head(hidden).chunk(3, -1), bias)[0] for head in self.heads]
        return self.output(torch.cat(read, -1)), None


def rows_and_heads_in_one_axis(self, hidden, *, bias=None, output_attentions=False):
    (B, T, H), A, D = hidden.shape, self.num_heads, self.head_size
    query, key, value = (
        part.reshape(B, T, A, D).transpose(1, 2).reshape(B * A, T, D)
        for part in self.query_key_value(hidden).chunk(3, dim=-1)
    )
    scores = torch.bmm(query, key.transpose(1, 2)) + bias[:, 0].repeat_interleave(
        A, 0
    )  # (B A, T, T), unscaled
    read = torch.bmm(scores.softmax(-1), value).reshape(B, A, T, D)
    return self.output(read.transpose(1, 2).reshape(B, T, H)), None


def test_rows_and_heads_in_one_axis(ours, theirs):
    mine = copy.deepcopy(ours)
    spoil_each_layer("attention", rows_and_heads_in_one_axis)(mine)
    found = compare(mine, theirs, INPUTS)
    assert found.first.mine == f"{FIRST}.attention" and found.first.operation in ("add", "softmax"), found
    assert "1/sqrt(D)" in found.causes[0].text and found.causes[0].to_the_end


class NormsApart(nn.Module):
    """A model that has all its LayerNorms in one list besides, and no config."""

    def __init__(self, model):
        super().__init__()
        self.norms = nn.ModuleList(part for part in model.modules() if isinstance(part, nn.LayerNorm))
        self.model = model

    def forward(self, **inputs):
        return self.model(**inputs)


def test_lists_inside_a_layer_are_no_layers(ours, theirs):
    mine = copy.deepcopy(ours)
    for layer in mine.encoder.layers:
        layer.attention = HeadByHead(layer.attention)
    assert compare(mine, theirs, INPUTS).agree
    assert compare(NormsApart(ours), theirs, INPUTS).agree
    mine = NormsApart(copy.deepcopy(ours))
    del mine.model.encoder.layers[1:]
    with pytest.raises(ValueError, match="mine has 1 layers and the reference 2"):
        compare(mine, theirs, INPUTS)


@pytest.mark.parametrize("fault, place, cause", OUR_FAULTS.values(), ids=OUR_FAULTS)
def test_faults_in_our_model(ours, theirs, fault, place, cause):
    mine = copy.deepcopy(ours)
    fault(mine)
    found = compare(mine, theirs, INPUTS)
    assert not found.agree
    assert found.first.mine == place, found
    assert found.causes and cause in found.causes[0].text, found
    assert found.causes[0].text in str(found) and place in str(found)
    if math.isfinite(found.first.difference):
        assert found.first.difference > 0


def their_attention(model, number):
    return model.encoder.layer[number].attention


def their_scaling(model):
    for layer in model.encoder.layer:
        layer.attention.self.scaling = 1.0


def their_eps(model):
    their_attention(model, 1).output.LayerNorm.eps = 1e-5


def their_activation(model):
    model.encoder.layer[0].intermediate.intermediate_act_fn = transformers.activations.ACT2FN["gelu_new"]


def their_heads(model):
    for layer in model.encoder.layer:
        layer.attention.self.attention_head_size = 2  # 17 heads of 2 for 2 of 17


def their_query_and_key(model):
    part = their_attention(model, 0).self
    part.query, part.key = part.key, part.query


def their_residual(model):
    part = their_attention(model, 1).output
    part.forward = lambda hidden, stream: part.LayerNorm(part.dense(hidden))


def their_mask(model):
    model._create_attention_masks = lambda **inputs: (None, None)


def their_segments(model):
    right = model.embeddings.forward

    def forward(input_ids=None, token_type_ids=None, **inputs):
        return right(input_ids=input_ids, token_type_ids=torch.zeros_like(input_ids), **inputs)

    model.embeddings.forward = forward


def their_pooler(model):
    model.pooler.activation = nn.ReLU()


def their_bias(model):
    model.encoder.layer[1].intermediate.dense.bias = None


def their_value_clamped(model, number=1):
    their_attention(model, number).self.value.register_forward_hook(
        lambda module, inputs, output: output.clamp(-1, 1)
    )


def their_norm(model):
    norm = model.encoder.layer[1].output.LayerNorm
    norm.forward = lambda x: (
        norm.weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + norm.bias
    )


def their_layer_skipped(model):
    model.encoder.layer[1].forward = lambda hidden, *arguments, **options: hidden


def their_dropout(model):
    their_attention(model, 0).output.dropout.train()


THEIR_FAULTS = {
    "no scale": (their_scaling, "encoder.layer.0.attention.self", "sqrt(D)"),
    "eps": (their_eps, "encoder.layer.1.attention.output.LayerNorm", "eps=1e-05"),
    "tanh form": (
        their_activation,
        "encoder.layer.0.intermediate.intermediate_act_fn",
        "gelu, the form with tanh",
    ),
    "number of heads": (their_heads, "encoder.layer.0.attention.self", "view(5, 7, -1, 2)"),
    "q and k": (their_query_and_key, "encoder.layer.0.attention.self", "it has the numbers of"),
    "no residual": (their_residual, "encoder.layer.1.attention.output", "leaves out `add`"),
    "no mask": (their_mask, "encoder.layer.0.attention.self", "attention_mask"),
    "no segments": (their_segments, "embeddings.token_type_embeddings", "zeros_like"),
    "pooler": (their_pooler, "pooler.activation", "computes relu where the reference computes tanh"),
    "no bias": (their_bias, "encoder.layer.1.intermediate.dense", "does not add the bias"),
    "clamped": (their_value_clamped, "encoder.layer.1.attention.self.value", "clamp(-1, 1)"),
    "unbiased and eps outside": (
        their_norm,
        "encoder.layer.1.output.LayerNorm",
        "unbiased variance and eps 1e-06 out",
    ),
    "layer skipped": (their_layer_skipped, "encoder.layer.1", "feed_forward_norm"),
    "dropout": (their_dropout, "encoder.layer.0.attention.output.dropout", "call .eval()"),
}


@pytest.mark.parametrize("fault, place, cause", THEIR_FAULTS.values(), ids=THEIR_FAULTS)
def test_faults_in_a_model_of_transformers(ours, theirs, fault, place, cause):
    mine = copy.deepcopy(theirs)
    fault(mine)
    found = compare(mine, ours, INPUTS)
    assert found.first.mine == place, found
    assert found.causes and cause in found.causes[0].text, found


def test_a_cause_that_nobody_thought_of_is_not_invented(ours, theirs):
    mine = copy.deepcopy(ours)
    mine.encoder.layers[1].feed_forward.activation = lambda x: torch.sin(3 * x) + torch.cos(x)
    found = compare(mine, theirs, INPUTS)
    assert found.first.mine == f"{SECOND}.feed_forward" and not found.causes
    assert "nothing that was tried reproduces mine's numbers" in str(found)


def weird(module, inputs, output):
    return torch.sin(3 * output) + torch.cos(output)


def test_another_fault_is_no_cause_of_the_first(ours, theirs):
    """Two faults side by side: that of the values can be explained, but not that of the queries before it."""
    mine = copy.deepcopy(theirs)
    part = their_attention(mine, 0).self
    part.query.register_forward_hook(weird)
    their_value_clamped(mine, 0)
    found = compare(mine, ours, INPUTS)
    assert found.first.mine == "encoder.layer.0.attention.self.query" and not found.causes, found


@pytest.mark.parametrize("name", ["token", "position", "segment"])
def test_the_order_of_a_sum_hides_no_place(ours, theirs, name):
    """Ours adds positions first, theirs segments: partial sums have no counterpart."""
    mine = copy.deepcopy(ours)
    getattr(mine.embeddings, name).register_forward_hook(weird)
    found = compare(mine, theirs, INPUTS)
    assert found.first.mine == f"embeddings.{name}" and not found.causes, found


def test_the_first_of_two_faults_comes_first(ours, theirs):
    mine = copy.deepcopy(ours)
    tanh_form(mine)
    set_eps(mine)
    found = compare(mine, theirs, INPUTS)
    assert found.first.mine == "embeddings.norm" and "0.0003" in found.causes[0].text
    assert not found.causes[0].to_the_end and found.causes[0].next_place == f"{SECOND}.feed_forward"


def test_the_difference_is_that_of_the_tensors(ours):
    mine = copy.deepcopy(ours)
    a_hook_that_scales(mine)
    found = compare(mine, ours, INPUTS)
    expected = record(ours, keep=True)
    with expected:
        ours(**INPUTS)
    real = INPUTS["attention_mask"].bool()
    scaled = expected[f"{FIRST}.feed_forward"].tensor[
        real
    ]  # no tensor of the reference is the scaled one, so
    total = (
        expected[f"{FIRST}.attention_norm"].tensor[real] + scaled
    )  # the sums that it goes into are compared
    assert found.first.difference == pytest.approx(0.01 * float(scaled.abs().max()), rel=1e-4)
    assert found.first.relative == pytest.approx(found.first.difference / float(total.abs().max()), rel=1e-4)
    apart = {row.mine: row.relative for row in found.rows}
    assert apart[f"{FIRST}.attention_norm"] < 1e-12 < 1e-6 < apart[f"{FIRST}.feed_forward_norm"]


def test_what_a_batch_cannot_show_is_said(ours):
    fresh = bert_edu.BertModel(SMALL).eval()
    found = compare(fresh, copy.deepcopy(fresh), INPUTS["input_ids"])
    assert found.agree and any("first values" in note for note in found.notes)
    found = compare(ours, copy.deepcopy(ours), {"input_ids": INPUTS["input_ids"]})
    assert any("no padding" in note for note in found.notes) and any("one segment" in n for n in found.notes)


def test_other_weights_are_named_as_such(ours):
    found = compare(bert_edu.BertModel(SMALL).eval(), ours, INPUTS)
    assert "another parameter" in found.causes[0].text and found.causes[0].to_the_end
    assert any("two models with other weights" in note for note in found.notes)
    assert len(found.parameters) > 30 and found.first.mine == "embeddings.token"


def test_bad_input_of_compare(ours, theirs):
    deeper = bert_edu.BertModel(dataclasses.replace(SMALL, num_hidden_layers=3))
    with pytest.raises(ValueError, match="num_hidden_layers is 3 in mine and 2 in the reference"):
        compare(deeper.eval(), ours, INPUTS)
    stack = [nn.Sequential(*(nn.Linear(4, 4) for _ in range(n))) for n in (2, 3)]
    with pytest.raises(ValueError, match="mine has 2 layers and the reference 3"):
        compare(*stack, torch.randn(5, 4))
    with pytest.raises(ValueError, match="input_ids is on meta and mine on cpu"):
        compare(ours, theirs, {name: part.to("meta") for name, part in INPUTS.items()})
    with pytest.raises(TypeError, match="the reference must be a torch.nn.Module, not a dict"):
        compare(ours, {}, INPUTS)
    with pytest.raises(TypeError, match="a batch is a tensor"):
        compare(ours, theirs, "text")
    with pytest.raises(ValueError, match="nothing to compare"):
        compare(nn.Linear(3, 2), nn.Linear(3, 4), torch.randn(5, 3))


# ---- The reference in a file -------------------------------------------------------------------------------


def test_the_shipped_reference():
    stored = load_reference()
    assert stored.about["made_by"].startswith("transformers ")
    assert len(stored.activations) > 25
    assert sum(file.stat().st_size for file in SHIPPED.iterdir() if file.is_file()) < 300_000
    right = bert_edu.BertModel.from_pretrained(stored.folder)
    assert compare_with_file(right).agree
    right.encoder.layers[1].attention_norm.eps = 1e-5
    found = compare_with_file(right)
    assert found.first.mine == f"{SECOND}.attention_norm" and "1e-05" in found.causes[0].text
    assert found.first.reference == "encoder.layer.1.attention.output.LayerNorm"
    with pytest.raises(FileNotFoundError, match="is no reference folder"):
        load_reference(SHIPPED.parent)


def test_the_shipped_reference_is_what_transformers_computes():
    stored = load_reference()
    model = transformers.BertModel.from_pretrained(stored.folder).eval().double()
    with record(model, keep=True) as seen:
        model(**stored.batch)
    for name, expected in stored.activations.items():
        torch.testing.assert_close(seen[name].tensor, expected, rtol=0, atol=1e-12)


# ---- Checks and the museum ---------------------------------------------------------------------------------


def test_a_sound_model_passes_every_check(pretraining, capsys):
    model = copy.deepcopy(pretraining)
    weights, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    verdicts = checks.check_training(model, labelled(), adamw(model, 1e-3))
    assert len(verdicts) == 8 and all(verdicts), capsys.readouterr().out
    assert torch.equal(state, torch.get_rng_state()) and hooks_of(model) == 0
    assert all(torch.equal(part, weights[name]) for name, part in model.state_dict().items())
    assert all(part.grad is None for part in model.parameters()) and model.training


@pytest.mark.parametrize("exhibit", museum.EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_every_exhibit_is_found_and_its_right_version_is_not(exhibit):
    wrong, right = exhibit.inspect(exhibit.wrong), exhibit.inspect(exhibit.right)
    assert not wrong and right, f"{wrong}\n{right}"
    assert FOUND[exhibit.name] in wrong.text, wrong


FOUND = {
    "the loss mask that does nothing": "positions without a label: no mask in effect",
    "the pair loss that never sees a true pair": "with the label 0 are not scored",
    "81/9/10 for 80/10/10": "81.1 / ",
    "labels taken after the replacement": "[MASK] itself is a label",
    "the mask that is dropped after layer one": "first in encoder.layers.1.attention (`softmax`)",
    "the mask at the queries": "first in encoder.layers.0.attention (`softmax`)",
    "the sentence head that reads all tokens": "takes no other length",
    "eps outside the root": "feed_forward_norm; normalises with biased variance and eps 1e-06 outside",
    "pre-norm called post-norm": "encoder.layers.0.attention_norm; normalises before the sub-layer",
    "dropout that stays on": "first in encoder.layers.1.dropout",
    "the group without decay that is empty": "group 1 is empty",
}


def test_the_museum_has_what_the_book_promises():
    assert len(museum.EXHIBITS) >= 10 and {exhibit.name for exhibit in museum.EXHIBITS} == set(FOUND)
    for exhibit in museum.EXHIBITS:
        assert exhibit.symptom and exhibit.fix and (exhibit.wrong.__doc__ or "").startswith("WRONG")


def test_first_loss_of_weights_that_are_too_large(pretraining):
    model = copy.deepcopy(pretraining)
    verdict = checks.check_first_loss(model, labelled())
    assert verdict and "chance is 4.489" in verdict.text and "pairs" in verdict.text
    randomise(model, std=1.0)
    verdict = checks.check_first_loss(model, labelled())
    assert not verdict and "Too high" in verdict.text


def test_parameters_without_a_gradient_are_named(pretraining):
    model = copy.deepcopy(pretraining)
    labels = {"labels": labelled()["labels"]}
    verdict = checks.check_gradients(model, INPUTS | labels)  # nobody reads the pooler
    assert not verdict and "does not depend on bert.pooler.dense.weight" in verdict.text
    model.bert.encoder.layers[0].register_forward_hook(
        lambda module, inputs, output: (output[0].detach(), None)
    )
    verdict = checks.check_gradients(model, labelled())
    assert not verdict and "bert.encoder.layers.0.attention.query_key_value.weight" in verdict.text
    assert "bert.encoder.layers.1" not in verdict.text


def test_a_model_that_cannot_learn_its_batch(pretraining):
    model = copy.deepcopy(pretraining)
    model.bert.register_forward_hook(_forget)
    verdict = checks.check_overfits(model, labelled(), steps=30)
    assert not verdict and "in 30 steps" in verdict.text


def _forget(module, inputs, output):
    output.last_hidden_state = torch.zeros_like(output.last_hidden_state)


def test_a_decoders_mask_and_rows_that_mix(ours):
    causal = copy.deepcopy(ours)

    def later(scores, bias):
        hidden = torch.ones(scores.shape[-2:]).triu(1).bool()
        return (scores / math.sqrt(17) + bias).masked_fill(hidden, -1e4)

    spoil_attention([0, 1], scores_of=later)(causal)
    verdict = checks.check_every_token(causal, INPUTS)
    assert not verdict and "mask of a decoder" in verdict.text
    assert checks.check_every_token(ours, INPUTS)
    mixing = copy.deepcopy(ours)
    norm = mixing.encoder.layers[1].attention_norm
    norm.register_forward_hook(lambda module, inputs, output: output - output.mean(0))
    verdict = checks.check_rows_apart(mixing, INPUTS)
    assert not verdict and f"first in {SECOND}.attention_norm" in verdict.text
    with pytest.raises(ValueError, match="at least two"):
        checks.check_rows_apart(ours, {"input_ids": INPUTS["input_ids"][:1]})


def test_checks_say_what_they_need(ours):
    with pytest.raises(ValueError, match="returned no loss"):
        checks.check_gradients(ours, INPUTS)
    with pytest.raises(ValueError, match="labels"):
        checks.check_first_loss(ours, INPUTS)
    with pytest.raises(TypeError, match="input_ids"):
        checks.check_padding(ours, INPUTS["input_ids"])


def test_weight_decay_of_every_parameter(ours):
    vectors = [part for part in ours.parameters() if part.dim() < 2]
    verdict = checks.check_weight_decay(torch.optim.AdamW(ours.parameters(), weight_decay=0.01), ours)
    assert not verdict and "embeddings.norm.weight" in verdict.text
    verdict = checks.check_weight_decay(torch.optim.AdamW(vectors, weight_decay=0.0), ours)
    assert not verdict and "does not know embeddings.token.weight" in verdict.text


def test_the_written_out_attention_is_that_of_the_book():
    """The tape's own form of the fused attention gives what the fused attention gives."""
    from bert_edu.introspection.tape import written_out_attention

    query, key, value = (torch.randn(2, 3, 5, 4, dtype=torch.float64) for _ in range(3))
    expected, _ = scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(written_out_attention(query, key, value), expected, rtol=0, atol=1e-12)
    hidden = torch.rand(2, 1, 1, 5) < 0.7
    hidden[..., 0] = True
    for options in (dict(is_causal=True), dict(attn_mask=hidden), dict(scale=0.3)):
        expected = F.scaled_dot_product_attention(query, key, value, **options)
        torch.testing.assert_close(
            written_out_attention(query, key, value, **options), expected, rtol=0, atol=1e-12
        )
