"""`modgap.compare`: systems compared by their errors on the same samples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modgap.api.arguments import public_function
from modgap.discrepancy.displayed import DiscrepancyResult
from modgap.errors import InputError, UsageError
from modgap.ranking.comparison.error_table import ErrorTable, table_of_arrays, table_of_frame
from modgap.ranking.comparison.inputs import (
    choose_estimator,
    collect_targets,
    discrepancy_table,
    name_targets,
    read_inputs,
)
from modgap.ranking.comparison.result import ComparisonResult
from modgap.ranking.comparison.systems import compare_systems


@public_function
def compare(*results: Any, estimator: str | None = None, groups: Any = None) -> ComparisonResult:
    """Compare systems by their errors on the same samples, with p-values that are corrected for the number of pairs.

    Args:
        results: What to compare, of one or several targets:

            - paths of folders that `modgap discrepancy`, `distortion`, `train`, `transfer` or `rank` wrote with
              `--out`, or of CSV files of errors by sample; `NAME=PATH` names the system of a folder, or the target of
              a file;
            - results of `modgap.measure` or `modgap.estimate`, and runs of `modgap.train`;
            - mappings of the errors (N,) of each system on the samples of a target, where pandas series are aligned by
              their index, and arrays belong together by position;
            - data frames with a column or a named index of sample identifiers, one column a system, and an optional
              column `group`. Each mapping and each frame is a target.
        estimator: Estimator whose held-out errors are compared, such as `search` or `soft`; None for the first of
            search and soft that all discrepancies have. It applies to discrepancies only.
        groups: Record, subject or other group of each sample of a mapping, shape (N,), aligned as the errors are; None
            if samples are independent.

    Returns:
        The comparison. It prints as the command does, `.to_frame()`, `.to_dict()`, `.to_text("latex")` and `.plot()`
        convert it, and `.main` holds means, pairs and groups that are not significantly different.

    Raises:
        InputError: If results cannot be read or are not comparable. The message says why, and what to do.
        UsageError: If an argument does not apply.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> errors = {name: rng.random(400) < rate for name, rate in [("a", 0.2), ("b", 0.22), ("c", 0.5)]}
        >>> result = compare(errors)
        >>> result.main.groups, round(result.main.pairs[0].difference.value, 4)
        ((('a', 'b'), ('c',)), -0.0025)
    """
    mappings = [result for result in results if isinstance(result, Mapping)]
    if groups is not None and len(mappings) != 1:
        raise UsageError(
            "`groups` applies to one mapping of errors. Pass data frames with a column named group instead."
        )
    numbered = enumerate(results, start=1)
    tables = [table for number, result in numbered for table in _tables(result, number, len(mappings), groups)]
    if not tables:
        raise UsageError("There is nothing to compare. Pass at least two results, or one with several systems.")
    targets = collect_targets(name_targets(choose_estimator(tables, estimator)))
    return ComparisonResult(**vars(compare_systems(targets)))


def _tables(result: Any, number: int, n_mappings: int, groups: Any) -> list[ErrorTable]:
    """Return the tables of one result, which is the argument of this number."""
    if isinstance(result, str | Path):
        return read_inputs([str(result)])
    if isinstance(result, DiscrepancyResult):
        from modgap.discrepancy.report import tested_sample_file

        samples = tested_sample_file(result)
        if samples is None:
            raise InputError(
                f"Argument {number} has no held-out errors to compare. Measure it with `estimators` search or soft, "
                "and with `splits` of 1 or more."
            )
        return [discrepancy_table(result.to_dict(), samples, f"argument {number}", f"system {number}")]
    if hasattr(result, "folder"):
        return read_inputs([str(result.folder)])
    target = "your errors" if n_mappings < 2 else f"target {number}"
    if hasattr(result, "columns") and hasattr(result, "set_axis"):
        return [table_of_frame(result, f"data frame {number}", f"target {number}")]
    if isinstance(result, Mapping):
        return [table_of_arrays(result, groups, f"mapping {number}", target)]
    raise UsageError(
        f"Argument {number} is of type {type(result).__name__}. Pass the path of a result folder or CSV file, a "
        "result of modgap.measure or modgap.estimate, a mapping of errors by system, or a data frame."
    )
