"""Recording a pass: what every module gives out, its attention, its gradients (chapter 8).

Forward hooks see what each module returns; a `TorchFunctionMode` sees the attention, which no module need
return. Neither changes a number, and both are gone when the `with` block is left, however it is left.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

from .calling import check_devices, named_tensors, unknown_name
from .tape import written_out_multi_head

NOISE = 1e-6  # a mean below this share of the standard deviation is rounding, and printed as 0
ONE_POSITION = 0.9  # the share of a head's attention on one key from which it is said to attend to that alone


@dataclass
class ModuleRow:
    """What one module gave out in one call.

    Attributes:
        name: the module's name; "" is the model itself.
        type: its class.
        call: the how-manieth call of this module it was, from 1.
        shapes: of all tensors that it returned.
        mean, sd: of the first of them that holds real numbers; padding included. NaN when there is none.
        zeros, nans: the share of its entries that are 0 and that are NaN.
        gradient_norm: the length of the loss's gradient with respect to it; None without a backward pass.
        tensor: the tensor itself, with `record(..., keep=True)`.
    """

    name: str
    type: str
    call: int
    shapes: list[tuple[int, ...]]
    mean: float = math.nan
    sd: float = math.nan
    zeros: float = math.nan
    nans: float = math.nan
    gradient_norm: float | None = None
    tensor: Tensor | None = None


@dataclass
class AttentionRow:
    """One head of one attention; queries under the padding do not count.

    Attributes:
        module: where the attention was computed.
        head: its number, from 0.
        entropy: of the probabilities, in nats, on average over the queries: 0 = one key, ln T = all alike.
        largest: a query's largest probability, on average.
        key: the position that gets most attention on average, and `share`: how much of it.
        one_position: whether that share is at least 0.9: the head reads the same token whoever asks.
        probabilities: (B, T, T), with `record(..., keep=True)`.
    """

    module: str
    head: int
    entropy: float
    largest: float
    key: int
    share: float
    probabilities: Tensor | None = None

    @property
    def one_position(self) -> bool:
        return self.share >= ONE_POSITION


@dataclass
class ParameterRow:
    """One parameter.

    Attributes:
        name: the parameter's name.
        shape: its shape.
        norm: its length.
        gradient_norm: the length of its gradient, as the optimiser saw it; None when it got none.
        update: how far the optimiser's step moved it, as a share of its length; None without a step. About
            1e-3 is usual; 1e-6 hardly learns, 1e-1 forgets.
    """

    name: str
    shape: tuple[int, ...]
    norm: float
    gradient_norm: float | None = None
    update: float | None = None


def record(model: nn.Module, *, only: Iterable[str] | None = None, keep: bool = False) -> "Recording":
    """Records what a model computes inside a `with` block, without changing any of it::

        with record(model) as seen:
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
        print(seen)

    A forward pass gives `seen.rows` and `seen.attention`; a backward pass inside the block adds the
    gradients, and a step of an optimiser inside it adds `update` to `seen.parameters`. Any module will do.

    Args:
        model: any module, but not a compiled one: record the model that was compiled, uncompiled.
        only: names of the modules to record; by default all.
        keep: keep the tensors too, not only their statistics.

    Raises:
        KeyError: when `only` names a module that does not exist; the message has the names that are near it.
        ValueError: for a compiled or scripted model.

    One thing to know: PyTorch's own `nn.TransformerEncoder` has a shortcut for evaluation without gradients,
    which it does not take while anything listens; its numbers may then differ in the last digits.
    """
    return Recording(model, only, keep)


class Recording:
    """What `record` gives; print it for a table."""

    def __init__(self, model: nn.Module, only: Iterable[str] | None, keep: bool):
        if not isinstance(model, nn.Module):
            raise TypeError(f"record takes a torch.nn.Module, not a {type(model).__name__}")
        if hasattr(model, "_orig_mod") or isinstance(model, torch.jit.ScriptModule):
            raise ValueError(
                "a compiled model runs where nothing can listen: record the model that it was made of"
            )
        names = dict(model.named_modules())
        for name in only or ():
            if name not in names:
                raise KeyError(unknown_name(name, names, "module"))
        self._model, self._only, self._keep = model, only is not None, keep
        self._modules = names if only is None else {name: names[name] for name in only}
        self._rows: list[tuple[ModuleRow, _Measured | None]] = []
        self._attention: list[AttentionRow] = []
        self._parameters: dict[str, ParameterRow] = {}
        self._last: _Measured | None = None
        self._calls: dict[str, int] = {}
        self._running: list[str] = []
        self._real: Tensor | None = None
        self._handles: list = []
        self._before: dict[str, Tensor] = {}
        self._mode = _AttentionWatch(self)

    # ---- results ----

    @property
    def rows(self) -> list[ModuleRow]:
        """What each module gave out, in the order in which the modules finished."""
        if not self._rows:
            raise ValueError(
                "nothing was recorded: call the model inside the `with record(model)` block, the model "
                "itself and not a copy of it"
            )
        for row, measured in self._rows:
            if measured is not None:
                row.mean, row.sd, row.zeros, row.nans = measured.statistics.tolist()
                row.gradient_norm = None if measured.gradient_norm is None else float(measured.gradient_norm)
        return [row for row, _ in self._rows]

    @property
    def attention(self) -> list[AttentionRow]:
        """Every head of every attention, in forward order."""
        if self.rows and not self._attention:
            raise ValueError(
                f"{type(self._model).__name__} has no attention: in this pass there was no softmax over keys "
                f"and no fused attention, or it ran outside PyTorch's functions"
            )
        return self._attention

    @property
    def parameters(self) -> list[ParameterRow]:
        """Every parameter with its gradient, and with its update when an optimiser took a step."""
        if self.rows and not self._parameters:
            self._read_parameters()
        return list(self._parameters.values())

    def __getitem__(self, name: str) -> ModuleRow:
        """The row of a module by its name: that of its last call."""
        found = [row for row in self.rows if row.name == name]
        if not found:
            raise KeyError(unknown_name(name, [row.name for row in self.rows], "recorded module"))
        return found[-1]

    def __str__(self) -> str:
        rows = self.rows
        lines = [("module", "type", "shape", "mean", "sd", "zeros", "gradient")]
        for row in rows:
            name = row.name or "(the model)"
            lines.append(
                (
                    name if row.call == 1 else f"{name} (call {row.call})",
                    row.type,
                    ", ".join(map(str, row.shapes)) or "-",
                    _short(0.0 if abs(row.mean) < NOISE * row.sd else row.mean),
                    _short(row.sd),
                    _share(row.zeros),
                    _short(row.gradient_norm),
                )
            )
        text = _table(lines)
        broken = [row.name for row in rows if row.nans > 0]
        if broken:
            text += f"\nNaN in {len(broken)} modules, first in {broken[0] or '(the model)'}"
        if self._attention:
            lines = [("attention in", "head", "entropy", "largest", "most read")]
            for row in self._attention:
                alone = " (and hardly another)" if row.one_position else ""
                lines.append(
                    (
                        row.module,
                        str(row.head),
                        _short(row.entropy),
                        _short(row.largest),
                        f"{row.key}: {_share(row.share)}{alone}",
                    )
                )
            text += f"\n\n{_table(lines)}"
        if self._parameters and any(row.gradient_norm is not None for row in self._parameters.values()):
            lines = [("parameter", "shape", "length", "gradient", "update")]
            for row in self._parameters.values():
                lines.append(
                    (
                        row.name,
                        str(row.shape),
                        _short(row.norm),
                        _short(row.gradient_norm),
                        _short(row.update),
                    )
                )
            text += f"\n\n{_table(lines)}"
        return text

    def __repr__(self) -> str:
        return f"<Recording of {type(self._model).__name__}: {len(self._rows)} rows>"

    # ---- while the block runs ----

    def __enter__(self) -> "Recording":
        if self._handles or self._rows:
            raise RuntimeError("a recording is made once: call record(model) again for another one")
        try:
            root_hook = self._model.register_forward_pre_hook(
                self._look_at_inputs, with_kwargs=True, prepend=True
            )
            self._handles.append(root_hook)
            for name, module in self._modules.items():
                self._handles.append(module.register_forward_pre_hook(self._enter_module(name), prepend=True))
                self._handles.append(module.register_forward_hook(self._leave_module(name), always_call=True))
            self._handles.append(register_optimizer_step_pre_hook(self._before_step))
            self._handles.append(register_optimizer_step_post_hook(self._after_step))
            self._mode.__enter__()
        except BaseException:
            self._remove_hooks()
            raise
        return self

    def __exit__(self, kind, error, traceback):
        self._mode.__exit__(kind, error, traceback)
        self._remove_hooks()
        self._forget_tensor()
        if self._rows and not self._parameters:
            self._read_parameters()
        self._before.clear()

    def _remove_hooks(self):
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _look_at_inputs(self, module, args, kwargs):
        check_devices(module, [kwargs, args])
        mask = kwargs.get("attention_mask")
        self._real = mask.bool() if isinstance(mask, Tensor) and mask.dim() == 2 else None

    def _enter_module(self, name: str):
        def hook(module, inputs):
            self._running.append(name)

        return hook

    def _leave_module(self, name: str):
        def hook(module, inputs, output):
            if self._running and self._running[-1] == name:
                self._running.pop()
            if output is None or _in_backward():  # an exception; or checkpointing, which computes twice
                return
            self._calls[name] = self._calls.get(name, 0) + 1
            tensors = [tensor for _, tensor in named_tensors(output)]
            shapes = [tuple(tensor.shape) for tensor in tensors]
            measured = self._measure(tensors)
            row = ModuleRow(name, type(module).__name__, self._calls[name], shapes)
            row.tensor = measured.tensor if measured else None
            self._rows.append((row, measured))

        return hook

    def _measure(self, tensors: list[Tensor]) -> "_Measured | None":
        """The numbers of the first real tensor; a module often passes on what the one before gave out."""
        real = next((part for part in tensors if part.is_floating_point() and part.numel()), None)
        if real is None:
            return None
        if self._last is not None and self._last.is_of(real):
            return self._last
        self._forget_tensor()
        with torch.no_grad(), torch._C.DisableTorchFunction():
            self._last = _Measured(real, self._keep)
        return self._last

    def _forget_tensor(self):
        """No measured tensor is held longer than until the next: it would keep the whole graph alive."""
        if self._last is not None:
            self._last.of = None

    def _before_step(self, optimizer, args, kwargs):
        moved = {id(part) for group in optimizer.param_groups for part in group["params"]}
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                if id(parameter) in moved:
                    self._before[name] = parameter.detach().clone()
                    self._parameters[name] = _parameter_row(name, parameter)

    def _after_step(self, optimizer, args, kwargs):
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                if name in self._before:
                    before = self._before.pop(name)
                    length = float(before.norm())
                    moved = float((parameter - before).norm())
                    self._parameters[name].update = moved / length if length else math.inf if moved else 0.0

    def _read_parameters(self):
        went_back = any(measured and measured.gradient_norm is not None for _, measured in self._rows)
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                self._parameters[name] = _parameter_row(name, parameter, went_back)

    def _saw_attention(self, probabilities: Tensor):
        """(B, A, T, T) or (B, T, T): a row for each head; with `only` those inside the chosen modules."""
        if self._only and not self._running:
            return
        probabilities = probabilities.detach().float()
        if probabilities.dim() == 3:
            probabilities = probabilities.unsqueeze(1)
        module = self._running[-1] if self._running else "(the model)"
        B, _, T, _ = probabilities.shape
        real = self._real if self._real is not None and self._real.shape == (B, T) else None
        weight = torch.ones(B, T, device=probabilities.device) if real is None else real.float()
        total = weight.sum().clamp(min=1)
        entropy = torch.special.entr(probabilities).sum(-1)  # (B, A, T)
        largest = probabilities.max(-1).values  # (B, A, T)
        by_key = torch.einsum("bt,bats->as", weight, probabilities) / total  # (A, keys)
        for head in range(probabilities.shape[1]):
            self._attention.append(
                AttentionRow(
                    module=module,
                    head=head,
                    entropy=float((entropy[:, head] * weight).sum() / total),
                    largest=float((largest[:, head] * weight).sum() / total),
                    key=int(by_key[head].argmax()),
                    share=float(by_key[head].max()),
                    probabilities=probabilities[:, head].cpu() if self._keep else None,
                )
            )


class _Measured:
    """A tensor's numbers, which may still be on their way from the GPU or come with the backward pass."""

    def __init__(self, tensor: Tensor, keep: bool):
        self.of, self.version = tensor, _version(tensor)
        values = tensor.detach().float().reshape(-1)
        n = values.numel()
        mean = values.mean()
        centred = values - mean
        variance = torch.dot(centred, centred) / n  # much faster on a CPU than torch.var
        zeros = n - torch.count_nonzero(values)
        nans = torch.count_nonzero(values.isnan())
        self.statistics = torch.stack([mean, variance.sqrt(), zeros / n, nans / n])
        self.tensor = tensor.detach().clone() if keep else None
        self.gradient_norm = None
        if tensor.requires_grad and tensor.grad_fn is not None:
            tensor.register_hook(self._take_gradient)

    def _take_gradient(self, gradient: Tensor):
        with torch.no_grad():
            self.gradient_norm = gradient.norm()

    def is_of(self, tensor: Tensor) -> bool:
        """Whether these are the numbers of this very tensor, not changed in place since."""
        return self.of is tensor and self.version is not None and self.version == _version(tensor)


def _version(tensor: Tensor) -> int | None:
    """How often a tensor was changed in place; under `torch.inference_mode` nobody counts."""
    return None if tensor.is_inference() else tensor._version


class _AttentionWatch(TorchFunctionMode):
    """Looks at every softmax over keys and every fused attention; runs each of them unchanged."""

    def __init__(self, recording: Recording):
        super().__init__()
        self.recording = recording

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if function in SOFTMAX:
            if _is_attention(result) and not _in_backward():
                with torch.no_grad():
                    self.recording._saw_attention(result)
        elif function is F.scaled_dot_product_attention and not _in_backward():
            with torch.no_grad():
                self.recording._saw_attention(attention_probabilities(*args, **kwargs))
        elif function is F.multi_head_attention_forward and not _in_backward():
            with torch.no_grad(), self:  # what happens inside it is hidden; so once more, written out
                written_out_multi_head(*args, **{**kwargs, "training": False})
        return result


SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}


def attention_probabilities(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
) -> Tensor:
    """The probabilities that `F.scaled_dot_product_attention` never stores: float32, before dropout."""
    query, key = query.detach().float(), key.detach().float()
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        hidden = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(attn_mask.logical_not(), -math.inf) if hidden else scores + attn_mask
    return scores.softmax(-1).nan_to_num()


def _is_attention(probabilities: Tensor) -> bool:
    """(B, A, T, keys), or (B, T, T): a softmax over classes has no second axis of tokens."""
    shape = probabilities.shape
    if len(shape) not in (3, 4) or (len(shape) == 3 and shape[-1] != shape[-2]):
        return False
    sums = probabilities.detach().sum(-1)
    return bool(torch.isfinite(sums).all()) and bool((sums - 1).abs().max() < 1e-2)


def _in_backward() -> bool:
    """Whether a backward pass is running: what checkpointing computes then was recorded before."""
    return torch._C._current_graph_task_id() != -1


def _parameter_row(name: str, parameter: Tensor, with_gradient: bool = True) -> ParameterRow:
    gradient = parameter.grad if with_gradient else None
    return ParameterRow(
        name,
        tuple(parameter.shape),
        float(parameter.detach().norm()),
        None if gradient is None else float(gradient.norm()),
    )


def _short(number: float | None) -> str:
    return "-" if number is None or math.isnan(number) else f"{number:.3g}"


def _share(number: float) -> str:
    return "-" if math.isnan(number) else f"{100 * number:.0f} %"


def _table(lines: list[tuple[str, ...]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    )
