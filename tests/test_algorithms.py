"""Small results of each algorithm whose results are kept, against recorded ones.

If a result differs, either the change was not meant, or the algorithm's version in modgap/storage/algorithms.py must be
raised, and `python -m tests.test_algorithms` run to record the new results.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import modgap
from modgap.distortion.encoders import Encoder, FeatureRequest, compute_features
from modgap.errors import UsageError
from modgap.forward.logits import LogitsRequest, source_logits
from modgap.forward.pooled_layers import OUTPUT
from modgap.forward.sample_request import SampleRequest
from modgap.ranking.extraction import extract
from modgap.sources import open_source
from modgap.storage import algorithms
from modgap.storage.algorithms import ALGORITHM_VERSIONS
from modgap.storage.cache import cache_key, find_cached
from modgap.targets import CustomData, open_target
from modgap.training.surrogate import open_surrogate
from tests.training import run, surrogate_file, target_file

RECORDED = Path(__file__).parent / "algorithm_results.json"
SOURCE = "vit-fashion"
"""Its weights are part of the package, while random weights depend on the version of timm."""
HOW_TO_RECORD = "Raise its version in modgap/storage/algorithms.py and run `python -m tests.test_algorithms`."


def _reading(folder):
    digits = open_target("digits").read()
    path = folder / "table.csv"
    path.write_text("a,b,label,who\n" + "".join(f"{i},{i * i},{'xyz'[i % 3]},{i // 4}\n" for i in range(60)))
    table = open_target(str(path), custom_data=CustomData(kind="table", group="who")).read()
    return [*digits.samples[5].ravel()[:30], *digits.labels[:20], *digits.splits[:40], *table.samples[7].ravel(),
            *table.labels[:9], *table.splits]  # fmt: skip


def _inference(folder):
    images = target_file(folder, "classification", samples=8)
    series = target_file(folder, "classification", image=False, samples=8)
    request = LogitsRequest(SampleRequest(device="cpu", limit=6))
    results = []
    for path, options in ((images, None), (series, CustomData(kind="series"))):
        target = open_target(str(path), custom_data=options)
        results += [*source_logits(open_source(SOURCE), target, request).logits[:, :12].ravel()]
    return results


def _fitted_heads(folder):
    request = LogitsRequest(SampleRequest(device="cpu"), head=f"probe:{surrogate_file(folder)}", compared=3)
    target = open_target(str(target_file(folder, "classification", samples=8)))
    return [*source_logits(open_source(SOURCE), target, request).logits.ravel()]


def _pooled_layers(folder):
    handle = open_source(SOURCE)
    source = handle.load(None, head=False)
    surrogate = open_surrogate(str(surrogate_file(folder)), source, half=1)
    request = FeatureRequest(SampleRequest(limit=5000, device="cpu"), layers=("blocks", OUTPUT))
    layers = compute_features(source, handle.fingerprint(), Encoder(), surrogate, request)
    return [value for features in layers.values() for value in features[:5, :4].ravel()]


def _training(folder):
    images, surrogate = target_file(folder, "classification"), surrogate_file(folder)
    done = run(folder / "run", "mona", SOURCE, images, surrogate, "stage2.epochs=2")
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [value for line in lines for name, value in line.items() if name.endswith("loss") and value is not None]
    weights = load_file(done.weights)
    return [*losses, done.record["result"]["test"], *(np.abs(weights[name]).mean() for name in sorted(weights)[:12])]


def _baselines(_folder):
    results = []
    options = {"scores": ("linear-probe",), "limit": 60, "controls": False, "resamples": 20, "jobs": 1}
    for target, names in (("digits", "pixels,hog"), ("gunpoint", "linear,neighbors,extra-trees,minirocket")):
        ranking = modgap.rank(target, [SOURCE], by="linear-probe", baselines=names, **options)
        errors = {row["source"]: row["scores"]["linear-probe"] for row in ranking.to_dict()["sources"]}
        for name in names.split(","):
            results += [errors[f"baseline:{name}"]["value"], *errors[f"baseline:{name}"]["interval"]]
    return results


CASES = {
    "reading": _reading,
    "inference": _inference,
    "fitted heads": _fitted_heads,
    "pooled layers": _pooled_layers,
    "training": _training,
    "baselines": _baselines,
}


def results_of(name, folder):
    """Return the results of an algorithm on one thread, rounded to what other versions of libraries keep."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [float(f"{float(value):.5g}") for value in CASES[name](folder)]
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", CASES)
def test_an_algorithm_gives_the_recorded_results_of_its_version(name, tmp_path):
    recorded = json.loads(RECORDED.read_text())[name]
    assert recorded["version"] == ALGORITHM_VERSIONS[name], HOW_TO_RECORD
    found = results_of(name, tmp_path)
    assert len(found) == len(recorded["results"]) >= 5, f"The results of {name!r} have changed. {HOW_TO_RECORD}"
    differ = ~np.isclose(found, recorded["results"], rtol=2e-3, atol=2e-4)
    assert not differ.any(), f"The results of {name!r} have changed. {HOW_TO_RECORD}"


def test_each_algorithm_has_recorded_results():
    assert set(CASES) == set(ALGORITHM_VERSIONS) == set(json.loads(RECORDED.read_text()))


def raise_version(monkeypatch, name):
    """Raise the version of one algorithm by one."""
    raised = {**ALGORITHM_VERSIONS, name: ALGORITHM_VERSIONS[name] + 1}
    monkeypatch.setattr(algorithms, "ALGORITHM_VERSIONS", raised)


@pytest.mark.parametrize("name", ["reading", "inference", "fitted heads"])
def test_a_new_version_of_an_algorithm_makes_another_entry_of_the_cache(name, small_images, monkeypatch):
    request = LogitsRequest(SampleRequest(device="cpu", limit=6))

    def is_cached():
        return source_logits(open_source(SOURCE), open_target(str(small_images)), request).cached

    def outputs_key():
        return extract(SOURCE, open_target(str(small_images)), request).key

    assert [is_cached(), is_cached()] == [False, True]
    key = outputs_key()
    monkeypatch.setattr("modgap.forward.inference_setup.installed_version", lambda: "9.9")
    assert is_cached()
    raise_version(monkeypatch, name)
    assert not is_cached()
    assert outputs_key() != key


def test_a_run_resumes_under_another_version_of_modgap_but_not_of_training(tmp_path, monkeypatch):
    data = target_file(tmp_path, "classification"), surrogate_file(tmp_path)
    test_error = run(tmp_path / "run", "finetune", SOURCE, *data).record["result"]["test"]
    monkeypatch.setattr("modgap.training.train_request.installed_version", lambda: "9.9")
    resumed = run(tmp_path / "run", "finetune", SOURCE, *data, resume=True)
    assert resumed.record["result"]["test"] == test_error
    raise_version(monkeypatch, "training")
    version = ALGORITHM_VERSIONS["training"]
    message = rf"has other settings: provenance\.algorithms\.training is {version}, not {version + 1}"
    with pytest.raises(UsageError, match=message):
        run(tmp_path / "run", "finetune", SOURCE, *data, resume=True)


def test_the_features_of_layers_are_kept_under_the_versions_of_their_algorithms(tmp_path, monkeypatch):
    _pooled_layers(tmp_path)
    keys = []
    monkeypatch.setattr(
        "modgap.distortion.encoders.cache_key", lambda record: keys.append(cache_key(record)) or keys[-1]
    )
    _pooled_layers(tmp_path)
    assert find_cached("features", keys[0], lambda entry: entry) is not None
    raise_version(monkeypatch, "pooled layers")
    _pooled_layers(tmp_path)
    assert keys[1] != keys[0]


def record():
    """Write the results of all algorithms with their versions."""
    results = {}
    for name, version in ALGORITHM_VERSIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["MODGAP_CACHE"] = folder
            results[name] = {"version": version, "results": results_of(name, Path(folder))}
    lines = [f"{json.dumps(name)}: {json.dumps(result)}" for name, result in results.items()]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    record()
