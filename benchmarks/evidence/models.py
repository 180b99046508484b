"""Questions B and C of the third edition: baselines, probes, fine-tuning and whole transfers on the judging targets."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from evidence import lines
from evidence.lines import CONSTANT_SOURCE, LARGEST, Line, Trainings
from evidence.summaries import (
    PrintedTable,
    detectable_table,
    exact_zeros,
    interval_text,
    mean_interval,
    mean_p_value,
    share_text,
    shown,
    without_largest,
)

MODELS: Mapping[str, tuple[str, ...]] = {
    "baseline": ("baseline",),
    "probe": ("probe",),
    "random probe": ("control",),
    "any probe": ("probe", "control"),
    "any": ("baseline", "probe", "control"),
}
"""Models among which cross-validation on the labeled samples chooses."""
FINE_TUNING = "fine-tuning"
EVERY_KIND = "all"
FEWEST = 4
"""Targets of a kind of which a conclusion may be drawn."""
STRATEGIES = (
    *("transfer, 2 minutes", "transfer, 10 minutes", "best baseline", "best probe of all sources", "probe"),
    *("fine-tuning", "scratch"),
)
TRANSFER, BASELINE, PROBES = STRATEGIES[1], STRATEGIES[2], STRATEGIES[3]


class Models:
    """Baselines, probes and the fine-tuning of the constant source on the judging targets.

    Args:
        results: Results of baselines, probes and controls.
        trainings: Fine-tunings on the judging targets.
    """

    def __init__(self, results: Iterable[Line], trainings: Trainings):  # noqa: D107
        self.results = lines.in_order_of_plan(results)
        self.trainings = trainings

    @classmethod
    def read(cls) -> "Models":
        """Return the recorded ones."""
        return cls(lines.part_lines("models"), lines.read_trainings([lines.THIRD / "choice.jsonl"]))

    def without_constant_probe(self) -> "Models":
        """Return all but the probe of the constant source, whose input is larger than in fine-tuning."""
        probe = lines.model_name(CONSTANT_SOURCE)
        return Models([one for one in self.results if one["job"]["model"] != probe], self.trainings)

    def best(self, size: int) -> dict[str, dict[str, list[Line]]]:
        """Return the results with the lowest cross-validated error, several if it is equal, by target and choice.

        Args:
            size: Number of labeled samples.
        """
        fitted: dict[str, list[Line]] = {}
        for result in self.results:
            if result.get("errors", {}).get(str(size)) is not None and result["validated"][str(size)] is not None:
                fitted.setdefault(result["job"]["target"], []).append(result)
        best: dict[str, dict[str, list[Line]]] = {}
        for target, models in fitted.items():
            for name, parts in MODELS.items():
                compared = [model for model in models if model["job"]["part"] in parts]
                if compared:
                    lowest = min(model["validated"][str(size)] for model in compared)
                    equal = [model for model in compared if model["validated"][str(size)] == lowest]
                    best.setdefault(target, {})[name] = equal
        return best

    def chosen(self, size: int = LARGEST) -> pd.DataFrame:
        """Return the errors of the models that cross-validation chooses, a row for each judging target with classes.

        Args:
            size: Number of labeled samples.

        Returns:
            Columns `kind`, one for each of `MODELS` with the test error in percent of the first of equal ones,
            `fine-tuning` of the constant source on 128 samples, and `validated`, the cross-validated error of the best
            probe minus that of the best baseline.
        """
        kinds, rows = lines.judging_targets(), {}
        for target, of_target in self.best(size).items():
            if target in kinds:
                row = {name: float(equal[0]["errors"][str(size)]) for name, equal in of_target.items()}
                if size == LARGEST and (error := self.constant_error(target)) is not None:
                    row[FINE_TUNING] = error
                if "probe" in of_target and "baseline" in of_target:
                    probe, baseline = (of_target[name][0]["validated"][str(size)] for name in ("probe", "baseline"))
                    row["validated"] = probe - baseline
                rows[target] = {"kind": kinds[target], **row}
        return pd.DataFrame.from_dict(rows, orient="index").reindex(columns=["kind", *MODELS, FINE_TUNING, "validated"])

    def equal(self, size: int = LARGEST) -> pd.DataFrame:
        """Return the mean test errors of the models that share the lowest cross-validated error, by target."""
        rows = {
            target: {name: np.mean([model["errors"][str(size)] for model in equal]) for name, equal in best.items()}
            for target, best in self.best(size).items()
            if target in lines.judging_targets()
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def constant_error(self, target: str) -> float | None:
        """Return the test error in percent of the fine-tuned constant source; None if it cannot read the target."""
        rate = lines.chosen_rate(self.trainings, CONSTANT_SOURCE, target)
        whole = None if rate is None else self.trainings.get((lines.ALL, CONSTANT_SOURCE, target, 0, rate))
        return lines.last_error(whole) if whole else None

    def tabular(self) -> set[str]:
        """Return the targets whose samples are rows of a table."""
        return {one["job"]["target"] for one in self.results if one["kind"] == "table"}


# B


def baseline_tables(models: Models) -> list[PrintedTable]:
    """Return the tables of question B."""
    frame = models.chosen()
    return [
        kind_table(models),
        foresight_table(models),
        several_labels_table(models),
        detectable_table({"best probe - best baseline": (frame["probe"] - frame["baseline"]).dropna()}),
    ]


def kind_table(models: Models) -> PrintedTable:
    """Return the errors of the best probe and the best baseline by kind and number of labeled samples.

    One of them is called better on a kind with 128 labeled samples alone.
    """
    rows = []
    for size in lines.SIZES:
        frame = models.chosen(size).dropna(subset=["probe", "baseline"])
        better = better_sides(frame) if size == LARGEST else {}
        for kind, of_kind in (*frame.groupby("kind"), (EVERY_KIND, frame)):
            differences = exact_zeros((of_kind["probe"] - of_kind["baseline"]).to_numpy())
            means = [f"{of_kind[name].mean():.1f}" for name in ("probe", "baseline")]
            cells = [*means, interval_text(differences), _share(differences), better.get(str(kind), "")]
            rows.append([str(size), str(kind), str(len(of_kind)), *cells])
    heads = ["labeled", "kind", "targets", "best probe", "best baseline", "probe minus baseline [95 %]"]
    heads += ["probe is better [95 %]", "better"]
    return PrintedTable("Mean test errors in percent", heads, rows)


def better_sides(frame: pd.DataFrame) -> dict[str, str]:
    """Return for all targets and for each kind with at least four of them what is better, `probe` or `baseline`.

    It is `not shown` where the p-value of the paired t-test, of kinds corrected by Holm, exceeds .05.

    Args:
        frame: Result of `Models.chosen`.
    """
    both = frame.dropna(subset=["probe", "baseline"])
    differences = both["probe"] - both["baseline"]
    of_kinds = {str(kind): part for kind, part in differences.groupby(both["kind"]) if len(part) >= FEWEST}
    p_values = [mean_p_value(part.to_numpy()) for part in of_kinds.values()]
    p_values = [*(multipletests(p_values, method="holm")[1] if p_values else ()), mean_p_value(differences.to_numpy())]
    groups = of_kinds | {EVERY_KIND: differences}
    return {
        kind: "not shown" if p_value > 0.05 else "probe" if part.mean() < 0 else "baseline"
        for (kind, part), p_value in zip(groups.items(), p_values, strict=True)
    }


def foresight(frame: pd.DataFrame) -> tuple[int, int, int]:
    """Return how often the sign of probe minus baseline is that of the cross-validated errors, and the more frequent.

    Equal cross-validated errors foresee that the baseline is better.

    Args:
        frame: Result of `Models.chosen`.

    Returns:
        Number of targets whose sign is foreseen, that of targets with the more frequent sign, and that of all targets
        with a difference.
    """
    differences = exact_zeros((frame["probe"] - frame["baseline"]).to_numpy())
    differs = np.isfinite(differences) & (differences != 0)
    is_better = differences[differs] < 0
    is_foreseen = (frame["validated"].to_numpy()[differs] < 0) == is_better
    return int(is_foreseen.sum()), int(max(is_better.sum(), (~is_better).sum())), len(is_better)


def foresight_table(models: Models) -> PrintedTable:
    """Return on how many targets it is foreseen whether the best probe or the best baseline has the lower error."""
    rows = []
    for size in lines.SIZES:
        foreseen, constant, number = foresight(models.chosen(size))
        rows.append([str(size), str(number), share_text(foreseen, number), share_text(constant, number)])
    heads = ["labeled", "targets", "foreseen by cross-validation", "by always naming the more frequent one"]
    return PrintedTable("Is it foreseen whether the best probe or the best baseline is better?", heads, rows)


def several_labels_table(models: Models) -> PrintedTable:
    """Return 1 - mean average precision in percent of the judging targets with several labels a sample."""
    best = models.best(LARGEST)
    rows = [
        [target, *(f"{best[target][name][0]['errors'][str(LARGEST)]:.1f}" for name in MODELS)]
        for target in lines.WITHOUT_CLASSES
        if target in best
    ]
    title = "1 - mean average precision in percent, of targets with several labels a sample"
    return PrintedTable(title, ["target", *MODELS], rows)


# C, first part


def model_table(models: Models, further: str = "") -> PrintedTable:
    """Return what cross-validation chooses minus the fine-tuning of the constant source.

    Args:
        models: The models.
        further: What to add to the title.
    """
    frame = models.chosen()
    rows = []
    for name in MODELS:
        pairs = frame[[name, FINE_TUNING]].dropna()
        differences = exact_zeros((pairs[name] - pairs[FINE_TUNING]).to_numpy())
        means = [f"{pairs[column].mean():.1f}" for column in (name, FINE_TUNING)]
        rows.append([name, str(len(pairs)), *means, interval_text(differences), _share(differences)])
    heads = [
        "model",
        "targets",
        "its error",
        f"fine-tuning of {CONSTANT_SOURCE}",
        "difference [95 %]",
        "better [95 %]",
    ]
    title = f"Mean test errors in percent, {LARGEST} labeled samples, of the models that cross-validation chooses"
    return PrintedTable(title + further, heads, rows)


def _share(differences: np.ndarray) -> str:
    """Return the share of differences below 0 among those that are not 0."""
    return share_text(int((differences < 0).sum()), int((differences != 0).sum()))


# C, second part


def transfer_errors(results: Iterable[Line]) -> pd.DataFrame:
    """Return the test errors in percent, a row for each target and a column for each strategy.

    A strategy that failed has the error of always naming the largest class.
    """
    results = list(results)
    largest = {one["job"]["target"]: one["majority_error"] for one in results if "majority_error" in one}
    rows = [{**one["job"], "test": one.get("test", largest.get(one["job"]["target"]))} for one in results]
    frame = pd.DataFrame(rows).pivot_table(index="target", columns="strategy", values="test")
    return frame.reindex(columns=[name for name in STRATEGIES if name in frame])


def transfer_tables(models: Models) -> list[PrintedTable]:
    """Return the tables of question C, second part."""
    results = lines.part_lines("transfer")
    errors = transfer_errors(results)
    single = str(errors[single_strategies(errors)].mean().idxmin())
    return [
        strategy_table(errors, results),
        target_table(errors, results),
        further_transfer_table(errors, models.tabular()),
        detectable_table({f"{TRANSFER} - {single}": errors[TRANSFER] - errors[single]}),
    ]


def strategy_table(errors: pd.DataFrame, results: Iterable[Line]) -> PrintedTable:
    """Return the regret of each strategy, and how far whole transfers are from it.

    Args:
        errors: Test errors, without gaps.
        results: Results of the strategies, with their seconds on two cores.
    """
    seconds = pd.DataFrame([{**one["job"], **one} for one in results]).groupby("strategy")["seconds"].mean()
    regrets = errors.sub(errors.min(axis=1), axis=0)
    rows = [
        [
            str(name),
            *(f"{seconds[name]:.0f}", f"{errors[name].mean():.1f}"),
            *(interval_text(regrets[name]), f"{regrets[name].max():.1f}"),
            "" if name == TRANSFER else interval_text(errors[TRANSFER] - errors[name]),
        ]
        for name in errors
    ]
    heads = ["strategy", "seconds", "error", "regret [95 %]", "largest", f"{TRANSFER}, minus it [95 %]"]
    return PrintedTable(f"Mean test errors and regrets on {len(errors)} judging targets", heads, rows)


def target_table(errors: pd.DataFrame, results: Iterable[Line]) -> PrintedTable:
    """Return the error of each strategy on each target, and the model that a transfer of 10 minutes chose."""
    chosen = {one["job"]["target"]: one.get("chosen", "") for one in results if one["job"]["strategy"] == TRANSFER}
    kinds = lines.judging_targets()
    rows = [
        [str(target), kinds[str(target)], *(f"{error:.1f}" for error in row), chosen[str(target)]]
        for target, row in zip(errors.index, errors.to_numpy(), strict=True)
    ]
    title = "Test errors in percent, and the model that a transfer of 10 minutes chose"
    return PrintedTable(title, ["target", "kind", *map(str, errors), "chosen"], rows)


def single_strategies(errors: pd.DataFrame) -> list[str]:
    """Return the names of the strategies that are no transfers."""
    return [str(name) for name in errors if not str(name).startswith("transfer")]


def upper_ends(errors: pd.DataFrame) -> dict[str, float]:
    """Return the upper end of the interval of a transfer of 10 minutes minus each single strategy, by its name.

    A strategy that is chosen for its mean on the same targets would be an opponent of luck, so the transfer has to
    be as good as all of them.
    """
    names = single_strategies(errors)
    return {name: mean_interval((errors[TRANSFER] - errors[name]).to_numpy()).high for name in names}


def further_transfer_table(errors: pd.DataFrame, tabular: Collection[str]) -> PrintedTable:
    """Return differences between strategies that were not declared.

    Args:
        errors: Test errors, a row for each target and a column for each strategy.
        tabular: Targets whose samples are rows of a table.
    """
    whole, of_probe = errors[TRANSFER] - errors[BASELINE], errors[PROBES] - errors[BASELINE]
    is_table = errors.index.isin(list(tabular))
    start = f"{TRANSFER} - {BASELINE}"
    rows = {
        f"{TRANSFER} - 2 minutes": errors[TRANSFER] - errors[STRATEGIES[0]],
        f"{start}, without the target with the largest difference": without_largest(whole),
        f"{start}, one mean for each kind": whole.groupby(lines.judging_targets()).mean(),
        f"{start}, samples are rows of a table": whole[is_table],
        f"{start}, all other samples": whole[~is_table],
        f"{PROBES} - {BASELINE}": of_probe,
        "the same, without the target with the largest difference": without_largest(of_probe),
        f"fine-tuning - {BASELINE}": errors["fine-tuning"] - errors[BASELINE],
        f"fine-tuning - {PROBES}": errors["fine-tuning"] - errors[PROBES],
        "fine-tuning - scratch": errors["fine-tuning"] - errors["scratch"],
    }
    return differences_table("Differences in points that were not declared before the answer", rows)


def differences_table(title: str, rows: Mapping[str, Sequence[float] | pd.Series]) -> PrintedTable:
    """Return the means of differences by target with their intervals and the number of targets."""
    cells = [[name, interval_text(values, counted=True)] for name, values in rows.items()]
    return PrintedTable(title, ["difference", "[95 %]"], cells)


def range_text(means: np.ndarray) -> str:
    """Return the lowest and the highest of some means."""
    return f"{shown(means.min())} to {shown(means.max())}"
