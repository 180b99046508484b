"""Files of transformers sources: weights in all layouts, random ones, and what is refused."""

import json
import os
import pickle

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from modgap.errors import InputError
from modgap.sources import open_source, source_infos
from tests.hub_layout import in_hub
from tests.small_hub import batch_of, loaded, small_folder, small_hub  # noqa: F401 - fixtures
from tests.small_models import made


def test_a_folder_a_file_and_shards_give_the_same_model(hub, folder):
    wanted = loaded("bert-texts") if hub("bert-texts") else None
    path = folder("bert-texts")
    batch = batch_of(wanted)
    with torch.inference_mode():
        logits = wanted.model(batch)
        assert torch.equal(open_source(str(path)).load(None).model(batch), logits)
        state = load_file(path / "model.safetensors")
        torch.save(state, path / "weights.pth")
        other = open_source("hf:small/bert-texts", weights=str(path / "weights.pth"))
        assert torch.equal(other.load(None).model(batch), logits)
        assert torch.equal(open_source("hf:small/roberta-mlm", weights=str(path)).load(None).model(batch), logits)
        names = sorted(state)
        for number, part in enumerate((names[::2], names[1::2]), start=1):
            save_file({n: state[n] for n in part}, path / f"model-0000{number}-of-00002.safetensors")
        weight_map = {n: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, n in enumerate(names)}
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        os.remove(path / "model.safetensors")
        sharded = open_source(str(path))
        assert torch.equal(sharded.load(None).model(batch), logits)
        assert len(sharded.fingerprint()["weights"]) == 2
    (path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"Missing files: model-00002-of-00002.safetensors"):
        open_source(str(path)).fingerprint()


def test_a_checkpoint_of_half_precision_is_computed_in_single(folder):
    path = folder("vit")
    state = {name: tensor.half() for name, tensor in load_file(path / "model.safetensors").items()}
    save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    configuration = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**configuration, "dtype": "float16"}))
    source = open_source(str(path)).load(None)
    assert {p.dtype for p in source.model.parameters()} == {torch.float32}


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone(hub, tmp_path):
    for name in ("swin", "bert-mlm", "clip"):
        model = hub(name)
        torch.manual_seed(3)
        before = torch.rand(1)
        torch.manual_seed(3)
        first = open_source(f"random:hf:small/{name}").load(None)
        assert torch.rand(1) == before
        second = open_source(f"random:hf:small/{name}").load(None)
        batch = batch_of(first)
        with torch.inference_mode():
            assert torch.equal(first.model(batch), second.model(batch))
            assert (first.model(batch) - loaded(name).model(batch)).abs().max() > 1e-4
        assert sum(p.numel() for p in model.parameters()) >= sum(p.numel() for p in first.model.parameters())
    assert open_source("random:hf:small/swin").fingerprint()["weights"] == "random, seed 0"


def test_random_weights_of_a_text_model_still_need_its_tokenizer(folder):
    path = folder("bert-mlm")
    (path / "model.safetensors").unlink()
    assert open_source(f"random:{path}").load(None).class_names[0] == "[PAD]"
    (path / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"The tokenizer \(tokenizer.json or .*\) of random:bert-mlm is missing in"):
        open_source(f"random:{path}").load(None)


def test_a_fingerprint_names_all_that_decides_the_outputs(folder):
    path = folder("clip")
    first = open_source(str(path)).fingerprint()
    assert {"config.json", "preprocessor_config.json", "tokenizer.json"} <= set(first["files"])
    assert {"architecture", "weights", "prompt", "torch", "transformers", "tokenizers", "timm", "revision"} <= set(
        first
    )
    changed = []
    for file in ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"):
        content = (path / file).read_bytes()
        (path / file).write_bytes(content + b" ")
        changed.append(open_source(str(path)).fingerprint())
        (path / file).write_bytes(content)
    assert len({json.dumps(each) for each in [first, *changed]}) == 5
    assert open_source(str(path)).fingerprint() == first


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub):
    for name, revision in (("vit", "1" * 40), ("convnext", "2" * 40)):
        hub(name)
        (snapshot,) = (hub.cache / f"models--small--{name}" / "snapshots").iterdir()
        files = {file.name: file.read_bytes() for file in snapshot.iterdir()}
        in_hub(hub.cache, "small/two", files, revision)
    (hub.cache / "models--small--two" / "refs" / "old").write_text("1" * 40)
    for name, revision, architecture in (
        ("small/two", "2" * 40, "ConvNextForImageClassification"),
        ("small/two@old", "1" * 40, "ViTForImageClassification"),
        (f"small/two@{'1' * 40}", "1" * 40, "ViTForImageClassification"),
    ):
        found = open_source(f"hf:{name}").fingerprint()
        assert (found["revision"], found["architecture"]) == (revision, architecture)
    with pytest.raises(InputError, match="hf download small/two --revision 3"):
        open_source("hf:small/two@3")


# What cannot be a source


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize("content", ["pickle", "torch", "text", "foreign", "other shapes"])
def test_weights_that_are_not_weights_are_refused_and_never_run(folder, content):
    path = folder("bert-mlm")
    state = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    bad = path / "pytorch_model.bin"
    if content == "pickle":
        bad.write_bytes(pickle.dumps({"x": Evil()}))
    elif content == "torch":
        torch.save({"bert.embeddings.word_embeddings.weight": Evil()}, bad)
    elif content == "text":
        bad.write_text("hello")
    elif content == "foreign":
        torch.save({"a": torch.zeros(2)}, bad)
    else:
        torch.save({name: tensor[..., :-1] for name, tensor in state.items()}, bad)
    with pytest.raises(InputError, match=r"^The weights (in|of) [^\n]*(cannot be read|do not fit)[^\n]*$"):
        open_source(str(path)).load(None)


def test_a_checkpoint_without_its_head_is_refused(folder):
    path = folder("vit")
    state = {k: v for k, v in load_file(path / "model.safetensors").items() if "classifier" not in k}
    save_file(state, path / "model.safetensors")
    with pytest.raises(InputError, match=r"do not fit ViTForImageClassification: 2 tensors are missing.*classifier"):
        open_source(str(path)).load(None)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "Expected a JSON object"),
        ("{}", 'has to name a timm "architecture" or transformers "architectures"'),
        ('{"architectures": "ViTForImageClassification"}', 'under "architectures". Expected a list'),
        (
            '{"architectures": ["DetrForObjectDetection"]}',
            "cannot be a source. Supported families: image class",
        ),
        ('{"architectures": ["os.system"]}', "cannot be a source"),
        ('{"architectures": ["T5Model"], "model_type": "t5"}', "has no classification head. Fit one"),
        ('{"architectures": ["SiglipModel"]}', "only contrastive class is CLIPModel|no classification head"),
        ('{"architectures": ["ViTForImageClassification"], "hidden_size": "wide"}', "cannot build ViTForImageClass"),
        ('{"architectures": ["ViTForImageClassification"], "quantization_config": {}}', "has quantized weights"),
    ],
)
def test_configurations_that_describe_no_source(folder, configuration, message):
    path = folder("vit")
    (path / "config.json").write_text(configuration)
    with pytest.raises(InputError, match=message) as caught:
        open_source(str(path)).load(None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("vit", {"num_hidden_layers": 10**9}, r"config\.json has num_hidden_layers 1,000,000,000\. The limit is 1,000"),
        ("vit", {"num_hidden_layers": 900}, "has far more|far more than its weights have"),
        ("vit", {"hidden_size": 10**9}, r"has hidden_size 1,000,000,000\. The limit is 20,000,000"),
        ("vit", {"hidden_size": 12_000_000, "num_attention_heads": 2}, "far more than its weights have"),
        ("vit", {"num_labels": 10**9}, r"has num_labels 1,000,000,000\. A model may have 1,048,576 classes"),
        ("vit", {"image_size": 10**7}, "far more than its weights have|takes images of"),
        ("vit", {"label2id": {"stage": 10**5, "x": 10**9}, "num_labels": 10**9}, "has num_labels"),
        ("swin", {"depths": [1, 10**9]}, r"has depths 1,000,000,000"),
        ("bert-mlm", {"vocab_size": 10**12}, r"has vocab_size 1,000,000,000,000"),
        ("bert-mlm", {"vocab_size": 10**7}, "far more than its weights have"),
    ],
)
def test_a_configuration_of_a_huge_model_is_refused_at_once(folder, name, changes, message):
    path = folder(name)
    (path / "config.json").write_text(json.dumps(json.loads((path / "config.json").read_text()) | changes))
    with pytest.raises(InputError, match=message):
        open_source(str(path)).load(None)


@pytest.mark.parametrize(
    "changes",
    [{"hidden_size": 1024, "num_hidden_layers": 1000}, {"intermediate_size": 20_000, "num_hidden_layers": 1000}],
)
def test_a_control_of_a_huge_model_is_refused_before_it_fills_the_memory(folder, monkeypatch, changes):
    """Each tensor fits in the memory, and all of them do not."""
    monkeypatch.setattr("modgap.sources.model_limits.available_memory", lambda: 1 << 26)
    path = folder("vit")
    assert open_source(f"random:{path}").load(None).class_names
    (path / "config.json").write_text(json.dumps(json.loads((path / "config.json").read_text()) | changes))
    with pytest.raises(InputError, match="values, more than the memory that is left can hold"):
        open_source(f"random:{path}").load(None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resample": "x"}, r"has resample 'x'\. Expected a number from 0 to 5"),
        ({"resample": 99}, r"has resample 99\. Expected a number from 0 to 5"),
        ({"resample": []}, r"has resample \[\]\. Expected a number"),
        ({"image_mean": "x"}, "cannot read the image preprocessing of vit"),
        ({"image_std": [1, "a", 2]}, "cannot read the image preprocessing of vit"),
        ({"rescale_factor": "x"}, "cannot read the image preprocessing of vit"),
    ],
)
def test_values_of_the_preprocessing_of_another_type_are_refused(folder, changes, message):
    path = folder("vit")
    file = path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(InputError, match=message):
        open_source(str(path)).load(None)


def test_code_that_a_repository_brings_is_never_run(folder):
    path = folder("bert-texts")
    (path / "evil.py").write_text("raise SystemExit('run')\nclass Evil: pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        record = json.loads((path / name).read_text())
        record["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModel"), "evil.Evil") | {
            "AutoTokenizer": ["evil.Evil", "evil.Evil"]
        }
        (path / name).write_text(json.dumps(record))
    # The class is transformers' own, whatever the files map it to; a SystemExit would end the test.
    assert type(open_source(str(path)).load(None).model.model).__name__ == "BertForSequenceClassification"


def test_files_that_are_missing_are_named(folder):
    path = folder("vit")
    for file, message in (
        (
            "preprocessor_config.json",
            r"image preprocessing \(preprocessor_config.json or processor_config.json\) of vit",
        ),
        ("model.safetensors", r"The weights of vit .*model.safetensors or pytorch_model.bin.* are missing in"),
    ):
        content = (path / file).read_bytes()
        (path / file).unlink()
        with pytest.raises(InputError, match=message):
            open_source(str(path)).load(None)
        (path / file).write_bytes(content)


def test_a_tokenizer_of_another_model_is_noticed(folder):
    path = folder("bert-mlm")
    made("roberta-mlm")[1].save_pretrained(path)
    with pytest.raises(InputError, match="They do not belong together"):
        open_source(str(path)).load(None)


@pytest.mark.parametrize("alias", ["clip-b16", "roberta-base", "random:roberta-base", "random:clip-b16"])
def test_aliases_of_the_hub_that_are_not_here(hub, alias):
    with pytest.raises(InputError, match=r"HF_HUB_OFFLINE is set.*hf download (openai|FacebookAI)/"):
        open_source(alias).fingerprint()


@pytest.mark.parametrize("alias", ["clip-b16", "roberta-base"])
def test_aliases_say_how_large_the_library_builds_them(alias):
    (info,) = [info for info in source_infos() if info.name == alias]
    configuration = {
        "clip-b16": lambda: transformers.CLIPConfig(vision_config={"patch_size": 16}),
        "roberta-base": lambda: transformers.RobertaConfig(
            vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5
        ),
    }[alias]()
    cls = {"clip-b16": transformers.CLIPModel, "roberta-base": transformers.RobertaForMaskedLM}[alias]
    with torch.device("meta"):
        model = cls(configuration)
    assert sum(p.numel() for p in model.parameters()) == info.parameters
    if alias == "roberta-base":
        assert info.n_classes == model.get_output_embeddings().out_features
