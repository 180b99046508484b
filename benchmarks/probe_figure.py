"""Draw docs/probes.png, the paper's Fig. 3, from recorded runs of eight methods.

    python benchmarks/probe_figure.py    a few seconds; no model is run

Expected result: finetune++ loses the most source knowledge on all four targets (five seeds, paired).
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from modgap.answers.figures.files import save_figure
from modgap.distortion.encoders import Encoder
from modgap.distortion.measurement import EncoderResult, SurrogateResult
from modgap.distortion.probe_cross_validation import CrossValidatedProbe
from modgap.distortion.probe_figures import probe_figure
from modgap.statistics.intervals import SampleErrors
from modgap.training.run_folder import Run

RESULTS = Path(__file__).parent / "results" / "transfer.jsonl"
UNTOUCHED = "untouched"
SAMPLES = 1000
"""Samples of the surrogate on which the probes were tested, in five folds."""


def encoder_result(job: dict[str, Any], epoch: int, error: float) -> EncoderResult:
    """Return the recorded probe error of one encoder. It has no interval over samples, and none is drawn."""
    run = None if job["method"] == UNTOUCHED else Run(Path(), {**job, "result": None})
    errors = SampleErrors(np.full((1, 1), error), np.ones(1), np.zeros(1), np.zeros(0), None, 0)
    probe = CrossValidatedProbe("linear", error, None, 0.0, SAMPLES, SAMPLES, 1, "", (), (), None, (), errors)
    return EncoderResult(Encoder(run, epoch), job["source"], {"linear": probe}, None, {})


def encoders(part: str, surrogate: str) -> Iterator[EncoderResult]:
    """Yield the encoders of a part of the runs, the source before training first."""
    records = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    records = [record for record in records if record["job"]["part"] == part]
    records.sort(key=lambda record: record["job"]["method"] != UNTOUCHED)
    has_source = False
    for record in records:
        if record["job"]["method"] == UNTOUCHED and has_source:
            continue
        has_source = True
        for epoch, error in record["probe_error"][surrogate].items():
            yield encoder_result(record["job"], int(epoch), error)


def main() -> None:
    """Draw the figure of one part of the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="2d", help="part of the runs (default 2d)")
    parser.add_argument("--surrogate", default="fashion-mnist", help="surrogate of the probe (default fashion-mnist)")
    parser.add_argument("--out", default="probes", help="path of the figure without suffix (default probes)")
    options = parser.parse_args()
    measured = tuple(encoders(options.part, options.surrogate))
    result = SurrogateResult(options.surrogate, {}, (), np.empty(0, np.int64), 0, SAMPLES, 0.9, measured)
    print(*save_figure(probe_figure(result), Path(options.out)))


if __name__ == "__main__":
    main()
