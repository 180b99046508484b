"""Surrogates: batches balanced by class, halves, words in their sentences, features and their gradients."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from modgap.errors import InputError, UsageError
from modgap.forward.surrogate_target import default_surrogate, open_head_surrogate, open_surrogate_target
from modgap.inputs.native_embedding import native_embedding
from modgap.sources import open_source, source_infos
from modgap.targets import SPLITS, named_manifest, open_target
from modgap.training.surrogate import (
    SurrogateBatch,
    balanced_rows,
    embedder_features,
    encoder_features,
    open_surrogate,
)
from tests.small_hub import CPU, loaded, small_hub  # noqa: F401 - fixtures

LABELS = np.repeat(np.arange(6), [40, 20, 9, 3, 1, 1])
SENTENCES = (
    "Anna/PER went/O to/O Rome/LOC",
    "Rome/LOC is/O where/O Anna/PER met/O Bo/PER",
    "the/O cat/O sat/O on/O Bo/PER and/O a/O mat/O in/O Oslo/LOC and/O Rome/LOC",
    "\u200d/LOC \U0001f600\U0001f600/LOC went/O to/O Oslo/LOC",
)


@pytest.fixture(scope="module")
def source():
    return open_source("random:vit-fashion").load(None)


@pytest.fixture
def images(tmp_path):
    """An .npz of 200 images (1, 28, 28) of three classes, 25 of each five from one camera."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), [120, 60, 20])
    path = tmp_path / "images.npz"
    np.savez(path, x=rng.random((200, 1, 28, 28), np.float32), y=labels, groups=np.arange(200) // 5)
    return str(path)


@pytest.fixture
def words(tmp_path):
    """A manifest of labeled words, all outside entities among them; more are outside than of any type."""
    lines = []
    for sentence in SENTENCES * 6:
        pairs = [word.split("/") for word in sentence.split(" ")]
        lines += [f"{word} {tag if tag == 'O' else 'B-' + tag}" for word, tag in pairs] + [""]
    (tmp_path / "words.txt").write_text("\n".join(lines), encoding="utf-8")
    path = tmp_path / "words.toml"
    path.write_text(
        'schema = 1\nname = "words"\ntitle = "Words"\nmodality = "text"\ntask = "classification"\ngroup = "sentence"\n'
        '[input]\nkind = "text"\n[reader]\nname = "bio"\noptions = { outside = "all" }\n'
        '[[files]]\nrole = "train"\npath = "words.txt"\n'
    )
    return str(path)


# Batches


def naive_batch(labels, size):
    """How many samples each class should have, largest first: seats handed out one by one to whoever has fewest."""
    counts = np.bincount(labels)
    pairs = sorted(counts[counts > 1], reverse=True)
    seats = [0] * len(pairs)
    while sum(seats) < size and any(s < c for s, c in zip(seats, pairs, strict=True)):
        seats[min((s, k) for k, (s, c) in enumerate(zip(seats, pairs, strict=True)) if s < c)[1]] += 1
    return sorted([*seats, *[1] * min(size - sum(seats), int((counts == 1).sum()))], reverse=True)


@pytest.mark.parametrize("size", [8, 9, 12, 20, 33, 60, 72, 73, 74, 100])
@pytest.mark.parametrize("step", [0, 1, 17])
def test_seats_are_as_even_as_the_naive_twin_makes_them(size, step):
    rows = balanced_rows(LABELS, step, size, seed=3)
    assert rows.dtype == np.int64
    assert len(rows) == len(set(rows)) == min(size, len(LABELS))
    found = sorted(np.bincount(LABELS[rows], minlength=6), reverse=True)
    assert [n for n in found if n] == [n for n in naive_batch(LABELS, size) if n]


@pytest.mark.parametrize("size", [4, 7, 16, 31])
def test_many_classes_share_a_small_batch_in_pairs(size):
    labels = np.repeat(np.arange(50), 3)
    seen = set()
    for step in range(300):
        counts = np.bincount(labels[balanced_rows(labels, step, size, seed=0)])
        assert set(counts[counts > 0]) <= {2, 3}
        assert (counts > 0).sum() == size // 2
        seen |= set(np.flatnonzero(counts))
    assert len(seen) == 50, "all take their turn"


def test_a_lone_seat_and_lone_samples():
    # Two classes of two: the fifth seat can go to nothing but the class of one sample.
    labels = np.array([0, 0, 1, 1, 2])
    assert sorted(balanced_rows(labels, 0, 5, 0)) == [0, 1, 2, 3, 4]
    assert sorted(balanced_rows(labels, 0, 4, 0)) == [0, 1, 2, 3]
    assert len(balanced_rows(np.arange(5), 0, 3, 0)) == 3
    with pytest.raises(InputError, match="cannot be drawn"):
        balanced_rows(labels, 0, 0, 0)
    with pytest.raises(InputError, match="of 0"):
        balanced_rows(labels[:0], 0, 4, 0)


def test_a_batch_is_a_function_of_seed_and_step():
    run = [balanced_rows(LABELS, step, 16, seed=5) for step in range(4)]
    np.testing.assert_array_equal(balanced_rows(LABELS, 3, 16, seed=5), run[3])
    assert not np.array_equal(run[0], run[1])
    assert not np.array_equal(run[0], balanced_rows(LABELS, 0, 16, seed=6))


def test_every_sample_of_a_class_is_as_likely():
    drawn = np.zeros(len(LABELS))
    for step in range(600):
        drawn[balanced_rows(LABELS, step, 12, seed=1)] += 1
    for label in range(3):
        assert stats.chisquare(drawn[label == LABELS]).pvalue > 1e-3
    # All classes alike but those of one sample, which have no pair.
    per_class = np.array([drawn[label == LABELS].sum() for label in range(6)])
    assert (per_class == [1800, 1800, 1800, 1800, 0, 0]).all()


# Samples


def test_samples_are_the_targets_own_as_the_source_takes_them(images, source):
    surrogate = open_surrogate(images, source, split="test")
    table = open_target(images).read()
    embedding = native_embedding(open_target(images).manifest.input, table, source.input)
    rows = np.flatnonzero(table.splits == 2)
    np.testing.assert_array_equal(surrogate.labels, table.labels[rows])
    assert surrogate.classes == ("0", "1", "2")
    batch = surrogate.load(np.array([3, 0]), CPU)
    wanted = source.input.batch([embedding.pieces(table.samples[int(rows[i])])[0] for i in (3, 0)], CPU)
    assert torch.equal(batch.inputs, wanted)
    assert batch.word_positions is None
    assert surrogate.provenance["samples"] == len(surrogate) == len(rows)


def pixels(surrogate):
    return {surrogate.samples[i].tobytes() for i in range(len(surrogate))}


def test_halves_are_disjoint_whole_stratified_and_keep_groups(images, source):
    whole = open_surrogate(images, source)
    halves = [open_surrogate(images, source, half=half) for half in (0, 1)]
    first, second = map(pixels, halves)
    assert not first & second
    assert first | second == pixels(whole)
    with np.load(images) as data:
        camera = {image.tobytes(): group for image, group in zip(data["x"], data["groups"], strict=True)}
    assert not {camera[p] for p in first} & {camera[p] for p in second}
    for half in halves:
        # Five of a camera stay together, so the shares are as near to a half as fives allow.
        np.testing.assert_allclose(np.bincount(half.labels), np.bincount(whole.labels) / 2, atol=5)


def test_no_seed_or_limit_brings_a_sample_into_the_other_half(images, source):
    second = pixels(open_surrogate(images, source, half=1))
    some = [open_surrogate(images, source, half=0, limit=20, seed=seed) for seed in range(3)]
    assert all(len(each) == 20 and not pixels(each) & second for each in some)
    assert pixels(some[0]) != pixels(some[1])
    assert all((np.abs(np.bincount(each.labels) - [12, 6, 2]) <= 1).all() for each in some)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "training"}, "Unknown split 'training'"),
        ({"half": 2}, "half of a surrogate is 2"),
        ({"limit": 2}, "one sample for each class"),
    ],
)
def test_arguments_out_of_range(images, source, options, message):
    with pytest.raises(UsageError, match=message):
        open_surrogate(images, source, **options)


def test_what_is_no_surrogate(tmp_path, source):
    pictures = np.random.default_rng(0).random((20, 1, 28, 28), np.float32)
    np.savez(tmp_path / "several.npz", x=pictures, y=np.eye(20, 4, dtype=np.int64))
    with pytest.raises(InputError, match="needs one label for each sample"):
        open_surrogate(str(tmp_path / "several.npz"), source)
    np.savez(tmp_path / "one.npz", x=pictures, y=np.zeros(20, np.int64))
    with pytest.raises(InputError, match="at least two classes"):
        open_surrogate(str(tmp_path / "one.npz"), source)
    np.savez(tmp_path / "table.npz", x=pictures[:, 0], y=np.arange(20) % 2)
    with pytest.raises(UsageError, match=r"`custom_data=.*image.*` or `custom_data=.*series"):
        open_surrogate(str(tmp_path / "table.npz"), source)
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"a b,{k % 2}\n" for k in range(20)))
    with pytest.raises(UsageError, match="The source takes image"):
        open_surrogate(str(tmp_path / "texts.csv"), source)


def test_of_a_sample_of_several_pieces_the_middle_one_is_loaded(images, source):
    surrogate = open_surrogate(images, source)
    frames = dataclasses.replace(surrogate.embedding, representation="frames")
    numbers = [np.full((k, 1, 28, 28), np.arange(k, dtype=float).reshape(k, 1, 1, 1)) for k in (1, 3, 4)]
    clips = dataclasses.replace(surrogate, embedding=frames, samples=numbers)
    alone = [clips.batch(clips.pieces(clip)[k : k + 1], CPU).inputs for clip, k in zip(numbers, (0, 1, 2), strict=True)]
    assert torch.equal(clips.load(np.arange(3), CPU).inputs, torch.cat(alone))


# Words


def naive_place(tokenizer, word):
    """How many tokens the text before the word has, and the one that begins every text."""
    place, tokens = len(tokenizer.tokenize(word.text[: word.start].rstrip())), tokenizer.tokenize(word.text)
    # A blank that is a token by itself is no part of the word.
    return 1 + place + (tokens[place] == "Ġ")


def named(hub, name):
    hub(name)
    return loaded(name)


@pytest.mark.parametrize(("name", "lost"), [("bert-bare", {"\u200d"}), ("roberta-mlm", {"in", "Oslo", "Rome", "and"})])
def test_words_are_found_among_the_tokens_of_their_text(hub, words, caplog, name, lost):
    source = named(hub, name)
    surrogate = open_surrogate(words, source)
    samples = [surrogate.samples[i] for i in range(len(surrogate))]
    batch = surrogate.load(np.arange(len(samples)), CPU)
    assert batch.word_positions.tolist() == [naive_place(source.input.tokenizer, word) for word in samples]
    assert torch.equal(batch.inputs["input_ids"], source.input.batch([w.text for w in samples], CPU)["input_ids"])
    assert (batch.word_positions < batch.inputs["attention_mask"].sum(dim=1) - 1).all()
    # Entities are all there but those that have no token, or lie behind the last.
    table = open_target(words).read()
    train = [(w, k) for w, k, s in zip(table.samples.texts, table.labels, table.splits, strict=True) if s == 0]
    entities = {(w.text, w.start) for w, k in train if table.classes[k] != "outside"}
    kept = {(w.text, w.start) for w in samples}
    gone = {text[start:].split()[0] for text, start in entities - kept}
    assert gone
    assert gone <= lost
    assert "are left out" in caplog.text


def test_words_outside_entities_are_as_many_as_the_largest_type_has(hub, words):
    counts = np.bincount(open_surrogate(words, named(hub, "bert-bare")).labels)
    everything = np.bincount(open_target(words).read().labels)
    assert len(counts) == 3
    assert counts[2] == counts[:2].max()
    assert everything[2] > everything[:2].max()


def test_words_need_a_tokenizer_that_tells_places(hub, words):
    source = named(hub, "bert-bare")

    class Slow:
        is_fast = False

    slow = dataclasses.replace(source, input=dataclasses.replace(source.input, tokenizer=Slow()))
    with pytest.raises(UsageError, match="The tokenizer Slow does not report the positions of its tokens"):
        open_surrogate(words, slow)


@pytest.mark.bundle
def test_tweets_are_the_surrogate_of_the_packaged_encoder():
    source = open_source("minilm").load(None, head=False)
    name, split = default_surrogate("minilm")
    surrogate = open_surrogate(name, source, split=split, half=0, limit=200)
    rows = balanced_rows(surrogate.labels, 0, 22, seed=0)
    assert (np.bincount(surrogate.labels[rows]) == 2).all()
    batch = surrogate.load(rows, CPU)
    ids = batch.inputs["input_ids"][torch.arange(22), batch.word_positions].tolist()
    for token, row in zip(source.input.tokenizer.convert_ids_to_tokens(ids), rows, strict=True):
        assert token == "[UNK]" or surrogate.samples[int(row)].lower().startswith(token)
    with torch.no_grad():
        features = encoder_features(source.split(), source.split().encoder, batch)
        alone = encoder_features(source.split(), source.split().encoder, surrogate.load(rows[:1], CPU))
    torch.testing.assert_close(features[:1], alone, rtol=1e-4, atol=1e-5)


# Features


def test_features_of_images_are_means_over_tokens(images, source):
    batch = open_surrogate(images, source).load(np.arange(4), CPU)
    parts, model = source.split(), source.model
    features = encoder_features(parts, parts.encoder, batch)
    torch.testing.assert_close(features, model.forward_features(batch.inputs).mean(dim=1))
    patches = model.patch_embed.proj(batch.inputs)
    embedded = embedder_features(parts, batch)
    torch.testing.assert_close(embedded, patches.mean(dim=(2, 3)))
    assert features.requires_grad
    assert not embedded.requires_grad


def test_features_of_a_convolutional_source_are_means_over_the_map(images):
    source = open_source("random:timm:mobilenetv3_small_050").load(64)
    batch = open_surrogate(images, source).load(np.arange(3), CPU)
    parts, model = source.split(), source.model
    maps = model.forward_features(batch.inputs)
    torch.testing.assert_close(encoder_features(parts, parts.encoder, batch), maps.mean(dim=(2, 3)))
    torch.testing.assert_close(embedder_features(parts, batch), parts.embedder(batch.inputs).mean(dim=(2, 3)))


def test_features_of_words_are_those_of_their_first_tokens(hub, words):
    source = named(hub, "roberta-mlm")
    surrogate = open_surrogate(words, source)
    batch, parts = surrogate.load(np.arange(9), CPU), source.split()
    hidden = hub("roberta-mlm").roberta(**batch.inputs).last_hidden_state
    table = hub("roberta-mlm").get_input_embeddings().weight
    features, embedded = encoder_features(parts, parts.encoder, batch), embedder_features(parts, batch)
    for i, place in enumerate(batch.word_positions.tolist()):
        torch.testing.assert_close(features[i], hidden[i, place])
        assert torch.equal(embedded[i], table[batch.inputs["input_ids"][i, place]])


def test_features_of_whole_texts_leave_padding_out(hub, tmp_path):
    texts = ["the cat", "a much longer text so that", "dog", "the mat"] * 10
    lines = "".join(f"{text},{k % 2}\n" for k, text in enumerate(texts))
    (tmp_path / "texts.csv").write_text("text,label\n" + lines)
    source = named(hub, "bert-texts")
    surrogate, parts = open_surrogate(str(tmp_path / "texts.csv"), source), source.split()
    batch = surrogate.load(np.arange(6), CPU)
    assert batch.word_positions is None
    torch.testing.assert_close(encoder_features(parts, parts.encoder, batch), source.features(batch.inputs))
    for function in (embedder_features, lambda p, b: encoder_features(p, p.encoder, b)):
        alone = torch.cat([function(parts, surrogate.load(np.array([i]), CPU)) for i in range(6)])
        torch.testing.assert_close(function(parts, batch), alone, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_given_encoder_and_nothing_else(images):
    source = open_source("random:vit-fashion").load(None)
    batch = open_surrogate(images, source).load(np.arange(4), CPU)
    parts = source.split()
    adapted = {name: p.detach() * 1.1 for name, p in parts.encoder.named_parameters()}
    leaves = {name: p.clone().requires_grad_() for name, p in adapted.items()}
    features = encoder_features(parts, lambda tokens: functional_call(parts.encoder, leaves, (tokens,)), batch)
    features.square().sum().backward()
    assert all(p.grad is None for p in source.model.parameters())
    # The same with the values put into a copy of the whole model.
    model = copy.deepcopy(source.model)
    model.load_state_dict({n.removeprefix("model."): p for n, p in adapted.items()}, strict=False)
    model.forward_features(batch.inputs).mean(dim=1).square().sum().backward()
    own = {name: p.grad for name, p in model.named_parameters()}
    for name, leaf in leaves.items():
        wanted = own[name.removeprefix("model.")]
        if wanted is None:
            assert leaf.grad is None, "not part of the features"
        else:
            torch.testing.assert_close(leaf.grad, wanted, rtol=1e-4, atol=1e-5)


def test_gradients_can_be_differentiated_again(images):
    source = open_source("random:vit-fashion").load(None)
    source.model.double()
    batch = open_surrogate(images, source).load(np.arange(2), CPU)
    batch = SurrogateBatch(batch.inputs.double())
    parts = source.split()
    name = "model.blocks.0.attn.qkv.weight"
    weight = dict(parts.encoder.named_parameters())[name].detach()
    direction = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def slope(step, create=False):
        leaf = (weight + step * direction).requires_grad_()
        # Fused attention has no second derivative.
        with sdpa_kernel(SDPBackend.MATH):
            features = encoder_features(
                parts, lambda tokens: functional_call(parts.encoder, {name: leaf}, (tokens,)), batch
            )
        (first,) = torch.autograd.grad(features.square().sum(), leaf, create_graph=create)
        return leaf, (first * direction).sum()

    leaf, first = slope(0.0, create=True)
    (second,) = torch.autograd.grad(first, leaf)
    between = (slope(1e-4)[1] - slope(-1e-4)[1]) / 2e-4
    torch.testing.assert_close((second * direction).sum(), between, rtol=1e-5, atol=1e-8)


# Which one


def test_sources_name_their_surrogates():
    assert default_surrogate("vit-fashion") == default_surrogate("random:vit-fashion") == ("fashion-mnist", "test")
    assert default_surrogate(open_source("random:swin-b")) == ("cifar10", "train")
    assert default_surrogate("roberta-base") == ("conll2003", "train")
    named = [info for info in source_infos() if info.surrogate]
    assert len(named) >= 9
    for info in named:
        target, split = info.surrogate
        kind = named_manifest(target).input.kind
        assert info.input.startswith({"audio": "sound"}.get(kind, kind))
        assert split in SPLITS


@pytest.mark.parametrize("name", ["timm:resnet18", "random:timm:resnet18"])
def test_a_source_without_a_surrogate_says_how_to_name_one(name):
    with pytest.raises(UsageError, match=r"source .* is registered.*`settings=.*stage1\.surrogate.*NAME") as caught:
        default_surrogate(name)
    assert "\n" not in str(caught.value)


def test_a_surrogate_name_may_end_with_a_split(images, source):
    assert (
        open_surrogate(f"{images}:test", source).provenance == open_surrogate(images, source, split="test").provenance
    )
    assert open_surrogate_target(images)[1] is None
    with pytest.raises(UsageError, match="names the split test, but the split val was requested"):
        open_surrogate_target(f"{images}:test", "val")


def test_a_head_is_fitted_on_the_training_split(images):
    assert open_head_surrogate(f"probe:{images}").fingerprint == open_target(images).fingerprint
    with pytest.raises(UsageError, match=r"always fitted on the training split\. Pass `head=.probe:"):
        open_head_surrogate(f"probe:{images}:test")
