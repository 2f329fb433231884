"""Answers to the exercises of chapter 12."""

import copy

import torch
from torch import nn

from . import Answers, mistake

# ---- 12.1: who gets no gradient ----------------------------------------------------------------------------


def by_grad(
    nothing="unknown",
    all_zero="zero",
    test="any",
    kept="left out",
    stores="nothing",
    unused=True,
    thaws=False,
):
    """With `torch.autograd.grad`, as in the chapter."""

    def census(model, loss):
        found = {"unknown": [], "zero": [], "frozen": []}
        named = dict(model.named_parameters())
        wanted = {n: p for n, p in named.items() if p.requires_grad or kept == "handed over"}
        if kept == "forgotten":
            named = wanted
        gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=unused)
        for (name, parameter), gradient in zip(wanted.items(), gradients):
            is_zero = {
                "any": lambda g: not g.any(),
                "all": lambda g: not g.all(),
                "sum": lambda g: abs(g.sum()) < 1e-6,
                "never": lambda g: False,
            }[test]
            if gradient is None:
                found[nothing].append(name)
            elif is_zero(gradient):
                found[all_zero].append(name)
            if stores != "nothing" and gradient is not None:
                old = parameter.grad
                parameter.grad = gradient if old is None or stores == "cleared" else old + gradient
        found["frozen"] += [name for name in named if name not in wanted]
        if stores == "cleared":
            model.zero_grad()
        if kept == "as unknown":
            found["unknown"] += found["frozen"]
        if thaws:
            model.requires_grad_(True)
        return found

    return census


def by_backward(
    nothing="unknown",
    all_zero="zero",
    test="any",
    kept="left out",
    stores="nothing",
    unused=True,
    thaws=False,
):
    """With `backward`, on gradients that are put aside before and put back afterwards."""

    def census(model, loss):
        before = {name: p.grad for name, p in model.named_parameters()}
        for p in model.parameters():
            p.grad = None
        loss.backward()
        result = dict(unknown=[], zero=[], frozen=[])
        for name, p in model.named_parameters():
            if not p.requires_grad:
                if kept == "handed over":
                    raise RuntimeError("One of the differentiated Tensors does not require grad")
                if kept != "forgotten":
                    result["frozen"].append(name)
                if kept == "as unknown":
                    result["unknown"].append(name)
            elif p.grad is None:
                if not unused:
                    raise RuntimeError("One of the differentiated Tensors appears to not have been used")
                result[nothing].append(name)
            else:
                numbers = p.grad.flatten().tolist()
                zeros = [number == 0 for number in numbers]
                if {"any": all(zeros), "all": any(zeros), "sum": abs(sum(numbers)) < 1e-6}.get(test, False):
                    result[all_zero].append(name)
        for name, p in model.named_parameters():
            if stores == "added" and p.grad is not None:
                p.grad = p.grad if before[name] is None else before[name] + p.grad
            elif stores == "nothing":
                p.grad = before[name]
            elif stores == "cleared":
                p.grad = None
            p.requires_grad = p.requires_grad or thaws
        return result

    return census


class Census:
    """A hook on each parameter notes what comes."""

    def __call__(self, model, loss):
        wanted = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, [p for _, p in wanted], allow_unused=True)
        norms = {name: None if g is None else g.norm().item() for (name, _), g in zip(wanted, gradients)}
        return {
            "frozen": tuple(name for name, p in model.named_parameters() if not p.requires_grad),
            "unknown": {name for name, norm in norms.items() if norm is None},
            "zero": [name for name, norm in norms.items() if norm == 0],
        }


CENSUS = Answers(
    "census",
    styles={"autograd.grad": by_grad, "backward": by_backward},
    right={"norms": Census()},
    wrong={
        "0 in places": mistake("is 0 in all others", test="all"),
        "sum of 0": mistake("Gradients of opposite sign", test="sum"),
        "unused is an error": mistake("and not end the census", unused=False),
        "None taken for 0": mistake("that is not one of 0", nothing="zero"),
        "0 taken for None": mistake("A gradient comes, and it is 0", all_zero="unknown"),
        "0 never seen": mistake("lets no gradient through", test="never"),
        "frozen ones handed over": mistake("Autograd gives no gradients of frozen", kept="handed over"),
        "frozen ones forgotten": mistake("What has requires_grad = False", kept="forgotten"),
        "frozen ones among the unknown": mistake("and not 'unknown'", kept="as unknown"),
        "gradients left": mistake("`backward` stores what it finds", stores="added"),
        "gradients cleared": mistake("you clear away what is not yours", stores="cleared"),
        "thawed": mistake("a census only counts", thaws=True),
    },
    two_at_once=(dict(test="all", stores="added"), "0 in places"),
)


# ---- 12.2: shifted labels ----------------------------------------------------------------------------------


def by_rolling(
    way=1, shifts=range(-2, 3), looks_at="masks", rows="all", mask_id="given", returns="shift", best=max,
    in_place=False,
):  # fmt: skip
    """Moves the labels back and counts."""

    def best_shift(batch, mask_token_id):
        mask = mask_token_id if mask_id == "given" else mask_id
        ids, labels = batch.input_ids, batch.labels
        if rows == "first":
            ids, labels = ids[:1], labels[:1]
        gaps = ids == mask

        def fit(shift):
            moved = labels.roll(-way * shift, dims=1)
            return {
                "masks": int((gaps & (moved != -100)).sum()),
                "agreement": int((ids == moved).sum()),
                "labels": int((moved != -100).sum()),
                "only masks": -1000 * bool((gaps != (moved != -100)).any()) - abs(shift - 0.1),
            }[looks_at]

        found = best(shifts, key=fit)
        if in_place:
            batch.labels = batch.labels.roll(-found, dims=1)
        return found if returns == "shift" else fit(found)

    return best_shift


def by_slices(
    way=1, shifts=range(-2, 3), looks_at="masks", rows="all", mask_id="given", returns="shift", best=max,
    in_place=False,
):  # fmt: skip
    """Goes through the places one by one."""

    def best_shift(batch, mask_token_id):
        mask = mask_token_id if mask_id == "given" else mask_id
        ids, labels = batch.input_ids.tolist(), batch.labels.tolist()
        hits = {}
        for shift in shifts:
            hits[shift] = 0
            clean = True
            for row, (words, answers) in enumerate(zip(ids, labels)):
                if rows == "first" and row > 0:
                    break
                for place, word in enumerate(words):
                    label = answers[(place + way * shift) % len(words)]
                    if looks_at == "masks":
                        hits[shift] += word == mask and label != -100
                    elif looks_at == "agreement":
                        hits[shift] += word == label
                    elif looks_at == "labels":
                        hits[shift] += label != -100
                    clean = clean and (word == mask) == (label != -100)
            if looks_at == "only masks":
                hits[shift] = clean * 100 - abs(shift - 0.1)
        found = best(hits, key=hits.get)
        if in_place:
            batch.labels.copy_(batch.labels.roll(-found, dims=1))
        return torch.tensor(found) if returns == "shift" else hits[found]

    return best_shift


def by_padding(batch, mask_token_id):
    """Counts the [MASK]s without a label, with places at both ends that have none."""
    gaps = batch.input_ids == mask_token_id
    scored = nn.functional.pad((batch.labels >= 0).long(), (2, 2))  # (B, T + 4)
    bare = [int((gaps & (scored.unfold(1, gaps.shape[1], 1)[:, 2 + s] == 0)).sum()) for s in range(-2, 3)]
    return bare.index(min(bare)) - 2


SHIFT = Answers(
    "best_shift",
    styles={"rolling": by_rolling, "slices": by_slices},
    right={"padding": by_padding},
    wrong={
        "the other way": mistake("The sign is the wrong way round", way=-1),
        "how well it fits": mistake("and not how well it fits", returns="fit"),
        "one way only": mistake("slipped to the left", shifts=range(3)),
        "one place only": mistake("try all from -2 to 2", shifts=range(-1, 2)),
        "counts labels": mistake("belong: 0, and you say -2.", looks_at="labels"),
        "words that agree": mistake("look at where the [MASK]s stand", looks_at="agreement"),
        "every label at a [MASK]": mistake("since some words are kept or replaced", looks_at="only masks"),
        "first row only": mistake("look at all rows", rows="first"),
        "[MASK] is 4": mistake("the id that you are given", mask_id=4),
        "batch mended": mistake("work on a copy", in_place=True),
    },
    two_at_once=(dict(shifts=range(3), mask_id=4), "one way only"),
)


# ---- 12.3: nothing moves -----------------------------------------------------------------------------------


def copies_the_start(
    copied="start", optimizer=torch.optim.AdamW, rate=0.01, knows="all", start="deep", order="model first",
    returns=3,
):  # fmt: skip
    """The start is a copy of the model."""

    def mended_prepare(build):
        model = build()
        trained = model
        if copied == "model":
            trained = copy.deepcopy(model)
        known = {
            "all": list(model.parameters()),
            "last part": list(model[-1].parameters()),
            "matrices": [p for p in model.parameters() if p.dim() > 1],
        }
        kept = {
            "deep": lambda: copy.deepcopy(model),
            "none": lambda: trained,
            "shallow": lambda: copy.copy(model),
            "new": build,
        }[start]()
        if copied == "model":
            kept = copy.deepcopy(model)
        if knows == "both":
            known[knows] = [*model.parameters(), *kept.parameters()]
        made = optimizer(known[knows], lr=rate)
        if order != "model first":
            trained, kept = kept, trained
        return (trained, made, kept)[:returns]

    return mended_prepare


def trains_the_copy(
    copied="start", optimizer=torch.optim.AdamW, rate=0.01, knows="all", start="deep", order="model first",
    returns=3,
):  # fmt: skip
    """What was built is kept, and a copy is trained."""

    def mended_prepare(build):
        kept = build()
        if copied == "model":
            made = optimizer(kept.parameters(), lr=rate)
            other = build()
            other.load_state_dict(kept.state_dict())
            third = build()
            third.load_state_dict(kept.state_dict())
            return [other, made, third]
        if start == "none":
            model = kept
        elif start == "shallow":
            model = nn.Sequential(*kept)
        elif start == "new":
            model = build()
        else:
            model = build()
            model.load_state_dict(kept.state_dict())
        parameters = {
            "all": [dict(params=list(model.parameters()))],
            "last part": [dict(params=[list(model.parameters())[-1]])],
            "matrices": [dict(params=[p for p in model.parameters() if p.dim() > 1])],
            "both": [dict(params=list(part.parameters())) for part in (model, kept)],
        }[knows]
        made = optimizer(parameters, lr=rate)
        return [model, made, kept][:returns] if order == "model first" else [kept, made, model]

    return mended_prepare


def groups(build):
    """With BERT's groups, and none of them decayed."""
    start = build()
    model = copy.deepcopy(start)
    halves = [[p for p in model.parameters() if (p.dim() > 1) == big] for big in (True, False)]
    return model, torch.optim.AdamW([{"params": half} for half in halves], lr=0.01, weight_decay=0.0), start


PREPARED = Answers(
    "mended_prepare",
    styles={"copies the start": copies_the_start, "trains the copy": trains_the_copy},
    right={"groups": groups},
    wrong={
        "as it was": mistake("holds none of the tensors of the model", copied="model"),
        "order swapped": mistake("of the model that is to stay as it was", order="start first"),
        "start forgotten": mistake("not 2 things", returns=2),
        "one object": mistake("one object under two names", start="none"),
        "shallow copy": mistake("what a shallow copy does", start="shallow"),
        "another start": mistake("`build()` draws new ones", start="new"),
        "one part known": mistake("parameters: `model.parameters()` gives them all", knows="last part"),
        "start known as well": mistake("The optimiser knows the start", knows="both"),
        "another optimiser": mistake("The colleague's optimiser is AdamW", optimizer=torch.optim.SGD),
        "another rate": mistake("The colleague's learning rate is 0.01", rate=0.1),
    },
    two_at_once=(dict(start="none", rate=0.1), "another rate"),
)

ANSWERS = (CENSUS, SHIFT, PREPARED)
