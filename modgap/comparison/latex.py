"""A comparison as LaTeX: two tables with booktabs, which pdflatex, xelatex and lualatex compile."""

import re
import unicodedata
from collections.abc import Sequence

from modgap.answers import Table
from modgap.comparison.answer import comparison_answer
from modgap.comparison.result import Comparison

__all__ = ["escape_latex", "latex_table", "to_latex"]

ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "`": r"{`}",
    "−": r"\ensuremath{-}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "‹": r"\ensuremath{\langle}",
    "›": r"\ensuremath{\rangle}",
    "±": r"\ensuremath{\pm}",
    "µ": r"\ensuremath{\mu}",
    "×": r"\ensuremath{\times}",
}
GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma",
    "τ": "tau", "υ": "upsilon", "φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta",
    "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip
"""Commands of the accents that every font encoding has, by combining character."""
LETTERS = {"ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}",
           "ł": r"\l{}", "Ł": r"\L{}", "å": r"\aa{}", "Å": r"\AA{}", "ı": r"\i{}"}  # fmt: skip


LIGATURES = re.compile(r"([-'])(?=\1)")


def escape_latex(text: str) -> str:
    r"""Return text that LaTeX prints as it is, in ASCII.

    Letters with accents and Greek letters become commands. pdflatex cannot print other characters, so that they become
    their numbers, such as U+4E2D.

    Example:
        >>> escape_latex("vit_b 50 % & más")
        "vit\\_b 50 \\% \\& m{\\'a}s"
    """
    escaped = "".join(_escape_character(character) for character in text)
    # Two hyphens would become a dash, and two apostrophes a quotation mark.
    return LIGATURES.sub(r"\1{}", escaped)


def _escape_character(character: str) -> str:
    if character in ESCAPES:
        return ESCAPES[character]
    if " " <= character <= "~":
        return character
    if character in GREEK:
        return rf"\ensuremath{{\{GREEK[character]}}}"
    if character in LETTERS:
        return LETTERS[character]
    base, *marks = list(unicodedata.normalize("NFD", character))
    if len(marks) == 1 and marks[0] in ACCENTS and base.isascii() and base.isalpha():
        accent = ACCENTS[marks[0]]
        letter = rf"\{base}" if base in "ij" else base
        return rf"{{\{accent}{{{letter}}}}}" if accent.isalpha() or len(letter) > 1 else rf"{{\{accent}{letter}}}"
    if character.isspace():
        return " "
    return rf"\texttt{{U+{ord(character):04X}}}"


def to_latex(comparison: Comparison) -> str:
    """Return the table of the systems and that of the pairs as LaTeX, which needs the package booktabs."""
    answer = comparison_answer(comparison)
    systems, pairs = answer.tables
    comments = [
        "% Written by modgap compare. Needs \\usepackage{booktabs} in the preamble.",
        *_name_comments([systems, pairs]),
    ]
    captions = (
        f"{', '.join(answer.facts)}. {' '.join(answer.sentences)}",
        " ".join(["Paired differences of the errors.", *answer.notes]),
    )
    parts = [
        latex_table(table, caption, label)
        for table, caption, label in zip((systems, pairs), captions, ("systems", "differences"), strict=True)
    ]
    return "\n".join([*comments, *parts]) + "\n"


def _name_comments(all_tables: Sequence[Table]) -> list[str]:
    """Return a comment for each name with a character that is printed as its number."""
    cells = dict.fromkeys(cell for table in all_tables for row in [table.columns, *table.rows] for cell in row)
    return [f"% {escape_latex(cell)} stands for {cell}" for cell in cells if r"\texttt{U+" in escape_latex(cell)]


def latex_table(table: Table, caption: str, label: str) -> str:
    """Return a table with booktabs; its first column is flush left.

    Args:
        table: The cells.
        caption: Caption.
        label: End of the label, after `tab:modgap-`.
    """
    lines = [
        r"\begin{table}",
        r"  \centering\small\setlength{\tabcolsep}{4pt}",
        rf"  \caption{{{escape_latex(caption)}}}",
        rf"  \label{{tab:modgap-{label}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"    \toprule",
        f"    {_row(table.columns)}",
        r"    \midrule",
        *(f"    {_row(row)}" for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return rf"{' & '.join(_cell(cell) for cell in cells)} \\"


def _cell(cell: str) -> str:
    """Return a cell; leading spaces indent it."""
    indent = r"\quad " if cell.startswith(" ") else ""
    return f"{indent}{escape_latex(cell.strip())}"
