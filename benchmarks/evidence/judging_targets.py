"""The targets that will judge the third edition of the evidence, drawn before any of them was read.

    python benchmarks/evidence/judging_targets.py      print the drawn targets by kind

They are drawn among labeled data sets inside ordinary packages that no benchmark has used: in each kind those with the
lowest SHA-256 of their names, as many as the kind's share of 42. Until the protocol of that edition is committed, no
source, probe, baseline or ranking touches them; they may be opened, counted and given checksums.
"""

import hashlib
import math

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
    """Return the drawn targets of each kind: a share by largest remainders, and the lowest hashes within the kind."""
    names = {kind: candidates.split() for kind, candidates in CANDIDATES.items()}
    n_candidates = sum(map(len, names.values()))
    shares = {kind: N_JUDGING * len(of_kind) / n_candidates for kind, of_kind in names.items()}
    numbers = {kind: math.floor(share) for kind, share in shares.items()}
    by_remainder = sorted(names, key=lambda kind: numbers[kind] - shares[kind])
    for kind in by_remainder[: N_JUDGING - sum(numbers.values())]:
        numbers[kind] += 1
    return {kind: sorted(of_kind, key=_hash)[: numbers[kind]] for kind, of_kind in names.items()}


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


if __name__ == "__main__":
    for kind, drawn in draw_judging_targets().items():
        print(f"{kind} ({len(drawn)} of {len(CANDIDATES[kind].split())}): {', '.join(drawn)}")
