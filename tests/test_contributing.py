"""The worked examples of CONTRIBUTING.md do what they say."""

import json
import re
from pathlib import Path

import numpy as np

from modgap.targets import open_target

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(language):
    return re.search(rf"```{language}\n(.*?)```", TEXT, re.DOTALL).group(1)


def test_the_manifest_is_taken(tmp_path):
    rng = np.random.default_rng(0)
    walkers = np.repeat(np.arange(12), 5)
    np.savez(tmp_path / "gait.npz", x=rng.normal(size=(60, 3, 500)), y=np.arange(60) % 3, groups=walkers)
    (tmp_path / "gait.toml").write_text(block("toml"))
    target = open_target(str(tmp_path / "gait.toml"))
    table = target.read()
    assert list(table.classes) == ["level", "stairs up", "stairs down"]
    assert table.samples[0].shape == (3, 500)
    assert (table.groups["groups"] == walkers).all()


def test_the_reader_reads(tmp_path):
    made: dict = {}
    exec(block("python"), made)
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for number, path in enumerate(files):
        path.write_text(json.dumps([{"signal": [[0.0, 1.0], [2.0, 3.0]], "terrain": number}] * 2))
    table = made["read"]({"data": files})
    assert table.labels.tolist() == [0, 0, 1, 1]
    assert table.groups["walker"].tolist() == [0, 0, 1, 1]
    assert table.samples[3].tolist() == [[0, 1], [2, 3]]
