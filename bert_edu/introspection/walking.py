"""Two tapes side by side: what agrees, where they part ways, and in which module to look."""

import functools
from collections import defaultdict

from torch import Tensor, nn

from .calling import as_call, named_tensors
from .explaining import Difference
from .matching import Eyes, Index, ancestors, relevant_refs, unexplained
from .parameters import pair_parameters
from .tape import Ref, Step, Tape
from .wording import place

MOST_NAMES = 4
TAKES_PARTS = {"chunk", "split", "unbind", "tensor_split"}
# What a configuration may say otherwise without making another model; sizes are compared before.
SETTINGS = ("hidden_act", "layer_norm_eps", "num_attention_heads", "max_position_embeddings")


class Walk:
    """Answers questions about two models from the tapes of one pass of each.

    Args:
        mine, reference: the models.
        my_tape, its_tape: what they did.
        eyes: how tensors are compared.
    """

    def __init__(self, mine: nn.Module, reference: nn.Module, my_tape: Tape, its_tape: Tape, eyes: Eyes):
        self.mine, self.reference = mine, reference
        self.my_tape, self.its_tape, self.eyes = my_tape, its_tape, eyes
        self.my_refs, self.its_refs = relevant_refs(my_tape), relevant_refs(its_tape)
        self.pairs, self.only_mine, self.only_reference = pair_parameters(mine, reference)

    # ---- outputs ----

    def paired_outputs(self) -> list[tuple[str, Tensor, Tensor]]:
        """(name, mine's, the reference's): by name, else by order, else by where one occurs in the other.

        Raises:
            ValueError: when nothing that the two return has a shape in common.
        """
        mine = [(name, part) for name, part in named_tensors(self.my_tape.output) if part.is_floating_point()]
        its = [(name, part) for name, part in named_tensors(self.its_tape.output) if part.is_floating_point()]
        by_name = dict(its)
        pairs = [(name, part, by_name[name]) for name, part in mine if name in by_name]
        if not any(self.eyes.shape(a) == self.eyes.shape(b) for _, a, b in pairs):
            pairs = [
                (n, a, b) for (n, a), (_, b) in zip(mine, its) if self.eyes.shape(a) == self.eyes.shape(b)
            ]
        if not pairs:  # one returns what the other only has inside
            inside = [(name, part, self.inside_reference(part)) for name, part in mine]
            pairs = [(name, part, other) for name, part, other in inside if other is not None]
        if not pairs:
            shapes = [", ".join(f"{n} {tuple(part.shape)}" for n, part in some) for some in (mine, its)]
            raise ValueError(
                f"there is nothing to compare: mine returns {shapes[0] or 'no real numbers'}, the reference "
                f"{shapes[1] or 'no real numbers'}, and these have no shape in common"
            )
        return pairs

    def inside_reference(self, tensor: Tensor) -> Tensor | None:
        """The reference's tensor that is the same, or else its last one of the same shape."""
        found = self.its_index.find(tensor)
        shape = self.eyes.shape(tensor)
        alike = [ref for ref in self.its_refs if self.eyes.shape(self.its_tape[ref]) == shape]
        return self.its_tape[found[0]] if found else self.its_tape[alike[-1]] if alike else None

    def apart(self, mine: Tensor, its: Tensor) -> tuple[float, float]:
        """The largest difference, absolute and as a share; infinite when the shapes differ."""
        same_shape = self.eyes.shape(mine) == self.eyes.shape(its)
        return self.eyes.apart(mine, its) if same_shape else (float("inf"), float("inf"))

    # ---- where they part ways ----

    def difference(self, outputs: list[tuple[Tensor, Tensor]]) -> Difference:
        """The tensors without counterpart on the way to outputs that differ, and the first of them."""
        my_matched = {ref for ref in self.my_refs if self.its_index.has(self.my_tape[ref])}
        its_matched = {ref for ref in self.its_refs if self.my_index.has(self.its_tape[ref])}
        places = [(self.my_tape.ref_of(mine), self.its_tape.ref_of(its)) for mine, its in outputs]
        my_ends, its_ends = [mine for mine, _ in places if mine], [its for _, its in places if its]
        my_dead = self.on_the_way(self.my_tape, unexplained(self.my_tape, self.my_refs, my_matched), my_ends)
        its_dead = self.on_the_way(
            self.its_tape, unexplained(self.its_tape, self.its_refs, its_matched), its_ends
        )
        if not my_dead or not its_dead:  # what one returns, the other has inside
            my_dead, its_dead = my_dead or my_ends, its_dead or its_ends
        self.my_matched = my_matched
        return Difference(self.my_tape, self.its_tape, my_dead, its_dead, its_matched, places)

    @functools.cached_property
    def my_index(self) -> Index:
        return Index.of(self.my_tape, self.my_refs, self.eyes)

    @functools.cached_property
    def its_index(self) -> Index:
        return Index.of(self.its_tape, self.its_refs, self.eyes)

    @staticmethod
    def on_the_way(tape: Tape, refs: list[Ref], ends: list[Ref]) -> list[Ref]:
        past = ancestors(tape, ends)
        return [ref for ref in refs if ref.step in past]

    def place_in_mine(self, difference: Difference) -> str:
        """The module of mine to look into. It is not always that of the first tensor without counterpart:
        where mine leaves something out, that is only the first tensor after it."""
        mine, its = difference.my_first, difference.its_first
        step, its_step = self.my_tape.steps[mine.step], self.its_tape.steps[its.step]
        if mine in self.my_matched:  # mine ends where the reference goes on
            return self.outermost(mine)
        unused = [name for name in self.names_in_mine(its_step) if not self.uses(self.my_tape).get(name)]
        if unused:
            return self.unused_part(unused[0])
        relevant = set(self.my_refs)
        came = [ref for ref in step.refs if ref in relevant]
        has_weights = any(self.its_tape.steps[ref.step].kind == "parameter" for ref in its_step.refs)
        later = self.partners.get(step.number, -1) > its_step.number
        if its_step.number not in self.partners.values() and (has_weights or later):  # left out before it
            idle = [name for ref in came for name in self.idle_modules(ref)]
            around = common_module(step.where, *(self.my_tape.steps[ref.step].where for ref in came[:1]))
            near = around.count(".") >= step.where.count(".") - 1
            return idle[0] if idle else around if near else step.where
        if step.name in TAKES_PARTS and came:  # a part of what a fused matrix made
            return self.my_tape.steps[came[0].step].where
        return step.where

    def names_in_mine(self, its_step: Step) -> list[str]:
        """What mine calls the parameters that a step of the reference reads."""
        read = [self.its_tape.steps[ref.step] for ref in its_step.refs]
        names = {step.name for step in read if step.kind == "parameter"}
        return [pair.mine.name for pair in self.pairs if pair.reference.name in names]

    def unused_part(self, name: str) -> str:
        """The outermost module around a parameter of which nothing is used: a whole layer, perhaps."""
        parts = name.split(".")[:-1]
        used = self.uses(self.my_tape)
        for depth in range(1, len(parts)):
            module = ".".join(parts[:depth])
            inside = [n for n, _ in self.mine.named_parameters() if n.startswith(f"{module}.")]
            if not any(used.get(n) for n in inside):
                return module
        return ".".join(parts)

    def outermost(self, ref: Ref) -> str:
        """The outermost module, but for the model itself, that returns a tensor."""
        names = [name for name, refs in self.my_tape.modules if name and ref in refs]
        return min(names, key=lambda name: name.count("."), default=self.my_tape.steps[ref.step].where)

    def idle_modules(self, ref: Ref) -> list[str]:
        """Modules without parts that return a tensor which they did not make; but for dropout."""
        made_in = self.my_tape.steps[ref.step].where
        modules = dict(self.mine.named_modules())
        return [
            name
            for name, refs in self.my_tape.modules
            if refs == [ref]
            and not list(modules[name].children())
            and not isinstance(modules[name], nn.Dropout)
            and not f"{made_in}.".startswith(f"{name}.")
        ]

    def comparable(self, difference: Difference) -> tuple[Ref, Ref] | None:
        """The first two tensors without counterpart that can be held against each other.

        They have the same shape, and the same parameter or else the same operation made them.
        """
        partners = {ref.step: ref for ref in reversed(difference.its_dead)}
        for mine in [difference.my_first, *difference.my_dead]:
            shape, step = self.eyes.shape(self.my_tape[mine]), self.my_tape.steps[mine.step]
            partner = partners.get(self.partners.get(mine.step))
            alike = [ref for ref in difference.its_dead if self.its_tape.steps[ref.step].name == step.name]
            for its in [partner, *alike] if partner else alike:
                if self.eyes.shape(self.its_tape[its]) == shape:
                    return mine, its
        return None

    def agreed_before(self, difference: Difference) -> str:
        """How many tensors of mine agree before the first divergence, and the last of them, in words."""
        agreed = [ref for ref in self.my_refs if ref in self.my_matched and ref < difference.my_first]
        if not agreed:
            return "nothing that could be compared"
        last = self.my_tape.steps[agreed[-1].step]
        return f"{len(agreed)} tensors agree, the last is `{last.name}` in {place(last)}"

    # ---- the same parameter on both sides ----

    @functools.cached_property
    def partners(self) -> dict[int, int]:
        """Steps of mine with those of the reference that use the same parameter, the n-th with the n-th."""
        mine, its = self.uses(self.my_tape), self.uses(self.its_tape)
        found = {}
        for pair in self.pairs:
            for a, b in zip(mine.get(pair.mine.name, []), its.get(pair.reference.name, [])):
                found.setdefault(a, b)
        return found

    @functools.cache  # noqa: B019
    def uses(self, tape: Tape) -> dict[str, list[int]]:
        """For each parameter the steps that compute with it, or with what is merely cut or turned of it."""
        names: dict[int, set[str]] = {}
        uses = defaultdict(list)
        relevant = {ref.step for ref in (self.my_refs if tape is self.my_tape else self.its_refs)}
        for step in tape.steps:
            came = set().union(*(names.get(ref.step, set()) for ref in step.refs))
            if step.kind == "parameter":
                names[step.number] = {step.name}
            elif step.number in relevant:
                for name in came:
                    uses[name].append(step.number)
            else:
                names[step.number] = came
        return uses

    # ---- what else is worth knowing ----

    def notes(self, batch) -> list[str]:
        notes = []
        configs = [getattr(model, "config", None) for model in (self.mine, self.reference)]
        for name in SETTINGS if all(configs) else ():
            a, b = (getattr(config, name, None) for config in configs)
            if a is not None and b is not None and a != b:
                notes.append(f"the configurations differ: {name} is {a!r} in mine and {b!r} in the reference")
        used, used_there = self.uses(self.my_tape), self.uses(self.its_tape)
        unused = [
            p.mine.name for p in self.pairs if not used.get(p.mine.name) and used_there.get(p.reference.name)
        ]
        if unused:
            notes.append(f"mine never uses {listed(list(dict.fromkeys(unused)))}, and the reference does")
        for names, who in ((self.only_mine, "mine"), (self.only_reference, "the reference")):
            if names:
                notes.append(f"only {who} has the parameters {listed(names)}")
        different = sum(not pair.equal for pair in self.pairs)
        if different > len(self.pairs) / 2:
            notes.append(
                f"{different} of {len(self.pairs)} parameters differ: these are two models with other "
                f"weights. Load the same weights into both first"
            )
        return notes + self.blind_spots(batch)

    def blind_spots(self, batch) -> list[str]:
        """What this batch, or these weights, could not have shown."""
        notes = []
        named = as_call(batch)[1]
        mask, types = named.get("attention_mask"), named.get("token_type_ids")
        if "input_ids" in named and (mask is None or bool(mask.bool().all())):
            notes.append("the batch has no padding, so a mistake in the mask cannot show")
        if "input_ids" in named and (types is None or bool((types == types.flatten()[0]).all())):
            notes.append("the batch has one segment only, so a mistake in the segments hardly shows")
        vectors = [part for part in self.mine.parameters() if part.dim() == 1]
        if vectors and all(bool((part == part[0]).all()) for part in vectors):
            notes.append("all biases and LayerNorms have their first values, so one left out cannot show")
        return notes


def common_module(*names: str) -> str:
    """The innermost module that holds all of these.

    >>> common_module("encoder.layers.0.norm", "encoder.layers.0.output")
    'encoder.layers.0'
    """
    common = []
    for level in zip(*(name.split(".") for name in names)):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return ".".join(common)


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
