"""Tables as LaTeX with booktabs, by pandas."""

import re
import unicodedata

from modgap.answers.answer import Table

PREAMBLE = r"% Needs \usepackage{booktabs} in the preamble, and \usepackage[T1]{fontenc} for pdflatex."
SYMBOLS = str.maketrans(
    {**{one: f"\\{one}" for one in "{}$&#%_"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
    | {"^": r"\textasciicircum{}", "−": "$-$", "‹": r"$\langle$", "›": r"$\rangle$"}
)
"""Commands of the characters that LaTeX takes for markup, or that pdflatex does not know."""
LIGATURES = re.compile(r"([-'])(?=\1)")


def latex_table(table: Table, caption: str, label: str) -> str:
    """Return a table with booktabs; its first column is flush left.

    Args:
        table: The cells.
        caption: Caption.
        label: End of the label, after `tab:modgap-`.
    """
    import pandas as pd

    columns = [escape_latex(head) for head in table.columns]
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    styler = pd.DataFrame(rows, columns=columns).style.hide(axis="index")
    text: str = styler.to_latex(
        hrules=True,
        position_float="centering",
        column_format="l" + "r" * (len(columns) - 1),
        caption=escape_latex(caption),
        label=f"tab:modgap-{label}",
    )
    return text.strip()


def escape_latex(text: str) -> str:
    r"""Return text that LaTeX prints as it is. pdflatex prints Latin letters; others need xelatex or lualatex.

    Example:
        >>> escape_latex("vit_b 50 % & más")
        'vit\\_b 50 \\% \\& más'
    """
    plain = "".join(" " if unicodedata.category(one)[0] in "ZC" else one for one in text)
    # Two hyphens would become a dash, and two apostrophes a quotation mark.
    return LIGATURES.sub(r"\1{}", plain.translate(SYMBOLS))


def _cell(cell: str) -> str:
    """Return a cell; leading spaces indent it."""
    indent = r"\quad " if cell.startswith(" ") else ""
    return f"{indent}{escape_latex(cell.strip())}"
