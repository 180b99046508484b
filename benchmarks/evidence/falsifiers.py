"""The verdict of the protocol on whether preserved knowledge helps, and whether MoNA's mixed product does."""

from collections.abc import Sequence
from dataclasses import dataclass

CUT = 0.7
"""Share of the distortion by fine-tuning up to which it is said to be cut by 30 % or more."""
SAME_ERROR = 0.95
"""Ratio of errors above which a method does not help by an amount that matters."""


@dataclass(frozen=True)
class Held:
    """A method that holds the source explicitly.

    Attributes:
        name: Its name.
        rise: Rise of the source's probe error with it.
        reference: Rise with fine-tuning.
        high: Upper bound of the interval of its error divided by that of fine-tuning.
    """

    name: str
    rise: float
    reference: float
    high: float

    @property
    def cuts(self) -> bool:
        """True if it cuts the distortion by 30 % or more; fine-tuning without distortion has none to cut."""
        return self.reference > 0 and round(self.rise / self.reference, 9) <= CUT

    @property
    def lowers(self) -> bool:
        """True if it lowers the target error."""
        return self.high < 1

    @property
    def text(self) -> str:
        """Both in words."""
        cut = "cut by 30 % or more" if self.cuts else "not cut by 30 %"
        return f"distortion {cut}, target error {'lower' if self.lowers else 'not lower'}"


def verdict(held: Sequence[Held], mechanism_low: float) -> str:
    """Return what the protocol concludes.

    Args:
        held: The methods that hold the source explicitly.
        mechanism_low: Lower bound of the interval of the error of MoNA divided by that of the same method without the
            mixed product.
    """
    cutting = [one for one in held if one.cuts]
    helping = [one.name for one in cutting if one.lowers]
    useless = [one.name for one in cutting if not one.lowers]
    if not cutting:
        return "No method cut the distortion by 30 %, so the premise that preserved knowledge helps is not tested here."
    if not helping:
        return (
            f"{' and '.join(useless)} cut the distortion without lowering the target error: the premise that preserved "
            f"knowledge helps the target is not supported here."
        )
    finding = f"{' and '.join(helping)} cut the distortion and lowered the target error"
    if useless:
        finding += f", but {' and '.join(useless)} cut it without lowering the error, so the premise has mixed support"
    if mechanism_low > SAME_ERROR:
        return f"{finding}. MoNA's mixed product does not lower it: the mechanism is not supported here."
    return f"{finding}. The mechanism of MoNA's mixed product is not refuted here."
