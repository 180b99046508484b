"""`modgap.rank`: sources ranked by how well they should transfer to a target, or to several."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from modgap.api.arguments import public_function
from modgap.api.opening import target_request
from modgap.errors import Progress, UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import Backend
from modgap.ranking.matrix.formats import MatrixResult
from modgap.ranking.matrix.rankings import rank_targets, targets_of_names
from modgap.ranking.rank import rank as rank_sources
from modgap.ranking.report import RankingResult
from modgap.ranking.score import ErrorOptions
from modgap.ranking.source_patterns import diverse_sources, diverse_targets, parse_layers
from modgap.ranking.types import RankRequest
from modgap.targets import CustomData
from modgap.targets.catalog import DIVERSE


@public_function
def rank(
    target: str | Path | tuple[Any, Any] | Sequence[str],
    sources: Sequence[str],
    *,
    scores: Sequence[str] = (),
    by: str | None = None,
    resamples: int = 50,
    weight: str | None = None,
    splits: int = 20,
    per_class: int | None = None,
    split: str | None = "train",
    limit: int | None = 2000,
    input_size: int | None = None,
    representation: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    seed: int = 0,
    head: str = "auto",
    controls: bool = True,
    baselines: str = "quick",
    jobs: int | None = None,
    address: str | None = None,
    custom_data: CustomData | Mapping[str, str] | None = None,
    data_dir: str | Path | None = None,
    pseudo_classes: int | None = None,
    layers: str = "last",
    pilot: int | Literal["all"] = 0,
    progress: Progress | None = None,
) -> RankingResult | MatrixResult:
    """Rank sources by how well they should transfer to a target, or to each of several, as `modgap rank` does.

    Args:
        target: Name or path of the target, or a pair (x, y) of arrays, as for `modgap.open_target`. Or a list of names
            and paths of several targets, to which `custom_data`, `data_dir`, `layers` and `pilot` do not
            apply. `@diverse` stands for all targets on this machine with an open license and without near
            copies.
        sources: Names of the sources, as for `modgap.open_source`. A name may end with the size of the source's input,
            as in `vit-b@128px`. `@diverse` stands for all sources on this machine with an open license and without near
            copies.
        scores: Names of the scores to compute; empty for the default scores.
        by: Name of the score to rank by; None for the default of the target's task.
        resamples: Number of random subsamples, each of nine tenths of the samples, for the intervals of scores that are
            not means of errors by sample; fewer than 10 for no intervals of them.
        weight: What counts equally in an error: `samples`, `groups` or `classes`; None for groups where there are
            groups, else samples.
        splits: Number of repeated splits of the samples, for scores that fit maps.
        per_class: Number of samples of each class that maps are fitted on; None for halves.
        split: `train`, `all`, `val` or `test`; None for all samples. Samples that test the chosen source should not
            choose it.
        limit: Largest number of samples, drawn in proportion to the classes; None for all.
        input_size: Height and width of the sources' input in pixels; None for each source's default.
        representation: How time series and audio are turned into model input; None for the manifest's choice.
        dtype: `float32`, or `bfloat16` or `float16` for mixed precision; `auto` for `bfloat16` on a CUDA GPU that has
            it, and `float32` elsewhere.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Seed of every random draw.
        head: `auto`, `own`, `none` or `probe:SURROGATE`.
        controls: True to score a random-weights control of each source too.
        baselines: Models of the target's field to compare with the sources by cross-validation: `quick` for those that
            take little time, `all` for all that suit the target, `none`, or names with commas between them.
        jobs: Number of processes on this machine, of which 1 runs one job after the other in this process; None for
            one process on each core.
        address: Address of the scheduler of a running cluster of Dask whose workers run the jobs, such as
            `tcp://10.0.0.1:8786`; None to run them on this machine.
        custom_data: Description of custom data, or its fields as a mapping such as `{"label_column": "rhythm"}`.
        data_dir: Data directory that holds the files of the target's manifest; None for the default one.
        pseudo_classes: Number of clusters that serve as the classes of a regression target; None for the manifest's.
        layers: `last` for the output of the encoder alone, `all` to score each layer of each source too, or numbers of
            layers such as `2,4`, which the last layer joins.
        pilot: Number of the first known sources of the target's kind that are fine-tuned for ten epochs at three rates,
            with three seeds at the best, or `all`; their errors on other samples decide which is best. 0 for none.
        progress: Called with the name of a stage and the share of its work done since the last call.

    Returns:
        The ranking, where sources that failed have a row with the reason. For a list of targets the matrix of all
        scores, which has the rankings.

    Raises:
        UsageError: If there are no sources, if an option or a score is unknown, or if an option does not apply.
        InputError: If the target, or each of several, cannot be used.

    Example:
        >>> ranking = rank("digits", ["vit-fashion"], limit=300, resamples=0, baselines="none", jobs=1)
        >>> ranking.to_frame()[["source", "kind"]].values.tolist()
        [['vit-fashion', 'source'], ['random:vit-fashion', 'random-weights control']]
    """
    samples = SampleRequest(
        split=split,
        limit=limit,
        seed=seed,
        input_size=input_size,
        representation=representation,
        dtype=dtype,
        device=device,
    )
    errors = ErrorOptions(weight, splits, per_class)
    request = RankRequest(
        tuple(scores),
        by,
        resamples,
        samples,
        head,
        controls,
        baselines,
        errors=errors,
        layers=parse_layers(layers),
        pilot=pilot,
    )
    sources = _expand_pool(sources, diverse_sources)
    target = [target] if target == DIVERSE else target
    if isinstance(target, Sequence) and not isinstance(target, str) and all(isinstance(one, str) for one in target):
        target = _expand_pool(target, diverse_targets)
        of_one = {"custom_data": custom_data, "data_dir": data_dir, "pilot": pilot or None}
        of_one |= {"layers": None if layers == "last" else layers}
        if unfit := [name for name, value in of_one.items() if value is not None]:
            raise UsageError(
                f"`{unfit[0]}` applies to one target, and `target` is a list. Rank the targets one by one."
            )
        targets = targets_of_names(target, pseudo_classes)
        return rank_targets(targets, sources, request, Backend(jobs, address), progress)
    assert isinstance(target, str | Path | tuple)
    return rank_sources(
        target_request(target, custom_data, data_dir, pseudo_classes),
        sources,
        request,
        Backend(jobs, address),
        progress=progress,
    )


def _expand_pool(names: Sequence[str], pool: Callable[[], list[str]]) -> list[str]:
    """Return the names with those of the pool in place of `@diverse`."""
    return list(dict.fromkeys(one for name in names for one in (pool() if name == DIVERSE else [name])))
