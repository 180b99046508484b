"""The worked example of CONTRIBUTING.md that adds a source to the zoo does what it says."""

import tomllib

import torch
from safetensors.torch import save_file

from modgap.sources import open_source
from modgap.testing import check_source
from modgap_zoo import packaged, sources
from tests.test_contributing import TEXT, block, files_of


def test_a_packaged_source_is_one_file_one_plug_in_and_rows_of_the_documentation(tmp_path, monkeypatch):
    existing, new = files_of(TEXT.partition("## Add a source\n")[2])
    assert new == {"zoo/modgap_zoo/packaged/birdsong.py"}
    assert {"zoo/modgap_zoo/sources.py", "docs/zoo/sources.md", "docs/zoo/licenses.md"} <= existing
    (tmp_path / "packaged").mkdir()
    (tmp_path / "packaged" / "birdsong.py").write_text(block("python", '"""The network of the package birdsong'))
    monkeypatch.setattr(packaged, "__path__", [*packaged.__path__, str(tmp_path / "packaged")])
    made = {}
    exec(block("python", "birdsong = PackageSource"), vars(sources), made)
    monkeypatch.setattr(sources, "birdsong", made["birdsong"], raising=False)
    (tmp_path / "packages" / "birdsong").mkdir(parents=True)
    (tmp_path / "packages" / "birdsong" / "__init__.py").touch()
    entries = tomllib.loads(block("toml", "[project.entry-points"))["project"]["entry-points"]["modgap.sources"]
    information = tmp_path / "packages" / "birdsong_plugin-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: birdsong-plugin\nVersion: 1\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (information / "entry_points.txt").write_text("\n".join(["[modgap.sources]", *lines]))
    monkeypatch.syspath_prepend(tmp_path / "packages")
    rng = torch.Generator().manual_seed(0)
    shapes = {"frame.weight": (64, 32), "frame.bias": (64,), "output.weight": (2, 64), "output.bias": (2,)}
    weights = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    save_file(weights, tmp_path / "packages" / "birdsong" / "weights.safetensors")
    check_source("birdsong")
    model = open_source("birdsong").load(None).model
    assert sum(one.numel() for one in model.parameters()) == made["birdsong"].parameters
    assert torch.equal(model.state_dict()["head.linear.weight"], weights["output.weight"])
    control = open_source("random:birdsong").load(None).model
    assert not torch.equal(control.state_dict()["head.linear.weight"], weights["output.weight"])
