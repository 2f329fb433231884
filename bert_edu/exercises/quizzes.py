"""The quiz of each chapter, as it stands there: three questions, and why each option is right or wrong."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """A possible answer to a question, and why it is right or wrong."""

    text: str
    why: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question; one of its options is right."""

    text: str
    options: tuple[Option, ...]


CHAPTER_2 = (
    Question(
        'The word "snowlight" is not in the vocabulary. What does the tokenizer give?',
        (
            Option(
                "[UNK], because the word is unknown",
                "No. [UNK] comes only when, at some point, what is left begins with no known piece.",
            ),
            Option(
                "Pieces that spell it, such as `snow` and `##light`",
                "Yes, as long as each step of the search finds a piece; with all letters in the vocabulary "
                "it does.",
                right=True,
            ),
            Option(
                "The known piece `snow`, then [UNK] for the rest",
                "No. When any part fails, the whole word becomes one [UNK].",
            ),
        ),
    ),
    Question(
        "By score, with a minimum count of 1, a vocabulary fills with odd pairs of letters. Why?",
        (
            Option(
                "Frequent pairs are left over until the end",
                "Not quite. That is what follows; the question is what scores higher.",
            ),
            Option(
                "Two pieces seen once, side by side, score 1, and no pair can score more",
                "Yes. One meeting is taken for a perfect bond, although it says next to nothing.",
                right=True,
            ),
            Option(
                "The score does not know how often a word occurs",
                "No. All three counts are taken over every occurrence of every word.",
            ),
        ),
    ),
    Question(
        "A published model gives poor results. Its tokenizer was loaded with lower-casing, but the "
        "vocabulary is cased. What do you see?",
        (
            Option(
                "An error when the vocabulary is read",
                "No. A vocabulary is a list of tokens, and nothing in it says how texts were prepared.",
            ),
            Option(
                "[UNK] for nearly every word",
                "No. A cased vocabulary has small letters too. In the opposite case you would see it, for "
                "words with capitals.",
            ),
            Option(
                "Tokens that look normal, all of them in small letters",
                "Yes, which is why this mistake lives long. Compare the tokens of one sentence with those "
                "that the model's authors show.",
                right=True,
            ),
        ),
    ),
)

CHAPTER_3 = (
    Question(
        'You look up "the cat saw the dog" once and call `backward`. Which rows of the token table get a '
        "gradient?",
        (
            Option(
                "All of them, since they are one parameter.",
                "No. The gradient has the shape of the whole table, but it is 0 in every row that was not "
                "read.",
            ),
            Option(
                'Four rows; the one of "the" gets the sum of two.',
                'Right. Four different words were read, and "the" from two places.',
                right=True,
            ),
            Option(
                "Five rows, one for each token.",
                "Five tokens, but only four different ids: a row exists once, however often it is read.",
            ),
        ),
    ),
    Question(
        'A trained BERT has its position table set to zero. What does it give for "man bites dog", compared '
        'with "dog bites man"?',
        (
            Option(
                "Random vectors, because it was never trained that way.",
                "They may be poor vectors, but there is nothing random about them. What matters here is how "
                "the two sentences compare.",
            ),
            Option(
                "The same vectors for the same words, in the new order.",
                "Right: permutation equivariance. You saw 1.000 for every token.",
                right=True,
            ),
            Option(
                "Different vectors, because attention reads from left to right.",
                "It does not read in any order. Every token sees all the others at once, and only their "
                "vectors say where they stand.",
            ),
        ),
    ),
    Question(
        "A model with 512 learned positions gets 600 tokens. What is the right thing to do?",
        (
            Option(
                "Nothing: positions beyond the table count as 0.",
                "There is no such rule. The layer raises an error, and the model says "
                "which limit was passed.",
            ),
            Option(
                "Cut the text, or read it in overlapping windows.",
                "Right. Chapter 15 does the latter.",
                right=True,
            ),
            Option(
                "Append 88 sinusoidal rows to the table.",
                "It runs, but the model has never seen such rows, and they are many times longer than its "
                "own. It would need more training.",
            ),
        ),
    ),
)

CHAPTER_4 = (
    Question(
        "A model gives other results for a sentence when it shares a batch with a longer one. What do you "
        "look at first?",
        (
            Option(
                "The division by the square root of D",
                "No. A wrong scale changes results, but by the same amount in every batch.",
            ),
            Option(
                "The attention mask",
                "Yes. In the company of a longer sentence there is padding, and alone there is none. If the "
                "results differ, somebody reads the padding.",
                right=True,
            ),
            Option(
                "The rows of the padded queries, which should have been left out",
                "No. They are computed and nobody reads them. What must be hidden are the columns, the "
                "padded keys.",
            ),
        ),
    ),
    Question(
        "Somebody doubles D from 32 to 64, leaves out the scaling in both cases, and the larger model learns "
        "worse. Why?",
        (
            Option(
                "The scores have twice the variance, so softmax is closer to a hard choice and passes on "
                "less gradient",
                "Yes, and with the scaling the variance would be 1 at both widths.",
                right=True,
            ),
            Option(
                "The larger scores overflow",
                "No. PyTorch's softmax subtracts the largest score of each row first, so nothing overflows. "
                "The shares are finite, only too decided.",
            ),
            Option(
                "Rows of probabilities no longer sum to one",
                "No. Softmax makes every row sum to one, whatever the scores.",
            ),
        ),
    ),
    Question(
        "We remove the position vectors and shuffle the tokens of a sentence. What happens to the context of "
        "one of them?",
        (
            Option(
                "Nothing, except that it comes out at another place",
                "Yes. It reads the same vectors with the same shares, in another order of summation.",
                right=True,
            ),
            Option(
                "It changes, because the token has other neighbours now",
                "No. Attention has no neighbours: it reads all tokens alike, near and far. Only position "
                "vectors make a difference between them.",
            ),
            Option(
                "It changes, because the rows of the probabilities are shuffled",
                "No. Rows and columns are shuffled, and so are the values: each share still meets the value "
                "it belongs to.",
            ),
        ),
    ),
)

CHAPTER_5 = (
    Question(
        "A layer has H = 768 and 12 heads. You change it to 24 heads. What happens to the number of "
        "parameters?",
        (
            Option(
                "It doubles.",
                "It would if each head kept its width. But D = H / A: twice the heads, half the width.",
            ),
            Option(
                "It stays the same.",
                "Right. The four matrices are H × H, however many slices they are read as.",
                right=True,
            ),
            Option(
                "It grows a little, by the biases of the new heads.",
                "A head's biases are D numbers each, so they too only change owner.",
            ),
        ),
    ),
    Question(
        "You load published weights into your own attention layer, and all tensors fit. But the output is "
        "wrong, and the shuffle check of this chapter fails. What do you suspect first?",
        (
            Option(
                "The scaling.",
                "A wrong divisor treats all tokens alike, so the check would hold.",
            ),
            Option(
                "A bias that was not loaded.",
                "The same bias is added to each token, so the check would hold.",
            ),
            Option(
                "A split or merge without its transpose.",
                "Right. Only something that depends on where a token stands breaks the check.",
                right=True,
            ),
        ),
    ),
    Question(
        "What does the fused attention kernel change?",
        (
            Option(
                "The result, a little: it is an approximation.",
                "No. It computes softmax exactly, block by block; the difference is rounding, and shrinks "
                "with the precision.",
            ),
            Option(
                "The memory: it never holds the A tables of T × T.",
                "Right, as long as there is a kernel for the case at hand. We saw one case without.",
                right=True,
            ),
            Option(
                "The number of multiplications.",
                "Each query still meets each key. What it saves is storing the shares and fetching them "
                "again.",
            ),
        ),
    ),
)

CHAPTER_6 = (
    Question(
        "Why does a sentence get the same vectors alone and in a padded batch, as far as LayerNorm is "
        "concerned?",
        (
            Option(
                "Because padding has mean 0",
                "No. Padding has embeddings like any other token, and after one layer they are anything but "
                "0.",
            ),
            Option(
                "Because mean and variance come from one token's own components",
                "Yes. No other token and no other sequence enters the formula. Whether padding is *read* is "
                "a matter for attention and its mask.",
                right=True,
            ),
            Option(
                "Because LayerNorm is switched off in evaluation",
                "No. Dropout is. LayerNorm does the same in training and evaluation; it is BatchNorm that "
                "changes between the two.",
            ),
        ),
    ),
    Question(
        "Where does BERT have no dropout?",
        (
            Option(
                "On the attention probabilities",
                "There it has one, with its own rate, `attention_probs_dropout_prob`.",
            ),
            Option(
                "On the embeddings",
                "There it has one, after their LayerNorm.",
            ),
            Option(
                "After GELU, inside the feed-forward network",
                "Right. It follows after the second matrix. PyTorch's own layer has one in both places.",
                right=True,
            ),
        ),
    ),
    Question(
        "You load published BERT weights into a layer that is pre-LN by mistake. What tells you?",
        (
            Option(
                "`load_state_dict` with `strict=True`",
                "No. Names and shapes are the same, so it is content.",
            ),
            Option(
                "The number of parameters",
                "No. The order of the parts does not change how many there are. A final LayerNorm would add "
                "two vectors, but this mistake usually comes without one.",
            ),
            Option(
                "Comparing hidden states with a reference",
                "Yes, layer by layer. Here it is the first layer that differs. Chapter 7 does this with real "
                "weights.",
                right=True,
            ),
        ),
    ),
)

CHAPTER_7 = (
    Question(
        "Your fresh model, V = 30,522, starts training with a loss of 61. What do you look at first?",
        (
            Option(
                "The learning rate",
                "Not yet: before the first step no learning rate has been used. The first loss depends on "
                "weights and data alone.",
            ),
            Option(
                "The initial weights, the token table above all",
                "Right. An even bet costs about 10.3. A loss far above it means a model that is certain and "
                "wrong, as with `nn.Embedding`'s own standard deviation of 1.",
                right=True,
            ),
            Option(
                "The tokenizer",
                "Wrong ids make learning slow or senseless, but a model that bets evenly loses $\\ln V$ on "
                "any id.",
            ),
        ),
    ),
    Question(
        "After loading, all names and shapes fit, and the last hidden state differs from the reference by "
        "0.4. What is most likely?",
        (
            Option(
                "A wrong eps in LayerNorm",
                "Too large for that: eps showed at about $10^{-3}$.",
            ),
            Option(
                "Two weight matrices in each other's place",
                "Too small for that: wiring mistakes showed at 1 and more.",
            ),
            Option(
                "Something about the mask or the segments",
                "Right. Inputs showed at a few tenths. Compare the three input tensors with the reference's "
                "before you look at the model.",
                right=True,
            ),
        ),
    ),
    Question(
        "Why does `from_pretrained` refuse a pickle, when the file is the one you want?",
        (
            Option(
                "Because pickles round the numbers",
                "They do not: a pickle keeps each bit.",
            ),
            Option(
                "Because opening a pickle runs a program that somebody else chose",
                "Right. It may be harmless, and you cannot know before it has run.",
                right=True,
            ),
            Option(
                "Because safetensors files are smaller",
                "The numbers take the same room in both.",
            ),
        ),
    ),
)

QUIZZES = {2: CHAPTER_2, 3: CHAPTER_3, 4: CHAPTER_4, 5: CHAPTER_5, 6: CHAPTER_6, 7: CHAPTER_7}
