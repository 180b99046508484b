"""Manifests with the pinned file of a package: their checks, where their files are, and how they are fetched."""

import hashlib

import pytest
import tomli_w

from modgap.errors import InputError
from modgap.targets import load_manifest, open_target

TABLE = b"1,2,3,0\n4,5,6,1\n7,8,9,0\n1,0,3,1\n2,2,2,0\n3,5,1,1\n"
SHA256 = hashlib.sha256(TABLE).hexdigest()
FILES = {
    "pip": {"package": "grain_data", "path": "data/grain.csv"},
    "apt": {"folder": "/usr/share/absent-grain", "path": "data/grain.csv"},
    "npm": {"path": "data/grain.csv"},
}
NAMES = {"pip": "grain-data-1.2-py3-none-any.whl", "apt": "grain-data_1.2-1_all.deb", "npm": "grain-data-1.2.tgz"}
MEMBERS = {
    "pip": "grain_data/data/grain.csv",
    "apt": "usr/share/absent-grain/data/grain.csv",
    "npm": "package/data/grain.csv",
}


def record(client, **artifact):
    """Return the record of a manifest with an artifact, of which some fields are replaced."""
    fields = {
        "client": client, "name": "grain-data", "version": "1.2", "file": NAMES[client], "size": 1, "sha256": SHA256,
    }  # fmt: skip
    return {
        "schema": 1, "name": "grain", "title": "Grain", "modality": "botany", "task": "classification",
        "classes": ["a", "b"], "input": {"kind": "table"}, "reader": {"name": "table", "options": {"shape": [1, 3]}},
        "files": [{"role": "data", "size": len(TABLE), "sha256": SHA256, **FILES[client]}],
        "artifact": fields | artifact,
    }  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a record as a manifest of the user."""

    def write_manifest(fields):
        folder = tmp_path / "manifests"
        folder.mkdir(exist_ok=True)
        path = folder / "grain.toml"
        path.write_text(tomli_w.dumps(fields))
        return path

    return write_manifest


@pytest.mark.parametrize("client", FILES)
def test_the_file_of_a_package_is_described(write, client):
    manifest = load_manifest(write(record(client)))
    assert manifest.artifact.folder == f"packages/{client}/grain-data-1.2"
    assert manifest.artifact.member(manifest.files[0]) == MEMBERS[client]


@pytest.mark.parametrize(
    ("client", "fields", "message"),
    [
        ("pip", {"name": "--index-url=x"}, "artifact.name is '--index-url=x'. Expected the name of a package"),
        ("pip", {"name": "grain data"}, "Expected the name of a package"),
        ("pip", {"name": "../grain"}, "Expected the name of a package"),
        ("pip", {"name": "grain\n-r x"}, "Expected the name of a package"),
        ("pip", {"name": "grain\n"}, "Expected the name of a package"),
        ("npm", {"name": "@a/../b"}, "Expected the name of a package"),
        ("pip", {"name": "@scope/grain"}, "Expected a name without a slash for pip, got @scope/grain."),
        ("npm", {"version": "file:../x"}, "Expected a version that starts with a digit"),
        ("npm", {"version": "latest"}, "Expected a version that starts with a digit"),
        ("apt", {"version": "1.2 --yes"}, "Expected a version that starts with a digit"),
        ("apt", {"version": "1/../../x"}, "Expected a version that starts with a digit"),
        ("pip", {"version": 1.2}, "artifact.version is 1.2"),
        ("pip", {"file": "folder/grain.whl"}, "Expected the name of a file without a folder"),
        ("pip", {"file": ".grain.whl"}, "Expected the name of a file without a folder"),
        ("pip", {"file": "grain-1.2.tar.gz"}, "Expected a file of pip, whose name ends in .whl, got grain-1.2.tar.gz."),
        ("npm", {"file": "grain.whl"}, "whose name ends in .tgz"),
        ("pip", {"size": 0}, "artifact.size is 0"),
        ("pip", {"size": -3}, "artifact.size is -3"),
        ("pip", {"sha256": "12"}, "Expected 64 hexadecimal digits"),
        ("pip", {"client": "cargo"}, "artifact.client is 'cargo'"),
        ("pip", {"script": "x"}, "The field artifact.script is unknown"),
    ],
)
def test_hostile_values_are_refused_in_one_message(write, client, fields, message):
    with pytest.raises(InputError) as caught:
        load_manifest(write(record(client) | {"artifact": record(client)["artifact"] | fields}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("client", "changes", "message"),
    [
        ("pip", {"files": [{"role": "data", "path": "x"}]}, "An artifact of pip needs files, each with a package."),
        ("apt", {"files": [{"role": "data", "path": "x", "package": "y"}]}, "needs files, each with a folder."),
        ("npm", {"files": [{"role": "data", "path": "x", "folder": "/y"}]}, "each with neither package nor folder."),
        ("npm", {"files": []}, "An artifact of npm needs files"),
        ("npm", {"downloads": [{"path": "x"}]}, "either downloads or an artifact"),
    ],
)
def test_an_artifact_belongs_to_files_of_its_kind(write, client, changes, message):
    with pytest.raises(InputError, match=r"manifest .* is not valid") as caught:
        load_manifest(write(record(client) | changes))
    assert message in str(caught.value)


@pytest.mark.parametrize("client", FILES)
def test_files_are_found_where_they_were_unpacked(write, client):
    path = write(record(client))
    with pytest.raises(InputError, match=r"Fetch it with: modgap data fetch .*grain.toml \(1 byte\)"):
        open_target(str(path))
    unpacked = path.parent / "packages" / client / "grain-data-1.2" / MEMBERS[client]
    unpacked.parent.mkdir(parents=True)
    unpacked.write_bytes(TABLE)
    assert open_target(str(path)).files == {"data": [unpacked]}
    assert len(open_target(str(path)).read()) == 6


def test_an_installed_package_comes_first_unless_it_is_of_another_version(write, tmp_path, monkeypatch):
    path = write(record("pip"))
    installed = tmp_path / "site" / "grain_data" / "data" / "grain.csv"
    unpacked = path.parent / "packages" / "pip" / "grain-data-1.2" / MEMBERS["pip"]
    for file in (installed, unpacked):
        file.parent.mkdir(parents=True)
        file.write_bytes(TABLE)
    (tmp_path / "site" / "grain_data" / "__init__.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert open_target(str(path)).files == {"data": [installed]}
    installed.write_bytes(TABLE + b"1,1,1,0\n")
    assert open_target(str(path)).files == {"data": [unpacked]}


def test_the_artifact_is_no_part_of_the_fingerprint(write):
    """Results that were computed before a target could be fetched are found again."""
    path = write(record("npm"))
    (path.parent / "data").mkdir()
    (path.parent / "data" / "grain.csv").write_bytes(TABLE)
    before = open_target(str(path)).fingerprint
    assert "artifact" not in before["manifest"]
    plain = record("npm")
    del plain["artifact"]
    assert open_target(str(write(plain | {"near_copies": ["wine"]}))).fingerprint == before


def test_a_license_that_is_not_stated_is_not_a_license(write):
    assert load_manifest(write(record("npm") | {"license": "MIT"})).stated_license == "MIT"
    manifest = load_manifest(write(record("npm") | {"license": "not stated"}))
    assert (manifest.license, manifest.stated_license) == ("not stated", None)
    assert load_manifest(write(record("npm"))).stated_license is None
