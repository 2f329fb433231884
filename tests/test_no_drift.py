"""No drift: the component that a chapter builds up to and the one in the package give the same numbers.

`components` executes the cells of a chapter that are tagged `imports` or `component`, and no others, and
hands back the names that they define. `assert_same_numbers` gives the chapter's module the weights of the
package's one and compares what the two return.
"""

import copy
import dataclasses
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from torch import nn

import notebooks
from bert_edu import (
    BertConfig,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    BertTokenizer,
    introspection,
    tokenization,
    train_wordpiece,
)
from bert_edu.attention import MultiHeadSelfAttention, attention_bias, scaled_dot_product_attention
from bert_edu.data.little_texts import SIDES, little_task, little_texts
from bert_edu.data.pretraining import Pair, collate, mask_tokens, sentence_pairs
from bert_edu.data.tasks import QuestionExample, TextExample
from bert_edu.embeddings import BertEmbeddings, sinusoidal_positions
from bert_edu.encoder import Encoder, EncoderLayer, FeedForward
from bert_edu.finetuning import metrics, tagging
from bert_edu.finetuning import question_answering as qa
from bert_edu.finetuning.batches import grouped_by_length
from bert_edu.finetuning.classification import Classification
from bert_edu.finetuning.engine import Recipe, evaluate, finetune
from bert_edu.finetuning.models import set_dropout
from bert_edu.heads import IGNORE, MaskedLanguageModelHead, masked_language_model_loss
from bert_edu.model import Pooler
from bert_edu.notebook import published_model
from bert_edu.pretrained import published_names
from bert_edu.training.loop import train_step
from bert_edu.training.metrics import NeighbourCounts
from bert_edu.training.optim import adamw, google_warmup_decay, linear_warmup_decay
from helpers import batch, randomise


def components(path):
    """The names that the cells tagged `imports` and `component` of the notebook at `path` define.

    Raises AssertionError when there is no such cell, and whatever a cell raises: they must need no other
    cell.
    """
    cells = [
        cell
        for cell in notebooks.read(path).cells
        if cell.cell_type == "code" and {"imports", "component"} & set(cell.metadata.get("tags", []))
    ]
    assert any("component" in cell.metadata.tags for cell in cells), (
        f"{path.name} has no cell tagged `component`"
    )
    namespace = {"__name__": path.stem}
    for cell in cells:
        exec(compile(cell.source, f"{path.name}, cell {cell.id}", "exec"), namespace)
    return SimpleNamespace(**namespace)


def chapter(name):
    """The components of notebooks/`name`.ipynb."""
    return components(notebooks.ROOT / "notebooks" / f"{name}.ipynb")


def tensors(output):
    """The tensors of what a module returns, be it a tensor, a tuple or an object with fields."""
    if isinstance(output, torch.Tensor):
        return [output]
    if dataclasses.is_dataclass(output) or isinstance(output, SimpleNamespace):
        output = vars(output)
    if isinstance(output, dict):
        output = output.values()
    return [tensor for part in output if part is not None for tensor in tensors(part)]


def assert_same_numbers(from_chapter, from_package, *inputs, **named_inputs):
    """Asserts that two modules agree, output and gradient, when they have the same weights.

    Arguments:
        from_chapter, from_package: modules whose parameters have the same names and shapes. Both become
        float64,
            and the package's weights are drawn anew, far from their initial values, so that no bias and no
            LayerNorm can be left out unnoticed.
        inputs, named_inputs: what both are called with; floating-point tensors become float64.

    Raises:
        RuntimeError: the parameters' names or shapes differ.
        AssertionError: a number differs by more than 1e-10.
    """
    randomise(from_package.double().eval())
    from_chapter.double().eval().load_state_dict(from_package.state_dict())

    def run(module):
        outputs = tensors(
            module(*(to_double(x) for x in inputs), **{k: to_double(x) for k, x in named_inputs.items()})
        )
        assert outputs, "the module returned no tensor"
        module.zero_grad()
        # Each number weighs differently, so that no two errors cancel.
        sum(
            (output * torch.arange(output.numel()).reshape(output.shape)).mean() for output in outputs
        ).backward()
        return outputs, {name: parameter.grad for name, parameter in module.named_parameters()}

    for ours, theirs in zip(run(from_chapter), run(from_package), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def to_double(x):
    return x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x


# The mechanism itself, on a notebook of four cells

FORWARD = "        return self.layer_norm(x + self.dense(x))"


def write_notebook(path, forward=FORWARD):
    code = f"""
class Layer(nn.Module):
    def __init__(self, H):
        super().__init__()
        self.dense = nn.Linear(H, H)
        self.layer_norm = nn.LayerNorm(H)

    def forward(self, x):  # (B, T, H)
{forward}"""
    cells = [
        nbformat.v4.new_code_cell("import torch\nfrom torch import nn", metadata={"tags": ["imports"]}),
        nbformat.v4.new_code_cell("scale = 1 / 0"),
        nbformat.v4.new_code_cell(code, metadata={"tags": ["component"]}),
        nbformat.v4.new_markdown_cell("# Not code", metadata={"tags": ["component"]}),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


class PackageLayer(nn.Module):
    """What the notebook's Layer is compared with."""

    def __init__(self, H):
        super().__init__()
        self.layer_norm = nn.LayerNorm(H)
        self.dense = nn.Linear(H, H)

    def forward(self, x):
        return self.layer_norm(nn.functional.linear(x, self.dense.weight, self.dense.bias) + x)


def compare(path):
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))  # (B, T, H)
    assert_same_numbers(components(path).Layer(5), PackageLayer(5), x)


def test_equal_components_pass(tmp_path):
    compare(write_notebook(tmp_path / "trial.ipynb"))


@pytest.mark.parametrize(
    "forward",
    [
        "        return self.layer_norm(x + self.dense(x) * (1 + 1e-7))",
        "        return self.layer_norm(x + x @ self.dense.weight.T)",
        "        return x + self.dense(self.layer_norm(x))",
        "        return self.layer_norm(x + self.dense(x).detach())",
    ],
    ids=["scaled", "without bias", "other order", "no gradient"],
)
def test_a_changed_component_fails(tmp_path, forward):
    with pytest.raises(AssertionError):
        compare(write_notebook(tmp_path / "trial.ipynb", forward))


def test_a_component_that_needs_another_cell_fails(tmp_path):
    with pytest.raises(NameError, match="scale"):
        compare(write_notebook(tmp_path / "trial.ipynb", "        return x * scale"))


def test_a_renamed_parameter_fails(tmp_path):
    path = write_notebook(tmp_path / "trial.ipynb")
    notebook = notebooks.read(path)
    notebook.cells[2].source = notebook.cells[2].source.replace("dense", "linear")
    nbformat.write(notebook, path)
    with pytest.raises(RuntimeError, match="linear.weight"):
        compare(path)


# The chapters, in the order of the book

ODD = BertConfig(
    vocab_size=99,
    hidden_size=36,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=37,
    max_position_embeddings=17,
    type_vocab_size=3,
)


def hidden_states(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def same(found, expected, tolerance=1e-10):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


TEXTS = [
    "The ferry left the island late. Ferries are later than rain; aaaa banana.",
    "Zoë’s unplayed café, 1937 東京 🙂",
    "x" * 101,
]


def test_chapter_2_wordpiece():
    found = chapter("02_wordpiece")
    counts = tokenization.count_words(TEXTS)
    assert len(counts) > 20
    for word in counts:
        letters = tokenization.split_characters(word)
        assert found.split_letters(word) == letters
        for pair in (("##a", "##n"), ("a", "##a"), ("##a", "##a")):
            assert found.merged(letters, pair) == tokenization.merge_pair(letters, pair)
    words = [(tokenization.split_characters(word), count) for word, count in counts.items()]
    expected = tokenization.piece_counts(words), tokenization.pair_counts(words)
    assert found.count_pieces_and_pairs(words) == expected
    for min_count in (1, 2, 3):
        expected = list(tokenization.wordpiece_merges(counts, min_count))
        assert list(found.recounted_merges(counts, min_count, tokenization.merge_score)) == expected
    tokenizer = BertTokenizer.from_pretrained(published_model())
    for vocabulary in (tokenizer.vocab, set(train_wordpiece(TEXTS, 80))):
        for word in (word for text in TEXTS for word in tokenization.split_words(text)):
            assert found.greedy_pieces(word, vocabulary) == tokenization.wordpiece(word, vocabulary)
    pair = tokenizer(TEXTS[0], TEXTS[1])
    expected = pair.input_ids, pair.token_type_ids, pair.attention_mask
    assert found.encode_pair(TEXTS[0], TEXTS[1], tokenizer.vocab) == expected


def test_chapter_3_embeddings():
    found = chapter("03_input_embeddings")
    inputs = batch(ODD)
    ids, types = inputs["input_ids"], inputs["token_type_ids"]
    package = BertEmbeddings(ODD)
    assert_same_numbers(found.Embeddings(99, 36, 17, 3, 0.1), package, ids, token_type_ids=types)
    tables = list(package.state_dict().values())
    by_loop = torch.stack([found.embed_loop(row, row_types, *tables) for row, row_types in zip(ids, types)])
    same(by_loop, package(ids, token_type_ids=types))
    for form in (found.sinusoids_loop, found.sinusoids_vectorised):
        same(form(37, 32), sinusoidal_positions(37, 32), 1e-5)  # the package computes them in float32


def test_chapter_4_attention():
    found = chapter("04_attention")
    query, key, value = hidden_states(3, 3, 2, 7, 5)  # three of (B, A, T, D)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [0] * 7])
    bias = attention_bias(mask, torch.float64)
    same(found.attention_bias_loop(mask).double(), bias)
    for given in (None, bias):
        same(
            found.attention_batch(query, key, value, given),
            scaled_dot_product_attention(query, key, value, given),
        )
    for form in (found.attention_loop, found.attention_matrix):
        one_head = query[0, 0], key[0, 0], value[0, 0]
        same(form(*one_head), scaled_dot_product_attention(*one_head))


def test_chapter_5_heads():
    found = chapter("05_multi_head")
    hidden = hidden_states(3, 7, 36)
    bias = attention_bias((torch.arange(7) < torch.tensor([[7], [5], [2]])).long(), torch.float64)
    package = MultiHeadSelfAttention(ODD)
    assert_same_numbers(found.FusedHeads(ODD), package, hidden, bias=bias)
    head_by_head, stacked = found.HeadByHead(ODD).double(), found.StackedHeads(ODD).double()
    randomise(head_by_head)
    stacked.load_state_dict(found.stack_heads(head_by_head.state_dict(), ODD.num_attention_heads))
    package.load_state_dict(found.fuse_projections(stacked.state_dict()))
    for form in (head_by_head, stacked):
        same(form(hidden, bias), package(hidden, bias=bias)[0])
    split = found.split_heads(hidden, ODD.num_attention_heads)
    same(split, package.split_heads(hidden))
    same(found.merge_heads(split), hidden)


def test_chapter_6_encoder():
    found = chapter("06_encoder_layer")
    hidden = hidden_states(2, 7, 36)
    bias = attention_bias(torch.tensor([[1] * 7, [1] * 5 + [0] * 2]), torch.float64)
    assert_same_numbers(found.FeedForward(ODD), FeedForward(ODD), hidden)
    assert_same_numbers(found.LayerNorm(36), nn.LayerNorm(36, eps=1e-12), hidden)
    assert_same_numbers(found.EncoderLayer(ODD), EncoderLayer(ODD), hidden, bias=bias)

    class States(Encoder):  # the chapter's stack returns its list of states
        def forward(self, hidden, *, bias):
            return super().forward(hidden, bias=bias, output_hidden_states=True)[1]

    assert_same_numbers(found.Encoder(ODD), States(ODD), hidden, bias=bias)


def test_chapter_7_model():
    found = chapter("07_bert_model")
    inputs = batch(ODD)
    ids = inputs.pop("input_ids")
    assert_same_numbers(found.Pooler(ODD), Pooler(ODD), hidden_states(2, 7, 36))
    assert_same_numbers(found.Bert(ODD), BertModel(ODD), ids, **inputs)
    state = BertModel(ODD).state_dict()
    assert sum(found.parameter_counts(ODD).values()) == sum(tensor.numel() for tensor in state.values())
    published = {}
    for name, tensor in state.items():
        parts = published_names(name)
        published |= dict(zip(parts, tensor.chunk(len(parts))))
    translated = found.our_names(published)
    assert set(translated) == set(state) and all(torch.equal(translated[name], state[name]) for name in state)
    # The chapter makes its truncated normal from normal draws, PyTorch otherwise: the same distribution.
    draws = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    mine, theirs = found.truncated_normal(draws, 0.02), torch.empty(100_000)
    nn.init.trunc_normal_(theirs, std=0.02, a=-0.04, b=0.04, generator=torch.Generator().manual_seed(1))
    levels = torch.linspace(0, 1, 21)
    same(mine.quantile(levels), theirs.quantile(levels), 1e-3)


def test_chapter_8_inspecting():
    """`observe` sees what `record` sees, and `walk` stops at the module that `compare` names."""
    found = chapter("08_inspecting")
    model = BertModel(ODD).eval()
    randomise(model)
    inputs = batch(ODD)
    with torch.no_grad(), introspection.record(model, keep=True) as recording, found.observe(model) as seen:
        model(**inputs)
    rows = [row for row in recording.rows if row.name]  # the model itself gives out no tensor
    assert [name for name, _ in seen] == [row.name for row in rows]
    assert all(torch.equal(tensor, row.tensor) for (_, tensor), row in zip(seen, rows))
    for name in (
        "embeddings.norm",
        "encoder.layers.1.attention.output",
        "encoder.layers.0.feed_forward.expand",
    ):
        mine = copy.deepcopy(model)
        with torch.no_grad():
            mine.get_submodule(name).bias[3] += 0.1
        first = next(module for module, apart in found.walk(mine, model, inputs) if apart > 0)
        assert first == name == introspection.compare(mine, model, inputs).first.mine


def test_chapter_9_pretraining_data():
    found = chapter("09_pretraining_data")
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = BertTokenizer([*specials, *(f"w{number}" for number in range(94))])

    def generator(seed):
        return torch.Generator().manual_seed(seed)

    def numbers(low, high, *shape):
        return torch.randint(low, high, shape, generator=draw).tolist()

    draw = generator(9)
    documents = [
        [numbers(5, 99, words) for words in numbers(1, 9, sentences)] for sentences in numbers(1, 9, 40)
    ]
    for seed in range(20):
        settings = dict(max_length=30, generator=generator(seed), short_probability=0.3)
        expected = list(sentence_pairs(documents, tokenizer, **settings))
        assert list(found.pairs_loop(documents, 30, generator(seed), short_probability=0.3)) == expected

    ordinary = torch.arange(len(specials), tokenizer.vocab_size)
    special = torch.arange(len(specials))
    pairs = [Pair(numbers(5, 99, n), numbers(5, 99, 40 - n), 0) for n in numbers(1, 20, 12)] + expected[:20]
    ids = collate(pairs, tokenizer).input_ids
    for seed in range(5):
        expected = mask_tokens(ids, tokenizer, generator=generator(seed))
        drawn = found.draw_numbers(ids.shape, ordinary, generator(seed))
        for form in (found.mask_loop, found.mask_vectorised):
            given = tokenizer.pad_token_id, tokenizer.mask_token_id, *drawn
            assert all(map(torch.equal, form(ids, special, *given), expected))

    lengths, counts = [3, 9, 2, 7, 4], torch.zeros(2)  # of pairs, and of random ones
    for seed in range(2000):
        lone = [[[number] * length for number, length in enumerate(lengths, start=5)], [[50] * 9] * 99]
        settings = dict(max_length=15, generator=generator(seed), short_probability=0.0, numbers=[0])
        labels = [pair.next_sentence_label for pair in sentence_pairs(lone, tokenizer, **settings)]
        counts += torch.tensor([len(labels), sum(labels)])
    same(counts / 2000, torch.tensor(found.expected_counts(lengths, 12)), 0.1)  # 4 standard errors


def test_chapter_10_objectives():
    found = chapter("10_objectives")
    hidden, table = hidden_states(3, 7, 36), hidden_states(101, 36)[2:]  # (B, T, H), (V, H)
    package = MaskedLanguageModelHead(ODD)
    assert_same_numbers(found.MaskedWordHead(ODD), package, hidden, table)
    draw = torch.Generator().manual_seed(1)
    labels = torch.randint(99, (3, 7), generator=draw)
    labels[torch.rand(3, 7, generator=draw) < 0.6] = -100
    expected = masked_language_model_loss(package(hidden, table), labels)
    for form in (found.mlm_loss_loop, found.mlm_loss_everywhere, found.mlm_loss_gathered):
        same(form(hidden, labels, package, table), expected)

    words = [f"w{number}" for number in range(6)]
    tokenizer = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])
    documents = torch.randint(5, 10, (12, 9), generator=draw).tolist()  # the last word never occurs
    counted = NeighbourCounts([[document] for document in documents], tokenizer)
    rows = [[2, *document, 3] for document in documents]
    tables = found.count_neighbours(rows)
    for left in range(2, 11):
        for right in range(3, 11):
            theirs = counted.predict(np.array([left]), np.array([right])).values()
            assert found.guesses(tables, left, right) == tuple(int(guess[0]) for guess in theirs)
    # The blend has no counterpart in the package: its formula, spelled out.
    left, word, _ = (np.concatenate([row[k : len(row) - 2 + k] for row in rows]) for k in range(3))
    asked = np.stack(np.meshgrid(np.arange(2, 11), np.arange(5, 11))).reshape(2, -1)
    by_formula = []
    for context, guess in asked.T.tolist():
        beside = word[left == context]
        guests = len(set(beside.tolist()))
        share = (beside == guess).sum() + guests * 0.1
        by_formula.append(share / (len(beside) + guests) if len(beside) else 0.1)
    blended = found.blended(left, word, *asked, np.full(asked.shape[1], 0.1), 11)
    np.testing.assert_allclose(blended, by_formula, rtol=1e-12)


def test_chapter_11_training():
    found = chapter("11_training_loop")
    for ours, theirs in ((found.triangle, linear_warmup_decay), (found.google, google_warmup_decay)):
        for warmup, total in ((0, 7), (3, 10), (9, 10)):
            for step in range(total):
                assert ours(step, warmup, total) == pytest.approx(theirs(step, warmup, total))

    gradients = [hidden_states(3, 5), hidden_states(7)]
    for limit in (0.5, 100.0):
        parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient.clone()
        norm = nn.utils.clip_grad_norm_(parameters, limit)
        clipped, ours = found.clip_together(gradients, limit)
        same([parameter.grad for parameter in parameters], clipped, 1e-6)  # PyTorch adds 1e-6 to the norm
        assert ours == pytest.approx(norm.item())

    matrix = nn.Linear(4, 3, bias=False).double()
    weight, m, v = matrix.weight.detach().clone(), 0.0, 0.0
    optimizer = adamw(matrix, 0.1, weight_decay=0.3)
    for t, gradient in enumerate(hidden_states(4, 3, 4), start=1):
        matrix.weight.grad = gradient.clone()
        optimizer.step()
        weight, m, v = found.adamw_step(weight, gradient, m, v, t, 0.1, decay=0.3)
        same(matrix.weight.detach(), weight)

    tokenizer = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(94))])
    draw = torch.Generator().manual_seed(2)
    pairs = [Pair(torch.randint(5, 99, (n,), generator=draw).tolist(), [7, 8, 9], n % 2) for n in (3, 5, 9)]
    made = collate(pairs, tokenizer)
    made.input_ids, made.labels = mask_tokens(made.input_ids, tokenizer, generator=draw)
    torch.manual_seed(0)
    ours = BertForPreTraining(ODD).double().eval()
    theirs = copy.deepcopy(ours)
    first, second = (adamw(model, 0.1) for model in (ours, theirs))
    for rate in (0.01, 0.003):
        loss, norm = found.training_step(ours, first, made, rate, clip_norm=0.7)
        for group in second.param_groups:
            group["lr"] = rate
        sums = train_step(theirs, second, [made], mask_token_id=tokenizer.mask_token_id, clip_norm=0.7)
        assert loss == pytest.approx(float(sums["mlm_loss"] + sums["nsp_loss"]))
        assert norm == pytest.approx(float(sums["gradient_norm"])) and norm > 0.7
    same(list(ours.parameters()), list(theirs.parameters()))


def test_chapter_13_classification(tmp_path):
    found = chapter("13_classification")
    inputs = batch(ODD)
    ids, labels = inputs.pop("input_ids"), torch.arange(len(inputs["attention_mask"])) % 3
    ours = found.Classifier(BertModel(ODD), 3)
    assert_same_numbers(ours, BertForSequenceClassification(ODD, 3), ids, labels=labels, **inputs)

    tokenizer = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(94))])
    steep = dataclasses.replace(ODD, initializer_range=0.3)  # gradients that clipping shortens
    BertForPreTraining(steep).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    draw = np.random.default_rng(13)
    texts = [" ".join(f"w{n}" for n in draw.integers(0, 94, draw.integers(1, 12))) for _ in range(20)]
    examples = [TextExample(text, None, "abc"[number % 3]) for number, text in enumerate(texts)]
    task = Classification.of(tokenizer, examples, max_length=17)
    recipe = Recipe(
        epochs=3, batch_size=6, learning_rate=0.01, warmup=0.3, dropout=0.0, precision="float32", device="cpu"
    )
    result = finetune(task, tmp_path, examples, examples, recipe, report=lambda line: None)

    features, order = task.features(examples), torch.Generator().manual_seed(0)
    lengths = [len(feature.input_ids) for feature in features]
    epochs = [
        [task.collate([features[n] for n in numbers]) for numbers in grouped_by_length(lengths, 6, order)]
        for _ in range(3)
    ]
    torch.manual_seed(0)
    model, accuracies = task.new_model(tmp_path), []
    set_dropout(model, 0.0)

    def look(model):
        assert not model.training
        accuracies.append(evaluate(task, model, examples, device="cpu")["accuracy"])

    losses = found.fine_tune(model, adamw(model, 0.5), epochs, peak=0.01, warmup=0.3, after_epoch=look)
    assert losses == pytest.approx(result.losses, abs=1e-4)
    assert accuracies == [line["accuracy"] for line in result.history]


def test_chapter_14_tagging():
    found = chapter("14_tagging")
    for side in SIDES:
        ours = [found.bio_tags(text.text, text.names) for text in little_texts(side)]
        theirs = little_task("names", side)  # the same, cut into sentences
        for part in (0, 1):
            by_text, by_sentence = (
                [item for example in examples for item in example[part]] for examples in (ours, theirs)
            )
            assert by_text == by_sentence

    draw = np.random.default_rng(14)
    names = ["O", "B-a", "I-a", "B-b", "I-b"]
    gold, said = ([draw.choice(names, draw.integers(1, 9)).tolist() for _ in range(300)] for _ in range(2))
    said = [(guess * 9)[: len(tags)] for tags, guess in zip(gold, said)]
    assert all(found.spans(tags) == metrics.entity_spans(tags) for tags in gold)
    for number in (1, 300):
        row = metrics.entity_table(gold[:number], said[:number])["all"]
        expected = [row["precision"], row["recall"], row["f1"]]
        assert found.precision_recall_f1(gold[:number], said[:number]) == pytest.approx(expected)

    for tags in gold:
        ids_of_words = {word: draw.integers(5, 99, draw.integers(0, 4)).tolist() for word in range(len(tags))}
        ids, labels = found.label_pieces(range(len(tags)), tags, ids_of_words.get, names)
        expected, places = tagging.align(list(ids_of_words.values()), room=99)
        assert ids == expected
        numbers = [names.index(tag) for tag in tags]
        assert [IGNORE, *labels, IGNORE] == tagging.spread(numbers, places, len(ids) + 2)

    class Logits(BertForTokenClassification):
        def forward(self, *inputs, **named):
            return super().forward(*inputs, **named).logits

    inputs = batch(ODD)
    assert_same_numbers(found.TokenClassifier(ODD, 5), Logits(ODD, 5), inputs.pop("input_ids"), **inputs)
    logits, labels = hidden_states(3, 7, 5), torch.arange(21).reshape(3, 7) % 5
    labels[:, ::3] = IGNORE
    for form in (found.tagging_loss_loop, found.tagging_loss):
        same(form(logits, labels), masked_language_model_loss(logits, labels))


def test_chapter_15_question_answering():
    found = chapter("15_question_answering")
    inputs = batch(ODD)
    ids = inputs.pop("input_ids")
    places = torch.arange(len(ids)) % (ids.shape[1] - 2)
    inputs |= {"start_positions": places, "end_positions": places + 2}
    assert_same_numbers(found.Answerer(ODD), BertForQuestionAnswering(ODD), ids, **inputs)

    draw = np.random.default_rng(15)
    for _ in range(200):
        borders = np.sort(draw.choice(60, 20, replace=False)).tolist()
        offsets = list(zip(borders[::2], borders[1::2]))  # with gaps, as between words
        start, end = np.sort(draw.choice(61, 2, replace=False)).tolist()
        assert found.token_span_loop(offsets, start, end) == qa.token_span(offsets, start, end)

        logits = draw.normal(size=(2, draw.integers(1, 50))).round(1).astype(np.float32)  # some are equal
        masks = draw.random(logits.shape) < 0.7
        settings = dict(zip(("n_best", "max_answer"), draw.integers(1, 30, 2).tolist()))
        expected = qa.best_spans(*logits, *masks, **settings)
        assert found.spans_loop(*logits, *masks, **settings) == expected

        guess, truth = (" ".join(draw.choice(["the", "A.", "an", "Tom's", "boat", ""], 3)) for _ in range(2))
        assert found.plain(guess) == metrics.normalized(guess)
        assert found.word_f1(guess, truth) == metrics.squad_f1(guess, [truth])

    # In the last case a much shorter window may show a token a little more, and yet have no say.
    for sizes in [*draw.integers(1, [80, 30, 40], (100, 3)).tolist(), [520, 260, 250]]:
        cut = qa.windows(*sizes)
        shown = qa.maximum_context(cut)
        for position in range(sizes[0]):
            best = found.best_window_loop(cut, position)
            assert qa.has_maximum_context(cut, best, position) and shown[best][position - cut[best][0]]

    tokenizer = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(94))])
    task = qa.QuestionAnswering(tokenizer, max_length=16, stride=5, max_question=4, unanswerable=True)
    examples = [
        QuestionExample(str(length), "w1 w2", " ".join(f"w{n}" for n in range(length)), [])
        for length in (0, 5, 40)
    ]
    windows = task.features(examples)
    raw = [draw.normal(size=(2, len(window.input_ids))).astype(np.float32) for window in windows]
    for number, prediction in enumerate(task.predictions(examples, windows, raw)):
        parts = []
        for window, logits in zip(windows, raw):
            if window.example == number:
                spans = qa.best_spans(*logits, window.may_start, window.may_end)
                null = float(logits[0, 0]) + float(logits[1, 0])
                parts.append((null, spans[0].score if spans else None))
        assert found.null_lead(parts) == prediction["null_lead"]
