"""Exercises of chapter 12, debugging: it runs but does not learn: why?"""

import torch
from torch import Tensor, nn

from ..data.pretraining import PreTrainingBatch
from ..heads import IGNORE
from .engine import Exercise
from .sandbox import NotYet, Raised, Wrong

# ---- 12.1 --------------------------------------------------------------------------------------------------

KINDS = ("unknown", "zero", "frozen")


class Subject(nn.Module):
    """A small model, in which a case can go wrong.

    Args:
        case: "sound"; "one row" (the loss reads one row of the table); "cancels" (each gradient of the last
            part sums to 0); "unused" (a part that the loss does not know); "gain of zero" (nothing gets
            through to what lies before); "frozen".
    """

    def __init__(self, case: str, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.case = case
        self.table = nn.Embedding(5, 4)
        self.body = nn.ModuleDict({"first": nn.Linear(4, 3), "second": nn.Linear(3, 3)})
        self.head = nn.Linear(3, 2)
        if case == "unused":
            self.pooler = nn.Linear(3, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.3 + torch.rand(parameter.shape, generator=generator))
            if case == "gain of zero":
                self.body["second"].weight.zero_()
        if case == "frozen":
            self.table.weight.requires_grad_(False)
            self.head.bias.requires_grad_(False)

    def loss(self) -> Tensor:
        ids = torch.tensor([2]) if self.case == "one row" else torch.arange(5)
        hidden = self.body["second"](self.body["first"](self.table(ids)))  # (T, 3)
        scores = self.head(hidden)  # (T, 2)
        if self.case == "cancels":
            return (scores[:, 0] - scores[:, 1]).sum()
        return (scores**2).sum()

    def right(self) -> dict[str, list[str]]:
        found = {
            "unused": {"unknown": ["pooler.weight", "pooler.bias"]},
            "gain of zero": {"zero": ["table.weight", "body.first.weight", "body.first.bias"]},
            "frozen": {"frozen": ["table.weight", "head.bias"]},
        }
        return {kind: found.get(self.case, {}).get(kind, []) for kind in KINDS}


def count(answer, case: str, seed: int, before: str = "None") -> dict:
    """A driver: the answer's lists for a case.

    Args:
        before: what stands in each `grad` when the answer is asked: "None", or "numbers", a 7 everywhere.
    """
    model = Subject(case, seed)
    if before == "numbers":
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 7.0)
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    said = answer(model, model.loss())
    if said is None:
        raise NotYet("It returns None.")
    if not isinstance(said, dict) or set(said) != set(KINDS):
        kind = f"one with {', '.join(map(repr, said)) or 'nothing'}" if isinstance(said, dict) else (
            f"an object of type {type(said).__name__}"
        )  # fmt: skip
        raise Wrong(f"census must return a dictionary with 'unknown', 'zero' and 'frozen', not {kind}.")
    for kind, names in said.items():
        if not isinstance(names, (list, tuple, set)) or not all(isinstance(name, str) for name in names):
            raise Wrong(f"{kind!r} must hold a list of names, as `named_parameters` gives them.")
    grads = [parameter.grad for parameter in model.parameters()]
    return {
        "said": {kind: sorted(said[kind]) for kind in KINDS},
        "grads": ["None" if grad is None else str(grad.unique().tolist()) for grad in grads],
        "weights": all(map(torch.equal, weights, model.parameters())),
        "wanted": wanted == [parameter.requires_grad for parameter in model.parameters()],
    }


def census_of(answer, case: str, draw, messages: dict[str, str]):
    """Compares the answer's lists for a case with what is right.

    Args:
        messages: for each kind, what to say when its list is wrong.
    """
    seed = draw.whole(0, 10**6).item()
    found, right = answer.via(count, case, seed)["said"], Subject(case, seed).right()
    for kind in messages:
        if found[kind] != sorted(right[kind]):
            listed = ", ".join(found[kind]) or "nothing"
            wanted = ", ".join(right[kind]) or "nothing"
            raise Wrong(f"{messages[kind]} Under {kind!r} belongs {wanted}, and you have {listed}.")


def sound_model(answer, draw):
    """a sound model: three empty lists"""
    census_of(answer, "sound", draw, {
        "unknown": "The loss depends on every parameter of a sound model.",
        "zero": "Every parameter of a sound model gets a gradient.",
        "frozen": "Nothing is frozen in a sound model.",
    })  # fmt: skip


def partly_zero(answer, draw):
    """a gradient that is 0 in places is not a gradient of 0"""
    census_of(answer, "one row", draw, {
        "unknown": "One row of a table has been read, so that the loss knows the table.",
        "zero": "One row of a table has been read, and the gradient is 0 in all others. That is no gradient "
                "of 0: `not gradient.any()`.",
    })  # fmt: skip
    census_of(answer, "cancels", draw, {
        "zero": "Gradients of opposite sign add up to 0, and are not 0: ask whether any of the numbers is "
                "different from 0.",
    })  # fmt: skip


def unknown(answer, draw):
    """what the loss does not know"""
    try:
        census_of(answer, "unused", draw, {
            "zero": "A part that the loss does not know has no gradient, and that is not one of 0.",
            "unknown": "The loss does not know the pooler here: no gradient comes at all, None.",
        })  # fmt: skip
    except Raised as raised:
        raise Wrong(
            f"A part that the loss does not know must be listed, and not end the census. {raised}"
        ) from None


def zero(answer, draw):
    """what gets a gradient of 0"""
    census_of(answer, "gain of zero", draw, {
        "unknown": "The loss depends on what lies before a weight of zeros. A gradient comes, and it is 0.",
        "zero": "A weight of zeros lets no gradient through to what lies before it: there it comes as 0.",
    })  # fmt: skip


def frozen(answer, draw):
    """what is frozen"""
    try:
        census_of(answer, "frozen", draw, {
            "frozen": "What has requires_grad = False is frozen.",
            "unknown": "A frozen parameter wants no gradient: it is 'frozen', and not 'unknown'.",
            "zero": "A frozen parameter wants no gradient: it is 'frozen', and not 'zero'.",
        })  # fmt: skip
    except Raised as raised:
        raise Wrong(f"Autograd gives no gradients of frozen parameters: leave them out. {raised}") from None


def leaves_no_gradient(answer, draw):
    """every grad is afterwards what it was before"""
    seed = draw.whole(0, 10**6).item()
    after = answer.via(count, "sound", seed)
    if set(after["grads"]) != {"None"}:
        raise Wrong(
            "Before there was no gradient, and afterwards there is one: `backward` stores what it finds. "
            "`torch.autograd.grad` returns it."
        )
    after = answer.via(count, "sound", seed, "numbers")
    if "None" in after["grads"] or "[0.0]" in after["grads"]:
        raise Wrong("Gradients that were there before are gone: you clear away what is not yours.")
    if set(after["grads"]) != {"[7.0]"}:
        raise Wrong("Gradients that were there before have changed: the new ones have been added to them.")
    for case in ("sound", "frozen"):
        after = answer.via(count, case, seed)
        if not after["weights"]:
            raise Wrong("The model's weights have changed.")
        if not after["wanted"]:
            raise Wrong("A requires_grad is not what it was before: a census only counts.")


CENSUS = Exercise(
    name="census",
    number="12.1",
    title="who gets no gradient, and why",
    kind="Rebuild",
    minutes=20,
    difficulty=2,
    goal="A model and its loss -> a dictionary with three lists of names: 'unknown', 'zero' and 'frozen'. "
    "Every `.grad` is afterwards what it was before.",
    hints=(
        "`torch.autograd.grad` returns gradients rather than storing them.",
        "It stumbles over a parameter that the loss does not know, unless you say `allow_unused=True`; then "
        "it returns `None` for it.",
        "Frozen parameters must not be handed to it at all.",
    ),
    stub='''
def census(model, loss):
    """A model and a loss with its graph -> {"unknown": [...], "zero": [...], "frozen": [...]}, names."""
    ...
''',
    mechanisms=(sound_model, partly_zero, unknown, zero, frozen, leaves_no_gradient),
    finished=("bert_edu.introspection",),
    changes_input=True,  # a model is not compared; the last mechanism looks at it instead
)


# ---- 12.2 --------------------------------------------------------------------------------------------------

MASK, WORDS = 4, 30  # the first word's id is 5


def draw_batch(draw, *, shift: int = 0, text: str = "words", fates=(6, 1, 3), mask: int = MASK):
    """A masked batch, its labels moved on by `shift` places.

    Args:
        text: "words", or "echo": rows in which a word is said again and again.
        fates: of ten scored words, how many are masked, replaced and kept.
        mask: the id of [MASK].
    """
    B, T = 6, 24
    ids = draw.whole(5, WORDS, B, T)
    if text == "echo":
        ids = ids[:, :1].expand(B, T).clone()
    ids = torch.where(ids == mask, 5, ids)
    chosen = torch.zeros(B, T, dtype=torch.bool)
    for row in chosen:  # three tokens at each end are never scored
        row[3 + torch.randperm(T - 6, generator=draw.generator)[:5]] = True
    labels = ids.masked_fill(~chosen, IGNORE)
    places = chosen.nonzero().tolist()
    kinds = ["mask"] * fates[0] + ["random"] * fates[1] + ["kept"] * fates[2]
    for number, (row, column) in enumerate(draw.shuffled(places)):
        kind = kinds[number % len(kinds)]
        if kind == "mask":
            ids[row, column] = mask
        elif kind == "random":
            other = draw.whole(5, WORDS).item()
            ids[row, column] = 5 if other == mask else other
    ids[:, 0], ids[:, -1] = 2, 3
    return PreTrainingBatch(
        input_ids=ids,
        token_type_ids=torch.zeros_like(ids),
        attention_mask=torch.ones_like(ids),
        next_sentence_label=torch.zeros(B, dtype=torch.long),
        labels=labels.roll(shift, dims=1),
    )


def shift_of(answer, batch: PreTrainingBatch, mask: int) -> dict:
    """A driver: what the answer says, and whether the batch is as it was."""
    ids, labels = batch.input_ids.clone(), batch.labels.clone()
    said = answer(batch, mask)
    if said is None:
        raise NotYet("It returns None.")
    if isinstance(said, Tensor) and said.numel() == 1:
        said = said.item()
    if isinstance(said, bool) or not isinstance(said, (int, float)):
        raise Wrong(f"best_shift must return a whole number, and returns a {type(said).__name__}.")
    same = torch.equal(batch.input_ids, ids) and torch.equal(batch.labels, labels)
    return {"said": float(said), "same": same}


def shift_said(answer, draw, shift: int, **batch) -> float:
    mask = batch.get("mask", MASK)
    return answer.via(shift_of, draw_batch(draw, shift=shift, **batch), mask)["said"]


def sound_batch(answer, draw):
    """a sound batch: 0"""
    said = shift_said(answer, draw, 0)
    if said != 0:
        more = " Return the shift, and not how well it fits." if said not in (-2, -1, 1, 2) else ""
        raise Wrong(f"The labels of this batch stand where they belong: 0, and you say {said:g}.{more}")


def one_place(answer, draw):
    """labels that slipped by one place"""
    said = shift_said(answer, draw, 1)
    if said == -1:
        raise Wrong(
            "The sign is the wrong way round. The labels slipped one place to the right; moving them back by "
            "1 mends them, with `roll(-shift, dims=1)`."
        )
    if said != 1:
        raise Wrong(
            f"The labels slipped one place to the right: 1, and you say {said:g}. Every [MASK] has a label, "
            "but not every label a [MASK], since some words are kept or replaced: count."
        )


def rows_without_mask(answer, draw):
    """a first row without a [MASK]"""
    batch = draw_batch(draw, shift=1)
    batch.input_ids[0] = 7
    batch.labels[0] = IGNORE
    said = answer.via(shift_of, batch, MASK)["said"]
    if said != 1:
        raise Wrong(
            "In the first row nothing is hidden. The labels of the others slipped by 1, and you say "
            f"{said:g}: look at all rows."
        )


def all_places(answer, draw):
    """from -2 to 2"""
    for shift in (2, 0, 1, -1, -2):
        said = shift_said(answer, draw, shift)
        if said == shift:
            continue
        if shift < 0:
            raise Wrong(f"The labels slipped to the left here, {shift}, and you say {said:g}: try both ways.")
        raise Wrong(f"The labels slipped by {shift} here, and you say {said:g}: try all from -2 to 2.")


def echo(answer, draw):
    """a text in which neighbours are the same word, all scored words hidden"""
    for shift in (1, -1, 0, 2):
        said = shift_said(answer, draw, shift, text="echo", fates=(1, 0, 0))
        if said != shift:
            raise Wrong(
                f"In a text that says one word again and again the labels slipped by {shift}, and you say "
                f"{said:g}. There a word agrees with its neighbours' labels: look at where the [MASK]s stand "
                "instead."
            )


def other_mask_id(answer, draw):
    """[MASK] with another id"""
    mask = draw.whole(9, 20).item()
    for shift in (1, 2):
        said = shift_said(answer, draw, shift, mask=mask)
        if said != shift:
            raise Wrong(
                f"Where [MASK] has the id {mask}, the labels slipped by {shift}, and you say {said:g}: take "
                "the id that you are given."
            )


def batch_as_it_was(answer, draw):
    """the batch stays as it was"""
    one_place(answer, draw)
    if not answer.via(shift_of, draw_batch(draw, shift=1), MASK)["same"]:
        raise Wrong("Afterwards the batch has other labels or ids than before: work on a copy.")


SHIFT = Exercise(
    name="best_shift",
    number="12.2",
    title="a check for shifted labels",
    kind="Extend",
    minutes=20,
    difficulty=2,
    goal="A masked batch and the id of [MASK] -> by how many places, -2 to 2, the labels must be moved back "
    "so that they fit the input best.",
    hints=(
        "A tenth of the scored words stand there unchanged (chapter 9).",
        "Count how often label and input agree, among the labels, at each shift. `roll(-shift, dims=1)` "
        "moves back.",
        "On the echo the neighbours are the same word, so agreement alone is fooled. Which positions of the "
        "input *cannot* be scored, whatever the shift? And where must every [MASK] stand?",
    ),
    stub='''
def best_shift(batch, mask_token_id):
    """A batch with input_ids and labels, (B, T) each -> a whole number, -2 to 2."""
    ...
''',
    mechanisms=(
        sound_batch,
        one_place,
        rows_without_mask,
        all_places,
        echo,
        other_mask_id,
        batch_as_it_was,
    ),
    changes_input=True,  # a batch is not compared; the last mechanism looks at it instead
)


# ---- 12.3 --------------------------------------------------------------------------------------------------


class Builder:
    """Builds small models, each with other weights, and remembers them."""

    def __init__(self):
        self.built: list[nn.Module] = []

    def __call__(self) -> nn.Module:
        torch.manual_seed(100 + len(self.built))
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 2))
        self.built.append(model)
        return model


def numbers_of(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def prepare(answer) -> dict:
    """A driver: what the answer prepares, and what a step of training does to it."""
    builder = Builder()
    made = answer(builder)
    if made is None:
        raise NotYet("It returns None.")
    if not isinstance(made, (list, tuple)) or len(made) != 3:
        what = f"{len(made)} things" if isinstance(made, (list, tuple)) else f"a {type(made).__name__}"
        raise Wrong(f"mended_prepare must return three things, model, optimizer and start, not {what}.")
    model, optimizer, start = made
    for place, kind, thing in (
        ("first", nn.Module, model),
        ("second", torch.optim.Optimizer, optimizer),
        ("third", nn.Module, start),
    ):
        if not isinstance(thing, kind):
            wanted = "an optimiser" if kind is torch.optim.Optimizer else "a model"
            raise Wrong(f"The {place} thing must be {wanted}, and is of type {type(thing).__name__}.")
    known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    before, start_before = numbers_of(model), numbers_of(start)
    equal_at_first = before.shape == start_before.shape and torch.equal(before, start_before)
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(3))
    for _ in range(3):
        optimizer.zero_grad()
        (model(inputs) ** 2 + model(inputs)).sum().backward()
        optimizer.step()
    ours, theirs = list(model.parameters()), list(start.parameters())
    return {
        "optimizer": type(optimizer).__name__,
        "rates": sorted({group["lr"] for group in optimizer.param_groups}),
        "known": sum(id(parameter) in known for parameter in ours),
        "known of the start": sum(id(parameter) in known for parameter in theirs),
        "parameters": len(ours),
        "moved": not torch.equal(numbers_of(model), before),
        "start moved": not torch.equal(numbers_of(start), start_before),
        "one object": model is start,
        "shared": any(one is other for one in ours for other in theirs),
        "equal at first": equal_at_first,
    }


def shares_nothing(found: dict):
    if found["one object"]:
        raise Wrong(
            "Start and model are one object under two names: whatever moves the one moves the other. "
            "`copy.deepcopy` makes a second one."
        )
    if found["shared"]:
        raise Wrong(
            "Start and model are two objects that hold the same tensors: that is what a shallow copy does. "
            "`copy.deepcopy` copies the tensors too."
        )


def model_moves(answer, draw):
    """a step of training moves the model"""
    found = answer.via(prepare)
    if found["moved"]:
        return
    if found["known of the start"] and not found["known"]:
        raise Wrong(
            "The optimiser holds the tensors of the model that is to stay as it was, and not of the one that "
            "is trained. Build it on the model that you return first."
        )
    raise Wrong(
        "Nothing moves: the optimiser holds none of the tensors of the model that you return. A copy has "
        "tensors of its own, and the optimiser knows those that it was built with."
    )


def all_of_it(answer, draw):
    """the optimiser knows every parameter"""
    found = answer.via(prepare)
    if found["known"] < found["parameters"]:
        raise Wrong(
            f"The optimiser knows {found['known']} of the model's {found['parameters']} parameters: "
            "`model.parameters()` gives them all."
        )


def the_same_optimizer(answer, draw):
    """AdamW at a rate of 0.01, as before"""
    found = answer.via(prepare)
    if found["optimizer"] != "AdamW":
        raise Wrong(f"The colleague's optimiser is AdamW, and yours {found['optimizer']}: mend, no more.")
    if found["rates"] != [0.01]:
        rates = " and ".join(f"{rate:g}" for rate in found["rates"])
        raise Wrong(f"The colleague's learning rate is 0.01, and yours {rates}: mend, no more.")


def start_stays(answer, draw):
    """the start stays where it was"""
    found = answer.via(prepare)
    shares_nothing(found)
    if found["start moved"]:
        raise Wrong("The start has moved with the training, and it is to be compared with later.")
    if found["known of the start"]:
        raise Wrong("The optimiser knows the start, too: it has no business there.")


def start_is_the_start(answer, draw):
    """the start is what the model was at first"""
    found = answer.via(prepare)
    if not found["equal at first"]:
        raise Wrong(
            "Your start has other weights than the model had: `build()` draws new ones each time. Copy the "
            "model, before it is trained."
        )


PREPARED = Exercise(
    name="mended_prepare",
    number="12.3",
    title="all is well, and nothing moves",
    kind="Find the bug",
    minutes=15,
    difficulty=2,
    goal="`prepare` without its bug: build() gives a new model; return that model, its optimiser, and a copy "
    "of the start that training does not touch.",
    hints=(
        "Question 3 has two halves.",
        "Which tensors does the optimiser hold?",
        "`check_overfits` leaves your optimiser alone. Which one does it use?",
    ),
    stub='''
def mended_prepare(build):
    """build() -> a new model. Returns the model to train, its optimiser, and a copy of the start."""
    ...
''',
    mechanisms=(model_moves, all_of_it, the_same_optimizer, start_stays, start_is_the_start),
    loads=("torch._dynamo",),  # which the first optimiser does
    changes_input=True,  # it is given a function
)

EXERCISES = (CENSUS, SHIFT, PREPARED)
