"""The training loop: from a corpus to a pre-trained model in a folder, resumable at any step (chapter 11)."""

import contextlib
import json
import math
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..data.pretraining import Position, PreTrainingBatch, TokenStore
from ..heads import IGNORE, BertForPreTraining, positions_to_score
from ..pretrained import read_json, replacing
from ..tokenization import BertTokenizer
from . import checkpoint, distributed, memory
from .distributed import ShardedBatches, mean_over_processes
from .metrics import accuracy_by_fate, evaluate_pretraining
from .optim import SideBySide, adamw, google_warmup_decay, linear_warmup_decay, muon
from .reproducibility import random_states, seed_everything, set_random_states
from .started import RECIPE_FILE, keep_settings, refuse_another_run, settings_of

SCHEDULES = {"triangle": linear_warmup_decay, "google": google_warmup_decay}
OPTIMIZERS = {"adamw": adamw, "muon": muon}
METRICS_FILE = "metrics.jsonl"
READ_EVERY = 20  # steps between two looks at a GPU's numbers


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step and what to do."""


@dataclass
class Recipe:
    """Everything that decides a pre-training run besides the model's configuration and the text.

    Attributes:
        max_steps, max_seconds: exactly one of them is given. Only a run by steps can be repeated bit by bit;
            one by seconds lets the schedule follow the elapsed share of the time.
        batch_tokens: tokens in one forward and backward pass, padding included.
        accumulate: how many of those make one step of the optimiser, over all processes.
        shards: parts that the text is dealt into, for as many processes at most; each gives as many batches
            to a step.
        max_length: the most tokens of an input.
        learning_rate: the peak.
        warmup: share of the run in which the learning rate rises.
        optimizer: "adamw", as BERT, or "muon" for the encoder's matrices beside it.
        mlm_probability: share of the tokens that are to be predicted.
        precision: "float32", "bf16" or "fp16"; see `choose_precision` for "auto".
        checkpoint_every, evaluate_every: steps between two.
        workers: other processes that make the batches; they change no batch.
        compile: let `torch.compile` make one program of the forward and backward pass: a minute at the start,
            then faster on a GPU. Every batch gets the same shape for it, its rows packed with several inputs.
        checkpointing: keep only what enters each layer, and compute the rest again in the backward pass: less
            memory for a third more work.
        shard_model: let each process hold only a part of the model, for one that does not fit one device.
    """

    max_steps: int | None = None
    max_seconds: float | None = None
    batch_tokens: int = 1024
    accumulate: int = 1
    shards: int = 1
    max_length: int = 128
    learning_rate: float = 1e-3
    warmup: float = 0.06
    schedule: str = "triangle"
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 1.0
    mlm_probability: float = 0.15
    whole_words: bool = False
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    checkpoint_every: int = 500
    evaluate_every: int = 500
    workers: int = 0
    compile: bool = False
    checkpointing: bool = False
    shard_model: bool = False

    def __post_init__(self):
        if (self.max_steps is None) == (self.max_seconds is None):
            raise ValueError("give either max_steps or max_seconds: how long is the run to be?")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {self.schedule!r}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {self.optimizer!r}")
        if self.shard_model and self.optimizer == "muon":
            raise ValueError(
                "shard_model deals out the rows of a matrix, and muon needs them all: take optimizer adamw"
            )
        if not 0 < self.mlm_probability < 1:
            raise ValueError(f"mlm_probability must lie between 0 and 1, not {self.mlm_probability!r}")
        for name in (
            "batch_tokens",
            "accumulate",
            "shards",
            "checkpoint_every",
            "evaluate_every",
            "learning_rate",
            "clip_norm",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)!r}")
        if self.batch_tokens < self.max_length:
            raise ValueError(
                f"batch_tokens ({self.batch_tokens}) must hold at least one input of max_length "
                f"({self.max_length})"
            )
        if self.accumulate % self.shards != 0:
            raise ValueError(
                f"accumulate ({self.accumulate}) must be a multiple of shards ({self.shards}): each shard of "
                f"the text gives as many batches to a step"
            )
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share of the run, at least 0 and below 1, not {self.warmup!r}")

    def learning_rate_at(self, step: int, seconds: float) -> float:
        """The learning rate of the step that comes after `step` steps and `seconds` seconds."""
        multiplier = SCHEDULES[self.schedule]
        if self.max_steps is not None:
            # Counted from 1, so that neither the first step nor the last is wasted on a learning rate of 0.
            return self.learning_rate * multiplier(
                step + 1, int(self.warmup * self.max_steps), self.max_steps + 1
            )
        share = min(seconds / self.max_seconds, 1.0)
        return self.learning_rate * multiplier(int(share * 10_000), int(self.warmup * 10_000), 10_000)

    def is_over(self, step: int, seconds: float) -> bool:
        """Whether that many steps, or seconds, were all."""
        return step >= self.max_steps if self.max_steps is not None else seconds >= self.max_seconds


# ---- One step ----------------------------------------------------------------------------------------------


def train_step(
    model: BertForPreTraining,
    optimizer: torch.optim.Optimizer | SideBySide,
    batches: list[PreTrainingBatch],
    *,
    mask_token_id: int,
    clip_norm: float,
    autocast=contextlib.nullcontext,
    scaler: torch.amp.GradScaler | None = None,
) -> dict[str, Tensor]:
    """One step of the optimiser on the gradient of one or several batches.

    Each batch's mean loss is weighted with its share of the scored tokens (and of the pairs), so that k small
    batches give the gradient of one large one, however unequal they are. The same holds over the processes of
    `torch.distributed`, where DistributedDataParallel takes the mean of their gradients.

    Returns:
        The losses of the whole step, the gradient's norm before clipping, and the counts that accuracies are
        made of; tensors, because reading them would make the host wait for a GPU.
    """
    scored_in_all = mean_over_processes(sum((batch.labels != IGNORE).sum() for batch in batches))
    pairs_in_all = mean_over_processes(sum((batch.next_sentence_label != IGNORE).sum() for batch in batches))
    sums = {"mlm_loss": 0.0, "nsp_loss": 0.0}
    for batch in batches:
        with autocast():
            output = model(
                batch.input_ids,
                attention_mask=batch.attention_mask,
                token_type_ids=batch.token_type_ids,
                labels=batch.labels,
                scored_positions=batch.scored_positions,
                sequence_ids=batch.sequence_ids,
                sequence_starts=batch.sequence_starts,
                next_sentence_label=batch.next_sentence_label,
            )
        scored, pairs = (batch.labels != IGNORE).sum(), (batch.next_sentence_label != IGNORE).sum()
        mlm_loss = output.mlm_loss * (scored / scored_in_all.clamp(min=1e-6))
        nsp_loss = output.nsp_loss * (pairs / pairs_in_all)
        loss = mlm_loss + nsp_loss
        (loss if scaler is None else scaler.scale(loss)).backward()
        sums["mlm_loss"] += mlm_loss.detach()
        sums["nsp_loss"] += nsp_loss.detach()
        at = batch.scored_positions  # (N,)
        if at is None:
            at = positions_to_score(batch.labels)
        labels, shown = batch.labels.flatten()[at], batch.input_ids.flatten()[at]  # (N,) each
        counts = accuracy_by_fate(output.scored_logits, labels, shown, mask_token_id)
        nsp_right = output.seq_relationship_logits.argmax(-1) == batch.next_sentence_label
        counts["nsp"] = nsp_right.sum(), pairs
        for name, (right, total) in counts.items():
            sums[f"{name}_right"] = sums.get(f"{name}_right", 0) + right
            sums[f"{name}_total"] = sums.get(f"{name}_total", 0) + total
    if scaler is not None:
        scaler.unscale_(optimizer)
    sums["gradient_norm"] = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    with autocast():  # Muon multiplies matrices too
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return {name: mean_over_processes(value) for name, value in sums.items()}


# ---- The run -----------------------------------------------------------------------------------------------


def pretrain(
    model: BertForPreTraining,
    tokenizer: BertTokenizer,
    store: TokenStore,
    out: Path,
    recipe: Recipe,
    *,
    valid: list[PreTrainingBatch] | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    report=print,
    progress=None,
) -> dict[str, float]:
    """Pre-trains a model and leaves it, its tokenizer, its metrics and its checkpoints in a folder.

    Of several processes (`distributed.together`) all call it alike; the first one writes.

    Args:
        model, tokenizer: trained in place; `tokenizer` is stored beside the model.
        store: the training text.
        out: the run's folder.
        valid: held-out batches for `evaluate_pretraining`; None measures nothing.
        resume: go on from the newest whole checkpoint in `out`, if there is one.
        tensorboard: write the metrics for TensorBoard too, to `out`/tensorboard.
        report: called with every line for the person who waits.
        progress: called with the number of steps and of seconds that are done, before the first step and
            after each one.

    Returns:
        The last evaluation, or an empty dictionary.

    Raises:
        ValueError: when the parts do not fit each other, or `out` holds a run that is not to be resumed, or
            that was started with something else.
        TrainingError: when the loss is not finite; the last good checkpoint stays.
        MemoryError: when a step does not fit into memory; the message says what would.
        KeyboardInterrupt: on Ctrl-C, after the running step; the state and the model so far are saved.
    """
    if len(tokenizer) != model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens and the model a vocabulary of "
            f"{model.config.vocab_size}: they do not belong together"
        )
    if recipe.max_length > model.config.max_position_embeddings:
        raise ValueError(
            f"max_length is {recipe.max_length}, but the model has "
            f"{model.config.max_position_embeddings} positions"
        )
    device = choose_device(recipe.device)
    precision = distributed.once(lambda: choose_precision(recipe.precision, device))
    if resume and recipe.precision == "auto" and (out / RECIPE_FILE).is_file():
        before = read_json(out / RECIPE_FILE)
        if before["device"] == str(device):  # what was chosen then stays, or the run would end otherwise
            precision = before["precision"]
    seed_everything(recipe.seed)
    if recipe.shard_model:
        distributed.split(model, device)
        valid = distributed.once(lambda: valid)  # each gives its part of the model, so all measure
    model.to(device).train()
    model.bert.encoder.checkpointing = recipe.checkpointing
    optimizer = OPTIMIZERS[recipe.optimizer](
        model, recipe.learning_rate, weight_decay=recipe.weight_decay, betas=recipe.betas
    )
    scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None
    run = Run(out, recipe, model, optimizer, scaler, report)
    make_board = tensorboard_writer() if tensorboard else None  # refused before anything is written
    chosen = settings_of(recipe, model, tokenizer, store)
    chosen |= {"device": str(device), "precision": precision}
    if resume:
        distributed.once(lambda: refuse_another_run(out, chosen))
        run.resume()
    elif (out / METRICS_FILE).exists() or checkpoint.list_checkpoints(out):
        raise ValueError(f"{out} holds a run already: go on with it (--resume), or name another folder")
    if make_board is not None:
        run.board = make_board(log_dir=str(out / "tensorboard"), purge_step=run.step + 1)
    out.mkdir(parents=True, exist_ok=True)
    if distributed.is_first():
        keep_settings(out, chosen)

    stream = ShardedBatches(
        store,
        tokenizer,
        shards=recipe.shards,
        max_length=recipe.max_length,
        batch_tokens=recipe.batch_tokens,
        seed=recipe.seed,
        mlm_probability=recipe.mlm_probability,
        whole_words=recipe.whole_words,
        fixed_shape=recipe.compile,
        workers=recipe.workers,
    )
    passes = recipe.accumulate // distributed.world_size()  # this process's in a step
    in_training = torch.compile(model) if recipe.compile else model  # the same parameters
    in_training = distributed.over_processes(in_training, passes)
    evaluation, started, before = {}, time.perf_counter(), run.seconds
    interrupted = False
    if progress is not None:
        progress(run.step, run.seconds)
    run.read_at = time.perf_counter()
    with contextlib.closing(prefetched(on_device(stream.read_from(run.positions), device))) as batches:
        with interrupts_noted() as was_interrupted:
            while not recipe.is_over(run.step, run.seconds) and not interrupted:
                learning_rate = recipe.learning_rate_at(run.step, run.seconds)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate
                distributed.seed_for_step(recipe.seed, run.step)
                positions, micro_batches, tokens = zip(*islice(batches, passes))
                longest = max(batch.input_ids.shape[1] for batch in micro_batches)
                autocast = autocast_for(precision, device)
                with (
                    attention_kernels(device, precision, longest),
                    # Trying what fits is nothing for one process that has only a part of the model.
                    contextlib.nullcontext()
                    if distributed.is_split(model)
                    else memory.advice(model, micro_batches, autocast),
                ):
                    sums = train_step(
                        in_training,
                        optimizer,
                        list(micro_batches),
                        mask_token_id=tokenizer.mask_token_id,
                        clip_norm=recipe.clip_norm,
                        autocast=autocast,
                        scaler=scaler,
                    )
                run.step += 1
                run.positions = positions[-1]
                run.log(sums, learning_rate, int(distributed.total(sum(tokens))))
                run.seconds = distributed.largest(before + time.perf_counter() - started)
                over = recipe.is_over(run.step, run.seconds)
                if valid and (over or run.step % recipe.evaluate_every == 0):
                    evaluation = run.evaluate(valid, tokenizer)
                interrupted = bool(distributed.largest(was_interrupted()))
                if run.step % recipe.checkpoint_every == 0 or over or interrupted:
                    run.save()
                if progress is not None:
                    progress(run.step, run.seconds)
    model.eval()
    trained = distributed.whole_model(model)
    if distributed.is_first():
        trained.save_pretrained(out)
        tokenizer.save_pretrained(out)
    if interrupted:
        report(f"stopped after step {run.step}; --resume goes on from here")
        raise KeyboardInterrupt
    return evaluation


class Run:
    """Where a run stands, and its folder: metrics and checkpoints."""

    def __init__(
        self,
        out: Path,
        recipe: Recipe,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | SideBySide,
        scaler: torch.amp.GradScaler | None,
        report,
    ):
        self.out, self.recipe, self.model, self.optimizer, self.scaler = out, recipe, model, optimizer, scaler
        self.report = report
        self.step, self.seconds = 0, 0.0
        self.positions = (Position(),) * recipe.shards  # one for each shard of the text
        self.waiting = []  # what steps measured, still on the device
        self.read_at = time.perf_counter()
        self.lines = []  # metrics not yet written
        self.board = None  # TensorBoard's writer, if it is wanted

    def log(self, sums: dict[str, Tensor], learning_rate: float, tokens: int):
        """Keeps what a step measured; on a GPU it is read only now and then, since reading waits for it."""
        self.waiting.append((self.step, self.positions, sums, learning_rate, tokens))
        if sums["mlm_loss"].device.type == "cpu" or self.step == 1 or len(self.waiting) == READ_EVERY:
            self.read()

    def read(self):
        """Makes lines for metrics.jsonl of the steps that wait; stops the run when a loss is not finite."""
        waiting, self.waiting = self.waiting, []
        numbers = [{name: float(value) for name, value in sums.items()} for _, _, sums, *_ in waiting]
        seconds, self.read_at = time.perf_counter() - self.read_at, time.perf_counter()
        speed = sum(tokens for *_, tokens in waiting) / seconds
        for (step, positions, _, learning_rate, tokens), found in zip(waiting, numbers):
            self._refuse_what_is_not_finite(found, step, positions)
            line = {"step": step, "mlm_loss": found["mlm_loss"], "nsp_loss": found["nsp_loss"]}
            for name in ("mask", "kept", "random", "nsp"):
                total = found[f"{name}_total"]
                line[f"{name}_accuracy"] = found[f"{name}_right"] / total if total else None
            line |= {
                "learning_rate": learning_rate,
                "gradient_norm": found["gradient_norm"],
                "tokens": tokens,
                "tokens_per_second": speed,
            }
            self.lines.append(line)
            if step == 1 or step % 100 == 0:
                self.report(
                    f"step {step:6d}  mlm {line['mlm_loss']:.3f}  nsp {line['nsp_loss']:.3f}  "
                    f"[MASK] {_percent(line['mask_accuracy'])}  {speed:,.0f} tokens/s"
                )
                self.write_lines()

    def _refuse_what_is_not_finite(self, found: dict[str, float], step: int, positions: tuple[Position, ...]):
        skipped_by_scaler = self.scaler is not None and math.isfinite(found["mlm_loss"])
        if not (math.isfinite(found["mlm_loss"]) and math.isfinite(found["nsp_loss"])) or (
            not math.isfinite(found["gradient_norm"]) and not skipped_by_scaler
        ):
            self.write_lines()
            positions = distributed.farthest(positions)  # all processes are here: they have the same loss
            places = "; ".join(f"epoch {at.epoch}, block {at.block}, batch {at.batch}" for at in positions)
            raise TrainingError(
                f"the loss or its gradient is not finite at step {step} ({places}): try a lower "
                f"learning rate or a longer warm-up. The last good checkpoint is kept"
            )

    def evaluate(self, valid: list[PreTrainingBatch], tokenizer: BertTokenizer) -> dict[str, float]:
        """Measures the model on held-out batches and keeps the result with the metrics."""
        self.read()
        evaluation = evaluate_pretraining(self.model, valid, tokenizer)
        self.lines.append({"step": self.step, "valid": evaluation})
        self.report(
            f"step {self.step:6d}  held-out: [MASK] {_percent(evaluation['mask_accuracy'])}  "
            f"loss {evaluation['mlm_loss']:.3f}  bits/character {evaluation['bits_per_character']:.3f}  "
            f"nsp {_percent(evaluation['nsp_accuracy'])}"
        )
        self.read_at = time.perf_counter()
        return evaluation

    def save(self):
        """Writes the metrics so far and a checkpoint."""
        self.read()
        self.write_lines()
        self.positions = distributed.farthest(self.positions)
        state = {
            "seconds": self.seconds,
            "positions": [asdict(position) for position in self.positions],
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }
        checkpoint.save(self.out, self.step, self.model, self.optimizer, random_states(), state)
        self.read_at = time.perf_counter()

    def write_lines(self):
        """Appends the metrics that are waiting; of several processes the first one does it."""
        if not distributed.is_first():
            self.lines.clear()
            return
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in self.lines)
        if self.board is not None:
            for line in self.lines:
                self._show_on_board(line)
            self.board.flush()
        self.lines.clear()

    def _show_on_board(self, line: dict):
        part = "valid" if "valid" in line else "train"
        for name, value in line.get("valid", line).items():
            if name != "step" and value is not None:
                self.board.add_scalar(f"{part}/{name}", value, line["step"])

    def resume(self):
        """Goes back to the newest whole checkpoint; the metrics of later steps are taken out again."""
        folder = distributed.once(lambda: checkpoint.newest_whole(self.out, self.report))
        metrics = self.out / METRICS_FILE
        if folder is None:
            self.report(f"{self.out} has no checkpoint: starting from the beginning")
            if distributed.is_first():
                metrics.unlink(missing_ok=True)
            return
        state, states = checkpoint.load(folder, self.model, self.optimizer)
        set_random_states(states)
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.positions = tuple(Position(**position) for position in state["positions"])
        if distributed.is_first() and metrics.exists():
            kept = [line for line in whole_lines(metrics) if json.loads(line)["step"] <= self.step]
            with replacing(metrics) as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")
        self.report(f"resuming after step {self.step}")


# ---- Device, precision, data on another thread -------------------------------------------------------------


def choose_device(name: str) -> torch.device:
    """ "auto" is the GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:  # its own message lists two dozen kinds
        raise ValueError(f"device must be auto, cpu, cuda, cuda:1 or the like, not {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda was asked for, and PyTorch finds no GPU here: use --device cpu")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """For "auto": bf16 where the device gains from it, fp16 on older GPUs, else float32.

    A CPU gains from bf16 only where it has instructions for it; elsewhere it is several times slower than
    float32. So it is tried.

    Raises:
        ValueError: for an unknown name, and for bf16 on a GPU that has none and would only imitate it slowly.
    """
    if name not in ("auto", "float32", "bf16", "fp16"):
        raise ValueError(f"precision must be auto, float32, bf16 or fp16, not {name!r}")
    has_bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "bf16" and not has_bf16:
        raise ValueError(
            f"{torch.cuda.get_device_name(device)} has no bf16, which came after it: take fp16, or auto"
        )
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if has_bf16 else "fp16"
    return (
        "bf16"
        if seconds_of_a_product(torch.bfloat16) < 0.6 * seconds_of_a_product(torch.float32)
        else "float32"
    )


def seconds_of_a_product(dtype: torch.dtype, size: int = 512) -> float:
    """The shortest of ten times that this CPU takes to multiply two matrices."""
    matrix = torch.ones(size, size, dtype=dtype)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def autocast_for(precision: str, device: torch.device):
    """A function that opens the region of mixed precision; for float32 one that does nothing."""
    if precision == "float32":
        return contextlib.nullcontext
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return lambda: torch.autocast(device.type, dtype=dtype)


def attention_kernels(device: torch.device, precision: str, length: int):
    """A region in which PyTorch takes the kernel for attention that trains fastest.

    It chooses well by itself, but for bf16 on a CPU: with rows of 64 and 128 tokens the fused kernel takes
    half as long again as plain products there, mostly on its way back; with 512 it is the faster one.
    """
    plain = device.type == "cpu" and precision == "bf16" and length <= 128
    return sdpa_kernel(SDPBackend.MATH) if plain else contextlib.nullcontext()


def tensorboard_writer():
    """The class of TensorBoard's writers.

    Raises:
        ValueError: when the package tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "writing for TensorBoard needs the package tensorboard: pip install tensorboard"
        ) from error
    return SummaryWriter


def on_device(stream: Iterable[tuple[Position, PreTrainingBatch]], device: torch.device) -> Iterator:
    """Yields the position after each batch, the batch on the device, and how many tokens it holds."""
    for position, batch in stream:
        tokens = int(batch.attention_mask.sum())  # counted before it moves: a GPU would have to be waited for
        yield position, batch.to(device), tokens


def prefetched(items: Iterable, depth: int = 8) -> Iterator:
    """The same items in the same order, made ahead by another thread while the model computes."""
    waiting, stop = queue.Queue(maxsize=depth), threading.Event()

    def put(item, error=None):
        while not stop.is_set():  # a full queue that nobody reads any more must not hold the thread
            with contextlib.suppress(queue.Full):
                return waiting.put((item, error), timeout=0.1)

    def work():
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(None, StopIteration())
        except BaseException as error:  # it belongs to whoever reads the items
            put(None, error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
        thread.join()  # Python may abort when it ends while a thread is still inside PyTorch


@contextlib.contextmanager
def interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C was pressed; only a second press interrupts at once.

    In the middle of a step, some parameters have moved and others have not: that is nothing to save.
    """
    pressed = []

    def note(number, frame):
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    # Outside the main thread, or where Ctrl-C means something else already, it is not ours to handle.
    ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def whole_lines(path: Path) -> list[str]:
    """The lines of a file that were written to their end; a killed run may leave half of one."""
    return [
        line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")
    ]


def _percent(share: float | None) -> str:
    return "    -" if share is None else f"{100 * share:5.1f}%"
