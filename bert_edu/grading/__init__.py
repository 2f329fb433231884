"""Grades notebooks that students hand in: the marks are made where a student's code cannot reach them.

Each notebook has a process of its own (`worker`), which reads it and judges; an answer runs in a child of
that process, in a cage (`cage`), and what comes back is data. `bert-edu grade`, `bert-edu preflight` and the
autograder for Gradescope all go this way.
"""

from .grader import grade
from .gradescope import make_zip
from .handing_in import preflight, preflight_file

__all__ = ["grade", "make_zip", "preflight", "preflight_file"]
