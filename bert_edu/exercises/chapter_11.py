"""Exercises of chapter 11, the training loop: how do you train it without it blowing up?"""

import copy
import math

import torch
from torch import Tensor, nn

from .engine import Exercise, expect
from .sandbox import NotYet, Raised, Wrong, each

# ---- 11.1 --------------------------------------------------------------------------------------------------

RATE = 0.01
DECAY = 0.01
STRETCHED = "Gradients that are short already are stretched to a length of 1: the factor is never above 1."


def take_steps(answer, starts: list[Tensor], gradients: list[list], learning_rate: float) -> dict:
    """A driver: several steps with given gradients.

    Args:
        starts: the first weights of each parameter.
        gradients: for each step, one for each parameter, or None.

    Returns:
        "weights": those of each parameter, before the first step and after each; "left": what stands in each
        `grad` at the end, None or its largest number; "remembers": whether anything is in `state`.
    """
    parameters = [nn.Parameter(start.clone()) for start in starts]
    weights, state = [list(starts)], {}
    for t, row in enumerate(gradients, start=1):
        for parameter, gradient in zip(parameters, row):
            parameter.grad = None if gradient is None else gradient.clone()
        answer(list(parameters), state, t, learning_rate)
        weights.append([parameter.detach().clone() for parameter in parameters])
    left = [None if p.grad is None else p.grad.abs().max().item() for p in parameters]
    return {"weights": weights, "left": left, "remembers": bool(state)}


class Steps:
    """What an answer makes of given gradients."""

    def __init__(self, answer, gradients: list[list], starts=None, learning_rate: float = RATE):
        if starts is None:  # weights of 0 do not decay
            starts = [torch.zeros_like(gradient) for gradient in gradients[0]]
        try:
            found = answer.via(take_steps, starts, gradients, learning_rate)
        except Raised as raised:
            if "leaf" in str(raised):
                raise Wrong(
                    "PyTorch keeps an account of what happens to a parameter, and refuses to change one in "
                    f"place meanwhile: the step belongs under torch.no_grad(). ({raised})"
                ) from None
            raise
        self.weights, self.left, self.learning_rate = found["weights"], found["left"], learning_rate
        if all(map(torch.equal, self.weights[0], self.weights[-1])):
            if not found["remembers"] and None not in self.left:
                raise NotYet("No weight has moved.")
            raise Wrong(
                "No weight has moved. `p = p - ...` makes a new tensor and leaves the parameter as it was: "
                "change it in place, with `p.sub_(...)`."
            )

    def last(self) -> list[Tensor]:
        """How far each parameter went down at the last step, in learning rates."""
        before, after = self.weights[-2:]
        return [(one - other) / self.learning_rate for one, other in zip(before, after)]


def moved(gradients: list[Tensor], *, betas=(0.9, 0.999), eps=1e-6, corrected=True, first=1) -> Tensor:
    """How far Adam goes at the last of these gradients, in learning rates.

    Args:
        corrected: whether the means are corrected for their start at 0.
        first: the number of the first step.
    """
    m, v, t = 0.0, 0.0, len(gradients) - 1 + first
    for gradient in gradients:
        m = betas[0] * m + (1 - betas[0]) * gradient
        v = betas[1] * v + (1 - betas[1]) * gradient**2
    if corrected:
        m, v = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return m / (v.sqrt() + eps)


def draw_gradient(draw, size: int, low: float = 0.05, high: float = 0.4) -> Tensor:
    """Numbers of either sign and of different sizes."""
    sizes = low + (high - low) * draw.whole(0, 100, size).double() / 100
    return sizes * (2 * draw.whole(0, 1, size) - 1)


def of_length(gradient: Tensor, length: float) -> Tensor:
    return gradient * (length / gradient.norm())


def first_step(answer, draw):
    """the first step: one learning rate for each weight, against its gradient"""
    g = draw_gradient(draw, 4)
    root = (0.001 * g**2).sqrt() + 1e-6
    expect(
        Steps(answer, [[g]]).last()[0],
        moved([g]),
        "At the first step m / sqrt(v) is 1 or -1 once both are corrected, so that each weight goes one "
        "learning rate against its gradient, however large that is. In yours it goes another way.",
        suspects={
            "Your weights go up the hill: take the step away from the weight.": -moved([g]),
            "The two running means are not corrected: divide m by 1 - 0.9**t and v by 1 - 0.999**t, or the "
            "first step is three times too long.": moved([g], corrected=False),
            "Only v is corrected. m starts at 0 too: divide it by 1 - 0.9**t.": 0.1 * moved([g]),
            "Only m is corrected. v starts at 0 too: divide it by 1 - 0.999**t.": g / root,
            "The correction takes t + 1 for t. It counts from 1 already.": moved([g], first=2),
            "Your step is as long as the gradient: divide by the square root of v.": g,
            "You divide by v, and it must be its square root.": g / g**2,
        },
        tolerance=0.01,
    )


def tiny_gradient(answer, draw):
    """eps, beside a gradient that is just as small"""
    g = draw_gradient(draw, 4, low=0.5, high=2.0) * 1e-6
    other = of_length(draw_gradient(draw, 4), 1.0)  # so that there is nothing to clip
    expect(
        Steps(answer, [[g, other]]).last()[0],
        moved([g]),
        "eps is 1e-6 and is added to the square root of the corrected v. A gradient of 1e-6 then moves its "
        "weight by half a learning rate, and in yours it does not.",
        suspects={
            "Your eps is 1e-8, as is usual elsewhere; BERT's is 1e-6.": moved([g], eps=1e-8),
            "eps stands under the root. Added to it afterwards, it is a thousand times smaller beside a tiny "
            "gradient.": g / (g**2 + 1e-6).sqrt(),
            "eps is added before v is corrected: correct first.": g
            / (((0.001 * g**2).sqrt() + 1e-6) / math.sqrt(0.001)),
            "There is no eps: a gradient of nearly nothing moves its weight by a whole learning rate.": moved(
                [g], eps=0.0
            ),
        },
        tolerance=0.01,
    )


def later_steps(answer, draw):
    """later steps: the two running means remember"""
    row = [draw_gradient(draw, 4) / number for number in range(1, 13)]  # they become smaller: so v is old
    m, v = 0.1 * row[-1], 0.001 * row[-1] ** 2
    forgotten = m / (1 - 0.9**12) / ((v / (1 - 0.999**12)).sqrt() + 1e-6)
    expect(
        Steps(answer, [[g] for g in row]).last()[0],
        moved(row),
        "The first step was right, and the twelfth is not. m keeps 0.9 of itself and takes 0.1 of the "
        "gradient; v keeps 0.999 and takes 0.001 of its square; the correction takes t.",
        suspects={
            STRETCHED: moved([of_length(g, 1.0) for g in row]),
            "Your running means do not remember: after each step, put m and v into `state`.": forgotten,
            "The correction is that of the first step at every step: it needs t.": moved(row, corrected=False)
            * (10 / math.sqrt(1000)),
            "The two constants have changed places: m keeps 0.9 of itself, v 0.999.": moved(
                row, betas=(0.999, 0.9)
            ),
            "Your v keeps 0.99 of itself; in BERT it is 0.999.": moved(row, betas=(0.9, 0.99)),
            "Your v has 0.9 for its constant, as m has; it keeps 0.999 of itself.": moved(
                row, betas=(0.9, 0.9)
            ),
        },
        tolerance=1e-3,
    )


def own_memory(answer, draw):
    """each parameter has a memory of its own"""
    rows = [[draw_gradient(draw, 3), 0.1 * draw_gradient(draw, 3)] for _ in range(3)]
    ours, theirs = zip(*rows)
    found = Steps(answer, rows).last()
    one_after_the_other = [g for row in rows for g in row]
    m = v = 0.0
    for g in one_after_the_other:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    shared = (m / (1 - 0.9**3)) / ((v / (1 - 0.999**3)).sqrt() + 1e-6)  # for the second
    expect(
        found[1],
        moved(theirs),
        "With two parameters of the same shape the second one's third step is wrong: is its m and v its own?",
        suspects={
            "Two parameters share one m and one v: give each its own place in `state`.": shared,
            "The second parameter has the memory of the first.": moved(ours),
        },
        tolerance=1e-3,
    )
    expect(found[0], moved(ours), "With two parameters the first one's third step is wrong.", tolerance=1e-3)


def clipping(answer, draw):
    """all gradients together are clipped to a length of 1"""
    short = [of_length(draw_gradient(draw, 3), 0.06), of_length(draw_gradient(draw, 3), 0.08)]  # 0.1 together
    long = [of_length(draw_gradient(draw, 3), 3.0), of_length(draw_gradient(draw, 3), 4.0)]  # 5 together
    found = torch.cat(Steps(answer, [short, long]).last())

    def after(before, now):
        return torch.cat([moved([*row]) for row in zip(before, now)])

    def divided(gradients, *by):
        return [gradient / length for gradient, length in zip(gradients, by)]

    expect(
        found,
        after(short, divided(long, 5, 5)),
        "Two gradients of length 3 and 4 make 5 together. Both must be divided by 5, so that the whole has "
        "the length 1, and m and v must be made of what comes out.",
        suspects={
            "The gradients are not clipped.": after(short, long),
            "Each gradient is clipped by itself: that turns the direction of the whole. One common length, "
            "one common factor.": after(short, divided(long, 3, 4)),
            "Each number is clipped, and not the length of all of them.": after(
                short, [gradient.clamp(-1, 1) for gradient in long]
            ),
            STRETCHED: after(divided(short, 0.1, 0.1), divided(long, 5, 5)),
            "The lengths of the parameters are added up: 3 and 4 make 5, since the squares are what adds "
            "up.": after(short, divided(long, 7, 7)),
            "The root is missing: you divide by the sum of the squares.": after(short, divided(long, 25, 25)),
        },
        tolerance=1e-3,
    )


def decay(answer, draw):
    """weight decay, for what has two axes or more"""
    rate, starts = 0.1, [draw.normal(*shape, dtype=torch.float64) for shape in ((2, 3), (2, 2, 2), (3,))]
    starts = [start + 0.5 * start.sign() for start in starts]  # none is near 0: they are divided by
    still = [torch.zeros_like(start) for start in starts]
    moving = draw_gradient(draw, 2)
    steps = Steps(answer, [[*still, moving]], [*starts, torch.zeros(2).double()], rate)
    found = torch.cat([(100 * lost / start).flatten() for lost, start in zip(steps.last(), starts)])

    def shares(matrix, three_axes, vector):
        return torch.cat([torch.full((6,), matrix), torch.full((8,), three_axes), torch.full((3,), vector)])

    l2 = [100 * moved([0.01 * start]) / start for start in starts]
    expect(
        found,
        shares(1.0, 1.0, 0.0).double(),
        "Three parameters with gradients of 0: a matrix and one with three axes must shrink by the learning "
        "rate times 0.01 of themselves, and a vector must stay. Yours do otherwise.",
        suspects={
            "Nothing decays.": shares(0.0, 0.0, 0.0),
            "Everything decays. Vectors, that is biases and LayerNorms, are spared.": shares(1.0, 1.0, 1.0),
            "It is the wrong way round: vectors decay, and matrices are spared.": shares(0.0, 0.0, 1.0),
            "A parameter with three axes must decay too: two or more.": shares(1.0, 0.0, 0.0),
            "The decay is not multiplied by the learning rate.": shares(10.0, 10.0, 0.0),
            "0.01 times the weight is added to the gradient: that is L2, and Adam divides it by its own "
            "size. Take the decay off the weight itself.": torch.cat(
                [l2[0].flatten(), l2[1].flatten(), torch.zeros(3)]
            ),
        },
        tolerance=0.01,
    )


def decay_and_step(answer, draw):
    """decay and step in one: both start from the old weight"""
    rate = 0.5
    start, g = draw.normal(2, 3, dtype=torch.float64), draw_gradient(draw, 6).view(2, 3)
    step = moved([g])
    expect(
        Steps(answer, [[g]], [start], rate).last()[0],
        step + DECAY * start,
        "Decay and step are each right, but not together: w - rate * 0.01 * w - rate * step.",
        suspects={
            "The decay takes its share of the weight after the step. It belongs to the weight before it: "
            "decay first.": step + DECAY * (start - rate * step),
        },
        tolerance=1e-4,
    )


def without_gradient(answer, draw):
    """a parameter without a gradient stays, and all gradients are None in the end"""
    start = draw.normal(2, 2, dtype=torch.float64)
    *both, later = (draw_gradient(draw, 4, high=0.25).view(2, 2) for _ in range(3))  # too short to be clipped
    try:
        steps = Steps(answer, [both, [None, later]], [start, torch.zeros(2, 2).double()])
    except Raised as raised:
        raise Wrong(f"A parameter's grad may be None, and then it must be passed over. {raised}") from None
    resting, moving = steps.last()
    old = steps.weights[1][1]  # the second has a weight by now, which decays
    if resting.abs().max() > 1e-9:
        raise Wrong(
            "A parameter without a gradient must stay as it is. In your answer it moves on, by what it "
            "remembers, or by decay: None is not the same as 0."
        )
    expect(
        moving,
        moved([both[1], later]) + DECAY * old,
        "Beside a parameter without a gradient, the other one moves wrongly.",
        suspects={
            "When the first parameter has no gradient, the second takes over its memory: number all of "
            "them, not only those that move.": moved([both[0], later]) + DECAY * old
        },
        tolerance=1e-3,
    )
    if any(entry == 0 for entry in steps.left):
        raise Wrong("In the end the gradients are zeros: set them to None.")
    if any(entry is not None for entry in steps.left):
        raise Wrong("In the end the gradients are still there, and the next backward would add to them.")


STEP = Exercise(
    name="bare_step",
    number="11.1",
    title="a step from bare tensors",
    kind="Rebuild",
    minutes=25,
    difficulty=2,
    goal="All that happens between `backward` and the next batch: clip the gradients together to a length of "
    "at most 1, move every parameter in place by AdamW with BERT's constants, decay those with two or more "
    "axes by 0.01, set the gradients to None. `state` is a dictionary for what you want to remember.",
    hints=(
        "Two passes over the parameters: the first only adds up squares.",
        "`adamw_step` has the formulas, and they work on tensors as they stand. What changes is where $m$ "
        "and $v$ come from, and that the weight must change in place, under `torch.no_grad()`.",
        "Decay first, with `parameter.mul_(1 - learning_rate * decay)`; then `parameter.sub_(...)`. If only "
        "the first step agrees, look at the correction: it needs `t`.",
    ),
    stub='''
def bare_step(parameters, state, t, learning_rate):
    """A list of parameters with gradients, a dictionary, the step's number from 1; changes the parameters."""
    ...
''',
    mechanisms=(
        first_step,
        tiny_gradient,
        later_steps,
        own_memory,
        clipping,
        decay,
        decay_and_step,
        without_gradient,
    ),
    finished=("torch.optim", "torch.nn.utils", "bert_edu.training"),
    operations=("fused_adamw_", "fused_adam_"),
    loads=("torch._dynamo",),  # which an answer that calls an optimiser would wait for
    changes_input=True,  # that is what a step is for
)


# ---- 11.2 --------------------------------------------------------------------------------------------------


def multipliers(answer, cases: list[tuple[int, int, int]]) -> Tensor:
    """What the answer gives for each (step, warmup, total)."""
    found = answer.via(each, cases)
    if any(entry is None for entry in found):
        raise NotYet("It returns None.")
    for entry in found:
        is_number = isinstance(entry, (int, float)) and not isinstance(entry, bool)
        if not is_number and not (isinstance(entry, Tensor) and entry.numel() == 1):
            raise Wrong(f"cosine must return a number, and returns a {type(entry).__name__}.")
    return torch.tensor([float(entry) for entry in found], dtype=torch.float64)


def falling(cases: list[tuple[int, int, int]], form) -> Tensor:
    """form(x) for each case, where x is the share of the way from the end of warm-up to the end."""
    shares = [(step - warmup) / (total - warmup) for step, warmup, total in cases]
    return torch.tensor([form(x) for x in shares], dtype=torch.float64)


def half_a_cosine(x: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * x))


def warm_up(answer, draw):
    """warm-up: from 0 in equal steps"""
    warmup = 2 * draw.whole(3, 9).item()
    total = 5 * warmup
    cases = [(step, warmup, total) for step in (0, 1, warmup // 2, warmup - 1)]
    steps = torch.tensor([step for step, _, _ in cases], dtype=torch.float64)
    expect(
        multipliers(answer, cases),
        steps / warmup,
        f"During warm-up the multiplier is step / warmup: 0 at step 0, a half at step {warmup // 2} of "
        f"{warmup}. Yours is something else.",
        suspects={
            "There is no warm-up: you begin at the top.": torch.tensor(
                [half_a_cosine(step / total) for step, _, _ in cases]
            ),
            "Before the end of warm-up you already come down the cosine: this part has a line of its "
            "own.": falling(cases, half_a_cosine),
            "The first step must have the rate 0, like the triangle's: step / warmup, not (step + 1) / "
            "warmup.": (steps + 1) / warmup,
            "The warm-up is divided by the number of all steps, and does not reach the top.": steps / total,
        },
    )


def top_and_end(answer, draw):
    """1 at the end of warm-up, 0 at the last step"""
    warmup, total = 10 * draw.whole(2, 4).item(), 100
    cases = [(warmup, warmup, total), (total, warmup, total)]
    found = multipliers(answer, cases)
    expect(
        found,
        torch.tensor([1.0, 0.0], dtype=torch.float64),
        f"At the end of warm-up the multiplier must be 1 and at `total` 0. Yours is {found[0]:.3f} and "
        f"{found[1]:.3f}.",
        suspects={
            "At the end of warm-up the multiplier jumps: x counts from step 0. It is the share of the way "
            "from the end of warm-up to the end, (step - warmup) / (total - warmup).": torch.tensor(
                [half_a_cosine(warmup / total), 0.0]
            ),
            "It goes down and up again: half a wave is cos(pi x), and 2 pi would be a whole one.": falling(
                cases, lambda x: 0.5 * (1 + math.cos(2 * math.pi * x))
            ),
            "It goes down to -1: a cosine runs from 1 to -1. Add 1, and halve.": falling(
                cases, lambda x: math.cos(math.pi * x)
            ),
            "It starts at 2: halve 1 + cos.": falling(cases, lambda x: 1 + math.cos(math.pi * x)),
            "It runs from 0 up to 1: that is 1 - cos, where 1 + cos is needed.": falling(
                cases, lambda x: 1 - half_a_cosine(x)
            ),
            "math.cos takes radians: half a turn is pi, not 180.": falling(
                cases, lambda x: 0.5 * (1 + math.cos(180 * x))
            ),
        },
    )


def between(answer, draw):
    """half a cosine between them"""
    warmup = draw.whole(3, 9).item()
    total = warmup + 4 * draw.whole(5, 9).item()
    quarter = (total - warmup) // 4
    cases = [(warmup + number * quarter, warmup, total) for number in (1, 2, 3)]
    expect(
        multipliers(answer, cases),
        falling(cases, half_a_cosine),
        "Top and end are right. A quarter, a half and three quarters of the way down it must be 0.854, 0.5 "
        "and 0.146.",
        suspects={
            "This is a quarter of a wave, cos(pi x / 2). Half a wave is flat at both ends.": falling(
                cases, lambda x: math.cos(math.pi * x / 2)
            ),
            "This is the straight line of the triangle.": falling(cases, lambda x: 1 - x),
            "It stays at 1 until the end: // drops what is behind the decimal point.": falling(
                cases, lambda x: 1.0
            ),
        },
    )


def no_warm_up(answer, draw):
    """a run without warm-up"""
    total = 2 * draw.whole(4, 9).item()
    cases = [(0, 0, total), (total // 2, 0, total)]
    try:
        found = multipliers(answer, cases)
    except Raised as raised:
        raise Wrong(
            f"With warmup = 0 nothing may be divided by it: at step 0 warm-up is over. {raised}"
        ) from None
    expect(
        found,
        torch.tensor([1.0, 0.5], dtype=torch.float64),
        "With warmup = 0 the first step has the full rate, and the middle one half of it. Yours have "
        f"{found[0]:.3f} and {found[1]:.3f}.",
    )


def every_step(answer, draw):
    """every step of any run"""
    short, long = draw.sizes(2, 40, 90)
    for warmup, total in ((short // 7, short), (long // 2, long)):
        cases = [(step, warmup, total) for step in range(total + 1)]
        rising = torch.arange(warmup, dtype=torch.float64) / warmup
        expect(
            multipliers(answer, cases),
            torch.cat([rising, falling(cases[warmup:], half_a_cosine)]),
            f"It was right for other runs, and is wrong for some step of one with {warmup} of {total} steps "
            "of warm-up.",
        )


COSINE = Exercise(
    name="cosine",
    number="11.2",
    title="another way down",
    kind="Extend",
    minutes=20,
    difficulty=1,
    goal="The multiplier of the learning rate at a step: warm-up like the triangle's, then half a cosine "
    "from 1 at the end of warm-up down to 0 at `total`.",
    hints=(
        "$x$ is 0 at step `warmup` and 1 at step `total`.",
        "For the sum: a cosine is as much above its middle in the first half as it is below it in the "
        "second.",
        '`practise(folder, schedule="cosine")` runs the engine; the rates it used stand in `metrics.jsonl`.',
    ),
    stub='''
def cosine(step, warmup, total):
    """The number of the step, from 0; how many rise; how many there are -> the multiplier, 0 to 1."""
    ...
''',
    mechanisms=(warm_up, top_and_end, between, no_warm_up, every_step),
    finished=("torch.optim",),
)


# ---- 11.3 --------------------------------------------------------------------------------------------------


class Pair:
    """A `save` and a `load` that forget something on purpose, and note what they are handed.

    Args:
        forgets: "nothing", "weights", "optimizer", "random states", "step" or "last digits".
    """

    def __init__(self, forgets: str):
        self.forgets = forgets
        self.steps: list[int] = []  # that `save` was told
        self.given, self.loaded = [], []  # models and optimisers that `save` and `load` were handed
        self.random_at_save = self.random_at_load = self.random_after_load = None
        self.weights = None  # of the model, when `load` was done

    def save(self, model, optimizer, step):
        self.steps.append(int(step))
        self.given += [model, optimizer]
        self.random_at_save = torch.get_rng_state()
        state = {"weights": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        return copy.deepcopy(state | {"random": self.random_at_save})

    def load(self, saved, model, optimizer):
        self.loaded += [model, optimizer]
        self.random_at_load = torch.get_rng_state()
        if self.forgets != "weights":
            model.load_state_dict(saved["weights"])
        if self.forgets == "last digits":
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1 + 2.0**-20)
        if self.forgets != "optimizer":
            optimizer.load_state_dict(saved["optimizer"])
        if self.forgets != "random states":
            torch.set_rng_state(saved["random"])
        self.random_after_load = torch.get_rng_state()
        self.weights = [parameter.detach().clone() for parameter in model.parameters()]
        return 0 if self.forgets == "step" else saved["step"]

    def notes(self) -> dict:
        """How the answer went about it."""
        if not self.loaded or not self.given:
            return {"used": False}
        now = self.loaded[0].parameters()
        return {
            "used": True,
            "steps": self.steps,
            "same objects": any(one is other for one in self.given for other in self.loaded),
            "trained": not all(map(torch.equal, now, self.weights)),
            "drew": not torch.equal(torch.get_rng_state(), self.random_after_load),
            "same random state": torch.equal(self.random_at_save, self.random_at_load),
        }


def ask(answer, forgets: str) -> dict:
    """A driver: what the answer says of such a pair, and how it found out."""
    pair = Pair(forgets)
    said = answer(pair.save, pair.load)
    return {"said": said, **pair.notes()}


def verdict(answer, forgets: str) -> dict:
    """As `ask`; makes sure that the answer has said yes or no."""
    found = answer.via(ask, forgets)
    said = found["said"]
    if said is None:
        raise NotYet("It returns None.")
    if isinstance(said, Tensor) and said.numel() == 1 and said.dtype == torch.bool:
        found["said"] = said = bool(said)
    if not isinstance(said, bool):
        raise Wrong(f"goes_on_exactly must return True or False, and returns a {type(said).__name__}.")
    if not found["used"]:
        raise Wrong("`save` must be called after five steps and `load` in the run that goes on; one is not.")
    return found


def refuse(answer, forgets: str, why: str):
    """Raises `Wrong` when the answer accepts a pair that forgets this."""
    found = verdict(answer, forgets)
    if not found["said"]:
        return
    if found["same objects"]:
        why = (
            "`load` is handed the model or the optimiser from before the stop, which has forgotten nothing: "
            "make new ones, as a new process would."
        )
    elif not found["trained"]:
        why = "You compare right after loading. What was forgotten shows in the steps that follow."
    raise Wrong(f"Your check accepts a pair that forgets {in_words(forgets)}. {why}")


def in_words(forgets: str) -> str:
    return {"optimizer": "the optimiser", "last digits": "the last digits of the weights"}.get(
        forgets, f"the {forgets}"
    )


def accepts_a_right_pair(answer, draw):
    """a pair that forgets nothing is accepted"""
    found = verdict(answer, "nothing")
    if found["said"]:
        return
    if set(found["steps"]) != {5}:
        steps = " and ".join(map(str, found["steps"]))
        raise Wrong(
            f"A pair that forgets nothing is refused, and `save` was told step {steps}: stop when five steps "
            "are done, and say 5."
        )
    raise Wrong(
        "A pair that forgets nothing is refused. Both runs must begin with the same weights and the same "
        "random state, read the same batches, and set no seed once `load` is done."
    )


def weights_count(answer, draw):
    """one that forgets the weights is refused"""
    refuse(answer, "weights", "Does it look at anything?")


def optimizer_counts(answer, draw):
    """one that forgets the optimiser is refused"""
    refuse(answer, "optimizer", "With new running means the next steps are others: train on, with an AdamW.")


def random_states_count(answer, draw):
    """the colleague's pair, which forgets the random states, is refused"""
    found = verdict(answer, "random states")
    if not found["said"]:
        return
    if not found["drew"]:
        raise Wrong(
            "Your check accepts the colleague's pair, for in your training nothing is random: give the model "
            "dropout, and set it to training."
        )
    if found["same random state"]:
        raise Wrong(
            "Your check accepts the colleague's pair: nothing draws a random number between `save` and "
            "`load`, so that dropout goes on by chance. Another process would have drawn others: set another "
            "seed before you load."
        )
    refuse(answer, "random states", "Which weights do you compare?")


def step_counts(answer, draw):
    """one that forgets the step is refused"""
    refuse(
        answer,
        "step",
        "Your second half begins at step 5 whatever `load` returns: it must begin at the step that `load` "
        "returns.",
    )


def last_digits_count(answer, draw):
    """one that loses the last digits of the weights is refused"""
    refuse(answer, "last digits", "You compare with a tolerance: exactly means torch.equal.")


RESUMED = Exercise(
    name="goes_on_exactly",
    number="11.3",
    title="resumed, almost",
    kind="Find the bug",
    minutes=20,
    difficulty=3,
    goal="Train for ten steps straight, and again with a stop after five and new objects; return whether the "
    "final weights are equal. That accepts a pair `save`, `load` that forgets nothing, and no other.",
    hints=(
        "What does training do that evaluation does not?",
        "Would the colleague have noticed with `fresh(p=0.0)`?",
        "`reproducibility.random_states()` and `set_random_states(...)`. In the check, seed differently "
        "before the second half: another process has drawn other numbers.",
    ),
    stub='''
def goes_on_exactly(save, load):
    """save(model, optimizer, step) -> saved, load(saved, model, optimizer) -> step; returns True or False."""
    ...
''',
    mechanisms=(
        accepts_a_right_pair,
        weights_count,
        optimizer_counts,
        random_states_count,
        step_counts,
        last_digits_count,
    ),
    loads=("torch._dynamo",),  # which the first optimiser does
    changes_input=True,  # it is given two functions; and each question trains a model three times over
)

EXERCISES = (STEP, COSINE, RESUMED)
