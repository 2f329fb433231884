"""See inside any model: what a pass computes, where two models part ways, and whether one can train::

    record          every module's output, its attention and its gradients
    trace_shapes    the ledger of every tensor, with the letters of its sizes
    compare         the first tensor in which two models differ, and why
    check_...       quick checks with a verdict each
    heads_off       a region in which some attention heads are silent

Chapters 8, 12 and 17 use them; all but the last work for any `torch.nn.Module`.
"""

from .checks import (
    Verdict,
    check_against,
    check_deterministic,
    check_every_token,
    check_first_loss,
    check_gradients,
    check_labels,
    check_masking_shares,
    check_overfits,
    check_padding,
    check_rows_apart,
    check_scored_positions,
    check_training,
    check_weight_decay,
)
from .comparing import Comparison, compare
from .heads import heads_off
from .recording import Recording, record
from .shapes import Ledger, trace_shapes
from .stored import StoredReference, compare_with_file, load_reference, write_reference

__all__ = [
    "Comparison",
    "Ledger",
    "Recording",
    "StoredReference",
    "Verdict",
    "check_against",
    "check_deterministic",
    "check_every_token",
    "check_first_loss",
    "check_gradients",
    "check_labels",
    "check_masking_shares",
    "check_overfits",
    "check_padding",
    "check_rows_apart",
    "check_scored_positions",
    "check_training",
    "check_weight_decay",
    "compare",
    "compare_with_file",
    "heads_off",
    "load_reference",
    "record",
    "trace_shapes",
    "write_reference",
]
