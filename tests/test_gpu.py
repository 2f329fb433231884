"""What only a GPU can show; skipped where there is none."""

import shutil
from dataclasses import replace
from statistics import fmean

import pytest
import torch
from test_distributed import torchrun
from test_training import CONFIG, STORE, TOKENIZER, corpus, fresh_model, metrics, run

from bert_edu import BertModel
from bert_edu.data.pretraining import PreTrainingBatches
from helpers import succeed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")

# On a GPU dropout falls elsewhere than on a CPU: without it the two can be compared.
QUIET = replace(CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def losses(folder, **changes) -> list[float]:
    """The losses of a run on the GPU, step by step."""
    run(folder, model=fresh_model(config=QUIET), **({"device": "cuda", "precision": "float32"} | changes))
    return [line["mlm_loss"] for line in metrics(folder)]


def test_hidden_states_are_those_of_the_cpu():
    model = BertModel(QUIET).eval()
    ids = torch.randint(5, len(TOKENIZER), (4, 20))
    mask = (torch.arange(20) < torch.tensor([20, 12, 7, 1])[:, None]).long()
    expected = model(ids, attention_mask=mask).last_hidden_state
    found = model.cuda()(ids.cuda(), attention_mask=mask.cuda()).last_hidden_state.cpu()
    torch.testing.assert_close(found[mask == 1], expected[mask == 1], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "precision, optimizer", [("float32", "adamw"), ("bf16", "adamw"), ("fp16", "adamw"), ("bf16", "muon")]
)
def test_training_learns_in_every_precision(precision, optimizer, tmp_path):
    settings = {"max_steps": 200, "learning_rate": 1e-2, "batch_tokens": 1024}
    found = losses(tmp_path, precision=precision, optimizer=optimizer, **settings)
    assert fmean(found[-20:]) < fmean(found[:20]) - 0.2


def test_the_first_steps_are_those_of_the_cpu(tmp_path):
    on_cpu = losses(tmp_path / "cpu", max_steps=5, device="cpu")
    assert losses(tmp_path / "gpu", max_steps=5) == pytest.approx(on_cpu, abs=1e-3)


def test_a_compiled_model_trains_like_one_that_is_not(tmp_path):
    settings = {"max_steps": 100, "learning_rate": 1e-2}
    compiled = losses(tmp_path, compile=True, **settings)
    stream = PreTrainingBatches(STORE, TOKENIZER, max_length=32, batch_tokens=256, fixed_shape=True)
    _, batch = next(stream.read_from())
    first = fresh_model(config=QUIET)(
        batch.input_ids,
        sequence_ids=batch.sequence_ids,
        token_type_ids=batch.token_type_ids,
        labels=batch.labels,
    )
    assert compiled[0] == pytest.approx(float(first.mlm_loss), abs=1e-3)
    assert fmean(compiled[-20:]) < fmean(compiled[:20]) - 0.05


def test_an_interrupted_run_ends_where_a_straight_one_does(tmp_path):
    straight = losses(tmp_path / "straight")
    losses(tmp_path / "cut")
    # The last checkpoint is taken away, as if the run had been killed before it.
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-00000012")
    resumed = losses(tmp_path / "cut", resume=True)
    assert resumed == pytest.approx(straight, abs=1e-3)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is no second GPU")
def test_two_gpus_follow_the_curve_of_one(tmp_path):
    documents = ["\n".join(sentences) for sentences in corpus(80)]
    (tmp_path / "text.txt").write_text("\n\n".join(documents) + "\n")
    TOKENIZER.save_pretrained(tmp_path / "words")
    options = ["--corpus", tmp_path / "text.txt", "--tokenizer", tmp_path / "words", "--shards", 2]
    options += "--accumulate 4 --max-steps 20 --max-length 16 --batch-tokens 64 --precision float32".split()
    succeed("pretrain", "--out", tmp_path / "one", *options)
    done = torchrun("-m", "bert_edu", "pretrain", "--out", tmp_path / "two", *options)
    assert done.returncode == 0 and "in 2 processes" in done.stderr, done.stderr
    curves = [
        [line["mlm_loss"] for line in metrics(tmp_path / name) if "valid" not in line]
        for name in ("one", "two")
    ]
    assert len(curves[0]) == 20 and curves[1] == pytest.approx(curves[0], abs=1e-3)
