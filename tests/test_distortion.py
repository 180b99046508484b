"""Features of encoders, measurements of runs, and the command `modgap distortion`."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from modgap.distortion import encoders as feature_module
from modgap.distortion.answer import encoder_table, notes
from modgap.distortion.encoders import Encoder, FeatureRequest, compute_features, encoders_of_runs
from modgap.distortion.feature_figures import layer_grid
from modgap.distortion.grid import grid_cells
from modgap.distortion.measurement import DistortionRequest, measure_distortion
from modgap.distortion.report import DistortionResult
from modgap.errors import InputError, UsageError
from modgap.forward.pooled_layers import OUTPUT, block_names, layer_names
from modgap.forward.sample_request import SampleRequest
from modgap.sources import open_source
from modgap.storage.json_records import format_json
from modgap.training.run_folder import open_run, write_record
from modgap.training.surrogate import open_surrogate, surrogate_features
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.test_cli import refused, strict
from tests.training import run, surrogate_file, target_file

VIT = "random:timm:test_vit"
BOTH = FeatureRequest(SampleRequest(limit=5000, input_size=32), layers=("blocks", OUTPUT))


@pytest.fixture(scope="module", name="made")
def runs_and_their_data(tmp_path_factory):
    """A surrogate, and runs of two methods that kept the weights of their epochs. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("distortion")
    data = target_file(folder, "classification"), surrogate_file(folder)
    kept = ("stage2.epochs=2", "stage2.keep_epochs=[1, 2]", "stage2.learning_rate=1e-2")
    for name in ("finetune", "emb"):
        for seed in (0, 1):
            run(folder / f"{name}-{seed}", name, VIT, *data, *kept, input_size=32, seed=seed)
    return folder, data[1]


@pytest.fixture(scope="module", name="small")
def small_source_and_surrogate(made):
    handle = open_source(VIT)
    source = handle.load(32, head=False)
    return handle, source, open_surrogate(str(made[1]), source, half=1)


# Features


def test_features_equal_those_of_a_plain_loop(small):
    handle, source, surrogate = small
    found = compute_features(source, handle.fingerprint(), Encoder(), surrogate, BOTH)
    parts = source.split()
    assert list(found) == [*block_names(parts.encoder), OUTPUT]
    np.testing.assert_allclose(found[OUTPUT], surrogate_features(parts, parts.encoder, surrogate), rtol=1e-5, atol=1e-6)
    # Layer by layer, one sample at a time, through the blocks themselves.
    seen = {}
    blocks = dict(parts.encoder.named_modules())
    handles = [blocks[name].register_forward_hook(lambda m, i, o, name=name: seen.update({name: o})) for name in found
               if name != OUTPUT]  # fmt: skip
    with torch.no_grad():
        parts.encoder(parts.embedder(surrogate.load(np.array([5]), torch.device("cpu")).inputs))
    for handle_ in handles:
        handle_.remove()
    for name, tokens in seen.items():
        np.testing.assert_allclose(found[name][5], tokens[0].mean(0).numpy(), rtol=1e-4, atol=1e-5)


def test_features_do_not_depend_on_batch_size_and_are_cached(small, monkeypatch, tmp_path):
    handle, source, surrogate = small
    whole = compute_features(source, handle.fingerprint(), Encoder(), surrogate, BOTH)
    assert len(surrogate) == len(whole[OUTPUT]) == 22
    monkeypatch.setattr(feature_module, "output_batches", None)
    again = compute_features(source, handle.fingerprint(), Encoder(), surrogate, BOTH)
    for name, rows in whole.items():
        np.testing.assert_array_equal(again[name], rows)
    unit = compute_features(
        source, handle.fingerprint(), Encoder(), surrogate, dataclasses.replace(BOTH, normalized=True)
    )
    np.testing.assert_allclose(np.linalg.norm(unit[OUTPUT], axis=1), 1, rtol=1e-5)
    monkeypatch.undo()
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path))
    small_batches = dataclasses.replace(BOTH, samples=dataclasses.replace(BOTH.samples, batch_size=7))
    single = compute_features(source, handle.fingerprint(), Encoder(), surrogate, small_batches)
    np.testing.assert_allclose(single[OUTPUT], whole[OUTPUT], rtol=1e-4, atol=1e-5)


def test_features_depend_on_encoder_and_samples(made, small):
    handle, source, surrogate = small
    first = compute_features(source, handle.fingerprint(), Encoder(), surrogate)
    trained = Encoder(open_run(made[0] / "finetune-0"), 2)
    second = compute_features(source, handle.fingerprint(), trained, surrogate)
    assert not np.allclose(first[OUTPUT], second[OUTPUT])
    expected = surrogate_features(source.split(), trained.load(source.split()), surrogate)
    np.testing.assert_allclose(second[OUTPUT], expected, rtol=1e-5, atol=1e-6)
    other = open_surrogate(str(made[1]), source, half=0)
    assert not np.allclose(
        first[OUTPUT][:20], compute_features(source, handle.fingerprint(), Encoder(), other)[OUTPUT][:20]
    )


def test_layers_are_selected_by_name_and_pattern_in_the_order_of_the_encoder(small):
    encoder = small[1].split().encoder
    blocks = block_names(encoder)
    assert len(blocks) > 1
    assert layer_names(encoder, [OUTPUT, blocks[1], blocks[0]]) == [blocks[0], blocks[1], OUTPUT]
    assert layer_names(encoder, ["*.mlp"]) == [f"{name}.mlp" for name in blocks]
    with pytest.raises(UsageError, match="Unknown layer of the encoder"):
        layer_names(encoder, ["blocks.99"])


@pytest.mark.parametrize(
    ("name", "count"),
    [("timm:test_resnet", 4), ("timm:test_efficientnet", 5), ("timm:test_convnext", 4), ("timm:test_vit2", 8)],
)
def test_block_names_of_several_model_families(name, count):
    source = open_source(f"random:{name}").load(64, head=False)
    encoder = source.split().encoder
    found = block_names(encoder)
    assert len(found) >= 2
    assert not any(a != b and b.startswith(f"{a}.") for a in found for b in found)


def test_features_of_texts_are_means_over_their_tokens(hub, tmp_path):
    hub("bert-bare")
    path = surrogate_file(tmp_path, image=False)
    handle = open_source("random:hf:small/bert-bare")
    source = handle.load(None, head=False)
    surrogate = open_surrogate(str(path), source, half=1)
    found = compute_features(source, handle.fingerprint(), Encoder(), surrogate)
    expected = surrogate_features(source.split(), source.split().encoder, surrogate)
    np.testing.assert_allclose(found[OUTPUT], expected, rtol=1e-4, atol=1e-5)


# Encoders


def test_encoders_of_runs_by_epoch(made):
    handle, folder = open_source(VIT), str(made[0] / "finetune-0")
    (chosen,) = encoders_of_runs([folder], VIT, handle)
    assert chosen.epoch is None
    assert chosen.trained_epochs in (1, 2)
    assert [each.epoch for each in encoders_of_runs([folder], VIT, handle, "all")] == [1, 2]
    assert [each.epoch for each in encoders_of_runs([f"{folder}@1"], VIT, handle, "all")] == [1]
    assert encoders_of_runs([folder], VIT, handle, (2,))[0].label == f"finetune {chosen.target} epoch 2 seed 0"
    with pytest.raises(UsageError, match=r"did not keep epoch 9[.] It kept epochs: 1, 2"):
        encoders_of_runs([f"{folder}@9"], VIT, handle)
    with pytest.raises(UsageError, match="another source"):
        encoders_of_runs([folder], "random:timm:test_vit2", open_source("random:timm:test_vit2"))
    with pytest.raises(InputError, match="does not exist"):
        encoders_of_runs([str(made[0])], VIT, handle)


def changed_run(original, folder, **changes):
    """A copy of a run with other values in its record."""
    shutil.copytree(original, folder)
    write_record(folder, {**open_run(folder).record, **changes})
    return str(folder)


def test_runs_that_differ_by_more_than_their_seed_have_different_variants(made, tmp_path):
    original = made[0] / "finetune-0"
    target = json.loads((original / "run.json").read_text())["target"]
    changes = ({"limit": 20}, {"protocol": "orca"}, {"input_size": 64}, {"target": f"other/{Path(target).name}"})
    folders = [changed_run(original, tmp_path / str(number), **each) for number, each in enumerate(changes)]
    encoders = encoders_of_runs([str(original), *folders], VIT, open_source(VIT))
    assert len({encoder.method for encoder in encoders}) == 5
    assert "limit=20 protocol=validation" in encoders[1].method


def test_same_weights_given_twice_count_once(made, tmp_path, caplog):
    original = made[0] / "finetune-0"
    (tmp_path / "link").symlink_to(original)
    folders = [f"{original}@1", f"{tmp_path / 'link'}@1", f"{made[0]}/emb-0/../finetune-0@1", f"{original}@2"]
    encoders = encoders_of_runs(folders, VIT, open_source(VIT))
    assert [encoder.epoch for encoder in encoders] == [1, 2]
    assert caplog.text.count("It counts once") == 2


def test_runs_with_one_seed_count_as_one_seed_and_have_labels_of_their_own(made, tmp_path):
    original = made[0] / "finetune-0"
    copied = changed_run(original, tmp_path / "copy")
    request = DistortionRequest(FeatureRequest(SampleRequest(limit=60, input_size=32)), repeats=2, maps=False)
    (result,) = measure_distortion(VIT, [str(made[1])], [str(original), copied], request, others=[VIT])
    labels = [encoder.label for encoder in result.encoders]
    assert labels[2] == f"{labels[1]} (2)"
    assert labels[3] == f"{labels[0]} (2)"
    (cell,) = grid_cells(result.encoders)
    assert cell.seeds == 1
    # The interval of one of the runs need not hold their mean.
    assert np.isnan(cell.interval).all()


def test_run_of_another_input_size_is_refused_with_its_size(made):
    request = DistortionRequest(FeatureRequest(SampleRequest(limit=60)), repeats=2)
    with pytest.raises(InputError, match=r"was trained with `input_size=32`\. Pass the same"):
        measure_distortion(VIT, [str(made[1])], [str(made[0] / "finetune-0")], request)


def test_weights_of_another_source_raise_an_error(made, tmp_path):
    shutil.copytree(made[0] / "finetune-0", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "epochs")
    one = open_run(tmp_path / "run")
    parts = open_source("random:timm:test_vit2").load(32, head=False).split()
    with pytest.raises(InputError, match="is not that of the run's source"):
        Encoder(one, None).load(parts)
    with pytest.raises(InputError, match=r"stage2\.keep_epochs names the epochs that it kept"):
        Encoder(one, 1).load(parts)
    with pytest.raises(InputError, match="kept no epochs"):
        encoders_of_runs([str(tmp_path / "run")], VIT, open_source(VIT), "all")


# Measurements


@pytest.fixture(scope="module", name="measured")
def results_of_all_encoders(made, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODGAP_CACHE", str(tmp_path_factory.mktemp("readings")))
        runs = [str(path) for path in sorted(made[0].glob("*-?"))]
        request = DistortionRequest(
            features=BOTH, probes=("linear", "nearest-mean"), epochs="all", maps=True, few_shot=True, repeats=2
        )
        return measure_distortion(VIT, [str(made[1])], runs, request, others=["random:timm:test_vit2"]), request


def test_each_encoder_is_compared_with_the_untouched_one(measured):
    ((result,), _) = measured
    first, *others = result.encoders
    assert [reading.label for reading in result.encoders[:2]] == [f"{VIT} untouched", others[0].label]
    assert len(others) == 2 * 2 * 2 + 1
    assert first.difference is None
    assert not first.similarity
    assert result.training_samples + result.test_samples == len(result.labels) == 22
    for reading in others:
        own, base = reading.probes["linear"], first.probes["linear"]
        assert reading.difference.value == pytest.approx(own.value - base.value)
        assert reading.difference.n_units == own.samples == len(result.labels)
        assert own.repeats == 2
    for layer, each in others[0].similarity["linear_cka"].items():
        assert each.value <= 1 + 1e-12, layer
    # The blocks of another architecture have other names, but its output is compared.
    assert OUTPUT in others[-1].similarity["linear_cka"]


def test_grid_cells_are_means_over_seeds(measured):
    ((result,), _) = measured
    cells = grid_cells(result.encoders)
    assert [(cell.method, cell.epoch, cell.seeds) for cell in cells] == [
        ("emb", 1, 2), ("emb", 2, 2), ("finetune", 1, 2), ("finetune", 2, 2)
    ]  # fmt: skip
    own = [r.probes["linear"].value for r in result.encoders if (r.encoder.method, r.encoder.epoch) == ("emb", 2)]
    assert cells[1].mean == pytest.approx(np.mean(own))
    assert cells[1].interval[0] <= cells[1].mean <= cells[1].interval[1]
    grid = layer_grid(result.encoders, "linear_cka")
    assert grid.values.columns[-1] == OUTPUT
    # The blocks of another architecture may have the same names or not.
    assert grid.values.shape in {(8, len(grid.values.columns)), (9, len(grid.values.columns))}


def test_runs_with_different_settings_are_not_averaged_over_seeds(made, tmp_path):
    other = run(tmp_path / "slow", "emb", VIT, made[0] / "classification-image.npz", made[1], "stage2.epochs=2",
                "stage2.keep_epochs=[1, 2]", "stage2.learning_rate=1e-3", input_size=32)  # fmt: skip
    request = DistortionRequest(features=dataclasses.replace(BOTH, layers=(OUTPUT,)), epochs=(2,), repeats=2)
    (one,) = measure_distortion(VIT, [str(made[1])], [str(made[0] / "emb-0"), str(other.folder)], request)
    cells = grid_cells(one.encoders)
    assert [(cell.method, cell.seeds) for cell in cells] == [
        ("emb stage2.learning_rate=0.01", 1), ("emb stage2.learning_rate=0.001", 1)
    ]  # fmt: skip
    _, rows = encoder_table(one.encoders)
    assert rows[2][0] == "emb stage2.learning_rate=0.001 classification-image.npz epoch 2 seed 0"


def test_record_is_strict_json_and_the_table_has_a_row_for_each_encoder(measured):
    results, request = measured
    record = strict(format_json(DistortionResult(VIT, tuple(results), request, 1.0).to_dict()))
    (surrogate,) = record["surrogates"]
    assert len(surrogate["encoders"]) == 10
    assert surrogate["encoders"][1]["difference"]["n_units"] == surrogate["encoders"][1]["probes"]["linear"]["samples"]
    curve = surrogate["encoders"][1]["few_shot"]
    assert (curve["name"], curve["shots"]) == ("linear", [1, 2, 5])
    assert [len(draws) for draws in curve["errors"]] == [5, 5, 5]
    assert curve["mean"][0] == pytest.approx(np.mean(curve["errors"][0]))
    assert "errors" not in surrogate["encoders"][1]["probes"]["linear"]
    assert surrogate["encoders"][1]["map"]["quality"]["samples"] == 22
    heads, rows = encoder_table(results[0].encoders)
    assert all(len(row) == len(heads) for row in rows)
    assert rows[0][3] == "-"


def test_result_prints_indexes_and_converts(measured):
    results, request = measured
    result = DistortionResult(VIT, tuple(results), request, 1.0)
    (surrogate,) = result
    assert len(result) == 1
    assert surrogate is result[0] is result[surrogate.name]
    with pytest.raises(UsageError, match="Unknown surrogate 'nosuch'"):
        result["nosuch"]
    text = " ".join(str(result).split())
    assert text.startswith(f"How much knowledge of {VIT} is lost by training on the target? 10 encoders, ")
    assert re.search("The largest (significant )?difference is that of", text)
    assert "runs over seeds" in text
    assert "number of training samples per class" in text
    assert "<table>" in result._repr_html_()
    assert [row[0] for row in result.answer.tables[0].rows] == [encoder.label for encoder in surrogate.encoders]
    frame = result.to_frame()
    assert frame["error"].tolist() == [encoder.first_probe.value for encoder in surrogate.encoders]
    assert frame["difference"].isna().tolist() == [True] + [False] * 9
    assert {"nearest-mean", "linear_cka", "p"} <= set(frame.columns)
    assert strict(format_json(result.to_dict())) == json.loads(json.dumps(result.to_dict()))
    assert result.plot().axes


def test_answer_says_whether_knowledge_was_lost(measured):
    (result,), request = measured
    untouched = result.encoders[0]
    trained = result.encoders[1]

    def answer_for(*differences):
        encoders = [
            dataclasses.replace(trained, difference=dataclasses.replace(trained.difference, value=value, p_value=p))
            for value, p in differences
        ]
        surrogate = dataclasses.replace(result, encoders=(untouched, *encoders))
        return " ".join(DistortionResult(VIT, (surrogate,), request, 1.0).answer.sentences)

    assert answer_for().startswith("No run was measured, so this does not show a loss.")
    assert "The error of the linear probe" in answer_for()
    assert answer_for((0.2, 0.001)).startswith("Training loses source knowledge. Is the loss significant? Yes. 1 of 1")
    assert "with p = 0.002, corrected by Holm for 2 comparisons" in answer_for((0.2, 0.001), (0.3, 0.2))
    # The largest difference of all is not significant, and none of many p-values is below 5 % after the correction.
    assert "The largest significant difference is that of" in answer_for((0.2, 0.001), (0.3, 0.2))
    many = [(0.2, 0.03), *((0.1, 0.2),) * 4]
    assert answer_for(*many).startswith("No significant loss of source knowledge was measured. Is the loss")
    assert "The largest difference is that of" in answer_for(*many)
    assert "with p = 0.15, corrected by Holm for 5 comparisons" in answer_for(*many)
    assert "1 of 2 comparisons show a significant loss" in answer_for((0.2, 0.001), (0.3, 0.2))
    assert "is +0.200" in answer_for((0.2, 0.001), (0.3, 0.2))
    for differences in ([(0.2, 0.2)], [(-0.2, 0.001)]):
        assert answer_for(*differences).startswith("No significant loss of source knowledge was measured.")


def test_training_from_scratch_loses_no_source_knowledge(measured):
    (result,), request = measured
    untouched, trained = result.encoders[:2]
    worse = dataclasses.replace(trained.difference, value=0.4, interval=(0.3, 0.5), p_value=1e-6)
    run = dataclasses.replace(trained.encoder.run, record={**trained.encoder.run.record, "method": "scratch"})
    scratch = dataclasses.replace(trained, difference=worse, encoder=dataclasses.replace(trained.encoder, run=run))
    tuned = dataclasses.replace(trained, difference=dataclasses.replace(worse, value=0.0, p_value=1.0))

    def answer(*encoders):
        surrogate = dataclasses.replace(result, encoders=(untouched, *encoders))
        return " ".join(DistortionResult(VIT, (surrogate,), request, 1.0).answer.sentences)

    assert answer(scratch).startswith("No run that starts from the source was measured")
    both = answer(scratch, tuned)
    assert both.startswith("No significant loss of source knowledge was measured.")
    assert "0 of 1 comparison with the untouched encoder" in both
    assert "Runs from scratch have no source knowledge to lose" in both


def test_figures_of_surrogates_of_the_same_name_have_different_files(measured):
    (result,), request = measured
    surrogates = [dataclasses.replace(result, name=name) for name in ("a/x.npz", "b/x.npz")]
    names = [figure.name for figure in DistortionResult(VIT, tuple(surrogates), request, 1.0).figures()]
    assert len(set(names)) == len(names)
    assert {"probes-x", "probes-x-2"} <= set(names)


def test_untouched_encoder_measured_twice_has_the_same_results(made):
    request = DistortionRequest(features=dataclasses.replace(BOTH, layers=(OUTPUT,)))
    (one,) = measure_distortion(VIT, [str(made[1])], [], request, others=[VIT])
    assert one.encoders[1].difference.value == 0
    assert one.encoders[1].similarity["linear_cka"][OUTPUT].value == pytest.approx(1)
    assert one.encoders[1].similarity["procrustes"][OUTPUT].value == pytest.approx(1)
    assert one.encoders[1].similarity["knn_overlap"][OUTPUT].value == 1


# The command


def test_command_writes_table_record_and_figures(modgap, made, tmp_path):
    done = modgap(
        "distortion", "--source", VIT, "--surrogate", made[1], "--run", f"{made[0]}/finetune-?", "--epochs", "2",
        "--input-size", "32", "--layer", "blocks", "--layer", OUTPUT, "--maps", "--few-shot",
        "--out", tmp_path / "out", "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "untouched" in done.stdout
    assert "linear CKA" in done.stdout
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"distortion.json", "probes.png", "samples.npz"} <= names
    assert any(name.startswith("few-shot-") for name in names)
    assert "error by the number of training samples per class" in done.stdout
    assert any(name.startswith("maps-") for name in names)
    assert any(name.startswith("linear_cka-") for name in names)
    record = strict((tmp_path / "out" / "distortion.json").read_text())
    assert [each["epoch"] for each in record["surrogates"][0]["encoders"]] == [0, 2, 2]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--epochs", "x"], 2, "--epochs is 'x', but it must be chosen, all, or numbers"),
        (["--run", "/nowhere-at-all/*"], 2, "No folder matches --run /nowhere-at-all/*."),
        (["--run", "/nowhere-at-all"], 1, "Expected a folder that modgap train wrote"),
        (["--limit", "3"], 2, "--limit is 3, but it must be at least 20."),
        (["--layer", "blocks.77"], 2, "Unknown layer of the encoder 'blocks.77'"),
        (["--maps", "--perplexity", "0"], 2, "perplexity"),
    ],
)
def test_invalid_options_print_a_one_line_error(modgap, made, options, code, message):
    done = modgap("distortion", "--source", VIT, "--surrogate", made[1], "--input-size", "32", *options)
    refused(done, code, message)


def test_surrogate_of_another_modality_prints_an_error(modgap, tmp_path):
    texts = surrogate_file(tmp_path, image=False)
    command = ("distortion", "--source", VIT, "--input-size", "32")
    refused(modgap(*command, "--surrogate", texts), 2, "takes image")
    refused(modgap(*command), 2, "No labeled data of the modality of source")


def test_a_note_names_the_probes_that_it_is_about():
    probe = SimpleNamespace(notes=("The grid is narrow.",))
    encoders = [SimpleNamespace(label=label, probes={"linear": probe}) for label in ("untouched", "tuned")]
    assert notes(SimpleNamespace(encoders=encoders)) == [
        "Note on the linear probe of untouched and the linear probe of tuned: The grid is narrow."
    ]
