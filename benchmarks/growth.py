"""Growth of time and memory with samples, classes, source classes, sources and workers, and the fitted exponents.

    python benchmarks/growth.py                        all curves, about 15 minutes on two cores
    python benchmarks/growth.py --only 'search*'       some of them
    python benchmarks/growth.py --figure docs/growth.png

Each point runs in a process of its own with one thread, after a warm-up that compiles the kernels. Time is the best of
three runs. Memory is the largest resident memory of the process minus that before the run, so the input does not count.
The exponent is the slope of the logarithm of the time over the last three points, where constant parts matter least.
Finished points are in benchmarks/results/growth.jsonl, and an interrupted run goes on where it stopped.
"""

import argparse
import fnmatch
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS = Path(__file__).parent / "results" / "growth.jsonl"
SAMPLES = (2500, 5000, 10_000, 20_000, 40_000)
CLASSES = (5, 10, 20, 40, 80)
OUTPUTS = (100, 200, 400, 800, 1600)
SOURCES = (2, 4, 8, 16, 32)
WORKERS = (1, 2)
BASE = {"N": 10_000, "K": 20, "C": 400, "sources": 4, "workers": 1}
"""Value of each size while another one grows."""
REPETITIONS = 3
TRIALS = 100_000
FITTED_POINTS = 3
PANELS = {"N": "target samples", "K": "target classes", "C": "source classes"}
NAME_SPACE = 1.12
"""Space right of a panel for the names of its lines, in inches."""

Run = Callable[[], object]


@dataclass(frozen=True)
class Curve:
    """Time of a method while one size grows.

    Attributes:
        method: Name of the method.
        size: `N` samples, `K` target classes, `C` source classes, `sources` or `workers`.
        values: Values of the size.
        expected: Exponent that the algorithm has for large sizes.
    """

    method: str
    size: str
    values: tuple[int, ...]
    expected: float

    @property
    def name(self) -> str:
        """Name of the curve, such as `search N`."""
        return f"{self.method} {self.size}"


def simulated(n_samples: int, n_classes: int, n_outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (N, C) that tell the classes apart in part, and labels (N,)."""
    rng = np.random.default_rng(0)
    labels = np.arange(n_samples) % n_classes
    profiles = rng.standard_normal((n_classes, n_outputs), np.float32)
    return rng.standard_normal((n_samples, n_outputs), np.float32) + profiles[labels], labels


def _estimator(name: str, splits: int = 0) -> Callable[[dict[str, int]], Run]:
    def prepare(sizes: dict[str, int]) -> Run:
        from modgap.discrepancy.estimate import estimate

        logits, labels = simulated(sizes["N"], sizes["K"], sizes["C"])
        options = {"estimators": (name,), "splits": splits, "permutations": 0, "threads": 1}
        return lambda: estimate(logits, labels, trials=TRIALS, **options)

    return prepare


def _score(name: str) -> Callable[[dict[str, int]], Run]:
    def prepare(sizes: dict[str, int]) -> Run:
        from dataclasses import replace

        from modgap.jobs import fix_threads
        from modgap.ranking.scores import get_score
        from modgap.ranking.source_outputs import SourceOutputs

        fix_threads()
        logits, labels = simulated(sizes["N"], sizes["K"], sizes["C"])
        features = np.random.default_rng(1).standard_normal((len(labels), 256), np.float32) + logits[:, :1]
        outputs = SourceOutputs(features, labels, logits)
        return lambda: get_score(name).evaluate(replace(outputs))

    return prepare


def _standings(sizes: dict[str, int]) -> Run:
    from modgap.jobs import fix_threads
    from modgap.ranking.score_sources import score_sources
    from modgap.ranking.source_outputs import SourceOutputs

    fix_threads()
    logits, labels = simulated(1000, 10, 100)
    rng = np.random.default_rng(1)
    sources = {
        f"source{number}": SourceOutputs(
            logits[:, :64], labels, logits + rng.standard_normal(logits.shape, np.float32) * (1 + number)
        )
        for number in range(sizes["sources"])
    }
    return lambda: score_sources("leep-held-out", sources)


def _pass(sizes: dict[str, int]) -> Run:
    """Return the pass of EfficientNet-Lite0 with random weights at 64 pixels, one job for N or four for workers."""
    from modgap.forward.inference_setup import LogitsRequest
    from modgap.forward.sample_request import SampleRequest
    from modgap.jobs import Backend
    from modgap.ranking.jobs import ExtractJob
    from modgap.targets import TargetRequest

    folder = Path(tempfile.mkdtemp(prefix="modgap-growth-"))
    shares_work = sizes["grows"] == "workers"
    n_samples = max(64, sizes["N"] // (5 if shares_work else 40))
    rng = np.random.default_rng(0)
    labels = np.arange(n_samples) % 10
    request = LogitsRequest(SampleRequest(input_size=64), "own")
    jobs = []
    for number in range(4 if shares_work else 1):
        target = folder / f"target{number}.npz"
        np.savez(target, x=rng.random((n_samples, 1, 28, 28), np.float32), y=labels)
        jobs.append(ExtractJob("random:efficientnet-lite0", TargetRequest(str(target)), request))
    backend = Backend(sizes["workers"])

    def run() -> object:
        os.environ["MODGAP_CACHE"] = tempfile.mkdtemp(dir=folder)
        return [*backend.run(jobs)]

    return run


METHODS: dict[str, Callable[[dict[str, int]], Run]] = {
    "trials": _estimator("montecarlo"),
    "search": _estimator("search"),
    "held-out search": _estimator("search", splits=20),
    "soft": _estimator("soft"),
    "LEEP": _score("leep"),
    "LogME": _score("logme"),
    "H-score": _score("h-score"),
    "k-NN": _score("knn"),
    "linear probe": _score("linear-probe"),
    "standings": _standings,
    "pass": _pass,
}
CURVES = [
    Curve("trials", "N", SAMPLES, 1.0),
    Curve("trials", "K", CLASSES, 1.0),
    Curve("trials", "C", OUTPUTS, 0.0),
    Curve("search", "N", SAMPLES, 1.0),
    Curve("search", "K", CLASSES, 2.0),
    Curve("search", "C", OUTPUTS, 1.0),
    Curve("held-out search", "N", SAMPLES, 1.0),
    Curve("held-out search", "K", CLASSES, 2.0),
    Curve("held-out search", "C", OUTPUTS, 1.0),
    Curve("soft", "N", SAMPLES, 1.0),
    Curve("soft", "K", CLASSES, 2.0),
    Curve("soft", "C", OUTPUTS, 1.0),
    Curve("LEEP", "N", SAMPLES, 1.0),
    Curve("LEEP", "C", OUTPUTS, 1.0),
    Curve("LogME", "N", SAMPLES, 1.0),
    Curve("H-score", "N", SAMPLES, 1.0),
    Curve("k-NN", "N", SAMPLES, 1.0),
    Curve("linear probe", "N", SAMPLES, 1.0),
    Curve("standings", "sources", SOURCES, 2.0),
    Curve("pass", "N", SAMPLES, 1.0),
    Curve("pass", "workers", WORKERS, -1.0),
]


def measure_point(method: str, sizes: dict[str, int]) -> dict[str, float]:
    """Return the seconds and the bytes of one run in this process."""
    small = {**sizes, "N": 1000, "K": 5, "C": 50, "sources": 2}
    METHODS[method](small)()
    run = METHODS[method](sizes)
    before = _resident_bytes()
    times = []
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": min(times), "bytes": max(0, peak - before)}


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def missing_points(curves: list[Curve], done: set[tuple[str, int]]) -> Iterator[tuple[Curve, int]]:
    """Yield the points that are not in the file of results."""
    for curve in curves:
        for value in curve.values:
            if (curve.name, value) not in done:
                yield curve, value


def read_results() -> list[dict]:
    """Return the points of the file of results."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def exponent(values: list[int], seconds: list[float]) -> float:
    """Return the slope of the logarithm of the time over that of the size, over the last points."""
    last = slice(-FITTED_POINTS, None)
    return float(np.polyfit(np.log(values[last]), np.log(seconds[last]), 1)[0])


def print_table(records: list[dict]) -> None:
    """Print the times, the memory of the largest point, and the exponents."""
    print(f"{'method':17}{'size':9}{'values':>22}  {'seconds':34}{'MB':>8}{'exponent':>10}{'expected':>10}")
    for curve in CURVES:
        points = sorted((r["value"], r["seconds"], r["bytes"]) for r in records if r["curve"] == curve.name)
        if len(points) < len(curve.values):
            continue
        values, seconds, sizes = map(list, zip(*points, strict=True))
        shown = " ".join(f"{one:.3g}" for one in seconds)
        slope = exponent(values, seconds)
        spread = f"{values[0]:,} to {values[-1]:,}"
        print(
            f"{curve.method:17}{curve.size:9}{spread:>22}  {shown:34}{sizes[-1] / 1e6:8.0f}{slope:10.2f}"
            f"{curve.expected:10.1f}"
        )


def draw(records: list[dict], path: Path) -> None:
    """Draw the times against N, K and C, with the name of each method at the end of its line."""
    import matplotlib as mpl

    from modgap.answers.figures.style import drawing_settings

    with mpl.rc_context(drawing_settings()):
        _draw(records, path)


def _draw(records: list[dict], path: Path) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter

    from modgap.answers.figures.style import COLORS, MARGIN, WIDTH, Ink, draw_title, figure_below_title

    curves = {curve: _points(records, curve) for curve in CURVES if curve.size in PANELS}
    factors = [2 ** exponent(*points) for curve, points in curves.items() if curve.size == "N"]
    fitted = next(curve.values for curve in curves if curve.size == "N")[-FITTED_POINTS:]
    title = f"From {fitted[0]:,} samples on, twice as many take at most {max(factors):.1f} times as long"
    sizes = f"{BASE['N']:,} samples, {BASE['K']} target and {BASE['C']} source classes where they do not grow"
    subtitle = f"seconds on one thread; {sizes}"
    height = 3.6
    figure, _ = figure_below_title(title, subtitle, height)
    draw_title(figure, title, subtitle)
    total = figure.get_figheight()
    seconds = [one for _, times in curves.values() for one in times]
    colors = dict(zip(dict.fromkeys(curve.method for curve in curves), COLORS, strict=False))
    limits = (np.log10(min(seconds)) - 0.1, np.log10(max(seconds)) + 0.1)
    left = MARGIN + 0.45
    pitch = (WIDTH - left) / len(PANELS)
    low, high = 0.5, height - 0.1
    for number, (size, label) in enumerate(PANELS.items()):
        axes = figure.add_axes(
            ((left + number * pitch) / WIDTH, low / total, (pitch - NAME_SPACE) / WIDTH, (high - low) / total)
        )
        axes.set_ylim(*limits)
        axes.spines[["top", "right"]].set_visible(False)
        ends = []
        for curve, (values, times) in curves.items():
            if curve.size == size:
                line = {"marker": "o", "markersize": 3, "linewidth": 1.5, "color": colors[curve.method]}
                axes.plot(np.log2(values), np.log10(times), **line)
                ends.append((float(np.log10(times[-1])), curve.method))
                ticks = values
        axes.xaxis.set_major_locator(FixedLocator([float(np.log2(value)) for value in ticks[::2]]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{2**x:,.0f}"))
        axes.yaxis.set_major_locator(FixedLocator([-2, -1, 0, 1]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{10.0**y:g} s"))
        axes.tick_params(labelleft=number == 0)
        axes.grid(axis="y", color=Ink.GRID)
        axes.set_xlabel(label)
        axes.set_xlim(np.log2(ticks[0]) - 0.15, np.log2(ticks[-1]) + 0.15)
        _name_lines(axes, float(np.log2(ticks[-1])), ends, high - low)
    figure.savefig(path, dpi=200)


def _name_lines(axes: "Axes", x: float, ends: list[tuple[float, str]], height: float) -> None:
    """Write the names right of the ends of their lines at x, apart from each other, with a thin line between."""
    from modgap.answers.figures.labels import spread_labels
    from modgap.answers.figures.style import Ink

    low, high = axes.get_ylim()
    line = 0.14 * (high - low) / height
    ends = sorted(ends)
    places = spread_labels([end for end, _ in ends], [line] * len(ends), low, high, 0.0)
    for place, (end, name) in zip(places, ends, strict=True):
        axes.plot([x + 0.1, x + 0.5], [end, place], color=Ink.AXIS, linewidth=0.7, clip_on=False)
        axes.text(x + 0.6, place, name, va="center", size=8)


def _points(records: list[dict], curve: Curve) -> tuple[list[int], list[float]]:
    points = sorted((r["value"], r["seconds"]) for r in records if r["curve"] == curve.name)
    return [value for value, _ in points], [seconds for _, seconds in points]


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="Pattern of the names of curves.")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        method, sizes = options.point
        print(json.dumps(measure_point(method, json.loads(sizes))))
        return
    curves = [curve for curve in CURVES if fnmatch.fnmatch(curve.name, options.only)]
    done = {(record["curve"], record["value"]) for record in read_results()}
    for curve, value in missing_points(curves, done):
        sizes = {**BASE, curve.size: value, "grows": curve.size}
        command = [sys.executable, __file__, "--point", curve.method, json.dumps(sizes)]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        finished = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads}, check=True)
        record = {"curve": curve.name, "value": value, **json.loads(finished.stdout.splitlines()[-1])}
        with RESULTS.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        print(f"{curve.name} {value:,}: {record['seconds']:.3g} s", file=sys.stderr, flush=True)
    records = read_results()
    print_table(records)
    if options.figure:
        draw(records, options.figure)


if __name__ == "__main__":
    main()
