"""Measures this package on this machine, beside `transformers` where that is installed (chapter 16).

    timing.py       runs in turn, medians, the machine, its matrix-product peak, memory of a fresh process
    material.py     what all parts share: settings, real text, two models with the same weights
    pretraining.py  a pre-training step
    inference.py    vectors for texts of unequal lengths
    finetuning.py   a step of fine-tuning a classifier
    tokenization.py text to ids
    loading.py      from a folder to a model
    time_to_loss.py from random weights to a given held-out loss
    report.py       all of it: the command `bert-edu bench`

Both sides get what makes them fast: fused attention, padding to the longest text of a batch only, the same
texts, the same precision. They take turns in one process, so that whatever else the machine does falls on
both alike.
"""
