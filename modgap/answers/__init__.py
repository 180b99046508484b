"""Answers to questions: what a result says, computed once, and shown as text, in a notebook, on a page and as title."""

from modgap.answers.answer import FAIL, INFO, PASS, WARN, Answer, Curve, Mark, Table, Verdict, in_order
from modgap.answers.answered import Answered, Plotted

__all__ = [
    "FAIL",
    "INFO",
    "PASS",
    "WARN",
    "Answer",
    "Answered",
    "Curve",
    "Mark",
    "Plotted",
    "Table",
    "Verdict",
    "in_order",
]
