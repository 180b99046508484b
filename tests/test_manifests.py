"""Every manifest has the fields that a target needs, or the reason why they are absent."""

from functools import cache

import pytest

from benchmarks.demo import TARGETS
from modgap.errors import InputError
from modgap.targets import Manifest, load_manifest, manifest_names, named_manifest
from modgap.targets.manifest import NOT_STATED
from modgap.targets.readers import get_reader
from modgap.targets.steps import get_step

NAMES = manifest_names()
RECIPE = (
    "batch_size", "epochs", "gradient_accumulation", "optimizer", "learning_rate", "weight_decay", "warmup_epochs",
    "decay_epochs",
)  # fmt: skip
manifest_of = cache(named_manifest)


def value_at(record, path):
    """Return the value at a path such as split_sizes.val; None if a part of it is absent."""
    for name in path.split("."):
        record = record.get(name) if isinstance(record, dict) else getattr(record, name, None)
    return record


def missing(manifest: Manifest, *paths: str) -> list[str]:
    """Return the paths that are absent and neither explained themselves nor as part of another field."""
    return [
        path
        for path in paths
        if value_at(manifest, path) in (None, (), {})
        and not any(path == key or path.startswith(f"{key}.") for key in manifest.unknown)
    ]


def required(manifest: Manifest) -> list[str]:
    paths = ["title", "modality", "license", "citation"]
    if manifest.input.kind != "text":
        paths += ["input.shape", "input.unit"]
    if manifest.task == "regression":
        paths += ["output.shape", "output.unit", "pseudo_classes"]
    if not manifest.group:
        paths += ["group_note"]
    if manifest.input.kind == "audio":
        paths += ["input.rate"]
    if manifest.downloads:
        paths += ["preprocessing", "loss", "metric", "split_sizes.train", "split_sizes.val", "split_sizes.test"]
        paths += ["install", "published", *(f"training.{name}" for name in RECIPE)]
    return paths


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_has_every_field_or_the_reason_for_its_absence(name):
    manifest = manifest_of(name)
    assert manifest.name == name
    assert missing(manifest, *required(manifest)) == []
    assert all(len(reason) > 10 for reason in manifest.unknown.values())


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_named_or_counted(name):
    manifest = manifest_of(name)
    if manifest.task == "regression":
        assert manifest.classes is None
        assert manifest.n_classes is None
    else:
        assert (manifest.classes is None) != (manifest.n_classes is None)
        assert len(set(manifest.classes or ())) == len(manifest.classes or ())


@pytest.mark.parametrize("name", NAMES)
def test_files_are_pinned_or_downloaded(name):
    """Files of packages have size and checksum. Downloads have them too, or the reason for their absence.

    Programs that render samples differ between architectures; their digest is part of the fingerprint instead.
    """
    manifest = manifest_of(name)
    for file in manifest.files:
        assert not (file.package or file.folder) or (file.size and file.sha256) or file.role == "program"
    for download in manifest.downloads:
        assert all(url.startswith("https://") for url in download.urls)
        assert download.sha256 or "downloads.sha256" in manifest.unknown or download.md5
        assert download.size or "downloads.size" in manifest.unknown or download.md5 or download.sha256
        assert not (download.size and download.approximate_size)
    assert len({download.path for download in manifest.downloads}) == len(manifest.downloads)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_entries_are_names_of_fields(name):
    """Examples: license, split_sizes.val, downloads.size for all downloads, files.audio for a role."""
    manifest = manifest_of(name)
    for path in manifest.unknown:
        field, _, rest = path.partition(".")
        assert field in Manifest.model_fields, path
        value = getattr(manifest, field)
        if rest and isinstance(value, tuple):
            assert rest in type(value[0]).model_fields or rest in {getattr(item, "role", None) for item in value}, path
        elif rest and value is not None:
            assert isinstance(value, dict) or rest.partition(".")[0] in type(value).model_fields, path


@pytest.mark.parametrize("name", NAMES)
def test_readers_and_steps_exist_and_results_have_their_source(name):
    manifest = manifest_of(name)
    assert callable(get_reader(manifest.reader.name))
    assert all(callable(get_step(step.name)) for step in manifest.steps)
    assert all(result.value > 0 and result.source for result in manifest.published)
    of_one_source = [(result.method, result.model, result.source) for result in manifest.published]
    assert len(set(of_one_source)) == len(of_one_source)


CE = "cross-entropy"
# Loss, metric, K, samples of train, val and test, and the recipe of full fine-tuning in the order of RECIPE.
BENCHMARK = {
    "cifar100": (CE, "0-1 error %", 100, (40_000, 10_000, 10_000), (32, 60, 32, "sgd", 1e-4, 1e-3, 5, 200)),
    "spherical": (CE, "0-1 error %", 100, (40_000, 10_000, 10_000), (32, 60, 4, "adamw", 1e-4, 0.1, 5, 60)),
    "ninapro": (CE, "0-1 error %", 18, (2638, 659, 659), (32, 60, 1, "adam", 1e-4, 1e-5, 5, 60)),
    "darcy-flow": ("relative L2", "relative L2", None, (900, 100, 100), (4, 100, 1, "adamw", 1e-3, 5e-3, 5, 100)),
    "psicov": ("mean squared error", "MAE8", None, (3356, 100, 150), (1, 10, 32, "adam", 5e-6, 1e-5, 5, 100)),
    "cosmic": (
        ("binary cross-entropy", {"masked": True}), "1 - AUROC", None, (4347, 483, 420),
        (4, 60, 1, "adamw", 1e-3, 0, 5, 60),
    ),
    "ecg": (CE, "1 - F1", 4, (260_000, 33_000, 33_000), (4, 15, 16, "sgd", 1e-6, 0.1, 5, 200)),
    "satellite": (CE, "0-1 error %", 24, (800_000, 100_000, 100_000), (16, 60, 4, "adamw", 3e-5, 3e-6, 5, 60)),
    "deepsea": (
        ("binary cross-entropy", {"positive_weight": 4}), "1 - AUROC", 36, (71_753, 2490, 149_400),
        (16, 13, 1, "adam", 1e-5, 0, 10, 25),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BENCHMARK)
def test_recipe_and_metric_of_the_benchmark(name):
    manifest = manifest_of(name)
    loss, metric, n_classes, sizes, recipe = BENCHMARK[name]
    assert (manifest.loss.name, manifest.loss.options) == ((loss, {}) if isinstance(loss, str) else loss)
    assert (manifest.metric.name, manifest.metric.options) == (metric, {})
    assert (manifest.n_classes or len(manifest.classes or ()) or None) == n_classes
    assert tuple(getattr(manifest.split_sizes, split) for split in ("train", "val", "test")) == sizes
    assert tuple(getattr(manifest.training, field) for field in RECIPE) == recipe
    assert (manifest.training.gradient_clip == 1) == (name in ("ninapro", "deepsea"))
    assert manifest.training.momentum == {"cifar100": 0.9, "ecg": 0.99}.get(name)
    assert manifest.training.stage1_samples_per_class == (64 if name in ("psicov", "deepsea") else 128)
    assert manifest.training.stage1_epochs == (100 if name == "ninapro" else 60)


@pytest.mark.parametrize(
    ("field_line", "message"),
    [
        ('loss = "cross-entropy"', "The field loss is 'cross-entropy'. Expected a table such as { name = "),
        (
            'loss = { name = "cross entropy" }',
            "The field loss.name is 'cross entropy'. Expected 'cross-entropy', 'binary cross-entropy'",
        ),
        ('metric = { name = "accuracy" }', "The field metric.name is 'accuracy'. Expected '0-1 error %'"),
        ('metric = { name = "1 - F1", average = "macro" }', "The field metric.average is unknown."),
    ],
)
def test_losses_and_metrics_are_records_with_known_names(field_line, message, tmp_path):
    head = 'schema = 1\nname = "mine"\ntitle = "Mine"\nmodality = "any"\ntask = "classification"\n'
    path = tmp_path / "mine.toml"
    path.write_text(f'{head}{field_line}\n[input]\nkind = "image"\n[reader]\nname = "arrays"\n')
    with pytest.raises(InputError, match="is not valid") as caught:
        load_manifest(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "orca", "mona"),
    [
        ("cifar100", 6.53, 6.48),
        ("spherical", 29.85, 27.13),
        ("darcy-flow", 7.28e-3, 6.8e-3),
        ("psicov", 1.91, 0.99),
        ("cosmic", 0.152, 0.121),
        ("ninapro", 7.54, 7.28),
        ("ecg", 0.28, 0.27),
        ("satellite", 11.59, 11.13),
        ("deepsea", 0.29, 0.28),
    ],
)
def test_published_results_of_the_main_methods(name, orca, mona):
    both = {r.method: r.value for r in manifest_of(name).published if r.source.endswith("Tables 1 and 2")}
    assert both == {"ORCA": orca, "MoNA": mona}
    ablations = [r for r in manifest_of(name).published if r.source.endswith("Table 6")]
    assert len(ablations) == (3 if name in ("cifar100", "spherical", "ninapro", "fsd50k") else 0)
    assert len(manifest_of(name).published) - len(ablations) == (18 if name in ("spherical", "ninapro") else 12)


@pytest.mark.parametrize("name", NAMES)
def test_near_copies_are_other_targets_that_do_not_name_this_one(name):
    copies = manifest_of(name).near_copies
    assert name not in copies
    assert set(copies) <= set(NAMES)
    assert not any(name in manifest_of(copy).near_copies for copy in copies)


def test_the_demo_has_no_target_whose_license_is_not_stated():
    assert NOT_STATED not in {manifest_of(name).license for name in TARGETS}
