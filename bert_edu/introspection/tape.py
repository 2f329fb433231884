"""A tape of a forward pass: every operation on tensors in its order, with the module in which it happened.

PyTorch hands every operation to a `TorchFunctionMode` before it runs it. The tape runs it unchanged and notes
what went in and what came out, so it sees what no module hook sees: the split heads, the scores, the softmax.
A tape can also be played again, with an operation changed (`Tape.replay`); that is how causes are tried out.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .calling import as_call, changed, check_devices, tensors_of

CHANGES_ITS_INPUT = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__iand__", "__ior__"}

# Operations that only rearrange numbers.
LAYOUT = {
    "transpose",
    "permute",
    "movedim",
    "T",
    "mT",
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "contiguous",
}


@dataclass(frozen=True, order=True)
class Ref:
    """A tensor on a tape: output number `output` of step number `step`."""

    step: int
    output: int = 0


@dataclass
class Step:
    """One operation, or a tensor that was there before the pass began.

    Attributes:
        number: its place on the tape.
        kind: "operation", or what the tensor is: "input", "parameter", "buffer" or "constant".
        name: of the operation ("softmax"), or of the tensor.
        where: name of the innermost module that was running; "" is the model itself.
        outputs: what came out.
        function, args, kwargs: how it came about; a `Ref` stands for each tensor.
        refs: the tensors that went in, in the order of the arguments.
        numbers: the numbers that were written into the operation: a scale, an axis, an eps.
    """

    number: int
    kind: str
    name: str
    where: str
    outputs: list
    function: Callable | None = None
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    refs: list[Ref] = field(init=False, default_factory=list)
    numbers: list[float] = field(init=False, default_factory=list)

    def __post_init__(self):
        changed([self.args, self.kwargs], self._take)

    def _take(self, part):
        if isinstance(part, Ref):
            self.refs.append(part)
        elif isinstance(part, (int, float)) and not isinstance(part, bool):
            self.numbers.append(part)

    @property
    def is_layout(self) -> bool:
        """Whether the operation only rearranges numbers."""
        return self.kind == "operation" and self.name in LAYOUT


# Spellings of one operation: a method, an operator, a function.
SAME = {
    "truediv": "div",
    "true_divide": "div",
    "rtruediv": "rdiv",
    "radd": "add",
    "rmul": "mul",
    "iadd": "add",
    "isub": "sub",
    "imul": "mul",
    "itruediv": "div",
    "multiply": "mul",
    "subtract": "sub",
    "bmm": "matmul",
}


def name_of(function: Callable) -> str:
    """A readable name: `Tensor.__truediv__`, `torch.true_divide` and `Tensor.div` are all "div"."""
    name = getattr(function, "__name__", str(function))
    if name == "__get__":  # an attribute that makes a new tensor: x.T, x.data
        return getattr(getattr(function, "__self__", None), "__name__", "attribute")
    name = name.strip("_")
    return SAME.get(name, name)


class Tape(TorchFunctionMode):
    """Records a model's forward pass.

    Attributes:
        steps: what happened, in order.
        modules: (name, its outputs, each a `Ref`) of the modules that finished, in order.
        output: what the model returned.
    """

    def __init__(self):
        super().__init__()
        self.steps: list[Step] = []
        self.modules: list[tuple[str, list[Ref]]] = []
        self.output = None
        self._known: dict[int, Ref] = {}  # by id(); the steps keep the tensors alive, so no id is used twice
        self._kept_alive: list[Tensor] = []
        self._running: list[str] = []

    @classmethod
    def of(cls, model: nn.Module, batch) -> "Tape":
        """Runs a model once, without gradients, and returns the tape; leaves no hook behind.

        Raises:
            ValueError: when the batch is on a device that the model is not on.
        """
        tape = cls()
        positional, named = as_call(batch)
        check_devices(model, [named, positional])
        for name, tensor in model.named_parameters():
            tape._begin("parameter", name, tensor)
        for name, tensor in model.named_buffers():
            tape._begin("buffer", name, tensor)
        for name, value in [*enumerate(positional), *named.items()]:
            for tensor in tensors_of(value):
                tape._begin("input", str(name), tensor)
        handles = []
        try:
            for name, module in model.named_modules():
                handles.append(module.register_forward_pre_hook(tape._enter(name), prepend=True))
                handles.append(module.register_forward_hook(tape._leave(name), always_call=True))
            with torch.no_grad(), tape:
                tape.output = model(*positional, **named)
        finally:
            for handle in handles:
                handle.remove()
        return tape

    # ---- while the model runs ----

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        in_place = _changes_its_input(function, kwargs)
        if in_place:
            self._save_before_change(args[0])
        result = function(*args, **kwargs)
        if function in WRITTEN_OUT:
            with self:  # the same once more, step by step, so that the tape has what happens inside
                steps = WRITTEN_OUT[function](*args, **kwargs)
            if steps is not None:
                self._is_known_as(result, steps)
                return result
        made = [args[0]] if in_place else list(_direct_tensors(result))
        if not in_place:
            given = {id(tensor) for tensor in tensors_of([args, kwargs])}
            if not made or all(id(tensor) in given for tensor in made):  # dropout in eval: nothing new
                return result
        refs = changed([args, kwargs], lambda part: self._ref(part) if isinstance(part, Tensor) else part)
        self._add("operation", name_of(function), made, function, *refs)
        return result

    def _begin(self, kind: str, name: str, tensor: Tensor):
        if id(tensor) in self._known:  # tied to another name
            return
        step = self._add(kind, name, [tensor])
        step.outputs[0] = tensor.detach()

    def _add(self, kind, name, outputs, function=None, args=(), kwargs=None) -> Step:
        where = self._running[-1] if self._running else ""
        step = Step(len(self.steps), kind, name, where, list(outputs), function, args, kwargs or {})
        self.steps.append(step)
        for number, tensor in enumerate(outputs):
            self._known[id(tensor)] = Ref(step.number, number)
        self._kept_alive += outputs
        return step

    def _ref(self, tensor: Tensor) -> Ref:
        if id(tensor) not in self._known:
            self._add("constant", "constant", [tensor])
        return self._known[id(tensor)]

    def _is_known_as(self, result, steps):
        for real, shown in zip(_direct_tensors(result), _direct_tensors(steps)):
            ref = self._known[id(shown)]
            self._known[id(real)] = ref
            self._kept_alive.append(real)
            self.steps[ref.step].outputs[ref.output] = real

    def _save_before_change(self, tensor: Tensor):
        """Before an operation changes a tensor in place, what the tape holds of its memory is copied."""
        memory = tensor.untyped_storage().data_ptr()
        for step in self.steps:
            for number, output in enumerate(step.outputs):
                if output.untyped_storage().data_ptr() == memory:
                    step.outputs[number] = output.clone()

    def _enter(self, name: str):
        return lambda module, inputs: self._running.append(name)

    def _leave(self, name: str):
        def hook(module, inputs, output):
            if self._running and self._running[-1] == name:
                self._running.pop()
            refs = [self._known[id(part)] for part in tensors_of(output) if id(part) in self._known]
            self.modules.append((name, refs))

        return hook

    # ---- afterwards ----

    def __getitem__(self, ref: Ref) -> Tensor:
        return self.steps[ref.step].outputs[ref.output]

    def ref_of(self, tensor: Tensor) -> Ref | None:
        """Where on the tape a tensor is, for instance one of the outputs."""
        return self._known.get(id(tensor))

    def replay(self, edits: dict[int, Callable], last: int | None = None) -> dict[Ref, Tensor]:
        """Plays the tape again with some steps replaced, and returns the tensors that this could change.

        Args:
            edits: for a step's number what to do instead: a function that gets `value` and returns a
                tensor or a list of them; `value(ref)` is the tensor now at a place of the tape.
            last: the last step to play; by default the end.
        """
        now: dict[Ref, Tensor] = {}

        def value(part):
            return now.get(part, self[part]) if isinstance(part, Ref) else part

        last = len(self.steps) - 1 if last is None else last
        for step in self.steps[min(edits) : last + 1]:
            if step.number in edits:
                made = edits[step.number](value)
            elif any(ref in now for ref in step.refs):
                made = run_again(step, value)
            else:
                continue
            for number, tensor in enumerate(made if isinstance(made, (list, tuple)) else [made]):
                now[Ref(step.number, number)] = tensor
        return now


def run_again(step: Step, value: Callable, function: Callable | None = None):
    """Runs a step on other tensors: `value` gives the tensor for each `Ref`."""
    args, kwargs = changed([step.args, step.kwargs], value)
    if _changes_its_input(step.function, kwargs):
        target = args[0].clone()
        step.function(target, *args[1:], **kwargs)
        return target
    result = step.function(*args, **kwargs)
    return list(_direct_tensors(result))


def _direct_tensors(result) -> Iterable[Tensor]:
    parts = result if isinstance(result, (tuple, list)) else [result]
    return (part for part in parts if isinstance(part, Tensor) and not _is_wrapped(part))


def _is_wrapped(tensor: Tensor) -> bool:
    """Whether a tensor lives inside `torch.vmap` and must not outlive it."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _changes_its_input(function: Callable, kwargs: dict) -> bool:
    name = getattr(function, "__name__", "")
    method = name.endswith("_") and not name.endswith("__")
    return method or name in CHANGES_ITS_INPUT or kwargs.get("inplace") is True


# ---- Operations that do several things at once, written out ------------------------------------------------


def written_out_attention(
    query,
    key,
    value,
    attn_mask=None,
    dropout_p=0.0,
    is_causal=False,
    scale=None,
    enable_gqa=False,
):
    """What `F.scaled_dot_product_attention` computes, step by step; None where chance has a part."""
    if dropout_p > 0:
        return None
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (part.repeat_interleave(repeats, dim=-3) for part in (key, value))
    scores = query @ key.transpose(-2, -1)
    scores = scores / math.sqrt(query.shape[-1]) if scale is None else scores * scale
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(attn_mask.logical_not(), -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return F.softmax(scores, dim=-1) @ value


def written_out_multi_head(query, key, value, embed_dim, num_heads, in_weight, in_bias, *rest, **named):
    """What `nn.MultiheadAttention` computes in its usual form; None for its rarer options."""
    names = "bias_k bias_v add_zero_attn dropout_p out_weight out_bias training key_padding_mask need_weights"
    options = dict(zip(names.split(), rest)) | named
    options["out_weight"] = options.pop("out_proj_weight", options.get("out_weight"))
    options["out_bias"] = options.pop("out_proj_bias", options.get("out_bias"))
    unusual = ("bias_k", "bias_v", "add_zero_attn", "static_k", "static_v", "use_separate_proj_weight")
    random = options.get("training", True) and options.get("dropout_p", 0.0) > 0
    if random or any(options.get(name) not in (None, False) for name in unusual) or query.dim() != 3:
        return None
    length, rows, width = query.shape

    def heads(hidden):  # (T, B, H) -> (B, A, T, D)
        return hidden.view(hidden.shape[0], rows, num_heads, width // num_heads).permute(1, 2, 0, 3)

    biases = [None] * 3 if in_bias is None else in_bias.chunk(3)
    parts = [
        heads(F.linear(hidden, weight, bias))
        for hidden, weight, bias in zip((query, key, value), in_weight.chunk(3), biases)
    ]
    bias = options.get("attn_mask")
    if bias is not None and bias.dtype == torch.bool:
        bias = torch.zeros_like(bias, dtype=query.dtype).masked_fill(bias, -math.inf)
    if bias is not None and bias.dim() == 3:
        bias = bias.view(rows, num_heads, *bias.shape[1:])
    hidden_keys = options.get("key_padding_mask")
    if hidden_keys is not None:
        if hidden_keys.dtype == torch.bool:
            hidden_keys = torch.zeros_like(hidden_keys, dtype=query.dtype).masked_fill(hidden_keys, -math.inf)
        hidden_keys = hidden_keys[:, None, None, :]
        bias = hidden_keys if bias is None else bias + hidden_keys
    context = F.scaled_dot_product_attention(*parts, attn_mask=bias)
    context = context.permute(2, 0, 1, 3).flatten(2)  # (T, B, H)
    return F.linear(context, options["out_weight"], options["out_bias"])


WRITTEN_OUT = {
    F.scaled_dot_product_attention: written_out_attention,
    F.multi_head_attention_forward: written_out_multi_head,
}
