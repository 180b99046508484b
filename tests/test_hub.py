"""Fetching from a hub: one on the loopback interface, with the client's own requests."""

import json
import os
import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from tests.hub_server import hub_server
from tests.small_models import made

LOAD = """
import sys
from modgap.errors import InputError
from modgap.sources import open_source
code = 0
for name in sys.argv[1].split(","):
    try:
        handle = open_source(name)
        print(handle.fingerprint().get("revision"))
        if len(sys.argv) == 2:
            handle.load(None)
    except InputError as error:
        print(error, file=sys.stderr)
        code = 1
sys.exit(code)
"""
SMALL_VIT = {"depth": 1, "embed_dim": 48, "num_heads": 2}


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """The same small model as safetensors among other files, as .bin alone, in shards; and one of timm's."""
    folder = tmp_path_factory.mktemp("model")
    for part in made("bert-mlm"):
        part.save_pretrained(folder)
    files = contents(folder)
    state = load_file(folder / "model.safetensors")
    torch.save(state, folder / "pytorch_model.bin")
    binary = (folder / "pytorch_model.bin").read_bytes()
    without = {name: content for name, content in files.items() if name != "model.safetensors"}
    names, shards = sorted(state), {}
    for number in (1, 2):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({name: state[name] for name in names[number - 1 :: 2]}, folder / shard)
        shards[shard] = (folder / shard).read_bytes()
    weight_map = {name: sorted(shards)[i % 2] for i, name in enumerate(names)}
    others = {"README.md": b"x", "onnx/model.onnx": b"x", "tf_model.h5": b"x", "pytorch_model.bin": binary}
    index = {"model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode()}
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=3, **SMALL_VIT)
    save_file(vit.state_dict(), folder / "vit.safetensors")
    own = {"architecture": "vit_tiny_patch16_224", "num_classes": 3, "model_args": SMALL_VIT}
    return {
        "small/safe": {**files, **others},
        "small/binary": {**without, "pytorch_model.bin": binary},
        "small/shards": {**without, **shards, **index},
        "small/vit": {
            "config.json": json.dumps(own).encode(),
            "model.safetensors": (folder / "vit.safetensors").read_bytes(),
        },
        "small/random": {**files, **others},
        "small/empty": {"README.md": b"x"},
    }


@pytest.fixture
def online(repositories, tmp_path):
    """Load a source in a process that may ask the hub; gives the process and the files it got."""
    with hub_server(repositories) as (address, got):

        def run(*arguments, **environment):
            got.clear()
            own = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
            done = subprocess.run(
                [sys.executable, "-c", LOAD, *arguments],
                capture_output=True,
                text=True,
                timeout=300,
                env={**os.environ, **own, **environment},
            )
            files = [file.split("/", 2) for file in got]
            return done, {file if "," not in arguments[0] else f"{name}/{file}" for _, name, file in files}

        yield run


WEIGHTS = {
    "safe": set(),
    "binary": {"pytorch_model.bin"},
    "shards": {
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    },
    "vit": {"model.safetensors"},
    "random": set(),
}
"""Files of the weights of each repository that are fetched after those of `small/safe`."""


@pytest.mark.long
def test_what_is_needed_is_fetched_once_and_nothing_else(online):
    """From repositories of all layouts; the weights of a source with random ones are not fetched."""
    done, got = online("hf:small/safe")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.strip()) == 40
    small = {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert got == {"model.safetensors", *small}
    names = ",".join(f"{'random:' if name == 'random' else ''}hf:small/{name}" for name in WEIGHTS)
    others, got = online(names)
    assert (others.returncode, others.stderr) == (0, "")
    assert others.stdout.splitlines()[0] == done.stdout.strip()
    for name, weights in WEIGHTS.items():
        files = {file.split("/", 1)[1] for file in got if file.startswith(f"{name}/")}
        assert {file for file in files if file.endswith((".safetensors", ".bin", "index.json"))} == weights
        assert files - weights == {"safe": set(), "vit": {"config.json"}}.get(name, small)
    offline, got = online("hf:small/safe", "only look", HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert (offline.returncode, offline.stdout, got) == (0, done.stdout, set())


def test_what_the_hub_does_not_have(online):
    done, got = online("hf:small/none,hf:small/empty")
    assert done.returncode == 1
    messages = [line for line in done.stderr.splitlines() if "are not on this machine" in line]
    for name, reason, message in zip(
        ("none", "empty"), ("RepositoryNotFoundError", "the repository has no such file"), messages, strict=True
    ):
        text = f"configuration files of hf:small/{name} are not on this machine and could not be downloaded ({reason}"
        assert text in message
        assert f"hf download small/{name}" in message
    assert got == set()


def test_a_hub_that_cannot_be_reached(online):
    done, _ = online("hf:small/safe", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "are not on this machine and could not be downloaded (" in done.stderr.strip().splitlines()[-1]
