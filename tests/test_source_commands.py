"""Sources as a user of the command meets them: one line of error, an exit code."""

import importlib
import json
import os
import pickle
import re
import subprocess
import sys
from collections import Counter

import pytest
import timm
import torch

from modgap import list_sources
from modgap.ranking.source_patterns import parse_source_names
from modgap.sources.aliases import ALIASES
from tests.hub_layout import saved_in_hub
from tests.small_models import made


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A hub's home with a small text model and a small image model in it."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("bert-mlm", "vit"):
        saved_in_hub(folder / "hub", f"small/{name}", *made(name))
    return folder


@pytest.fixture
def python(own_cache):
    """Run Python code in a process, with arguments."""

    def run(code, *args, **environment):
        return subprocess.run(
            [sys.executable, "-c", code, *args],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "MODGAP_CACHE": str(own_cache), **environment},
        )

    return run


@pytest.fixture
def with_hub(modgap, monkeypatch):
    """Run the command in this process with a hub's home: `with_hub(home, "sources")`."""

    def run(home, *args):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
        return modgap(*args)

    return run


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def refused(done, code, message):
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("modgap: ")


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("swin-bb", 2, "Unknown source 'swin-bb'. Did you mean swin-b or swin-b-in1k"),
        ("hf:not/here", 1, "hf download not/here"),
        ("hf:small/vit@v9", 1, "hf download small/vit --revision v9"),
        ("hf:a b", 2, "hf:a b is not the name of a repository. Expected hf:ORGANIZATION/NAME[@REVISION]."),
        ("swin-b", 1, "hf download timm/swin_base_patch4_window7_224.ms_in22k"),
        ("vit-b", 1, "hf download timm/vit_base_patch16_224.augreg_in21k"),
        ("clip-b16", 1, "The configuration files of clip-b16 are not on this machine"),
        ("random:roberta-base", 1, "HF_HUB_OFFLINE is set"),
        ("random:hf:not/here", 1, "hf download not/here"),
        pytest.param(
            "minilm",
            2,
            "minilm has no classification head. Fit one on labeled data of its modality with --head",
            marks=pytest.mark.bundle,
        ),
    ],
)
def test_a_source_that_is_not_to_be_had(with_hub, home, small_images, source, code, message):
    done = with_hub(home, "discrepancy", "--source", source, "--target", small_images)
    refused(done, code, message)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ("{", "config.json is not valid JSON"),
        ('{"architectures": ["DetrForObjectDetection"]}', "'DetrForObjectDetection' cannot be a source"),
        ("{}", 'has to name a timm "architecture" or transformers "architectures"'),
    ],
)
def test_a_folder_that_describes_no_source(modgap, tmp_path, small_images, configuration, message):
    (tmp_path / "config.json").write_text(configuration)
    (tmp_path / "model.safetensors").write_bytes(b"")
    done = modgap("discrepancy", "--source", tmp_path, "--target", small_images)
    refused(done, 2 if "Detr" in configuration else 1, message)


@pytest.mark.parametrize("kind", ["bare pickle", "inside torch's file"])
def test_a_malicious_weights_file_is_not_executed(with_hub, home, tmp_path, small_images, kind):
    bad, trace = tmp_path / "pytorch_model.bin", tmp_path / "executed"
    if kind == "bare pickle":
        bad.write_bytes(pickle.dumps(Evil(trace)))
    else:
        torch.save({"x": Evil(trace)}, bad)
    done = with_hub(home, "discrepancy", "--source", "hf:small/vit", "--weights", bad, "--target", small_images)
    refused(done, 1, f"The weights in {bad} cannot be read")
    assert not trace.exists()


def test_a_folder_without_its_tokenizer(modgap, home, tmp_path, small_images):
    (snapshot,) = (home / "hub" / "models--small--bert-mlm" / "snapshots").iterdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((snapshot / name).read_bytes())
    done = modgap("discrepancy", "--source", tmp_path, "--target", small_images)
    refused(done, 1, "The tokenizer (tokenizer.json or vocab.txt")


FINGERPRINT = """
import json, sys
from modgap.sources import open_source
print(json.dumps(open_source(sys.argv[1]).fingerprint(), sort_keys=True))
print(sorted({"torch", "timm", "transformers", "tokenizers"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "source",
    ["hf:small/bert-mlm", "hf:small/vit", "random:hf:small/vit", pytest.param("minilm", marks=pytest.mark.bundle)],
)
def test_a_fingerprint_needs_no_model_library(home, python, source):
    done = python(FINGERPRINT, source, HF_HOME=str(home))
    assert done.returncode == 0, done.stderr
    record, imported = done.stdout.splitlines()
    assert json.loads(record)["architecture"]
    assert imported == "[]"


@pytest.mark.long
def test_loading_says_nothing_on_stderr_and_asks_no_network(home, python):
    code = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise SystemExit('asked the network')\n"
        "socket.create_connection = socket.getaddrinfo = refuse\n"
        "import sys; from modgap.sources import open_source\n"
        "for name in sys.argv[1:]: open_source(name).load(None)\n"
    )
    # Not offline by the variable: what is here must do without asking.
    done = python(code, "hf:small/bert-mlm", "hf:small/vit", HF_HOME=str(home), HF_HUB_OFFLINE="0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_list_and_one_source_whole(with_hub, home):
    done = with_hub(home, "sources")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.split()}
    aliases = ("swin-b", "swin-b-in1k", "vit-b", "clip-b16", "roberta-base", "minilm", "efficientnet-lite0")
    assert set(aliases) <= set(rows)
    assert "21,841" in rows["swin-b"]
    assert "21,843" in rows["vit-b"]
    assert " none " in rows["minilm"]
    assert " no " in rows["clip-b16"]
    assert rows["source"].split() == [
        "source", "kind", "classes", "parameters", "license", "installed", "description",
    ]  # fmt: skip
    assert "hf:NAME[@REVISION]" in done.stdout
    one = with_hub(home, "sources", "roberta-base")
    assert "124,697,433" in one.stdout
    assert "hf download FacebookAI/roberta-base" in one.stdout
    refused(with_hub(home, "sources", "roberta"), 2, "Did you mean roberta-base")


def fields(done):
    """The fields of a source as `modgap sources NAME` shows them."""
    assert (done.returncode, done.stderr) == (0, "")
    return dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in done.stdout.splitlines()[3:] if line.strip())


@pytest.fixture
def no_network(monkeypatch):
    """Record each request to the hub, and find none at the end."""
    requests = []

    def refuse(*args, **_options):
        requests.append(args)
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    yield
    assert requests == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf:small/vit", {"weights": "hf download small/vit", "is_installed": "yes", "license": "not known to modgap"}),
        ("hf:small/bert-mlm", {"input": "text, 40 tokens"}),
        ("random:hf:small/vit", {"weights": "random, seed 0", "license": "none, because the weights are random"}),
        ("timm:resnet18", {"is_installed": "no", "n_classes": "1,000", "parameters": "11,689,512"}),
        ("random:timm:resnet18", {"input": "image, 224 px", "title": "Model of timm, with random weights"}),
        ("random:vit-fashion", {"input": "image, 28 px, 1 channel", "surrogate": "fashion-mnist (split test)"}),
    ],
)  # fmt: skip
def test_sources_without_a_short_name_are_shown_without_a_network(with_hub, home, no_network, source, expected):
    shown = fields(with_hub(home, "sources", source))
    assert shown["name"] == source
    assert {name: shown[name] for name in expected} == expected


def test_a_source_in_a_folder_is_shown(with_hub, home, no_network):
    (snapshot,) = (home / "hub" / "models--small--vit" / "snapshots").iterdir()
    assert fields(with_hub(home, "sources", snapshot))["title"] == "Model in a folder"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["hf:not/here"], 1, "files of hf:not/here are not on this machine. Get them with: hf download"),
        (["timm:resnet9"], 2, "Unknown timm model 'resnet9'. Did you mean resnet"),
        (["resnet18"], 2, "Did you mean timm:resnet18?"),
        (["--weights", "file"], 2, "--weights belongs to a source. Pass its name too"),
        (["timm:resnet18", "--weights", "absent"], 1, "There is no file or folder of weights at absent"),
    ],
)  # fmt: skip
def test_sources_that_cannot_be_shown(with_hub, home, no_network, arguments, code, message):
    refused(with_hub(home, "sources", *arguments), code, message)


def test_a_source_is_shown_with_other_weights(with_hub, home, no_network, tmp_path):
    file = tmp_path / "weights.pt"
    torch.save(timm.create_model("resnet18", num_classes=3).state_dict(), file)
    shown = fields(with_hub(home, "sources", "timm:resnet18", "--weights", file))
    assert (shown["n_classes"], shown["weights"], shown["is_installed"]) == ("3", str(file), "yes")


@pytest.mark.parametrize("command", ["sources", "targets"])
@pytest.mark.parametrize("width", [80, 100, 130])
def test_the_lists_fit_a_terminal(command, width, capsys, monkeypatch):
    called = getattr(importlib.import_module(f"modgap.cli.{command}"), command)
    called.main([], standalone_mode=False)
    whole = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    called.main([], standalone_mode=False)
    narrow = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, narrow.splitlines())) <= width
    title = re.split(r" {2,}", whole[0].strip())[-1]
    assert (f"On a wider terminal, the list has the column {title}." in " ".join(narrow.split())) == (width < 120)
    if width == 130:
        words = Counter(re.findall(r"[^\s─]+", "\n".join(whole)))
        assert Counter(re.findall(r"[^\s─]+", narrow)) == words


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--kind", "text", "--license", "apache"], ["minilm"]),
        (["--kind", "1 channel"], ["vit-fashion"]),
        (["--license", "not stated"], ["clip-b16"]),
        (["--license", "open", "--kind", "224 px"], ["swin-b", "swin-b-in1k", "vit-b", "efficientnet-lite0"]),
    ],
)
def test_the_list_of_sources_is_filtered(with_hub, home, arguments, names):
    done = with_hub(home, "sources", *arguments)
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines()[3:] if line.strip()]
    # Sources that are added later may have these kinds and licenses, too.
    assert [name for name in listed if name in ALIASES and name in names] == names
    assert "roberta-base" not in listed


def test_the_pool_of_sources_has_no_near_copies(with_hub, home):
    names = [info.name for info in list_sources(diverse=True)]
    assert names == parse_source_names(["@diverse"])
    assert "vit-fashion" in names
    assert not {"clip-b16", "swin-b"} & set(names)
    assert all(set(info.near_copies).isdisjoint(names) for info in list_sources() if info.name in names)
    assert parse_source_names(["timm:resnet18", "@diverse"])[0] == "timm:resnet18"
    refused(with_hub(home, "sources", "vit-b", "--diverse"), 2, "filter the list. Leave them out, or leave out vit-b")
    refused(with_hub(home, "sources", "--kind", "smell"), 2, "No source has the kind 'smell'. The kinds are image,")


def test_what_the_hubs_cache_holds_is_here(with_hub, home):
    (snapshot,) = (home / "hub" / "models--small--bert-mlm" / "snapshots").iterdir()
    other = home.parent / "other"
    folder = other / "hub" / "models--FacebookAI--roberta-base"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots").mkdir()
    (folder / "snapshots" / "abc").symlink_to(snapshot)
    rows = with_hub(other, "sources").stdout.splitlines()
    (row,) = [line for line in rows if line.strip().startswith("roberta-base")]
    assert " yes " in row
