"""Sources of transformers: small random models of every family, saved as transformers saves them, without the hub."""

import copy

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from modgap.errors import UsageError
from modgap.sources import open_source
from modgap.sources.hf.parts import encoded_tokens
from modgap.sources.splitting import replace_modules
from tests.small_hub import CPU, TEXTS, batch_of, loaded, small_folder, small_hub  # noqa: F401 - fixtures
from tests.small_models import BARE, MODELS

# The model's own outputs


def naive_logits(name, model, batch):
    """What the library gives, averaged over positions one text at a time."""
    if name == "clip":
        return naive_contrastive(model, batch)
    logits = model(pixel_values=batch).logits if isinstance(batch, torch.Tensor) else model(**batch).logits
    if logits.ndim == 2:
        return logits
    if "ctc" in name:
        masks = batch.get("attention_mask", torch.ones(batch["input_values"].shape, dtype=torch.long))
        lengths = model._get_feat_extract_output_lengths(masks.sum(dim=1)).tolist()
        means = torch.stack([row[:length].mean(dim=0) for row, length in zip(logits, lengths, strict=True)])
        return means[:, [c for c in range(model.config.vocab_size) if c != model.config.pad_token_id]]
    ids, rows = batch["input_ids"], []
    special = {"bert": (0, 2, 3), "llama": (0, 2, 3), "roberta": (0, 1, 2), "gpt2": (0, 2)}[name.split("-")[0]]
    for text, row in zip(ids.tolist(), logits, strict=True):
        rows.append(row[[position for position, token in enumerate(text) if token not in special]].mean(dim=0))
    return torch.stack(rows)


def naive_contrastive(model, images):
    """The library's own similarity of each image with the prompt of each class, one class at a time."""
    from timm.data import ImageNetInfo

    tokenizer = MODELS["clip"]()[1]
    info = ImageNetInfo("imagenet-1k")
    columns = []
    for c in range(1000):
        name = info.index_to_description(c).split(",")[0]
        if name in ("crane", "maillot"):
            name += "," + info.index_to_description(c, detailed=True).split(":")[1]
        text = tokenizer([f"a photo of a {name}."], return_tensors="pt", truncation=True, max_length=77)
        columns.append(model(pixel_values=images, **text).logits_per_image)
    return torch.cat(columns, dim=1)


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(BARE)))
def test_logits_and_names_are_the_librarys_own(hub, name):
    model, source = hub(name), loaded(name)
    batch = batch_of(source)
    with torch.inference_mode():
        logits, wanted = source.model(batch), naive_logits(name, model, batch)
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)
    assert logits.std(dim=0).max() > 1e-4
    assert logits.shape[1] == len(source.class_names)
    if name.endswith("lm"):
        tokenizer = source.input.tokenizer
        known = [tokenizer.convert_ids_to_tokens(i) for i in range(len(tokenizer))]
        assert list(source.class_names[: len(known)]) == known
    elif name == "clip":
        assert source.class_names[1] == "goldfish, Carassius auratus"
        assert dict(source.notes)["prompt"] == "a photo of a {}."
    elif "ctc" in name:
        names = [str(c) for c in range(model.config.vocab_size) if c != model.config.pad_token_id]
        assert source.class_names == tuple(names)
    else:
        assert source.class_names == tuple(model.config.id2label.values())


@pytest.mark.parametrize("name", sorted(MODELS))
def test_embedder_encoder_and_head_make_the_model_bit_for_bit(hub, name):
    model, source = hub(name), loaded(name)
    batch, parts = batch_of(source), source.split()
    with torch.inference_mode():
        entering = parts.embedder(batch)
        composed, whole = parts.head(parts.encoder(entering)), source.model(batch)
        assert (composed - whole).abs().max().item() == 0
        other = noisy(entering)
        assert (parts.head(parts.encoder(other)) - whole).abs().max().item() > 1e-5
    # No parameter is in two parts or in none; what the source does not use, such as a text tower, is in none.
    own = [sum(p.numel() for p in part.parameters()) for part in (parts.embedder, parts.encoder, parts.head)]
    distinct = {id(p): p.numel() for part in (parts.embedder, parts.encoder, parts.head) for p in part.parameters()}
    is_tied = name.endswith("lm") and model.config.tie_word_embeddings
    tied = model.get_input_embeddings().weight.numel() if is_tied else 0
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    if "pretraining" in name:
        model = model.base_model
    assert sum(own) - tied == sum(distinct.values())
    if name != "clip":
        assert sum(distinct.values()) == sum(p.numel() for p in model.parameters())


def noisy(entering):
    generator = torch.Generator().manual_seed(1)
    if isinstance(entering, torch.Tensor):
        return entering + torch.randn(entering.shape, generator=generator)
    words = entering["inputs_embeds"]
    return {**entering, "inputs_embeds": words + torch.randn(words.shape, generator=generator)}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_tokens_from_elsewhere_enter_and_gradients_flow(hub, name):
    hub(name)
    source = loaded(name)
    parts = source.split()
    entering = parts.embedder(batch_of(source))
    shape = (entering if isinstance(entering, torch.Tensor) else entering["inputs_embeds"]).shape
    tokens = torch.randn(shape, requires_grad=True)
    features = parts.encoder(tokens)
    hidden = parts.tokens(features)
    assert hidden.ndim == 3
    (hidden * torch.randn_like(hidden)).sum().backward()
    assert (tokens.grad.flatten(1).abs().sum(dim=1) > 0).all()
    assert any(p.grad is not None and p.grad.any() for p in parts.encoder.parameters())
    assert all(p.grad is None for p in parts.embedder.parameters())
    # Without a mask all tokens count, and the source's own head goes on from there.
    assert parts.head(features).shape == source.model(batch_of(source)).shape
    assert parts.encoder.training is False


def test_one_mask_hides_tokens_from_elsewhere(hub):
    hub("bert-texts")
    parts = loaded("bert-texts").split()
    tokens, mask = torch.randn(2, 7, 32), torch.ones(2, 7, dtype=torch.long)
    mask[:, 5:] = 0
    with torch.inference_mode():
        whole = parts.tokens(parts.encoder(tokens))
        masked = parts.tokens(parts.encoder({"inputs_embeds": tokens, "attention_mask": mask}))
        cut = parts.tokens(parts.encoder(tokens[:, :5]))
    torch.testing.assert_close(masked[:, :5], cut)
    assert (masked[:, :5] - whole[:, :5]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("vit", (2, 15, 32), "takes 16 tokens of width 32"),
        ("clip", (2, 16, 31), "takes 16 tokens of width 32"),
        ("swin", (2, 255, 16), "takes 256 tokens of width 16"),
        ("roberta-mlm", (2, 33, 32), "takes at most 32 tokens, but the embedder returns 33"),
    ],
)
def test_tokens_that_the_encoder_has_no_places_for(hub, name, shape, message):
    hub(name)
    with pytest.raises(UsageError, match=message):
        loaded(name).split().encoder(torch.randn(shape))


def test_a_map_enters_a_convolutional_encoder_also_as_tokens(hub):
    hub("convnext")
    source = loaded("convnext")
    parts, images = source.split(), batch_of(source)
    with torch.inference_mode():
        feature_map = parts.embedder(images)
        tokens = feature_map.flatten(2).transpose(1, 2)
        assert torch.equal(parts.head(parts.encoder(tokens)), source.model(images))
    assert source.convolutional
    assert not loaded("swin").convolutional if hub("swin") else None


def test_a_copy_with_other_modules_shares_all_else():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU()))
    copied = replace_modules(model, {"1.1": torch.nn.Identity()})
    assert isinstance(model[1][1], torch.nn.ReLU)
    assert isinstance(copied[1][1], torch.nn.Identity)
    assert {id(p) for p in copied.parameters()} == {id(p) for p in model.parameters()}
    copied.to(torch.float64)
    assert all(p.dtype == torch.float64 for p in model.parameters())


# Features


@pytest.mark.parametrize("name", ["swin", "vit", "convnext", "ast", "wav2vec2-layers", "clip"])
def test_features_are_what_the_head_is_linear_on(hub, name):
    model = hub(name)
    source = loaded(name)
    batch = batch_of(source)
    with torch.inference_mode():
        features, logits = source.features(batch), source.model(batch)
        if name == "clip":
            again = features @ source.model.similarity.texts.T * model.logit_scale.exp()
        else:
            again = {"ast": lambda: model.classifier.dense}.get(name, lambda: model.classifier)()(features)
    torch.testing.assert_close(again, logits)


@pytest.mark.parametrize("name", ["wav2vec2-ctc", "wav2vec2-ctc-masked", "hubert-ctc"])
def test_features_of_speech_are_what_the_head_is_linear_on(hub, name):
    model, source = hub(name), loaded(name)
    batch = batch_of(source)
    kept = [c for c in range(model.config.vocab_size) if c != model.config.pad_token_id]
    with torch.inference_mode():
        torch.testing.assert_close(model.lm_head(source.features(batch))[:, kept], source.model(batch))


@pytest.mark.parametrize("name", ["wav2vec2", "wav2vec2-masked", "hubert-ctc"])
def test_encoder_of_speech_masks_no_frames_when_it_trains(hub, name):
    """Frames were masked by NumPy's global random numbers, so that no training could be repeated."""
    hub(name)
    source = loaded(name)
    parts = source.split()
    tokens = parts.embedder(batch_of(source))
    parts.encoder.train()
    outputs = []
    for seed in range(4):
        np.random.seed(seed)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            outputs.append(encoded_tokens(parts.encoder(tokens)))
    assert all(torch.equal(output, outputs[0]) for output in outputs)


def test_characters_of_speech_have_their_names(folder):
    path = folder("hubert-ctc")
    (path / "vocab.json").write_text('{"<s>": 0, "|": 1, "E": 2, "<pad>": 3, "T": 4}')
    assert open_source(str(path)).load(None).class_names == ("<s>", "|", "E", "T", "5", "6")


@pytest.mark.parametrize("name", ["bert-bare", "bert-mlm", "roberta-texts"])
def test_features_of_texts_are_the_mean_over_tokens_that_are_no_padding(hub, name):
    hub(name)
    source = loaded(name)
    with torch.inference_mode():
        together = source.features(batch_of(source))
        alone = [source.features(source.input.batch([text], CPU)) for text in TEXTS]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_a_bare_encoder_is_no_classifier_but_gives_features(hub):
    for name in BARE:
        hub(name)
        with pytest.raises(UsageError, match=f"hf:small/{name} has no classification head. .* `head=.probe:"):
            open_source(f"hf:small/{name}").load(None)
        source = loaded(name)
        assert source.class_names == ()
        batch = batch_of(source)
        with torch.inference_mode():
            assert torch.equal(source.model(batch), source.features(batch))


def test_a_pooler_that_was_never_trained_is_not_used(folder):
    path = folder("vit-bare")
    state = load_file(path / "model.safetensors")
    save_file({k: v for k, v in state.items() if "pooler" not in k}, path / "model.safetensors")
    source = open_source(str(path)).load(None, head=False)
    with torch.inference_mode():
        images = batch_of(source)
        hidden = source.split().encoder(source.split().embedder(images)).output.last_hidden_state
        torch.testing.assert_close(source.features(images), hidden.mean(dim=1))


# Text


def test_a_text_is_cut_at_the_models_length_and_an_empty_one_has_logits(hub):
    hub("roberta-mlm")
    source = loaded("roberta-mlm")
    # 34 positions, of which RoBERTa's kind leaves the first two unused.
    assert source.input.max_tokens == 32
    batch = source.input.batch(["word " * 100, ""], CPU)
    assert batch["input_ids"].shape == (2, 32)
    with torch.inference_mode():
        logits = source.model(batch)
        assert logits.isfinite().all()
        parts = source.split()
        assert torch.equal(parts.head(parts.encoder(parts.embedder(batch))), logits)


def test_unknown_words_count_as_content(hub):
    model = hub("bert-mlm")
    source = loaded("bert-mlm")
    batch = source.input.batch(["the ☃ sat"], CPU)
    assert source.input.tokenizer.unk_token_id in batch["input_ids"]
    with torch.inference_mode():
        wanted = model(**batch).logits[:, 1:-1].mean(dim=1)
        torch.testing.assert_close(source.model(batch), wanted, rtol=1e-4, atol=1e-5)


# Preprocessing


@pytest.mark.parametrize(
    ("options", "mean", "sd"),
    [
        ({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        ({"do_normalize": False}, (0, 0, 0), (1, 1, 1)),
        ({"do_rescale": False, "image_mean": [255.0] * 3, "image_std": [51.0] * 3}, (1, 1, 1), (0.2, 0.2, 0.2)),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, (0.5,) * 3, (0.5,) * 3),
    ],
)
def test_images_are_scaled_as_the_models_own_preprocessing_does(folder, options, mean, sd):
    path = folder("vit")
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, resample=3, **options)
    processor.save_pretrained(path)
    own = open_source(str(path)).load(None).input
    assert own.mean == pytest.approx(mean)
    assert own.sd == pytest.approx(sd)
    assert (own.size, own.interpolation) == ((32, 32), "bicubic")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    wanted = processor(torch.from_numpy(pixels), return_tensors="pt", do_resize=False)["pixel_values"]
    found = own.batch([pixels.astype(np.float32) / 255], CPU)
    torch.testing.assert_close(found, wanted.to(found.dtype), rtol=1e-4, atol=1e-4)


def test_the_crop_of_the_models_own_preprocessing_is_left_out_and_said(hub):
    hub("clip")
    source = loaded("clip")
    assert source.input.size == (32, 32)
    assert "is not cropped" in dict(source.notes)["resize"]


@pytest.mark.parametrize("name", ["vit", "swin", "swin-positions", "dinov2", "clip"])
def test_another_input_size_interpolates_positions(hub, name):
    hub(name)
    source = open_source(f"hf:small/{name}").load(48)
    images = batch_of(source)
    assert images.shape[2:] == (48, 48)
    parts = source.split()
    with torch.inference_mode():
        logits = source.model(images)
        assert torch.equal(parts.head(parts.encoder(parts.embedder(images))), logits)
        # Twice the same size is the same model.
        own = loaded(name)
        assert torch.equal(open_source(f"hf:small/{name}").load(32).model(batch_of(own)), own.model(batch_of(own)))


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("bert-mlm", 64, "`input_size` applies to images, but source hf:small/bert-mlm takes text"),
        ("ast", 64, "takes audio"),
        ("vit", 4, r"takes no images of 4 pixels\. Leave `input_size` out"),
    ],
)
def test_sizes_that_do_not_apply(hub, name, size, message):
    hub(name)
    with pytest.raises(UsageError, match=message):
        open_source(f"hf:small/{name}").load(size)


@pytest.mark.parametrize("name", ["swin", "clip", "roberta-mlm", "wav2vec2-masked", "timm"])
def test_a_copied_encoder_is_its_own_and_state_goes_from_one_split_to_another(hub, name):
    if name == "timm":
        sources = [open_source("random:timm:vit_tiny_patch16_224").load(32) for _ in range(2)]
    else:
        hub(name)
        sources = [loaded(name), loaded(name)]
    first, second = (source.split() for source in sources)
    entering = first.embedder(batch_of(sources[0]))
    with torch.inference_mode():
        wanted = first.tokens(first.encoder(entering))
        copied = copy.deepcopy(first.encoder)
        for parameter in copied.parameters():
            parameter.add_(0.1)
        moved = first.tokens(copied(entering))
        assert torch.equal(first.tokens(first.encoder(entering)), wanted)
        assert not torch.equal(moved, wanted)
        second.encoder.load_state_dict(copied.state_dict())
        assert torch.equal(second.tokens(second.encoder(entering)), moved)
        # Parts share the model's parameters: the whole model is now another.
        batch = batch_of(sources[1])
        assert torch.equal(second.head(second.encoder(second.embedder(batch))), sources[1].model(batch))
        assert not torch.equal(sources[0].model(batch), sources[1].model(batch))
