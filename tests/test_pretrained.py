"""Checkpoints: what is read, what is refused, what is reported, and a hub that answers from here."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

import bert_edu
from bert_edu import BertForPreTraining, BertForQuestionAnswering, BertForSequenceClassification, BertModel
from bert_edu.pretrained import name_table, replacing
from helpers import SMALL, batch, randomise


@pytest.fixture
def model():
    model = BertForPreTraining(SMALL).eval()
    randomise(model)
    return model


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder, change):
    """Passes the stored tensors through `change` and stores what comes out."""
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", metadata={"format": "pt"})


def set_config(folder, **changes):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | changes))


def assert_same_encoder(a, b):
    inputs = batch(SMALL)
    torch.testing.assert_close(a(**inputs).last_hidden_state, b(**inputs).last_hidden_state, rtol=0, atol=0)


def test_round_trip_is_exact(model, folder):
    again = BertForPreTraining.from_pretrained(folder)
    assert not again.training
    for (name, before), (same_name, after) in zip(
        model.named_parameters(), again.named_parameters(), strict=True
    ):
        assert name == same_name and torch.equal(before, after) and after.requires_grad
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_weights_loaded_can_be_trained_and_the_file_stays_as_it_is(folder):
    before = hashlib.sha256((folder / "model.safetensors").read_bytes()).digest()
    again = BertForPreTraining.from_pretrained(folder)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(1.0)
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).digest() == before


def test_a_body_reads_a_pre_training_checkpoint_and_reports_the_heads(model, folder):
    body = BertModel.from_pretrained(folder)
    assert_same_encoder(body, model.bert)
    assert body.load_report.missing == []
    assert "cls.seq_relationship.weight" in body.load_report.unexpected
    assert "cls.predictions.bias" in str(body.load_report)


def test_heads_read_a_bare_body_with_a_warning(model, tmp_path):
    model.bert.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="no weights for qa_outputs.weight, qa_outputs.bias"):
        answering = BertForQuestionAnswering.from_pretrained(tmp_path)
    assert_same_encoder(answering.bert, model.bert)
    assert answering.load_report.missing == ["qa_outputs.weight", "qa_outputs.bias"]
    assert answering.span_head.weight.abs().max() > 0 and answering.span_head.weight.device.type == "cpu"


def test_a_new_head_gets_the_number_of_labels_asked_for(folder):
    with pytest.warns(UserWarning, match="classifier.weight"):
        classifier = BertForSequenceClassification.from_pretrained(folder, num_labels=7)
    assert classifier.classifier.out_features == 7


def test_the_number_of_labels_asked_for_goes_before_the_stored_names(folder):
    set_config(folder, id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1})
    with pytest.warns(UserWarning, match="classifier.weight"):
        assert BertForSequenceClassification.from_pretrained(folder).label_names == ["no", "yes"]
    with pytest.warns(UserWarning, match="classifier.weight"):
        classifier = BertForSequenceClassification.from_pretrained(folder, num_labels=7)
    assert classifier.classifier.out_features == len(classifier.label_names) == 7


def test_class_names_keep_their_order_beyond_ten(tmp_path):
    names = [f"class {number}" for number in range(12)]
    BertForSequenceClassification(SMALL, 12, names).save_pretrained(tmp_path)
    assert BertForSequenceClassification.from_pretrained(tmp_path).label_names == names


def test_older_names_are_understood(model, folder):
    def older(tensors):
        names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        renamed = {}
        for name, tensor in tensors.items():
            for new, old in names.items():
                name = name.replace(new, old)
            renamed[name] = tensor
        renamed["bert.embeddings.position_ids"] = torch.arange(29)[None]
        renamed["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
        renamed["cls.predictions.decoder.bias"] = renamed.pop("cls.predictions.bias")
        return renamed

    rewrite(folder, older)
    again = BertForPreTraining.from_pretrained(folder)
    assert again.load_report.missing == again.load_report.unexpected == []
    inputs = batch(SMALL)
    torch.testing.assert_close(
        again(**inputs).prediction_logits, model(**inputs).prediction_logits, rtol=0, atol=0
    )


def test_half_precision_files_become_float32(model, folder):
    rewrite(folder, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    again = BertForPreTraining.from_pretrained(folder)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    torch.testing.assert_close(again.nsp_head.weight, model.nsp_head.weight, rtol=1e-3, atol=1e-3)


def test_name_table_is_what_stands_in_the_file(model, folder):
    stored = {
        name.removeprefix("bert."): tuple(tensor.shape)
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    table = name_table(model)
    assert {published: shape for _, published, shape in table} == stored
    assert [row[0] for row in table if row[1].endswith("0.attention.self.key.weight")] == [
        "bert.encoder.layers.0.attention.query_key_value.weight"
    ]


def drop(name):
    return lambda folder: rewrite(folder, lambda tensors: {k: v for k, v in tensors.items() if k != name})


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickle_instead(folder):
    torch.save({"anything": torch.ones(1)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def untie(tensors):
    return tensors | {"cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"] + 1}


@pytest.mark.parametrize(
    "damage, error, words",
    [
        (
            lambda folder: (folder / "config.json").unlink(),
            FileNotFoundError,
            ["no config.json", "it holds model.safetensors"],
        ),
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            FileNotFoundError,
            ["no model.safetensors", "config.json"],
        ),
        (lambda folder: (folder / "config.json").write_text("{"), ValueError, ["config.json", "not JSON"]),
        (lambda folder: (folder / "config.json").write_text("[1]"), ValueError, ["JSON object", "list"]),
        (lambda folder: set_config(folder, model_type="gpt2"), ValueError, ["model_type = 'gpt2'"]),
        (lambda folder: set_config(folder, hidden_size=33), ValueError, ["hidden_size (33)"]),
        (truncate, ValueError, ["model.safetensors", "damaged or was cut short"]),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b""),
            ValueError,
            ["damaged or was cut short"],
        ),
        (pickle_instead, ValueError, ["pytorch_model.bin", "pickle", "model.safetensors only"]),
        (
            lambda folder: set_config(folder, num_hidden_layers=1),
            ValueError,
            ["do not fit", "unexpected: encoder.layer.1"],
        ),
        (
            lambda folder: set_config(folder, num_hidden_layers=3),
            ValueError,
            ["do not fit", "missing: encoder.layer.2"],
        ),
        (
            lambda folder: set_config(folder, intermediate_size=32),
            ValueError,
            ["mis-shaped: encoder.layer.0.intermediate.dense.weight is (31, 34), needed (32, 34)"],
        ),
        (
            drop("bert.encoder.layer.1.attention.self.key.bias"),
            ValueError,
            ["missing: encoder.layer.1.attention.self.key.bias"],
        ),
        (lambda folder: rewrite(folder, untie), ValueError, ["decoder of its own", "tied"]),
    ],
)
def test_a_bad_folder_is_refused_with_one_clear_reason(folder, damage, error, words):
    damage(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error) as caught:
            BertForPreTraining.from_pretrained(folder)
    for word in words:
        assert word in str(caught.value)


def test_a_pickle_is_not_even_opened(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    torch.save(Trap(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="pickle"):
        BertModel.from_pretrained(folder)
    assert not (tmp_path / "sprung").exists()


def test_a_file_instead_of_a_folder(folder):
    with pytest.raises(FileNotFoundError, match="is a file; give the folder"):
        BertModel.from_pretrained(folder / "config.json")


def test_writing_is_all_or_nothing(tmp_path):
    target = tmp_path / "weights"
    target.write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(target) as temporary:
        temporary.write_text("half of the n")
        raise OSError("disk full")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    with replacing(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


class FakeHub(http.server.BaseHTTPRequestHandler):
    """Answers the hub client's questions (which files, what about this one, the file) from a folder."""

    folder, commit = None, "0123456789abcdef0123456789abcdef01234567"

    def do_GET(self, body=True):
        path = self.path.split("?")[0]
        if path.startswith("/api/models/someone/small-bert/"):
            files = [
                {
                    "type": "file",
                    "path": f.name,
                    "rfilename": f.name,
                    "size": f.stat().st_size,
                    "oid": "1" * 40,
                }
                for f in sorted(self.folder.iterdir())
            ]
            answer = (
                files
                if "/tree/" in path
                else {"id": "someone/small-bert", "sha": self.commit, "siblings": files}
            )
            return self.reply(json.dumps(answer).encode(), "application/json", body)
        file = self.folder / path.split("/")[-1]
        if path.startswith("/someone/small-bert/resolve/") and file.exists():
            return self.reply(file.read_bytes(), "application/octet-stream", body)
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self):
        self.do_GET(body=False)

    def reply(self, content, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def test_a_hub_name_is_fetched_and_an_unknown_one_explained(folder, tmp_path):
    FakeHub.folder = folder
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    script = (
        "import bert_edu\n"
        "model = bert_edu.BertModel.from_pretrained('someone/small-bert')\n"
        "print(model.config.hidden_size, float(model.encoder.layers[0].attention.output.weight.sum()))\n"
        "try: bert_edu.BertModel.from_pretrained('someone/nothing')\n"
        "except FileNotFoundError as error: print(error)\n"
    )
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": os.path.dirname(os.path.dirname(bert_edu.__file__)),
    }
    try:
        run = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
        )
    finally:
        server.shutdown()
        server.server_close()
    assert run.returncode == 0, run.stderr
    first, second = run.stdout.splitlines()
    local = BertModel.from_pretrained(folder)
    size, total = first.split()
    assert int(size) == SMALL.hidden_size
    assert float(total) == pytest.approx(
        local.encoder.layers[0].attention.output.weight.sum().item(), abs=1e-5
    )
    assert second.startswith("someone/nothing is no folder here, and the model hub did not give it either")
