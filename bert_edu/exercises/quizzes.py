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
                "Pieces that spell it, such as snow and ##light",
                "Yes, as long as each step of the search finds a piece; with all letters in the vocabulary "
                "it does.",
                right=True,
            ),
            Option(
                "The known piece snow, then [UNK] for the rest",
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
                "All of them, since they are one parameter",
                "No. The gradient has the shape of the whole table, but it is 0 in every row that was not "
                "read.",
            ),
            Option(
                'Four rows; the one of "the" gets the sum of two',
                'Right. Four different words were read, and "the" from two places.',
                right=True,
            ),
            Option(
                "Five rows, one for each token",
                "Five tokens, but only four different ids: a row exists once, however often it is read.",
            ),
        ),
    ),
    Question(
        'A trained BERT has its position table set to zero. What does it give for "man bites dog", compared '
        'with "dog bites man"?',
        (
            Option(
                "Random vectors, because it was never trained that way",
                "They may be poor vectors, but there is nothing random about them. What matters here is how "
                "the two sentences compare.",
            ),
            Option(
                "The same vectors for the same words, in the new order",
                "Right: permutation equivariance. You saw 1.000 for every token.",
                right=True,
            ),
            Option(
                "Different vectors, because attention reads from left to right",
                "It does not read in any order. Every token sees all the others at once, and only their "
                "vectors say where they stand.",
            ),
        ),
    ),
    Question(
        "A model with 512 learned positions gets 600 tokens. What is the right thing to do?",
        (
            Option(
                "Nothing: positions beyond the table count as 0",
                "There is no such rule. The layer raises an error, and the model says "
                "which limit was passed.",
            ),
            Option(
                "Cut the text, or read it in overlapping windows",
                "Right. Chapter 15 does the latter.",
                right=True,
            ),
            Option(
                "Append 88 sinusoidal rows to the table",
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
                "It doubles",
                "It would if each head kept its width. But D = H / A: twice the heads, half the width.",
            ),
            Option(
                "It stays the same",
                "Right. The four matrices are H × H, however many slices they are read as.",
                right=True,
            ),
            Option(
                "It grows a little, by the biases of the new heads",
                "A head's biases are D numbers each, so they too only change owner.",
            ),
        ),
    ),
    Question(
        "You load published weights into your own attention layer, and all tensors fit. But the output is "
        "wrong, and the shuffle check of this chapter fails. What do you suspect first?",
        (
            Option(
                "The scaling",
                "A wrong divisor treats all tokens alike, so the check would hold.",
            ),
            Option(
                "A bias that was not loaded",
                "The same bias is added to each token, so the check would hold.",
            ),
            Option(
                "A split or merge without its transpose",
                "Right. Only something that depends on where a token stands breaks the check.",
                right=True,
            ),
        ),
    ),
    Question(
        "What does the fused attention kernel change?",
        (
            Option(
                "The result, a little: it is an approximation",
                "No. It computes softmax exactly, block by block; the difference is rounding, and shrinks "
                "with the precision.",
            ),
            Option(
                "The memory: it never holds the A tables of T × T",
                "Right, as long as there is a kernel for the case at hand. We saw one case without.",
                right=True,
            ),
            Option(
                "The number of multiplications",
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
                "load_state_dict with strict=True",
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

CHAPTER_14 = (
    Question(
        "A word has three pieces. What does it contribute to the loss?",
        (
            Option(
                "Three terms, one for each piece",
                "No. Then long words would weigh more than short ones. Two of its pieces have the label "
                "-100.",
            ),
            Option(
                "One term, at its first piece",
                "Yes. One word, one decision. The first piece has read the others through attention.",
                right=True,
            ),
            Option(
                "One term: the mean over its three pieces",
                "No. One could build it like that, but nothing here takes a mean over pieces.",
            ),
        ),
    ),
    Question(
        "The annotation says *Tin Bath Quartet*, the model says *Bath Quartet*, both an organisation. "
        "What does F1 of names count?",
        (
            Option(
                "Two thirds of a name",
                "No. There are no parts of a name in this score.",
            ),
            Option(
                "One error",
                "Not quite. The annotated name was not found, which costs recall; and what was predicted "
                "is not a name, which costs precision.",
            ),
            Option(
                "Two errors: one name missed, one invented",
                "Yes. To mark nothing at all would have been only one.",
                right=True,
            ),
        ),
    ),
    Question(
        "Your tagger for names is right on 91 % of the words. What do you know?",
        (
            Option(
                "Nothing yet",
                "Right. In the little texts, always saying O has as much. Ask for F1, and for a baseline.",
                right=True,
            ),
            Option(
                "It finds most of the names",
                "It may find none: nine words in ten are O.",
            ),
            Option(
                "Its F1 is about 0.9",
                "No. Accuracy counts words, F1 whole names. The two can lie as far apart as 91 % and 0.",
            ),
        ),
    ),
)

CHAPTER_15 = (
    Question(
        "A text has three windows. Their null scores are 8, 7 and 1, the scores of their best spans 3, 2 "
        "and 6. The threshold is 0. What does the model say?",
        (
            Option(
                "No answer, because 8 is larger than 6",
                "No. The first window is only sure that *it* does not hold the answer.",
            ),
            Option(
                "No answer, because two of three windows say so",
                "No. Windows are not counted. In a long text nearly all of them must say so.",
            ),
            Option(
                "The span of the third window",
                "Yes. The lead is 1 - 6 = -5: the window that speaks least for silence is the one with "
                "the answer.",
                right=True,
            ),
        ),
    ),
    Question(
        "The training loss falls as it should. On questions with an answer EM is 0 %, and F1 is 60 %. "
        "What do you do?",
        (
            Option(
                "Train for more epochs",
                "No. Something that is never exactly right, but often nearly, is not a lack of training.",
            ),
            Option(
                "Lower the learning rate",
                "No. Then the loss would not fall as it should.",
            ),
            Option(
                "Send a perfect model through the code",
                "Yes. A border is probably off by one, in the labels or where the answer is cut.",
                right=True,
            ),
        ),
    ),
    Question(
        "All your texts have at most 300 tokens, and windows take 384. You halve the stride from 128 to "
        "64. What changes?",
        (
            Option(
                "There are twice as many windows",
                "No. The cutting stops as soon as a window reaches the end of the text, and the first one "
                "does.",
            ),
            Option(
                "Nothing",
                "Yes. Each question has one window, as before.",
                right=True,
            ),
            Option(
                "Answers at the end of a window are found more often",
                "No. That would need a text that is longer than a window.",
            ),
        ),
    ),
)

CHAPTER_12 = (
    Question(
        "Your model's first loss for words is 1.5, with V = 30,522 ($\\ln V = 10.3$). What do you "
        "suspect first?",
        (
            Option(
                "The initialisation is very good",
                "No. Knowing nothing costs $\\ln V$. No initialisation knows words.",
            ),
            Option(
                "The mean runs over all positions, of which about 15 % are scored",
                "Yes: 0.15 times 10.3 is 1.5. The ratio gives it away.",
                right=True,
            ),
            Option(
                "The learning rate is too high",
                "No. Before the first step there is no learning rate.",
            ),
        ),
    ),
    Question(
        "One batch by heart: the loss falls from $\\ln V$ and stops, perfectly still, far above zero. "
        "What is least likely?",
        (
            Option(
                "The input is lost on its way",
                "That is likely. The model knows then what can be known without it, and no more.",
            ),
            Option(
                "Softmax was applied twice",
                "Likely too: it has a floor that can be computed.",
            ),
            Option(
                "There is too little data",
                "Yes. One batch is to be remembered, not understood; more data would make it harder.",
                right=True,
            ),
        ),
    ),
    Question(
        "The loss goes flat at a third of the run. Which panel do you look at first?",
        (
            Option(
                "The learning rate",
                "Yes. If it is at zero, the schedule was counted wrongly, and nothing else needs to be "
                "looked at.",
                right=True,
            ),
            Option(
                "Tokens a second",
                "No. Speed does not decide what is learned in a step.",
            ),
            Option(
                "The accuracy on kept words",
                "Later. It tells whether the model copies, but not why it has stopped.",
            ),
        ),
    ),
)

CHAPTER_8 = (
    Question(
        "In a fresh model with 24 layers every LayerNorm gives out a mean of 0 and an sd of 1. What do "
        "you know?",
        (
            Option(
                "The signal comes through",
                "No. The stack without residuals had the same numbers, and all its tokens were one vector.",
            ),
            Option(
                "That the norms are there and have their first weights",
                "Yes, and no more. A norm gives out these numbers whatever goes in.",
                right=True,
            ),
            Option(
                "That the initial weights have the right size",
                "No. A norm hides the size of everything before it. Look at what comes out of the matrices.",
            ),
        ),
    ),
    Question(
        "`model(ids).attentions` is `None`, and no forward hook sees a share. Why?",
        (
            Option(
                "The model is in evaluation mode",
                "The mode decides about dropout. Shares exist in both, or in neither.",
            ),
            Option(
                "The hooks hang on the wrong modules",
                "There is no right one: the shares are made by an operation inside a module.",
            ),
            Option(
                "The fused kernel never makes the tensor of shares",
                "Right. Ask for attention, or compute the shares from the queries and keys that go into "
                "the kernel.",
                right=True,
            ),
        ),
    ),
    Question(
        "In a walk through two models `feed_forward.contract` is the first module that differs. Its "
        "weights are equal to the last bit. Where do you look?",
        (
            Option(
                "At what it is given: the activation before it",
                "Right. `expand` agrees and `contract` does not, and between them stands a function that "
                "no hook sees.",
                right=True,
            ),
            Option(
                "At the LayerNorm after it",
                "That comes later, and cannot change what came before.",
            ),
            Option(
                "At how the matrix is multiplied",
                "Possible, but both use the same `nn.Linear`. Look first at what is yours.",
            ),
        ),
    ),
)

CHAPTER_9 = (
    Question(
        "On your corpus 68 % of the pairs are random. What do you conclude?",
        (
            Option(
                "The coin is not fair",
                "Not from this. With a fair coin the share depends on the documents.",
            ),
            Option(
                "Many chunks are a single sentence, because documents are short or sentences long",
                "Yes. Such a chunk has no rest, so it gets a random B without a coin. `expected_counts` "
                "tells whether that explains all of it.",
                right=True,
            ),
            Option(
                "Sentences displaced by a random B were lost",
                "No. Losing them would *lower* the share, since fewer sentences would be left alone: a "
                "document of two sentences would give one pair, random half of the time. To be sure, "
                "check that each sentence comes up in some A or true B.",
            ),
        ),
    ),
    Question(
        "Soon after the start the MLM loss is nearly zero, and nearly every word is guessed right. What "
        "is most likely?",
        (
            Option(
                "The learning rate is unusually good",
                "No learning rate does this. Even BERT, fully trained, cannot guess most hidden words "
                "from their neighbours with such certainty.",
            ),
            Option(
                "The labels were taken after replacement",
                "Yes, or padding is asked for. In both cases the answer can be read off the input. "
                "Compare the labels with the unmasked ids.",
                right=True,
            ),
            Option(
                "The 10 % of kept tokens are copied",
                "They are, but that explains only a tenth of the questions.",
            ),
        ),
    ),
    Question(
        "Why is a random word put in at some of the chosen positions?",
        (
            Option(
                "So that the model cannot trust what it sees, and must check every token against its "
                "neighbours",
                "Yes. If kept tokens were the only unhidden ones that are asked for, copying would always"
                " be right.",
                right=True,
            ),
            Option(
                "So that it learns to correct spelling",
                "No. The words come from the whole vocabulary and look nothing like a slip of the pen.",
            ),
            Option(
                "To reach 15 % without hiding too much",
                "No. The 15 % are chosen first, and all of them are asked for. The fates only decide what"
                " stands in their place.",
            ),
        ),
    ),
)

CHAPTER_10 = (
    Question(
        "A run with V = 30,522 starts at a loss of 10.3, and after an hour stands at 6.9. What has it "
        "learned?",
        (
            Option(
                "Much: a third of the loss is gone",
                "Hardly. What matters is not the way from the start, but which rungs of the ladder lie "
                "below it, for this text and vocabulary.",
            ),
            Option(
                "Probably little more than word frequencies",
                "Yes, if the unigram entropy of the text lies near there. Compute it, and the loss of "
                "counting neighbours, before you celebrate.",
                right=True,
            ),
            Option(
                "Nothing: a fresh model stands at 6.9 too",
                "No. A fresh model of this vocabulary stands at $\\ln 30522$, which is 10.3.",
            ),
        ),
    ),
    Question(
        "Why does the row of a word that is nowhere in the batch get a gradient?",
        (
            Option(
                "Because of weight decay",
                "No. Weight decay shrinks all rows, but it is no part of the loss's gradient.",
            ),
            Option(
                "Because the embeddings' LayerNorm mixes the rows",
                "No. LayerNorm works on one token's vector, and only rows that were looked up get "
                "anything from below.",
            ),
            Option(
                "Because the table is also the decoder, where every word is a candidate",
                "Yes. It is pushed away from the guess, in proportion to the probability it was given.",
                right=True,
            ),
        ),
    ),
    Question(
        "Two micro-batches have 5 and 15 scored words. You take the mean loss of each and call `backward`"
        " on half of each. What is wrong?",
        (
            Option(
                "The first one's words count three times as much as the second one's",
                "Yes. Each of the five has a weight of 1/2 · 1/5, a tenth, and each of the fifteen 1/2 · "
                "1/15, a thirtieth. All should have a twentieth: instead of one half, weight the parts "
                "with 5/20 and 15/20.",
                right=True,
            ),
            Option(
                "The gradient is half as long as it should be",
                "No. The halves add up to a whole; a common factor would be the lesser evil.",
            ),
            Option(
                "Nothing, the order of means does not matter",
                "It would not if both had the same number of scored words.",
            ),
        ),
    ),
)

CHAPTER_11 = (
    Question(
        "You halve the clip limit from 1.0 to 0.5. The gradient's length was above 1 in nearly every "
        "step. What does AdamW make of it?",
        (
            Option(
                "All steps become half as long",
                "No. That would be plain gradient descent. AdamW divides by the usual size of the "
                "gradients, and that has halved too.",
            ),
            Option(
                "Hardly any difference",
                "Yes. Nearly all gradients come out half as long, and so do $m$ and $\\sqrt v$: their "
                "ratio stays. Only for the few that were below the limit does it matter.",
                right=True,
            ),
            Option(
                "Weight decay becomes twice as strong",
                "No. It is decoupled: it never sees the gradient.",
            ),
        ),
    ),
    Question(
        "After 400 steps of your own run, V = 4,096, the loss has been between 6.1 and 6.0 for 200 "
        "steps. Accuracy on all chosen positions rises all the same. What do you do?",
        (
            Option(
                "Stop: the model has got stuck",
                "Too early. It stands at the unigram entropy, where every run stays for a while.",
            ),
            Option(
                "Celebrate: accuracy rises",
                "Look at which. Kept words are being copied; [MASK] alone will tell.",
            ),
            Option(
                "Wait, and look at [MASK] alone and at the learning rate",
                "Yes. If it is still on the plateau at a multiple of the steps in this chapter, compare "
                "your settings with the study's.",
                right=True,
            ),
        ),
    ),
    Question(
        "Two runs differ in one setting, with one seed each: 20.1 % and 20.9 %. What do you conclude?",
        (
            Option(
                "The second setting is better, by little",
                "You cannot know. Another seed moves the result as well.",
            ),
            Option(
                "Nothing yet: how far apart are two seeds of the same setting?",
                "Yes. That is the first thing to measure, and then whether the difference is worth more "
                "runs.",
                right=True,
            ),
            Option(
                "The setting does not matter",
                "That would be a conclusion, too, and one run each cannot support it.",
            ),
        ),
    ),
)

CHAPTER_13 = (
    Question(
        "On 49 test texts the bag of words has 73 %, your fine-tuned model 78 %. What do you report?",
        (
            Option(
                "The model is better by five points",
                "Five points are two or three texts, and the standard error of each figure is about six "
                "points.",
            ),
            Option(
                "Both figures with their errors, and that they cannot be told apart here",
                "Yes. Then count the texts on which only one of them is right, take more texts, or more "
                "seeds.",
                right=True,
            ),
            Option(
                "Only the model's figure: the baseline was just a check",
                "Then nobody can see that it was hardly beaten.",
            ),
        ),
    ),
    Question(
        "Why may a frozen encoder be computed once for many epochs?",
        (
            Option(
                "Because the head is so small",
                "The size of the head does not matter. Could a text's vector be another one in the next "
                "epoch?",
            ),
            Option(
                "Because its weights stay, and it runs without dropout",
                "Yes. The same text gives the same vector. With dropout in the encoder it would not.",
                right=True,
            ),
            Option(
                "Because [CLS] is the same in every text",
                "As an input it is. What comes out at its place has read the whole text.",
            ),
        ),
    ),
    Question(
        "You fine-tune a small model for one epoch at 3e-5. It nearly always answers with the most "
        "frequent class, and the loss has come down only a little. What first?",
        (
            Option(
                "A learning rate ten times as high",
                "Yes. 3e-5 is BERT-base's. A small model wants more. Nothing has gone wrong yet, only "
                "too little has happened.",
                right=True,
            ),
            Option(
                "A lower learning rate, because the model has collapsed",
                "At BERT-base's rate a small model does not collapse. You can make sure: let its "
                "encoder fill gaps, as in the figure. If it still can, nothing is broken.",
            ),
            Option(
                "Class weights, because the rare classes are ignored",
                "Every model that has learned little answers so, also with classes of equal size.",
            ),
        ),
    ),
)

CHAPTER_16 = (
    Question(
        "You double the length of the sequences and halve their number, so that the batch has as many "
        "tokens as before. What happens to the work of a step?",
        (
            Option(
                "It doubles",
                "No. Only the two products with T × T grow. Projections and feed-forward cost the same "
                "for each token, however long its sequence is.",
            ),
            Option(
                "It stays the same",
                "Nearly, for short sequences. But each token now has twice as many others to read, so "
                "scores and contexts cost twice as much.",
            ),
            Option(
                "Only attention's scores and contexts double, and that is a small part unless T is large "
                "beside H",
                "Right. With I = 4H, a token of a layer costs 24 H² operations for its matrices and 4 T H "
                "for scores and contexts: equal at T = 6 H.",
                right=True,
            ),
        ),
    ),
    Question(
        "In a step, 15 % of the tokens are scored. You send all tokens through the word head and let the "
        "loss skip the others. What changes?",
        (
            Option(
                "The loss",
                "No. The loss is the mean over the scored tokens in both cases, and so is its gradient.",
            ),
            Option(
                "Time and memory of the word head, by a factor of more than six",
                "Right. For a small model with a large vocabulary that is most of the step: the logits "
                "alone are B T V numbers, and softmax needs them more than once.",
                right=True,
            ),
            Option(
                "Nothing that one could measure",
                "It would be little in BERT-large. In a model with H = 256 and V = 30,522 the decoder "
                "costs more than the layers, if every token goes through it.",
            ),
        ),
    ),
    Question(
        "You switch on activation checkpointing and keep everything else. What do you expect?",
        (
            Option(
                "Less memory, a third more work in the layers, the same gradients",
                "Right. Each layer's forward pass is computed twice: four parts of work for three. What "
                "is saved can go into a larger batch.",
                right=True,
            ),
            Option(
                "Less memory, and gradients that are a little off",
                "No. The same numbers are computed again; with the random state restored, even dropout "
                "falls on the same places.",
            ),
            Option(
                "Less memory for weights and optimiser",
                "No. Those stay as they are. What is thrown away are activations, what the forward pass "
                "keeps for the backward pass.",
            ),
        ),
    ),
    Question(
        "Two processes train with half of the batch each. Each takes the mean loss over its own scored "
        "tokens, and the gradients are averaged. One process happens to have far fewer scored tokens. "
        "What is wrong?",
        (
            Option(
                "Nothing: averaging is what data parallelism does",
                "It averages gradients of *means*. That is right only when the numbers of scored tokens "
                "are equal.",
            ),
            Option(
                "The tokens of the process with few of them count for more than the others",
                "Right. It is exercise 16.3 again, side by side in place of one after the other. Each "
                "process must divide its sum by the number of scored tokens of all processes, and the "
                "gradients be added.",
                right=True,
            ),
            Option(
                "The learning rate must be halved",
                "No. Global batch and learning rate are what they were. What changed is how much a token "
                "weighs.",
            ),
        ),
    ),
)

QUIZZES = {
    2: CHAPTER_2,
    3: CHAPTER_3,
    4: CHAPTER_4,
    5: CHAPTER_5,
    6: CHAPTER_6,
    7: CHAPTER_7,
    8: CHAPTER_8,
    9: CHAPTER_9,
    10: CHAPTER_10,
    11: CHAPTER_11,
    12: CHAPTER_12,
    13: CHAPTER_13,
    14: CHAPTER_14,
    15: CHAPTER_15,
    16: CHAPTER_16,
}
