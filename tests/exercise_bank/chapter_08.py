"""Answers to the exercises of chapter 8."""

import contextlib
import copy
import math

import torch
from torch import nn

from bert_edu.introspection import record

from . import Answers, mistake

HIDE = -10000.0


@contextlib.contextmanager
def observe(model, remove=True):
    """As in the chapter."""
    seen, handles = [], []

    def watch(name, module):
        def note(module, inputs, output):
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, torch.Tensor):
                seen.append((name, first.detach().clone()))

        handles.append(module.register_forward_hook(note))

    for name, module in model.named_modules():
        watch(name, module)
    try:
        yield seen
    finally:
        if remove:
            for handle in handles:
                handle.remove()


# ---- 8.1: entropies from queries and keys ------------------------------------------------------------------


def all_heads_at_once(
    unit="nats",
    sign=-1.0,
    over_keys="sum",
    over_queries="mean",
    scale="D",
    parts="qk",
    split="heads",
    layers="all",
    mask="keys",
    log="safe",
    count="real tokens",
    ask=False,
    hidden_from_model=True,
    remove=True,
):
    """A tensor (B, A, T, T) for each layer."""

    def head_entropies(model, batch):
        A, D, shown = model.config.num_attention_heads, model.config.head_size, batch["attention_mask"]
        B, T = shown.shape
        outputs, handles = [], []
        for name, module in model.named_modules():
            if name.endswith("query_key_value"):
                handles.append(module.register_forward_hook(lambda m, i, out: outputs.append(out)))
        with torch.no_grad():
            inputs = batch if hidden_from_model else {"input_ids": batch["input_ids"]}
            result = model(**inputs, output_attentions=ask)
        if remove:
            for handle in handles:
                handle.remove()
        if layers == "last":
            outputs = [outputs[-1]] * len(outputs)
        if layers == "reversed":
            outputs.reverse()
        found = []
        for number, output in enumerate(outputs):
            if split in ("heads", "one mean"):
                three = output.unflatten(-1, (3, A, D)).permute(2, 0, 3, 1, 4)  # (3, B, A, T, D)
            elif split == "components":
                three = output.unflatten(-1, (3, D, A)).permute(2, 0, 4, 1, 3)
            else:
                three = output.unflatten(-1, (A, 3, D)).permute(3, 0, 2, 1, 4)
            query, key = (three["qkv".index(part)] for part in parts)
            scores = query @ key.transpose(-2, -1)  # (B, A, T, T)
            scores = scores / {"D": math.sqrt(D), "nothing": 1.0, "H": math.sqrt(A * D)}[scale]
            keys = shown[:, None, None, :].float()
            if mask == "keys":
                scores = scores + (1 - keys) * HIDE
            elif mask == "inverted":
                scores = scores + keys * HIDE
            p = scores.softmax(-1)
            if mask == "afterwards":
                p = p * keys
            if ask:
                p = result.attentions[number]
            logarithm = torch.log2 if unit == "bits" else torch.log
            if log == "safe":
                surprise = logarithm(p.clamp(min=1e-30))
            else:
                surprise = logarithm(p)
            entropy = sign * (p * surprise)
            entropy = entropy.sum(-1) if over_keys == "sum" else entropy.mean(-1)  # (B, A, T)
            if unit == "keys":
                entropy = entropy.exp()
            if over_queries == "sum":
                found.append((entropy * shown[:, None]).sum((0, 2)))
            elif count == "everything":
                found.append(entropy.mean((0, 2)))
            elif count == "row by row":
                rows = (entropy * shown[:, None]).sum(2) / shown.sum(1, keepdim=True)
                found.append(rows.mean(0))
            elif count == "T below":
                found.append((entropy * shown[:, None]).sum((0, 2)) / (B * T))
            else:
                found.append((entropy * shown[:, None]).sum((0, 2)) / shown.sum())
            if split == "one mean":
                found[-1] = found[-1].mean().expand(A)
        return torch.stack(found)

    return head_entropies


def head_by_head(
    unit="nats",
    sign=-1.0,
    over_keys="sum",
    over_queries="mean",
    scale="D",
    parts="qk",
    split="heads",
    layers="all",
    mask="keys",
    log="safe",
    count="real tokens",
    ask=False,
    hidden_from_model=True,
    remove=True,
):
    """A query at a time, from what the chapter's `observe` has seen."""

    def head_entropies(model, batch):
        L, A = model.config.num_hidden_layers, model.config.num_attention_heads
        H = model.config.hidden_size
        D = H // A
        shown = batch["attention_mask"].tolist()
        with torch.no_grad(), observe(model, remove) as seen:
            mask_for_model = batch["attention_mask"] if hidden_from_model else None
            result = model(batch["input_ids"], attention_mask=mask_for_model, output_attentions=ask)
        kept = {name: tensor for name, tensor in seen if "query_key_value" in name}
        kept = list(kept.values())
        entropy_of = torch.zeros(L, A)
        for layer in range(L):
            output = kept[{"all": layer, "last": L - 1, "reversed": L - 1 - layer}[layers]]
            for head in range(A):
                places = {}
                for number, part in enumerate("qkv"):
                    if split in ("heads", "one mean"):
                        start = number * H + head * D
                        places[part] = list(range(start, start + D))
                    elif split == "components":
                        places[part] = list(range(number * H + head, (number + 1) * H, A))
                    else:
                        start = head * 3 * D + number * D
                        places[part] = list(range(start, start + D))
                rows = []
                for b in range(len(output)):
                    queries, keys = output[b][:, places[parts[0]]], output[b][:, places[parts[1]]]
                    scores = queries @ keys.T / {"D": D**0.5, "nothing": 1.0, "H": H**0.5}[scale]
                    for j, real in enumerate(shown[b]):
                        if (mask == "keys" and not real) or (mask == "inverted" and real):
                            scores[:, j] += HIDE
                    shares = torch.softmax(scores, 1)
                    if ask:
                        shares = result.attentions[layer][b, head]
                    entropies = []
                    for i in range(len(shares)):
                        terms = []
                        for j, share in enumerate(shares[i].tolist()):
                            if mask == "afterwards" and not shown[b][j]:
                                continue
                            if share == 0 and log == "safe":
                                terms.append(0.0)
                                continue
                            surprise = math.log(share) if share else -math.inf
                            terms.append(sign * share * surprise / (math.log(2) if unit == "bits" else 1))
                        entropy = sum(terms) / (1 if over_keys == "sum" else len(terms))
                        if unit == "keys":
                            entropy = math.exp(entropy)
                        if shown[b][i] or count == "everything":
                            entropies.append(entropy)
                    rows.append(entropies)
                every = [entropy for row in rows for entropy in row]
                if over_queries == "sum":
                    number = sum(every)
                elif count == "row by row":
                    number = sum(sum(row) / len(row) for row in rows) / len(rows)
                elif count == "T below":
                    number = sum(every) / sum(map(len, shown))
                else:
                    number = sum(every) / len(every)
                entropy_of[layer, head] = number
            if split == "one mean":
                entropy_of[layer] = entropy_of[layer].mean()
        return entropy_of

    return head_entropies


class ByLogSum:
    """log of the sum minus the mean score is the same entropy."""

    @torch.no_grad()
    def __call__(self, model, batch):
        A, mask, rows = model.config.num_attention_heads, batch["attention_mask"], []

        def hook(module, inputs, output):
            q, k, _ = (part.unflatten(-1, (A, -1)) for part in output.double().chunk(3, -1))  # (B, T, A, D)
            scores = torch.einsum("bqad,bkad->baqk", q, k) * q.shape[-1] ** -0.5
            scores = scores.masked_fill(mask[:, None, None] == 0, -1e9)
            total = scores.logsumexp(-1)  # (B, A, T)
            entropy = total - ((scores - total[..., None]).exp() * scores).sum(-1)
            rows.append(entropy.transpose(1, 2)[mask.bool()].mean(0))  # (A,)

        handles = [
            layer.attention.query_key_value.register_forward_hook(hook) for layer in model.encoder.layers
        ]
        model(**batch)
        for handle in handles:
            handle.remove()
        return torch.stack(rows).float()


def by_distribution(model, batch):
    """With a replaced `forward` in place of a hook, and PyTorch's own entropy."""
    real, kept = batch["attention_mask"].bool(), []
    projections = [layer.attention.query_key_value for layer in model.encoder.layers]

    def wrap(project):
        plain = project.forward

        def forward(hidden):
            kept.append(plain(hidden))
            return kept[-1]

        project.forward = forward

    for project in projections:
        wrap(project)
    model(**batch)
    for project in projections:
        del project.forward
    A, found = model.config.num_attention_heads, []
    for output in kept:
        query, key, _ = output.chunk(3, dim=-1)
        for q, k in zip(query.chunk(A, -1), key.chunk(A, -1)):
            every = []
            for b in range(len(real)):
                scores = q[b][real[b]] @ k[b][real[b]].T / q.shape[-1] ** 0.5  # only real ones
                every.append(torch.distributions.Categorical(logits=scores).entropy())
            found.append(torch.cat(every).mean())
    return torch.stack(found).view(-1, A)


ENTROPIES = Answers(
    "head_entropies",
    styles={"all heads at once": all_heads_at_once, "head by head": head_by_head},
    right={"by the log of the sum": ByLogSum(), "by a distribution": by_distribution},
    wrong={
        "number of keys": mistake("That is exp(entropy)", unit="keys"),
        "bits": mistake("the entropy in bits", unit="bits"),
        "sign": mistake("The sign is wrong", sign=1.0),
        "sum over the queries": mistake("of the queries are added up", over_queries="sum"),
        "mean over the keys": mistake("You take the mean over the keys", over_keys="mean"),
        "not scaled": mistake("are not divided by the root of D", scale="nothing"),
        "root of H": mistake("divided by the root of H", scale="H"),
        "queries and keys swapped": mistake("runs over the queries, or", parts="kq"),
        "values for keys": mistake("the values for the keys", parts="qv"),
        "values for queries": mistake("the values for the queries", parts="vk"),
        "every A-th component": mistake("every A-th component", split="components"),
        "heads first": mistake("cut into heads first", split="heads first"),
        "last layer everywhere": mistake("Every row is the last layer's", layers="last"),
        "layers reversed": mistake("in the opposite order", layers="reversed"),
        "padded keys read": mistake("Padded keys get their share", mask="none"),
        "mask after softmax": mistake("to 0 after softmax", mask="afterwards"),
        "mask inverted": mistake("the wrong way round", mask="inverted"),
        "0 log 0": mistake("0 · log 0", log="plain"),
        "padded queries count": mistake("Padded queries count", count="everything"),
        "row by row": mistake("Each row has the same weight", count="row by row"),
        "divided by T": mistake("You divide by T, padding included", count="T below"),
        "the model without its mask": mistake("Other ids under the padding", hidden_from_model=False),
        "all heads one mean": mistake("All heads have one number", split="one mean"),
        "asks for attention": mistake("You have asked the model", ask=True),
        "hooks left": mistake("hooks are left on the model", remove=False),
    },
    two_at_once=(dict(scale="nothing", count="everything"), "not scaled"),
)


# ---- 8.2: a walk by numbers --------------------------------------------------------------------------------


def last_that_agrees(
    looks_for="last",
    by="numbers",
    precision="double",
    atol=1e-8,
    copies=True,
    returns="name",
    kept_in="list",
    remove=True,
):
    """Two lists, and from their outputs the last that agrees."""

    def outputs_of(model, batch):
        if copies:
            model = copy.deepcopy(model)
        if precision != "float":
            model = model.double()
        with torch.no_grad(), observe(model, remove) as seen:
            model(**batch)
        if precision == "double and back":
            model.float()
        return list(dict(seen).items()) if kept_in == "dict" else seen

    def first_suspect(mine, reference, batch):
        ours, theirs = outputs_of(mine, batch), outputs_of(reference, batch)

        def agrees(number, name, tensor):
            if by == "places":
                others = [tensor for _, tensor in theirs[number : number + 1]]
            elif by == "names":
                others = [other for its, other in theirs if its == name]
            else:
                others = [other for _, other in theirs]
            for other in others:
                if tensor.shape != other.shape:
                    continue
                if by == "shapes":
                    return True
                if by == "sds":
                    if abs(tensor.std() - other.std()) + abs(tensor.mean() - other.mean()) < atol:
                        return True
                elif torch.allclose(tensor, other, rtol=0, atol=atol):
                    return True
            return False

        agreeing = [number for number, row in enumerate(ours) if agrees(number, *row)]
        if looks_for == "last":
            place = max(agreeing, default=-1) + 1
        elif looks_for == "last itself":
            place = max(agreeing, default=0)
            if place == len(ours) - 1:
                return None
        elif looks_for == "first without":
            without = [number for number in range(len(ours)) if number not in agreeing]
            place = without[0] if without else len(ours)
        elif looks_for == "second at least":
            place = max([0, *agreeing]) + 1
        if place == len(ours) and returns != "always a name":
            return None
        return place if returns == "number" else ours[min(place, len(ours) - 1)][0]

    return first_suspect


def backwards(
    looks_for="last",
    by="numbers",
    precision="double",
    atol=1e-8,
    copies=True,
    returns="name",
    kept_in="list",
    remove=True,
):
    """Walks from the end to the start."""

    def first_suspect(mine, reference, batch):
        seen = {}
        for key, model in (("ours", mine), ("theirs", reference)):
            state = {name: weight.clone() for name, weight in model.state_dict().items()}
            if precision != "float":
                model.double()
            handles, rows = [], seen.setdefault(key, [])
            for name, module in model.named_modules():
                handles.append(
                    module.register_forward_hook(
                        lambda m, i, out, name=name, rows=rows: rows.append(
                            (name, (out[0] if isinstance(out, tuple) else out))
                        )
                    )
                )
            model.eval()(**batch)
            if remove:
                for handle in handles:
                    handle.remove()
            if copies or precision == "double and back":
                model.float()
                model.load_state_dict(state)
            rows[:] = [(name, out.detach()) for name, out in rows if isinstance(out, torch.Tensor)]
            if kept_in == "dict":
                rows[:] = dict(rows).items()
        ours, theirs = seen["ours"], seen["theirs"]

        def known(place):
            name, tensor = ours[place]
            for number, (other_name, other) in enumerate(theirs):
                if list(other.shape) != list(tensor.shape):
                    continue
                if (by == "names" and other_name != name) or (by == "places" and number != place):
                    continue
                if by == "shapes":
                    return True
                if by == "sds":
                    first, second = [tensor.mean(), tensor.std()], [other.mean(), other.std()]
                    if max(abs(one - two) for one, two in zip(first, second)) < atol / 2:
                        return True
                elif (other - tensor).abs().max() <= atol:
                    return True
            return False

        names = [name for name, _ in ours]
        if looks_for == "first without":
            for place, name in enumerate(names):
                if not known(place):
                    return place if returns == "number" else name
            return names[-1] if returns == "always a name" else None
        suspect = None
        for place in reversed(range(len(ours))):
            if known(place):
                if looks_for == "last itself" and suspect is not None:
                    return names[place]
                break
            suspect = place
            if place == 1 and looks_for == "second at least":
                break
        if suspect is None:
            return names[-1] if returns == "always a name" else None
        return suspect if returns == "number" else names[suspect]

    return first_suspect


class Walker:
    """One pass of each, wholly recorded, then a matrix of who agrees with whom."""

    def __call__(self, mine, reference, batch):
        (names, ours), (_, theirs) = (self.walk(model, batch) for model in (mine, reference))
        found = torch.tensor([[self.close(one, two) for two in theirs] for one in ours]).any(1)  # (ours,)
        if found[-1]:
            return None
        return names[found.nonzero().max() + 1] if found.any() else names[0]

    def close(self, one, two):
        return one.shape == two.shape and bool((one - two).abs().max() < 1e-8)

    def walk(self, model, batch):
        twin, kept = copy.deepcopy(model).to(torch.float64), []

        def keep(name):
            def hook(module, inputs, output):
                output = output[0] if isinstance(output, tuple) else output
                if torch.is_tensor(output):
                    kept.append((name, output.detach().clone()))

            return hook

        for name, module in twin.named_modules():
            module.register_forward_hook(keep(name))
        twin(**batch)
        return zip(*kept)


SUSPECT = Answers(
    "first_suspect",
    styles={"last that agrees": last_that_agrees, "backwards": backwards},
    right={"matrix": Walker()},
    wrong={
        "the last that agrees itself": mistake(
            "You name the last module that agrees", looks_for="last itself"
        ),
        "always a name": mistake("there is nobody to suspect", returns="always a name"),
        "a number": mistake("You return the number of a module", returns="number"),
        "float32": mistake("the last digits of float32", precision="float"),
        "agreement to 1e-3": mistake("A bias is off by 0.00001", atol=1e-3),
        "kept in a dictionary": mistake("under one name", kept_in="dict"),
        "mean and sd": mistake("Compare number by number", by="sds"),
        "by name": mistake("not for equal names", by="names"),
        "place by place": mistake("If you compare place by place", by="places"),
        "first without a counterpart": mistake(
            "first output without a counterpart", looks_for="first without"
        ),
        "shapes alone": mistake("although one of the two models", by="shapes"),
        "never the first": mistake("nothing in common", looks_for="second at least"),
        "double in place": mistake("are in double precision afterwards", copies=False),
        "hooks left": mistake(
            "hooks are left on the models", copies=False, precision="double and back", remove=False
        ),
    },
    two_at_once=(dict(atol=1e-3, looks_for="last itself"), "the last that agrees itself"),
)


# ---- 8.3: does an observer tell the truth? -----------------------------------------------------------------


def with_record(
    tells="as it is",
    which="all",
    copies=True,
    notes="at the time",
    passes="one",
    batch_as="clone",
    remove=True,
):
    """Beside the package's `record`."""

    def tells_the_truth(observer, model, batch):
        hidden = batch.clone() if batch_as == "clone" else batch
        if tells == "always":
            return True
        with torch.no_grad(), observer(model) as kept, record(model, keep=True) as seen:
            model(hidden)
        rows = [row.sd for row in seen.rows]
        if not remove:
            model.register_forward_hook(lambda module, inputs, output: None)
        if notes == "afterwards":
            handles, later = [], []
            for module in model.modules():
                handles.append(module.register_forward_hook(lambda m, i, out: later.append(out.detach())))
            with torch.no_grad(), observer(model) as kept:
                model(batch.clone())
            for handle in handles:
                handle.remove()
            rows = [tensor.std(correction=0).item() for tensor in later]
        if passes == "two":
            with torch.no_grad(), record(model) as seen:
                model(batch.clone())
            rows = [row.sd for row in seen.rows]
        if passes == "on what was overwritten":
            with torch.no_grad(), record(model) as seen:
                model(hidden)
            rows = [row.sd for row in seen.rows]
        own_memory = len({tensor.data_ptr() for _, tensor in kept}) == len(kept)
        if which == "memory":
            return own_memory
        right = [abs(t.std(correction=0).item() - sd) < 1e-4 for (_, t), sd in zip(kept, rows, strict=True)]
        answer = {
            "all": all(right),
            "last": right[-1],
            "first": right[0],
            "all, and memory": all(right) and own_memory,
        }[which]
        return not answer if tells == "the opposite" else answer

    return tells_the_truth


def with_own_hooks(
    tells="as it is",
    which="all",
    copies=True,
    notes="at the time",
    passes="one",
    batch_as="clone",
    remove=True,
):
    """With hooks, comparing every number."""

    def tells_the_truth(observer, model, batch):
        given, handles, noted = (batch + 0 if batch_as == "clone" else batch), [], []

        def look(module, inputs, output):
            noted.append(output.detach() if notes == "afterwards" else output.detach() * 1)

        def hang():
            for module in model.modules():
                handles.append(module.register_forward_hook(look))

        with torch.no_grad():
            if passes == "one":
                hang()
            with observer(model) as kept:
                model(given)
            if passes == "two":
                hang()
                model(batch + 0)
            if passes == "on what was overwritten":
                hang()
                model(given)
        if remove:
            for handle in handles:
                handle.remove()
        if tells == "always":
            return bool(len(kept))
        lies = 0
        every = range(len(noted))
        places = {"all": every, "last": [-1], "first": [0], "memory": [], "all, and memory": every}[which]
        for place in places:
            if not torch.allclose(kept[place][1], noted[place], atol=1e-6):
                lies += 1
        if "memory" in which:
            owners = [tensor.untyped_storage().data_ptr() for _, tensor in kept]
            lies += len(owners) - len(set(owners))
        return lies > 0 if tells == "the opposite" else lies == 0

    return tells_the_truth


class Judge(nn.Module):
    """Hashes each output the moment it comes."""

    def forward(self, observer, model, batch):
        sums, handles = [], []

        def look(module, inputs, output):
            sums.append((output.double() * torch.arange(output.numel()).view_as(output)).sum().item())

        for module in model.modules():
            handles.append(module.register_forward_hook(look))
        with torch.no_grad(), observer(model) as kept:
            model(batch.clone())
        for handle in handles:
            handle.remove()
        now = [(t.double() * torch.arange(t.numel()).view_as(t)).sum().item() for _, t in kept]
        return torch.tensor(now == sums)


TRUTH = Answers(
    "tells_the_truth",
    styles={"record": with_record, "own hooks": with_own_hooks},
    right={"module": Judge()},
    wrong={
        "always true": mistake("as of any other", tells="always"),
        "the opposite": mistake("True and False have changed places", tells="the opposite"),
        "looks at memory": mistake("where the tensors lie in memory", which="memory"),
        "last alone": mistake("You compare the last tensor alone", which="last"),
        "first alone": mistake("compare all of them", which="first"),
        "own notes overwritten": mistake("Of the colleague's observer you say True", notes="afterwards"),
        "memory as well": mistake("Two modules that give out one tensor are no lie", which="all, and memory"),
        "on what was overwritten": mistake("a second pass what the first", passes="on what was overwritten"),
        "two passes": mistake("You compare two different passes", passes="two"),
        "batch overwritten": mistake("changes its third argument in place", batch_as="it is"),
        "hooks left": mistake("hooks are left on the model", remove=False),
    },
    two_at_once=(dict(which="last", passes="two"), "last alone"),
)

ANSWERS = (ENTROPIES, SUSPECT, TRUTH)
