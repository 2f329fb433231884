"""Answers to the exercises of chapter 11."""

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from . import Answers, mistake

# ---- 11.1: a step from bare tensors ------------------------------------------------------------------------


def factors(gradients, clip, limit=1.0):
    """What each gradient is multiplied by."""
    squares = [float((g**2).sum()) for g in gradients]
    if clip == "each":
        return [min(1.0, limit / (square**0.5 + 1e-12)) for square in squares]
    length = {
        "together": math.sqrt(sum(squares)),
        "no root": sum(squares),
        "lengths added": sum(square**0.5 for square in squares),
        "stretched": math.sqrt(sum(squares)),
    }.get(clip, 0.0)
    factor = limit / (length + 1e-12)
    return [factor if clip == "stretched" else min(1.0, factor)] * len(gradients)


def with_tensors(
    way=-1,
    corrected="both",
    t_from=1,
    divided=True,
    root=True,
    eps=1e-6,
    eps_at="outside",
    memory="each",
    betas=(0.9, 0.999),
    clip="together",
    decays="matrices",
    decay="decoupled",
    afterwards="none",
    missing="skipped",
    in_place=True,
    no_grad=True,
):
    """Whole tensors, as in the chapter."""

    def bare_step(parameters, state, t, learning_rate):
        t = t - 1 + t_from
        if missing == "zero":
            for p in parameters:
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
        moving = [(number, p) for number, p in enumerate(parameters) if p.grad is not None]
        if missing == "numbered without":
            moving = list(enumerate(p for _, p in moving))
        scale = factors([p.grad for _, p in moving], clip)
        for (number, p), factor in zip(moving, scale):
            g = p.grad.clamp(-1, 1) if clip == "numbers" else factor * p.grad
            has_decay = {
                "matrices": p.dim() >= 2,
                "two axes": p.dim() == 2,
                "vectors": p.dim() < 2,
                "all": True,
                "none": False,
            }[decays]
            if decay == "l2" and has_decay:
                g = g + 0.01 * p
            key = 0 if memory == "shared" else number
            m, v = state.get(key, (0.0, 0.0)) if memory != "lost" else (0.0, 0.0)
            m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
            state[key] = m, v
            time = 1 if corrected == "as at first" else t
            m_hat = m / (1 - betas[0] ** time) if corrected not in ("none", "v") else m
            v_hat = v / (1 - betas[1] ** time) if corrected not in ("none", "m") else v
            below = v_hat.sqrt() if root else v_hat
            step = m_hat / ((v_hat + eps).sqrt() if eps_at == "inside" else below + eps)
            if not divided:
                step = m_hat
            shrink = {"decoupled": learning_rate * 0.01, "without rate": 0.01}.get(decay, 0.0) * has_decay
            if not in_place:
                p = p * (1 - shrink) + way * learning_rate * step
            else:
                if decay == "afterwards":
                    p.add_(way * learning_rate * step)
                    p.mul_(1 - learning_rate * 0.01 * has_decay)
                else:
                    p.mul_(1 - shrink)
                    p.add_(way * learning_rate * step)
        for p in parameters:
            if afterwards == "none":
                p.grad = None
            elif afterwards == "zeros" and p.grad is not None:
                p.grad.zero_()

    return torch.no_grad()(bare_step) if no_grad else bare_step


def with_floats(
    way=-1,
    corrected="both",
    t_from=1,
    divided=True,
    root=True,
    eps=1e-6,
    eps_at="outside",
    memory="each",
    betas=(0.9, 0.999),
    clip="together",
    decays="matrices",
    decay="decoupled",
    afterwards="none",
    missing="skipped",
    in_place=True,
    no_grad=True,
):
    """One number at a time, with a dictionary for each running mean."""

    def bare_step(parameters, state, t, learning_rate):
        means, squares = state.setdefault("m", {}), state.setdefault("v", {})
        given = [(p, p.grad) for p in parameters]
        if missing == "zero":
            given = [(p, torch.zeros_like(p) if g is None else g) for p, g in given]
        places = {id(p): place for place, (p, _) in enumerate(given)}
        given = [(p, g) for p, g in given if g is not None]
        if missing == "numbered without":
            places = {id(p): place for place, (p, _) in enumerate(given)}
        scale = factors([g for _, g in given], clip)
        for (p, gradient), factor in zip(given, scale):
            place = "one" if memory == "shared" else places[id(p)]
            axes, numbers = p.dim(), []
            decaying = (
                decays == "all"
                or (decays == "matrices" and axes > 1)
                or (decays == "two axes" and axes == 2)
                or (decays == "vectors" and axes == 1)
            )
            old, entries = p.detach().flatten().tolist(), gradient.flatten().tolist()
            for k, (w, g) in enumerate(zip(old, entries)):
                g = max(-1.0, min(1.0, g)) if clip == "numbers" else g * factor
                if decaying and decay == "l2":
                    g += 0.01 * w
                m, v = means.get((place, k), 0.0), squares.get((place, k), 0.0)
                if memory == "lost":
                    m = v = 0.0
                m += (1 - betas[0]) * (g - m)
                v += (1 - betas[1]) * (g * g - v)
                means[place, k], squares[place, k] = m, v
                time = t - 1 + t_from
                if corrected == "as at first":
                    time = 1
                if corrected in ("both", "m", "as at first"):
                    m = m / (1 - betas[0] ** time)
                if corrected in ("both", "v", "as at first"):
                    v = v / (1 - betas[1] ** time)
                if not divided:
                    step = m
                elif eps_at == "inside":
                    step = m / math.sqrt(v + eps)
                else:
                    step = m / ((math.sqrt(v) if root else v) + eps)
                lost = 0.01 * w * decaying
                if decay == "decoupled":
                    w -= learning_rate * lost
                elif decay == "without rate":
                    w -= lost
                w += way * learning_rate * step
                if decay == "afterwards":
                    w -= learning_rate * 0.01 * w * decaying
                numbers.append(w)
            new = torch.tensor(numbers, dtype=p.dtype).view(p.shape)
            if not no_grad:
                p -= p - new
            elif in_place:
                p.data.copy_(new)
            else:
                parameters[parameters.index(next(q for q in parameters if q is p))] = nn.Parameter(new)
        for p in parameters:
            if afterwards == "zeros":
                p.grad = None if p.grad is None else p.grad * 0
            elif afterwards == "none":
                p.grad = None

    return bare_step


class Stepper:
    """A memory for each parameter, made when it is first seen."""

    def __call__(self, parameters, state, t, learning_rate):
        alive = [p for p in parameters if p.grad is not None]
        length = torch.stack([p.grad.square().sum() for p in alive]).sum().sqrt()
        with torch.no_grad():
            for p in alive:
                memory = state.setdefault(id(p), [torch.zeros_like(p), torch.zeros_like(p)])
                g = p.grad / length.clamp(min=1.0)
                memory[0].lerp_(g, 0.1)
                memory[1].mul_(0.999).addcmul_(g, g, value=0.001)
                unit = memory[0].div(1 - 0.9**t) / memory[1].div(1 - 0.999**t).sqrt_().add_(1e-6)
                p -= learning_rate * (unit + 0.01 * p * (p.dim() > 1))
                p.grad = None


def in_one_vector(parameters, state, t, learning_rate):
    """All of them as one long row; what has no gradient keeps its place in it."""
    shown = [torch.full_like(p, math.nan) if p.grad is None else p.grad for p in parameters]
    g = torch.cat([each.flatten() for each in shown])
    here = g.isfinite()
    decay = torch.cat([torch.full((p.numel(),), 0.01 * (p.dim() >= 2)) for p in parameters]).to(g)
    g = g / max(1.0, g[here].norm().item())
    m, v = state.get("m", 0 * g.nan_to_num()), state.get("v", 0 * g.nan_to_num())
    state["m"] = m = torch.where(here, 0.9 * m + 0.1 * g, m)
    state["v"] = v = torch.where(here, 0.999 * v + 0.001 * g**2, v)
    old = torch.cat([p.data.flatten() for p in parameters])
    new = old * (1 - learning_rate * decay) - learning_rate * (m / (1 - 0.9**t)) / (
        (v / (1 - 0.999**t)) ** 0.5 + 1e-6
    )
    new = torch.where(here, new, old)
    for p, row in zip(parameters, new.split([p.numel() for p in parameters])):
        p.data = row.view_as(p).clone()
        p.grad = None


STEP = Answers(
    "bare_step",
    styles={"tensors": with_tensors, "floats": with_floats},
    right={"object": Stepper(), "one vector": in_one_vector},
    wrong={
        "up the hill": mistake("up the hill", way=1),
        "means not corrected": mistake("The two running means are not corrected", corrected="none"),
        "m not corrected": mistake("Only v is corrected", corrected="v"),
        "v not corrected": mistake("Only m is corrected", corrected="m"),
        "t counted twice": mistake("The correction takes t + 1", t_from=2),
        "not divided by the root of v": mistake("as long as the gradient", divided=False),
        "divided by v": mistake("You divide by v", root=False),
        "eps of 1e-8": mistake("Your eps is 1e-8", eps=1e-8),
        "eps under the root": mistake("eps stands under the root", eps_at="inside"),
        "no memory": mistake("do not remember", memory="lost"),
        "correction of the first step": mistake("it needs t", corrected="as at first"),
        "constants swapped": mistake("The two constants have changed places", betas=(0.999, 0.9)),
        "v keeps 0.99": mistake("Your v keeps 0.99 of itself", betas=(0.9, 0.99)),
        "one memory for all": mistake("share one m and one v", memory="shared"),
        "not clipped": mistake("The gradients are not clipped", clip="none"),
        "clipped one by one": mistake("Each gradient is clipped by itself", clip="each"),
        "numbers clipped": mistake("Each number is clipped", clip="numbers"),
        "short ones stretched": mistake("stretched to a length of 1", clip="stretched"),
        "lengths added up": mistake("since the squares are what adds up", clip="lengths added"),
        "length without root": mistake("The root is missing", clip="no root"),
        "nothing decays": mistake("Nothing decays", decays="none"),
        "everything decays": mistake("Everything decays", decays="all"),
        "vectors decay": mistake("matrices are spared", decays="vectors"),
        "three axes spared": mistake("A parameter with three axes", decays="two axes"),
        "decay without the rate": mistake("not multiplied by the learning rate", decay="without rate"),
        "L2": mistake("that is L2", decay="l2"),
        "decay after the step": mistake("of the weight after the step", decay="afterwards"),
        "None taken for 0": mistake("None is not the same as 0", missing="zero"),
        "numbered without the resting": mistake("takes over its memory", missing="numbered without"),
        "zeros left": mistake("In the end the gradients are zeros", afterwards="zeros"),
        "gradients left": mistake("the gradients are still there", afterwards="nothing"),
        "new tensors": mistake("makes a new tensor", in_place=False),
        "without no_grad": mistake("keeps an account", no_grad=False),
    },
    two_at_once=(dict(clip="each", decays="all"), "clipped one by one"),
)


# ---- 11.2: half a cosine -----------------------------------------------------------------------------------


def with_math(start=0, warm="line", x_from="warm-up", wave=1.0, form="half", last="<", whole=False):
    """Two cases and one formula."""

    def cosine(step, warmup, total):
        rises = step <= warmup if last == "<=" else step < warmup
        if rises and warm == "line":
            return (step + start) / warmup
        if rises and warm == "of all":
            return step / total
        before = 0 if x_from == "step 0" or warm == "none" else warmup
        x = (step - before) // (total - before) if whole else (step - before) / (total - before)
        angle = 180 * x if form == "degrees" else math.pi * x * wave
        return {
            "half": 0.5 * (1 + math.cos(angle)),
            "degrees": 0.5 * (1 + math.cos(angle)),
            "plain": math.cos(angle),
            "not halved": 1 + math.cos(angle),
            "rising": 0.5 * (1 - math.cos(angle)),
            "line": 1 - x,
        }[form]

    return cosine


def with_torch(start=0, warm="line", x_from="warm-up", wave=1.0, form="half", last="<", whole=False):
    """Both parts as tensors, joined where they meet."""

    def cosine(step, warmup, total):
        step = torch.tensor(float(step), dtype=torch.float64)
        end = warmup + 1 if last == "<=" else warmup
        if step < end and warm in ("line", "of all"):
            if warmup == 0:
                raise ZeroDivisionError("division by zero")
            return (step + start) / (warmup if warm == "line" else total)
        if x_from == "step 0" or warm == "none":
            x = step / total
        else:
            x = (step - warmup) / (total - warmup)
        if whole:
            x = x.floor()
        turn = torch.cos(x * 180) if form == "degrees" else torch.cos(x * torch.pi * wave)
        if form == "line":
            return 1 - x
        if form == "plain":
            return turn
        if form == "rising":
            return (1 - turn) / 2
        return (1 + turn) / (1 if form == "not halved" else 2)

    return cosine


def squared(step, warmup, total):
    """The square of a quarter wave is half a wave."""
    if step < warmup:
        return step / warmup
    return math.cos(math.pi / 2 * (step - warmup) / (total - warmup)) ** 2


class Schedule:
    def __call__(self, step, warmup, total):
        rise = step / warmup if warmup else 1.0
        share = max(0, step - warmup) / (total - warmup)
        return min(rise, 1.0) * (1 - math.sin(math.pi * share / 2) ** 2)


COSINE = Answers(
    "cosine",
    styles={"math": with_math, "tensors": with_torch},
    right={"squared": squared, "object": Schedule()},
    wrong={
        "first step not 0": mistake("not (step + 1) / warmup", start=1),
        "no warm-up": mistake("you begin at the top", warm="none"),
        "warm-up of all steps": mistake("divided by the number of all steps", warm="of all"),
        "counted from step 0": mistake("x counts from step 0", x_from="step 0"),
        "whole wave": mistake("goes down and up again", wave=2.0),
        "cosine alone": mistake("It goes down to -1", form="plain"),
        "not halved": mistake("It starts at 2", form="not halved"),
        "rising": mistake("that is 1 - cos", form="rising"),
        "degrees": mistake("takes radians", form="degrees"),
        "triangle": mistake("the straight line of the triangle", form="line"),
        "whole division": mistake("It stays at 1 until the end", whole=True),
        "divides by a warm-up of 0": mistake("nothing may be divided by it", last="<="),
    },
    two_at_once=(dict(start=1, wave=2.0), "first step not 0"),
)


# ---- 11.3: resumed exactly ---------------------------------------------------------------------------------

INPUTS = torch.randn(10, 6, 3, generator=torch.Generator().manual_seed(1))  # ten batches
TARGETS = INPUTS.sum(-1, keepdim=True)


def network(p=0.5):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(p), nn.Tanh(), nn.Linear(4, 1))


def train(model, optimizer, steps):
    for step in steps:
        F.mse_loss(model(INPUTS[step]), TARGETS[step]).backward()
        optimizer.step()
        optimizer.zero_grad()


def same_weights(one, other, compare):
    equal = {"equal": torch.equal, "close": torch.allclose}[compare]
    return all(equal(p, q) for p, q in zip(one.parameters(), other.parameters()))


def in_one_run(
    dropout="on",
    objects="new",
    seeds="two",
    compare="equal",
    after="training",
    goes_on="as told",
    always=None,
):
    """The straight run is the one that is saved, on its way."""

    def goes_on_exactly(save, load):
        def new():
            model = network(0.5 if dropout == "on" else 0.0)
            return model, torch.optim.AdamW(model.parameters(), lr=0.01)

        straight, resumed = new(), new()
        torch.manual_seed(1)
        train(*straight, range(5))
        saved = save(*straight, 4 if goes_on == "one step back" else 5)
        if after != "training":
            resumed = straight if objects == "kept" else resumed
            load(saved, *resumed)
            return same_weights(straight[0], resumed[0], compare)
        if seeds == "one":
            state = torch.get_rng_state()
        if objects == "kept":
            result = copy.deepcopy(straight[0])
            twin = torch.optim.AdamW(result.parameters(), lr=0.01)
            twin.load_state_dict(straight[1].state_dict())
            before = torch.get_rng_state()
            train(result, twin, range(5, 10))
            torch.set_rng_state(before) if seeds == "one" else torch.manual_seed(2)
            train(*straight, range(load(saved, *straight), 10))
            return same_weights(result, straight[0], compare)
        train(*straight, range(5, 10))
        torch.set_rng_state(state) if seeds == "one" else torch.manual_seed(2)
        told = load(saved, *resumed)
        train(*resumed, range(5 if goes_on == "always at 5" else told, 10))
        return same_weights(straight[0], resumed[0], compare) if always is None else always

    return goes_on_exactly


def in_two_runs(
    dropout="on",
    objects="new",
    seeds="two",
    compare="equal",
    after="training",
    goes_on="as told",
    always=None,
):
    """One run without a stop, and another one with it."""

    def final(save=None, load=None):
        model = network(0.5 if dropout == "on" else 0.0).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
        other = network(0.5 if dropout == "on" else 0.0)
        torch.manual_seed(7)
        if save is None:
            train(model, optimizer, range(10))
            return model
        train(model, optimizer, range(5))
        saved = save(model, optimizer, 5 - (goes_on == "one step back"))
        if objects != "kept":
            model, optimizer = other, torch.optim.AdamW(other.parameters(), lr=0.02)
        if seeds != "one":
            torch.manual_seed(8)
        first = load(saved, model, optimizer)
        if after == "training":
            train(model, optimizer, range(5 if goes_on == "always at 5" else first, 10))
        return model

    def goes_on_exactly(save, load):
        if after != "training":
            five = []

            def spied(model, optimizer, step):
                five.append(copy.deepcopy(model))
                return save(model, optimizer, step)

            return same_weights(final(spied, load), five[0], compare)
        one, other = final(), final(save, load)
        return torch.tensor(same_weights(one, other, compare)) if always is None else always

    return goes_on_exactly


class Rehearsal:
    """With the weights in one vector, and plain momentum."""

    def __call__(self, save, load):
        def fresh():
            model = network()
            return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

        torch.manual_seed(11)
        first = fresh()
        state = torch.get_rng_state()
        train(*first, range(5))
        saved = save(*first, 5)
        train(*first, range(5, 10))
        second = fresh()
        torch.set_rng_state(state)
        torch.rand(17)
        train(*second, range(load(saved, *second), 10))
        ends = [nn.utils.parameters_to_vector(model.parameters()) for model, _ in (first, second)]
        return bool((ends[0] == ends[1]).all())


RESUMED = Answers(
    "goes_on_exactly",
    styles={"one run": in_one_run, "two runs": in_two_runs},
    right={"object": Rehearsal()},
    wrong={
        "always yes": mistake("Does it look at anything?", always=True),
        "always no": mistake("is refused. Both runs must begin", always=False),
        "tells another step": mistake("stop when five steps are done", goes_on="one step back"),
        "objects kept": mistake("from before the stop", objects="kept"),
        "compares after loading": mistake("You compare right after loading", after="nothing"),
        "nothing random": mistake("in your training nothing is random", dropout="off"),
        "the same random state": mistake("that dropout goes on by chance", seeds="one"),
        "does not listen to load": mistake("begins at step 5 whatever", goes_on="always at 5"),
        "with a tolerance": mistake("You compare with a tolerance", compare="close"),
    },
    two_at_once=(dict(dropout="off", compare="close"), "nothing random"),
)

ANSWERS = (STEP, COSINE, RESUMED)
