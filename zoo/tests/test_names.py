"""The core names what the zoo brings, and the zoo brings what the core names."""

from importlib.metadata import distribution

import pytest

from modgap.targets import manifest_names, manifest_origin
from modgap.targets.download.clients import get_client
from modgap.targets.readers import get_reader
from modgap.zoo import zoo_names
from zoo.tests.test_packaged_targets import EXPECTED as PACKAGED
from zoo.tests.test_rendered_targets import EXPECTED as RENDERED


def test_the_core_names_the_targets_of_the_zoo():
    origin = f"modgap-zoo {distribution('modgap-zoo').version}"
    brought = [name for name in manifest_names() if manifest_origin(name) == origin]
    assert list(zoo_names("target")) == brought
    assert set(brought) == set(PACKAGED) | set(RENDERED)


@pytest.mark.parametrize(("kind", "group"), [("reader", "modgap.readers"), ("client", "modgap.clients")])
def test_the_core_names_readers_and_clients_of_the_zoo(kind, group):
    entries = distribution("modgap-zoo").entry_points.select(group=group)
    assert zoo_names(kind) == tuple(sorted(entry.name for entry in entries))


def test_readers_and_clients_are_loaded():
    for name in zoo_names("reader"):
        assert get_reader(name).__module__ == f"modgap_zoo.readers.{name}"
    for name in zoo_names("client"):
        assert get_client(name).name == name
