"""The targets that will judge the third edition of the evidence, drawn before any of them was read.

    python benchmarks/evidence/judging_targets.py      print the drawn targets by kind

They are drawn among labeled data sets inside ordinary packages that no benchmark has used: in each kind those with the
lowest SHA-256 of their names, as many as the kind's share of 42. Until the protocol of that edition is committed, no
source, probe, baseline or ranking touches them; they may be opened, counted and given checksums.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

N_JUDGING = 42
CANDIDATES = {
    "image": "stamps desktop-icons",
    "sound": "spoken-stamps",
    "series": "pig-cvp shoulder-exercises trace libras-movements pen-digits fruit-spectra",
    "string": "antimicrobial-peptides anticancer-peptides word-languages first-names",
    "text": "spam-mails fortunes nouns genres article-languages chat-topics artwork-media",
    "genetic": "influenza-years cattle-breeds cat-colonies human-populations gut-microbes alzheimer-proteins "
    "yeast-locations ecoli-locations gene-functions",
    "chemical": "liver-injury steroid-toxicity dhfr multidrug-reversal cox2 hiv-activity",
    "medical": "glaucoma skin-diseases thyroid",
    "table": "phoneme mushrooms olitos oslo-transect fish ape-skulls body-measures crabs scat penguins egyptian-skulls "
    "deep-sky gamma-telescope image-segments page-blocks texture solar-flares job-times banknotes red-wine "
    "contraception",
}
"""Names of the candidates by kind, with spaces between them."""


def draw_judging_targets() -> dict[str, list[str]]:
    """Return the drawn targets of each kind."""
    return draw({kind: candidates.split() for kind, candidates in CANDIDATES.items()}, N_JUDGING)


def draw(names: Mapping[str, Sequence[str]], number: int, salt: str = "") -> dict[str, list[str]]:
    """Return a number of targets: a share of each kind by largest remainders, and the lowest hashes within the kind.

    Args:
        names: Names of the candidates by kind.
        number: Number of targets.
        salt: Text before each name in its hash, so that two draws differ.
    """
    shares = {kind: number * len(of_kind) / sum(map(len, names.values())) for kind, of_kind in names.items()}
    numbers = {kind: math.floor(share) for kind, share in shares.items()}
    by_remainder = sorted(names, key=lambda kind: numbers[kind] - shares[kind])
    for kind in by_remainder[: number - sum(numbers.values())]:
        numbers[kind] += 1

    def by_hash(name: str) -> str:
        return hashlib.sha256(f"{salt}{name}".encode()).hexdigest()

    return {kind: sorted(of_kind, key=by_hash)[: numbers[kind]] for kind, of_kind in names.items()}


if __name__ == "__main__":
    for kind, drawn in draw_judging_targets().items():
        print(f"{kind} ({len(drawn)} of {len(CANDIDATES[kind].split())}): {', '.join(drawn)}")
