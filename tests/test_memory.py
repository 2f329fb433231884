"""Less memory for the same numbers: checkpointing, half precision; and what is said when it runs out."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bert_edu import BertForPreTraining, BertModel
from bert_edu.data.pretraining import Pair, collate, mask_tokens, packed, positions_to_score
from bert_edu.training import memory
from bert_edu.training.loop import autocast_for, choose_precision, pretrain, train_step
from helpers import SMALL, batch, little_config, little_tokenizer, pretraining_labels, randomise

TOKENIZER = little_tokenizer([f"w{number}" for number in range(60)])
CPU = torch.device("cpu")


def model_with(**changes):
    torch.manual_seed(0)
    return BertForPreTraining(little_config(TOKENIZER, **changes)).train()


def masked_batch(rows=12):
    pairs = [Pair([5 + n, 6, 7, 8, 9, 10][: 2 + n % 5], [11, 12 + n], n % 2) for n in range(rows)]
    padded, draw = collate(pairs, TOKENIZER), torch.Generator().manual_seed(0)
    padded.input_ids, padded.labels = mask_tokens(padded.input_ids, TOKENIZER, generator=draw)
    padded.scored_positions = positions_to_score(padded.labels)
    return padded


# ---- Checkpointing -----------------------------------------------------------------------------------------


def test_with_checkpointing_loss_and_gradients_are_the_same_and_layers_run_twice():
    """With dropout, which must fall the same way the second time."""
    model = BertForPreTraining(SMALL).train()
    randomise(model)
    inputs, calls, found = batch(SMALL), [], []
    for layer in model.bert.encoder.layers:
        layer.feed_forward.expand.register_forward_hook(lambda *_: calls.append(1))
    for checkpointing in (False, True):
        model.bert.encoder.checkpointing = checkpointing
        model.zero_grad()
        calls.clear()
        torch.manual_seed(1)
        loss = model(**inputs, **pretraining_labels(inputs, SMALL)).loss
        loss.backward()
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
        found.append((loss.detach(), gradients, len(calls)))
    (loss, gradients, once), (same_loss, same_gradients, twice) = found
    assert (once, twice) == (SMALL.num_hidden_layers, 2 * SMALL.num_hidden_layers)
    torch.testing.assert_close(same_loss, loss, rtol=0, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(same_gradients[name], gradient, rtol=0, atol=1e-5, msg=name)


def test_a_model_that_does_not_train_computes_nothing_twice():
    model = BertModel(SMALL).eval()
    model.encoder.checkpointing, calls = True, []
    model.encoder.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    output = model(**batch(SMALL), output_attentions=True)
    output.last_hidden_state.sum().backward()
    assert len(calls) == 1 and len(output.attentions) == SMALL.num_hidden_layers


# ---- Half precision ----------------------------------------------------------------------------------------


def sgd_step(model, one, **settings):
    """A step that leaves the gradients in the weights: new = old - gradient."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    train_step(model, optimizer, [one], mask_token_id=TOKENIZER.mask_token_id, clip_norm=1e9, **settings)
    return {name: before[name] - weight.detach() for name, weight in model.named_parameters()}


def test_fp16_with_loss_scaling_gives_the_gradient_of_float32_without_the_scale():
    one, scaler = masked_batch(), torch.amp.GradScaler("cpu", init_scale=2.0**12)
    dropout = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    expected = sgd_step(model_with(**dropout), one)
    found = sgd_step(model_with(**dropout), one, autocast=autocast_for("fp16", CPU), scaler=scaler)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0.02, atol=2e-3, msg=name)


def test_a_step_that_overflows_in_fp16_is_left_out_and_the_scale_falls():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    moved = sgd_step(model_with(), masked_batch(), autocast=autocast_for("fp16", CPU), scaler=scaler)
    assert not any(difference.any() for difference in moved.values())
    assert scaler.get_scale() == 2.0**39


def test_bf16_on_a_gpu_that_has_none_is_refused_and_auto_takes_fp16(monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(ValueError, match="Tesla T4 has no bf16.*take fp16"):
        choose_precision("bf16", gpu)
    assert choose_precision("auto", gpu) == choose_precision("fp16", gpu) == "fp16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert choose_precision("auto", gpu) == choose_precision("bf16", gpu) == "bf16"


# ---- Out of memory -----------------------------------------------------------------------------------------


class Room(TorchDispatchMode):
    """Refuses every tensor of more numbers than a machine with little memory would have room for."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers = numbers

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if isinstance(result, torch.Tensor) and result.numel() > self.numbers:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return result


def run_out(model, one, numbers, tmp_path=None):
    with Room(numbers), pytest.raises(MemoryError) as caught:
        with memory.advice(model, [one], autocast_for("float32", CPU)):
            sgd_step(model, one)
    return str(caught.value)


@pytest.mark.parametrize("pack", [False, True])
def test_out_of_memory_says_the_largest_batch_that_fits_and_the_three_knobs(pack):
    one = packed(masked_batch(), rows=[[n] for n in range(12)]) if pack else masked_batch()
    T = one.input_ids.shape[1]
    model = model_with(intermediate_size=400)  # (B, T, I) is the largest tensor of a step
    message = run_out(model, one, numbers=400 * T * 4)  # of 12 rows 6 do not fit, and 3 do
    assert f"12 rows of {T} tokens do not fit, 3 rows would (--batch-tokens {3 * T})" in message
    for knob in ("--batch-tokens", "--accumulate", "--checkpointing", "--max-length"):
        assert knob in message
    assert all(weight.grad is None for weight in model.parameters())


def test_when_nothing_fits_it_says_so():
    assert "not even one row would" in run_out(model_with(), masked_batch(), numbers=1000)


def test_what_a_cpu_says_is_understood_and_other_errors_pass():
    assert memory.is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"))
    with pytest.raises(RuntimeError, match="something else"):
        with memory.advice(model_with(), [masked_batch()], autocast_for("float32", CPU)):
            raise RuntimeError("something else")


def test_a_run_that_does_not_fit_ends_with_the_advice(tmp_path, monkeypatch):
    from test_training import STORE, fresh_model, recipe
    from test_training import TOKENIZER as tokenizer

    def too_large(*arguments, **settings):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("bert_edu.training.loop.train_step", too_large)
    with pytest.raises(MemoryError, match="do not fit, .* rows would"):
        pretrain(fresh_model(), tokenizer, STORE, tmp_path / "run", recipe(checkpointing=True))
