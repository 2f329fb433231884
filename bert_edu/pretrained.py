"""Reading and writing published BERT checkpoints: config.json and model.safetensors (chapter 7).

What this module knows of a model is that it is an `nn.Module` with a `config`. The rest is names: ours say
what a part does, the published ones are those of `transformers`, and `PUBLISHED` translates.
"""

import json
import os
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .config import BertConfig

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

# Our name of a part -> its published name. Query, key and value are one matrix here and three there.
PUBLISHED = {
    "embeddings.token.": ["embeddings.word_embeddings."],
    "embeddings.position.": ["embeddings.position_embeddings."],
    "embeddings.segment.": ["embeddings.token_type_embeddings."],
    "embeddings.norm.": ["embeddings.LayerNorm."],
    ".attention.query_key_value.": [
        ".attention.self.query.",
        ".attention.self.key.",
        ".attention.self.value.",
    ],
    ".attention.output.": [".attention.output.dense."],
    ".attention_norm.": [".attention.output.LayerNorm."],
    ".feed_forward.expand.": [".intermediate.dense."],
    ".feed_forward.contract.": [".output.dense."],
    ".feed_forward_norm.": [".output.LayerNorm."],
    "mlm_head.dense.": ["cls.predictions.transform.dense."],
    "mlm_head.norm.": ["cls.predictions.transform.LayerNorm."],
    "mlm_head.bias": ["cls.predictions.bias"],
    "nsp_head.": ["cls.seq_relationship."],
    "span_head.": ["qa_outputs."],
}

# Every BERT model shares these; a checkpoint that lacks one of them, or has more of them, is another model.
SHARED = ("embeddings.", "encoder.")


@dataclass
class LoadReport:
    """What a checkpoint held beside, or instead of, what the model needs; all names are published ones.

    Attributes:
        missing: needed, not in the file; those parts keep their initial weights.
        unexpected: in the file, not needed (usually the head of another task).
        mis_shaped: (name, shape in the file, shape needed).
    """

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mis_shaped: list[tuple[str, tuple, tuple]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"missing: {_listed(self.missing)}"] if self.missing else []
        lines += [f"unexpected: {_listed(self.unexpected)}"] if self.unexpected else []
        lines += [
            f"mis-shaped: {name} is {found}, needed {needed}" for name, found, needed in self.mis_shaped
        ]
        return "\n".join(lines) or "everything fits"


class PretrainedMixin:
    """Gives a model `from_pretrained` and `save_pretrained` in the published format."""

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, **arguments):
        """Builds the model that a folder (or a model hub's name) describes, with its weights, in eval mode.

        A head that the checkpoint lacks starts from initial weights, with a warning. What was missing and
        what was left over is in `model.load_report`.

        Args:
            name_or_folder: a local folder, or a name on the Hugging Face hub such as
                "google/bert_uncased_L-2_H-128_A-2".
            arguments: passed on to the model (`num_labels`, `add_pooling_layer`, ...).

        Raises:
            FileNotFoundError: when there is no such folder or hub name, or it lacks a file.
            ValueError: when the weights are a pickle, damaged, or those of another architecture or shape.
        """
        folder = resolve_folder(name_or_folder, [CONFIG_FILE, WEIGHTS_FILE])
        published_config = read_json(_existing(folder, CONFIG_FILE))
        config = BertConfig.from_dict(published_config)
        arguments = cls.arguments_from(published_config, arguments)
        checkpoint = read_weights(folder)

        with torch.device("meta"):  # shapes only: the numbers come from the file
            model = cls(config, **arguments)
        needed = model.state_dict()
        report = compare_with_checkpoint(needed, checkpoint)
        _refuse_another_model(folder, report)

        weights = {}
        for name in needed:
            parts = published_names(name)
            if all(part in checkpoint for part in parts):
                weights[name] = torch.cat([checkpoint[part] for part in parts]).to(torch.get_default_dtype())
        if report.missing:
            warnings.warn(
                f"{folder.name} has no weights for {_listed(report.missing)}: they start from initial "
                f"values. Train them before you believe what they say.",
                stacklevel=2,
            )
            weights = cls(config, **arguments).state_dict() | weights
        model.load_state_dict(weights, assign=True)
        model.load_report = report
        return model.eval()

    def save_pretrained(self, folder: str | Path):
        """Writes config.json and model.safetensors, which `transformers` reads; all or nothing per file."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = self.config.to_dict() | self.extra_settings()
        settings |= {"architectures": [type(self).__name__], "model_type": "bert"}
        weights = {}
        for name, tensor in self.state_dict().items():
            parts = published_names(name)
            prefix = "bert." if name.startswith("bert.") else ""
            for part, piece in zip(parts, tensor.chunk(len(parts))):
                weights[prefix + part] = piece.contiguous()
        with replacing(folder / WEIGHTS_FILE) as temporary:
            save_file(weights, temporary, metadata={"format": "pt"})
        with replacing(folder / CONFIG_FILE) as temporary:
            temporary.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def arguments_from(cls, published_config: dict, arguments: dict) -> dict:
        """The model's own arguments, from what was passed and from config.json. Here: what was passed."""
        return arguments

    def extra_settings(self) -> dict:
        """What config.json must say about this model beside the sizes. Here: nothing."""
        return {}


def published_names(name: str) -> list[str]:
    """The published name(s) of one of our parameters, without the "bert." in front.

    >>> published_names("bert.encoder.layers.0.feed_forward.expand.bias")
    ['encoder.layer.0.intermediate.dense.bias']
    """
    name = name.removeprefix("bert.").replace("encoder.layers.", "encoder.layer.")
    for ours, published in PUBLISHED.items():
        if ours in name:
            return [name.replace(ours, part) for part in published]
    return [name]  # the pooler and the classifier are called the same


def name_table(model: nn.Module) -> list[tuple[str, str, tuple[int, ...]]]:
    """(our name, published name, shape in the file) of every parameter, in the order of the model."""
    rows = []
    for name, parameter in model.state_dict().items():
        parts = published_names(name)
        for part, piece in zip(parts, parameter.chunk(len(parts))):
            rows.append((name, part, tuple(piece.shape)))
    return rows


def compare_with_checkpoint(needed: dict[str, Tensor], checkpoint: dict[str, Tensor]) -> LoadReport:
    """Holds a model's parameters (our names) against a checkpoint's (published names)."""
    report, expected = LoadReport(), set()
    for name, parameter in needed.items():
        parts = published_names(name)
        expected.update(parts)
        for part, piece in zip(parts, parameter.chunk(len(parts))):
            if part not in checkpoint:
                report.missing.append(part)
            elif checkpoint[part].shape != piece.shape:
                report.mis_shaped.append((part, tuple(checkpoint[part].shape), tuple(piece.shape)))
    report.unexpected = sorted(set(checkpoint) - expected)
    return report


def read_weights(folder: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors by published name, with the spellings of older and other writers made one.

    Raises:
        FileNotFoundError: when the folder has no weights.
        ValueError: when the weights are a pickle, are damaged, or have a decoder that is not tied.
    """
    path = folder / WEIGHTS_FILE
    pickles = sorted(
        file.name for suffix in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in folder.glob(suffix)
    )
    if not path.exists() and pickles:
        raise ValueError(
            f"{folder} holds its weights as {pickles[0]}, a pickle, and opening a pickle runs whatever "
            f"program its author put in it. This book reads {WEIGHTS_FILE} only: have someone you trust "
            f"convert the file"
        )
    try:
        stored = load_file(_existing(folder, WEIGHTS_FILE))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or was cut short ({error}): fetch it again") from error

    tensors = {_current_spelling(name): tensor for name, tensor in stored.items()}
    tensors.pop("embeddings.position_ids", None)  # 0, 1, 2, ...: a buffer that older writers stored
    table = tensors.get("embeddings.word_embeddings.weight")
    decoder = tensors.pop("cls.predictions.decoder.weight", None)
    if decoder is not None and table is not None and not torch.equal(decoder, table):
        raise ValueError(f"{path} has a decoder of its own, and BERT's is tied to the token embeddings")
    if "cls.predictions.decoder.bias" in tensors:
        tensors.setdefault("cls.predictions.bias", tensors["cls.predictions.decoder.bias"])
        del tensors["cls.predictions.decoder.bias"]
    return tensors


def resolve_folder(name_or_folder: str | Path, patterns: list[str]) -> Path:
    """A local folder as it is; any other name is fetched from the Hugging Face hub into its cache.

    Args:
        name_or_folder: a path, or a hub name such as "bert-base-uncased".
        patterns: the files that are wanted.

    Raises:
        FileNotFoundError: when it is neither; the message says what was tried.
        PermissionError: when the hub's cache cannot be written to.
    """
    if Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    if Path(name_or_folder).exists():
        raise FileNotFoundError(
            f"{name_or_folder} is a file; give the folder that holds {', '.join(patterns)}"
        )
    from huggingface_hub import snapshot_download  # a slow import that most runs do without

    try:
        return Path(snapshot_download(str(name_or_folder), allow_patterns=patterns))
    except PermissionError as error:
        raise PermissionError(
            f"{name_or_folder} could not be kept in {error.filename} ({error.strerror}): name a folder that "
            f"can be written to in the environment variable HF_HUB_CACHE"
        ) from error
    except Exception as error:  # the hub's client raises a dozen kinds; to the reader they are one
        raise FileNotFoundError(
            f"{name_or_folder} is no folder here, and the model hub did not give it either "
            f"({type(error).__name__}): check the spelling and the network, or pass a folder"
        ) from error


class replacing:
    """`with replacing(path) as temporary:` write to `temporary`; it takes the place of `path` at the end.

    If anything fails on the way, the old file is still whole.
    """

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Path:
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind, error, traceback):
        if kind is None:
            os.chmod(self.temporary, 0o644)  # mkstemp's files are private
            os.replace(self.temporary, self.path)
        else:
            self.temporary.unlink(missing_ok=True)
            if isinstance(error, SafetensorError):  # what a full disk gives
                raise OSError(f"{self.path} could not be written ({error})") from error


def _current_spelling(name: str) -> str:
    name = name.removeprefix("bert.")
    if name.endswith(".gamma"):  # TensorFlow's words for LayerNorm's two vectors
        return name.removesuffix("gamma") + "weight"
    if name.endswith(".beta"):
        return name.removesuffix("beta") + "bias"
    return name


def _refuse_another_model(folder: Path, report: LoadReport):
    """A head may be missing or left over; the shared encoder must fit exactly, and so must every shape."""
    missing = [name for name in report.missing if name.startswith(SHARED)]
    unexpected = [name for name in report.unexpected if name.startswith(SHARED)]
    if missing or unexpected or report.mis_shaped:
        wrong = LoadReport(missing, unexpected, report.mis_shaped)
        raise ValueError(f"the weights in {folder} do not fit its config.json.\n{wrong}")


def _existing(folder: Path, file: str) -> Path:
    if not (folder / file).is_file():
        raise FileNotFoundError(f"{folder} has no {file}; it holds {_listed(sorted(os.listdir(folder)))}")
    return folder / file


def read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold a JSON object with the model's settings, not a {type(content).__name__}"
        )
    return content


def _listed(names: list[str], most: int = 6) -> str:
    if not names:
        return "nothing"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
