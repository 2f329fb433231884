"""Pre-training in several processes, one for each GPU or core, started by PyTorch's `torchrun`.

    torchrun --nproc-per-node 2 -m bert_edu pretrain --out first

Every process holds the whole model. The text is dealt into shards, and each process reads its own; then all
take the same step, on the mean of their gradients (DistributedDataParallel). With --shard-model each holds
only a part of the model (FSDP2). In a program that is one process the functions here do nothing, so the
training loop calls them without asking.

When a process dies, `torchrun` ends the others within a second or two, and starts all of them again if it was
told to (--max-restarts). A process that only stalls, or a network that fails, is noticed after `TIMEOUT`.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import NoReturn, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Subset

from ..data.pretraining import Position, PreTrainingBatch, PreTrainingBatches, sentence_pairs
from ..heads import BertForPreTraining
from ..tokenization import BertTokenizer
from .reproducibility import seed_everything

TIMEOUT = timedelta(minutes=10)  # for the other processes to arrive at the same step
PATIENCE = timedelta(days=7)  # while the first one prepares the text
Result = TypeVar("Result")

_patient = None  # the same processes once more, for what may take long


# ---- The processes -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def together(device: str = "auto") -> Iterator[None]:
    """Inside, the processes that `torchrun` started know each other; without it nothing happens.

    Args:
        device: as for `choose_device`. On GPUs each process takes the one with its own number on its machine.

    Raises:
        ValueError: when a process has no GPU of its own.
        ConnectionError: inside, when another process has ended or did not come within `TIMEOUT`.
    """
    global _patient
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield
        return
    on_gpus = device != "cpu" and torch.cuda.is_available()
    if on_gpus:
        _take_gpu(device)
    dist.init_process_group(
        # Gloo carries the few numbers that stand in the host's memory, NCCL what is on the GPUs.
        "cpu:gloo,cuda:nccl" if on_gpus else "gloo",
        store=_new_store(),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=TIMEOUT,
    )
    _patient = dist.new_group(backend="gloo", timeout=PATIENCE)
    try:
        yield
    except RuntimeError as error:
        if "gloo" not in str(error):
            raise
        reason = str(error).split("] ", 1)[-1].split(". ")[0]  # without the place in Gloo's source
        raise ConnectionError(
            f"process {rank()} cannot go on, because another one has ended or does not answer ({reason})"
        ) from error
    # Not after an error: the others may be waiting in the middle of a step, and this process ends anyway.
    _patient = None
    dist.destroy_process_group()


def _new_store() -> "dist.Store":
    """Where processes that were started together leave word for each other, to find each other.

    `torchrun`'s own outlives a restart, and whoever comes early finds the addresses of processes that have
    ended there (github.com/pytorch/pytorch/issues/135712). So the first process opens a new one, and the
    others try the port that they read until somebody answers.
    """
    old, number, count = next(dist.rendezvous("env://", timeout=TIMEOUT))
    host, key = os.environ["MASTER_ADDR"], "bert_edu/port"
    if number == 0:
        store = dist.TCPStore(host, 0, count, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
        old.set(key, str(store.port))
        return store
    last_try = time.monotonic() + TIMEOUT.total_seconds()
    while True:
        port = int(old.get(key))
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            if time.monotonic() > last_try:
                raise
            time.sleep(0.1)
        else:
            return dist.TCPStore(host, port, count, is_master=False, timeout=TIMEOUT)


def _take_gpu(device: str):
    if device not in ("auto", "cuda"):
        raise ValueError(
            f"device must be auto, cuda or cpu under torchrun, not {device!r}: each takes its own"
        )
    number, found = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= found:
        raise ValueError(
            f"{os.environ['LOCAL_WORLD_SIZE']} processes on a machine with {found} GPUs: start torchrun with "
            f"--nproc-per-node {found}"
        )
    torch.cuda.set_device(number)


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if _several() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _several() else 1


def is_first() -> bool:
    """Whether this is the process that writes files and speaks for all."""
    return rank() == 0


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()


# ---- What they tell each other -----------------------------------------------------------------------------


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a number over the processes; itself where there is only one."""
    if not _several():
        return value
    total = _whole(value).to(torch.float64, copy=True)
    dist.all_reduce(total)
    return total / dist.get_world_size()


def total(number: float) -> float:
    """The sum of the processes' numbers."""
    return _reduced(number, "SUM")


def largest(number: float) -> float:
    """The largest of the processes' numbers."""
    return _reduced(number, "MAX")


def _reduced(number: float, how: str) -> float:
    if not _several():
        return number
    value = torch.tensor(number, dtype=torch.float64)
    dist.all_reduce(value, op=getattr(dist.ReduceOp, how))
    return float(value)


def gathered(value: Result) -> list[Result]:
    """What each process gave, in order of their ranks; may be anything that can be pickled."""
    if not _several():
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value, group=_patient)
    return values


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Lets the processes go on after its block only if it succeeded in all of them.

    An error is raised in the first process that has one; the others end without a word.
    """
    error = None
    try:
        yield
    except Exception as raised:
        error = raised
    failed = gathered(error is not None)
    if any(failed):
        if failed.index(True) == rank():
            raise error
        leave_the_word()


def leave_the_word() -> NoReturn:
    """Ends a process in which nothing went wrong that another one does not report."""
    time.sleep(10)  # `torchrun` ends it before that, as soon as the other one has spoken and ended
    raise SystemExit(1)


def once(work: Callable[[], Result]) -> Result:
    """What `work` returns in the first process, which alone does it, in all of them."""
    result = None
    with all_or_none():
        if is_first():
            result = work()
    return gathered(result)[0]


# ---- The model ---------------------------------------------------------------------------------------------


class OneOfSeveral(DistributedDataParallel):
    """The model in one of several processes; their gradients are averaged in the last pass of each step."""

    def __init__(self, model: nn.Module, passes: int):
        super().__init__(model, gradient_as_bucket_view=True)
        self.passes, self._done = passes, 0

    def forward(self, *inputs, **keywords):
        self._done += 1
        last = self._done % self.passes == 0
        with contextlib.nullcontext() if last else self.no_sync():
            return super().forward(*inputs, **keywords)


def over_processes(model: nn.Module, passes: int) -> nn.Module:
    """The model as the loop calls it: itself, or with the gradients' mean over the processes.

    Args:
        passes: forward and backward passes of this process in each step.
    """
    return OneOfSeveral(model, passes) if world_size() > 1 and not is_split(model) else model


def split(model: BertForPreTraining, device: torch.device):
    """Leaves this process its part of every parameter, and later of gradients and means, in place (FSDP2).

    A layer is put together from all processes when its turn comes, and given up again after it; what is
    around the layers is together from the forward pass to the backward pass. The gradients of every pass are
    averaged, and each process keeps those of its part. Nothing happens where there is only one process.

    Args:
        model: the same numbers in all processes; on the host, so that a GPU never holds all of it.

    Raises:
        ValueError: when PyTorch is too old.

    Source: Zhao et al. (2023), "PyTorch FSDP".
    """
    if world_size() == 1:
        return
    with all_or_none():
        try:
            from torch.distributed.fsdp import fully_shard
        except ImportError as error:
            raise ValueError(
                f"--shard-model needs PyTorch 2.6 or later, and this is {torch.__version__}"
            ) from error
    mesh = dist.init_device_mesh(device.type, (world_size(),))
    for layer in model.bert.encoder.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)  # the rest: the embedding table is the decoder's too, so both stay together


def is_split(model: nn.Module) -> bool:
    """Whether this process has only a part of the model."""
    return _is_part(next(model.parameters()))


def whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as wholes, in the first process and its host's memory; the others give their parts."""
    found = {}
    for name, tensor in tensors.items():
        tensor = _whole(tensor.detach())
        if is_first():
            found[name] = tensor.cpu()
    return found


def whole_model(model: BertForPreTraining) -> BertForPreTraining:
    """The model, or if it is split another one that has all of its numbers, in the first process."""
    if not is_split(model):
        return model
    tensors = whole(model.state_dict())
    with torch.device("meta"):  # shapes only
        together = BertForPreTraining(model.config)
    if is_first():
        together.load_state_dict(tensors, assign=True)
    return together


def part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Of a tensor that all processes have, this one's part, if it has only a part of `like`."""
    if not (_is_part(like) and tensor.shape == like.shape):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, like.device_mesh, like.placements)


def _is_part(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if _is_part(tensor) else tensor


def seed_for_step(seed: int, step: int):
    """Lets dropout fall elsewhere in each process, and after a resume as if there had been none."""
    if world_size() > 1:
        seed_everything(_mixed(seed, step, rank()))


# ---- The text ----------------------------------------------------------------------------------------------


class ShardedBatches:
    """Masked batches from the shards of a text that are this process's, in turn and without end.

    Shard s of S holds the documents s, s + S, s + 2 S ...: none is in two shards. A shard is a corpus of its
    own, with its own epochs, so how many processes read the S shards changes no batch. With one shard the
    batches are those of `PreTrainingBatches`.

    Args:
        documents, tokenizer, max_length, seed, settings: as for `PreTrainingBatches`.
        shards: S, a multiple of the number of processes.

    Raises:
        ValueError: when shards and processes do not fit each other, or a shard has no text to train on.
    """

    def __init__(
        self,
        documents: Sequence,
        tokenizer: BertTokenizer,
        *,
        shards: int = 1,
        max_length: int,
        seed: int = 0,
        **settings,
    ):
        self.streams = {}
        with all_or_none():
            for number in own_shards(shards):
                part, part_seed = documents, seed
                if shards > 1:
                    part, part_seed = _shard(documents, number, shards), _mixed(seed, number)
                    _check_shard(part, tokenizer, max_length, number, shards)
                self.streams[number] = PreTrainingBatches(
                    part, tokenizer, max_length=max_length, seed=part_seed, **settings
                )

    def read_from(
        self, positions: Sequence[Position]
    ) -> Iterator[tuple[tuple[Position, ...], PreTrainingBatch]]:
        """Yields (the positions after this batch, the batch), for ever; one position for each shard.

        The positions of other processes' shards stay as they were given: `farthest` puts them together.
        """
        positions = list(positions)
        readers = {number: stream.read_from(positions[number]) for number, stream in self.streams.items()}
        while True:
            for number, reader in readers.items():
                positions[number], batch = next(reader)
                yield tuple(positions), batch


def own_shards(shards: int) -> range:
    """The numbers of the shards that this process reads.

    Raises:
        ValueError: when the processes cannot share them alike.
    """
    if shards % world_size() != 0:
        fitting = [str(count) for count in range(1, shards + 1) if shards % count == 0]
        raise ValueError(
            f"{world_size()} processes cannot share {shards} {'shard' if shards == 1 else 'shards'} of text "
            f"alike: start {' or '.join(fitting)}, or begin a run with more --shards"
        )
    each = shards // world_size()
    return range(rank() * each, (rank() + 1) * each)


def farthest(positions: Sequence[Position]) -> tuple[Position, ...]:
    """The position of every shard, from what each process knows of it."""
    return tuple(max(known) for known in zip(*gathered(positions)))


def _shard(documents: Sequence, number: int, shards: int) -> Subset:
    return Subset(documents, range(number, len(documents), shards))


def _check_shard(part: Subset, tokenizer: BertTokenizer, max_length: int, number: int, shards: int):
    generator = torch.Generator().manual_seed(0)
    pairs = sentence_pairs(part, tokenizer, max_length=max_length, generator=generator)
    if next(pairs, None) is None:
        size = f"{len(part)} document{'' if len(part) == 1 else 's'}"
        raise ValueError(
            f"shard {number + 1} of {shards} has {size} and not one sentence pair to train on: the text is "
            f"too small for so many shards, so take fewer (--shards, or fewer processes)"
        )


def _mixed(*numbers: int) -> int:
    """A seed made from several numbers, so that neighbours have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) % 2**63
