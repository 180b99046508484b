"""The strategy of a race: which models are fitted next, by what is known and by the time that is left.

Cheap models come first: baselines of the field, and linear probes of sources and of their random-weights controls. Then
sources are trained at several rates on one fold, the best settings for longer, and the finalists on further folds
(successive halving; Jamieson and Talwalkar, AISTATS 2016).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from modgap.baselines.baseline import QUICK_SECONDS
from modgap.race.steps import BASELINE, N_FOLDS, TRAINING, Outcome, Step
from modgap.sources import control_name, is_control, pretrained_name
from modgap.training.linear_probe import LINEAR_PROBE

MORE_BASELINES = "more baselines"
"""Name of the stage of the baselines that are not marked as quick."""
PROBED = 500
"""Labeled samples of the linear probes that order the sources, if there are more than twice as many."""
JUDGED = 1000
"""Number of judged samples from which on one of five folds is enough."""
SEEN = 3000
"""About how many samples, counted by epoch, the shortest training sees; from more labeled samples it takes so many."""
SHORT = 60
"""Budget in seconds up to which nothing is trained."""
MOST_EPOCHS = 10
LONGER = 3
"""Factor of the epochs of the settings that go on."""
RATES = (5e-4, 1e-4, 2.5e-3)
MORE_RATES = (2e-5, 1.25e-2)
"""Learning rates of the first trainings, and those beyond, which are tried where the best rate is at an edge."""
PROBE_RATES = (5e-5, 2.5e-4)
"""Rates of trainings that begin with the linear probe."""
EMBEDDER_RATES = RATES[:2]
"""Rates of trainings that begin with the embedder."""
TRAINED_SOURCES = 3
"""Number of sources that are trained."""
PROBE_STARTS = 2
"""Number of sources that are trained from their linear probe."""
EMBEDDER_STARTS = 1
"""Number of sources that are trained from a trained embedder."""
LONGER_SETTINGS = 4
"""Number of settings that are trained for longer."""
FINALISTS = 2
"""Number of settings that are judged on further folds."""
TRAINING_COST = 6
"""About how many times as long a sample takes in an update as in a pass."""
UNKNOWN_PASS = 0.01
"""Seconds of a pass of a sample through a source as long as none was measured."""
LATEST = 1.05
"""Share of the budget at which the last steps are given up."""
FIT_SECONDS = 1.0
"""Seconds of a probe besides those of its pass."""
PLAN_FACTOR = 1.5
"""Factor of the expected number of steps from which a plan counts as changed."""


@dataclass(frozen=True)
class Stage:
    """A part of a race.

    Attributes:
        name: Name in messages.
        wanted: Function of the outcomes so far that returns the steps of the stage, the most useful first.
        share: Share of the budget by which its steps are expected to end.
    """

    name: str
    wanted: Callable[[Sequence[Outcome]], list[Step]] = field(repr=False)
    share: float


def n_judging_folds(n_labeled: int) -> int:
    """Return on how many of the five folds a model is judged in full: on more where there are few samples."""
    return int(np.clip(-(-JUDGED // max(1, n_labeled)), 1, N_FOLDS))


@dataclass(frozen=True)
class Strategy:
    """Choice of the next steps of a race, from the models that can take part.

    Attributes:
        baselines: Seconds that each baseline is expected to take for one fold, by name; quick ones.
        more_baselines: The same of the other baselines.
        sources: Names of the sources, those that are known to suit the kind of target first.
        n_labeled: Number of labeled samples.
        seconds: Budget in seconds; with 0, the quick baselines alone take part.
        workers: Number of steps that run side by side.
        probes: True if linear probes can be fitted to the target.
        embeds: True if an embedder can be trained for its samples, as it cannot for texts.
    """

    baselines: Mapping[str, float]
    more_baselines: Mapping[str, float]
    sources: tuple[str, ...]
    n_labeled: int
    seconds: float
    workers: int = 1
    probes: bool = True
    embeds: bool = True

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in their order."""
        is_short = self.seconds <= SHORT
        fitted = (
            Stage("baselines", lambda _: self._baselines(self.baselines), np.inf),
            Stage(MORE_BASELINES, lambda _: self._baselines(self.more_baselines), 0.2),
            Stage("linear probes", self._probes, 0.8 if is_short else 1 / 3),
            Stage("linear probes of all samples", self._full_probes, 1.0 if is_short else 0.6),
        )
        if is_short:
            return fitted
        return (
            *fitted,
            Stage("trainings", self._trainings, 0.75),
            Stage("longer trainings", self._longer, 0.9),
            Stage("finalists", self._finalists, 1.0),
        )

    def plan(self, outcomes: Sequence[Outcome] = (), elapsed: float = 0.0) -> Iterator[tuple[Stage, int, float]]:
        """Yield each stage with the number of steps that fit into its time, and the seconds that they should take.

        Before anything is measured, the times are those of an average source. All models are expected to be equal.

        Args:
            outcomes: Results of the steps so far, which are not counted.
            elapsed: Seconds so far.
        """
        outcomes, began = list(outcomes), elapsed
        n_steps, taken = Counter[str](), defaultdict[str, float](float)
        while (planned := self.next_steps(outcomes, elapsed))[1]:
            stage, steps = planned
            seconds = [self.expected_seconds(step, outcomes) for step in steps]
            outcomes += [
                Outcome(step, np.zeros(1), expected, pass_seconds=self._pass_seconds(step.name, outcomes))
                for step, expected in zip(steps, seconds, strict=True)
            ]
            n_steps[stage.name] += len(steps)
            taken[stage.name] += max(sum(seconds) / self.workers, *seconds)
            elapsed = began + sum(taken.values())
        for stage in self.stages:
            yield stage, n_steps[stage.name], taken[stage.name]

    def deadline(self, stage: Stage) -> float:
        """Return the seconds after the start by which a step of a stage is given up, later than its expected end."""
        return float(self.seconds * min(stage.share + 0.1, LATEST)) if np.isfinite(stage.share) else np.inf

    def next_steps(self, outcomes: Sequence[Outcome], elapsed: float) -> tuple[Stage, list[Step]]:
        """Return a stage and its steps that are run next, side by side; no steps at the end.

        Where nothing ends within the share of its stage, steps may take all of the time that is left.

        Args:
            outcomes: Results of the steps so far.
            elapsed: Seconds so far.
        """
        done = {one.step for one in outcomes}
        # Then the same stages once more with all of the time, those that help most first.
        _, more_baselines, probes, full_probes, *trainings = (replace(stage, share=1.0) for stage in self.stages)
        for stage in (*self.stages, full_probes, probes, *trainings, more_baselines):
            missing = [step for step in stage.wanted(outcomes) if step not in done]
            left = stage.share * self.seconds - elapsed if np.isfinite(stage.share) else np.inf
            if stage.name == MORE_BASELINES:
                # Baselines of seconds may take their time, however long the start or an interruption took.
                more = [one.step for one in outcomes if one.step.name in self.more_baselines]
                quick = [self.expected_seconds(step, ()) for step in more]
                left = max(left, min(QUICK_SECONDS, stage.share * self.seconds) - sum(quick) / self.workers)
            if steps := self._affordable(missing[: self._batch(missing, outcomes)], outcomes, left):
                return stage, steps
        return self.stages[-1], []

    def _batch(self, missing: Sequence[Step], outcomes: Sequence[Outcome]) -> int:
        """Return how many steps may run now: all baselines; of others few, until the first of a kind tells its time."""
        if not missing or missing[0].kind == BASELINE:
            return len(missing)
        is_known = any(one.step.kind == missing[0].kind and not one.reason for one in outcomes)
        return 4 * self.workers if is_known else self.workers

    def _affordable(self, steps: Sequence[Step], outcomes: Sequence[Outcome], left: float) -> list[Step]:
        """Return the first of some steps that are expected to end within so many seconds."""
        chosen: list[Step] = []
        seconds: list[float] = []
        for step in steps:
            expected = self.expected_seconds(step, outcomes)
            if max(sum([*seconds, expected]) / self.workers, expected) > left:
                # A cheaper one may still fit.
                continue
            chosen.append(step)
            seconds.append(expected)
        return chosen

    # Stages

    def _baselines(self, names: Mapping[str, float]) -> list[Step]:
        folds = n_judging_folds(self.n_labeled)
        return [Step(BASELINE, name, folds=folds) for name in sorted(names, key=lambda name: names[name])]

    def _probes(self, _outcomes: Sequence[Outcome]) -> list[Step]:
        """Return probes of all sources, each with its control."""
        if not self.probes:
            return []
        few = PROBED if self._probes_in_part else None
        folds = n_judging_folds(few or self.n_labeled)
        names = [name for source in self.sources for name in (source, control_name(source))]
        return [Step(LINEAR_PROBE, name, labeled=few, folds=folds) for name in names]

    @property
    def _probes_in_part(self) -> bool:
        return self.n_labeled > 2 * PROBED

    def _full_probes(self, outcomes: Sequence[Outcome]) -> list[Step]:
        """Return the best probes with all labeled samples, if there are more than the first had."""
        if not self._probes_in_part:
            return []
        probes = _best([one for one in outcomes if one.step.kind == LINEAR_PROBE and one.step.labeled])
        folds = n_judging_folds(self.n_labeled)
        controls = [one for one in probes if is_control(one.step.name)]
        pretrained = [one for one in probes if not is_control(one.step.name)]
        chosen = dict.fromkeys(one.step for one in (*pretrained[:1], *controls[:1], *probes[:TRAINED_SOURCES]))
        return [replace(step, labeled=None, folds=folds) for step in chosen]

    def _trainings(self, outcomes: Sequence[Outcome]) -> list[Step]:
        """Return trainings of the best sources at several rates."""
        epochs = int(np.clip(-(-SEEN // self.n_labeled), 1, MOST_EPOCHS))
        few = None if self.n_labeled <= SEEN else SEEN
        sources, starts = self.sources_to_train(outcomes), self._probed(outcomes)
        embedded = sources[:EMBEDDER_STARTS] if self.embeds else []
        tried = [
            *(("finetune", name, rate) for rate in RATES for name in sources[:TRAINED_SOURCES]),
            *(("lp-ft", name, rate) for rate in PROBE_RATES for name in starts[:PROBE_STARTS]),
            *(("emb", name, rate) for rate in EMBEDDER_RATES for name in embedded),
        ]
        steps = [Step(method, name, rate, epochs, few) for method, name, rate in tried]
        return steps + [step for step in self._beyond(outcomes, epochs) if step not in steps]

    def _beyond(self, outcomes: Sequence[Outcome], epochs: int) -> Iterator[Step]:
        """Yield trainings of the best source at a rate beyond the best one, if this is at an edge."""
        short = [one for one in outcomes if one.step.method == "finetune" and one.step.epochs == epochs]
        if len(short) < len(RATES) or not _best(short):
            return
        best = _best(short)[0].step
        if best.rate == min(RATES):
            yield replace(best, rate=MORE_RATES[0])
        elif best.rate == max(RATES):
            yield replace(best, rate=MORE_RATES[1])

    def _longer(self, outcomes: Sequence[Outcome]) -> list[Step]:
        """Return the best settings with more epochs; with all labeled samples, where the first had a part of them."""
        trained = [one for one in outcomes if one.step.kind == TRAINING and one.step.folds == 1]
        if not trained:
            return []
        if self.n_labeled > SEEN:
            of_few = [one for one in trained if one.step.labeled]
            return [replace(one.step, labeled=None) for one in _best(of_few)[:LONGER_SETTINGS]]
        fewest = min(one.step.epochs or 0 for one in trained)
        short = [one for one in trained if one.step.epochs == fewest]
        return [replace(one.step, epochs=LONGER * fewest) for one in _best(short)[:LONGER_SETTINGS]]

    def _finalists(self, outcomes: Sequence[Outcome]) -> list[Step]:
        """Return the best trainings on further folds, if there are few samples."""
        folds = n_judging_folds(self.n_labeled)
        trained = [one for one in outcomes if one.step.kind == TRAINING and one.step.folds == 1]
        return [replace(one.step, folds=folds) for one in _best(trained)[:FINALISTS]] if folds > 1 else []

    # Sources and time

    def sources_to_train(self, outcomes: Sequence[Outcome]) -> list[str]:
        """Return the sources, by the mean of their places among the known sources and among the probes."""
        by_probe = self._probed(outcomes)
        ranks = {
            name: number + (by_probe.index(name) if name in by_probe else len(self.sources))
            for number, name in enumerate(self.sources)
        }
        failed = {one.step.name for one in outcomes if one.step.kind == LINEAR_PROBE and one.reason}
        return sorted(ranks.keys() - (failed - set(by_probe)), key=lambda name: (ranks[name], name))

    def _probed(self, outcomes: Sequence[Outcome]) -> list[str]:
        """Return the sources that have a probe, the one with the lowest error first."""
        probes = _best([one for one in outcomes if one.step.kind == LINEAR_PROBE])
        return list(dict.fromkeys(one.step.name for one in probes if not is_control(one.step.name)))

    def expected_seconds(self, step: Step, outcomes: Sequence[Outcome]) -> float:
        """Return about how long a step takes, by the steps so far."""
        n_labeled = self._n_used(step)
        if step.kind == BASELINE:
            return step.folds * {**self.baselines, **self.more_baselines}.get(step.name, FIT_SECONDS)
        if step.kind == LINEAR_PROBE:
            return FIT_SECONDS + n_labeled * self._of_sample(step.name, outcomes, self._probe_seconds)
        assert step.epochs is not None
        alike = (step.method, step.name)
        earlier = [one for one in outcomes if (one.step.method, one.step.name) == alike and not one.reason]
        if earlier:
            return earlier[-1].seconds * self._work(step) / self._work(earlier[-1].step)
        n_trained, of_pass = n_labeled * (N_FOLDS - 1) / N_FOLDS, self._pass_seconds(step.name, outcomes)
        stages = 2 if step.method == "emb" else 1
        return step.folds * n_trained * of_pass * (TRAINING_COST * stages * step.epochs + 1)

    def final_seconds(self, step: Step, outcomes: Sequence[Outcome], n_test: int) -> float:
        """Return about how long a final fit to all labeled samples and its test take, by the steps so far.

        Args:
            step: Step of the model.
            outcomes: Results of the steps so far.
            n_test: Number of test samples.
        """
        final, n_labeled = replace(step, folds=1, labeled=None), self.n_labeled
        earlier = [one for one in outcomes if one.step.model == step.model and not one.reason]
        if not earlier:
            return self.expected_seconds(final, outcomes)
        latest = earlier[-1]
        if step.kind == LINEAR_PROBE:
            # The features of all samples are computed, and those of the test samples too.
            return FIT_SECONDS + latest.seconds * (n_labeled + n_test) / self._n_used(latest.step)
        # A step is fitted to the samples of all folds but one.
        return FIT_SECONDS + latest.seconds * self._work(final) / self._work(latest.step) * N_FOLDS / (N_FOLDS - 1)

    def _work(self, step: Step) -> float:
        """Return the number of samples that a training sees, counted by epoch and fold."""
        return float((step.epochs or 1) * step.folds * self._n_used(step))

    def _n_used(self, step: Step) -> int:
        """Return the number of labeled samples that a step uses."""
        return min(step.labeled or self.n_labeled, self.n_labeled)

    def _probe_seconds(self, probe: Outcome) -> float:
        """Return the seconds of a probe for each of its samples, of which its fit has a part."""
        return max(probe.seconds - FIT_SECONDS, probe.seconds / 2) / self._n_used(probe.step)

    def _pass_seconds(self, name: str, outcomes: Sequence[Outcome]) -> float:
        """Return the seconds of a pass of a sample, without those in which a probe starts."""
        return self._of_sample(name, outcomes, lambda probe: probe.pass_seconds)

    def _of_sample(self, name: str, outcomes: Sequence[Outcome], measure: Callable[[Outcome], float]) -> float:
        """Return a time of a sample by the probe of a source or its control, or else the median of those of others."""
        family = {pretrained_name(name), control_name(name)}
        probes = [one for one in outcomes if one.step.kind == LINEAR_PROBE and not one.reason]
        by_name = {one.step.name: seconds for one in probes if (seconds := measure(one))}
        of_family = [seconds for other, seconds in by_name.items() if other in family]
        return max(of_family) if of_family else float(np.median(list(by_name.values()))) if by_name else UNKNOWN_PASS


def _best(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes that have an error, the lowest first."""
    return sorted((one for one in outcomes if not one.reason), key=lambda one: one.error)


def lasting_changes(n_expected: Sequence[int]) -> list[tuple[int, int]]:
    """Return the numbers of steps before and after each change of a plan that lasts, at most one in each direction.

    A step that takes long can take the place of many cheap ones for a moment, so a change counts in its second round.

    Args:
        n_expected: Number of all steps that are expected before each round.
    """
    changes: list[tuple[int, int]] = []
    planned, latest, told = n_expected[0], 0, set[bool]()
    for number in n_expected[1:]:
        direction = (number > planned * PLAN_FACTOR) - (number < planned / PLAN_FACTOR)
        if direction and direction == latest and (direction > 0) not in told:
            changes.append((planned, number))
            planned, told = number, told | {direction > 0}
        latest = direction
    return changes
