"""Readers and targets of sound."""

import csv
import json
import logging
import pickle
import sys

import numpy as np
import pytest
import soundfile

from modgap.errors import InputError
from modgap.targets import SPLITS, named_manifest
from modgap.targets.readers import get_reader
from modgap.targets.sound import SoundFiles, common_rate, waveform
from tests.fixtures import audio


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_esc50_agrees_with_its_table(at):
    target = at("esc50")
    table = target.read()
    manifest = named_manifest("esc50")
    with target.files["table"][0].open() as stream:
        rows = list(csv.DictReader(stream))
    assert table.classes == list(manifest.classes)
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


def test_sound_is_decoded_on_access(at, monkeypatch):
    decoded = []
    whole = soundfile.SoundFile
    monkeypatch.setattr(soundfile, "SoundFile", lambda path, *how: decoded.append(path) or whole(path, *how))
    table = get_reader("audio_csv")(at("esc50").files, **at("esc50").manifest.reader.options)
    assert decoded == []
    _ = table.samples[9]
    assert len(decoded) == 1
    assert pickle.loads(pickle.dumps(table.samples))[9].shape == (1, 220_500)  # noqa: S301 - our own bytes


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_another_rate_and_two_channels(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    tones = [audio.tone(hertz, 1, 48_000) for hertz in (1000, 3000)]
    soundfile.write(path, np.stack(tones, axis=1), 48_000)
    assert common_rate([path]) == 48_000
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
    table = get_reader("audio")({"data": [tmp_path]}, rate=8000)
    assert list(table.classes) == ["cat", "dog"]
    assert (list(table.labels), list(table.splits)) == ([0, 0, 1], [2, 0, 0])
    assert table.samples[2].shape == (1, 4000)
    with pytest.raises(InputError, match="Expected a sub-folder of sound files for each class"):
        get_reader("audio")({"data": [tmp_path / "train" / "dog"]}, rate=8000)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"RIFF....WAVEjunk", "cannot read sound"), (b"", "cannot read sound"), ("empty", "got none"), ("nan", "got NaN")],
)
def test_a_broken_sound_raises_a_one_line_error(tmp_path, content, message):
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
def test_the_error_for_a_missing_library_has_the_install_command(tmp_path, monkeypatch, absent):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(InputError, match=r"pip install soundfile soxr"):
        waveform(tmp_path / "a.wav", 16_000)


def test_fsd50k_agrees_with_its_tables(at):
    target = at("fsd50k")
    table = target.read()
    assert len(table.classes) == named_manifest("fsd50k").n_classes == 200
    assert list(table.splits) == [code for code in range(3) for _ in range(audio.FSD_CLIPS)]
    assert set(table.labels.sum(axis=1)) == {8}
    assert table.labels.any(axis=0).all()
    class_numbers = json.loads(target.files["classes"][0].read_text())
    with target.files["test"][0].open() as stream:
        rows = {row["ext"]: row["labels"].split(",") for row in csv.DictReader(stream)}
    for offset, (_, labels) in enumerate(sorted(rows.items())):
        marks = table.labels[2 * audio.FSD_CLIPS + offset]
        assert sorted(np.flatnonzero(marks)) == sorted(class_numbers[label] for label in labels)
        assert {table.classes[k] for k in np.flatnonzero(marks)} == set(labels)
    assert len(table.noise) == 1
    np.testing.assert_allclose(table.noise[0][0], audio.tone(50, 1, audio.FSD_RATE), atol=1e-4)


def test_cutting_a_joined_clip_gives_its_chunks_again(at):
    """The chunks equal the archive's except for the end of the last but one, as the manifest explains."""
    samples = at("fsd50k").read().samples
    second = audio.FSD_RATE
    for row in range(2 * audio.FSD_CLIPS, 2 * audio.FSD_CLIPS + 10):
        clip = audio.fsd50k_clip(row)
        chunks = audio.fsd50k_chunks(clip)
        (joined,) = samples[row]
        assert joined.dtype == np.float32
        assert len(joined) == (len(chunks) + 1) * second // 2
        again = [joined[start : start + second] for start in range(0, len(joined) - second + 1, second // 2)]
        assert len(again) == len(chunks)
        for piece, (got, wanted) in enumerate(zip(again, chunks, strict=True)):
            compared = len(clip) - piece * second // 2 if piece == len(chunks) - 2 else second
            np.testing.assert_allclose(got[:compared], wanted[:compared], atol=1e-4)
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
    table = get_reader("audio_csv")(files, rate=8000, file_column="file", label_column="label")
    assert (list(table.classes), list(table.labels), table.splits) == (["cat", "dog"], [1, 0], None)
    assert table.samples.clips[0] == (str(tmp_path / "audio" / "b.wav"),)


@pytest.mark.parametrize(
    ("rows", "header", "options", "message"),
    [
        (["a.wav,1"], "file,other", {}, "expected the columns file, label"),
        (["a.wav"], "file,label", {}, "in line 2 of"),
        (["a.wav,1", "x" * 300 + ".wav,1"], "file,label", {}, "1 are missing, first"),
        (["c.wav,1"], "file,label", {}, "expected sound file c.wav"),
        (["a.wav,1", "c.wav,1"], "file,label", {}, "1 are missing, first"),
        (["a.wav,1"], "file,label", {"labels_column": "label"}, "one of label_column and labels_column"),
        (["a.wav,1,x", "b.wav,1,y"], "file,label,name", {"class_name_column": "name"}, "one name in column name"),
        (["a.wav,1,1"], "file,label,fold", {"fold_column": "fold", "folds": {"test": ["5"]}}, "got none of"),
        (["a.wav,1,1"], "file,label,fold", {"fold_column": "fold", "folds": {"dev": ["1"]}}, "expected folds of train"),
    ],
)
def test_an_invalid_table_raises_a_one_line_error(tmp_path, rows, header, options, message):
    with pytest.raises(InputError, match=message) as caught:
        get_reader("audio_csv")(
            table_of(tmp_path, rows, header), rate=8000, file_column="file", label_column="label", **options
        )
    one_line(caught)


@pytest.mark.parametrize(
    ("rows", "class_numbers", "message"),
    [
        (["a.wav,x,1", "b.wav,y,1"], '{"x": 0, "y": 1}', "the same labels on all pieces"),
        (["a.wav,x;z,1"], '{"x": 0, "y": 1}', "labels among 2 class names, got unknown z"),
        (["a.wav,x,1"], '{"x": 0, "y": 2}', "numbers 0 to K - 1"),
        (["a.wav,x,1"], '["x"]', "numbers 0 to K - 1"),
        (["a.wav,x,1"], "{", "cannot read class names"),
        (["a.wav,x,1"], "[" * 100_000, "nested too deeply"),
        (["a.wav,x,1"], "{}", "labels among 0 class names, got unknown x"),
    ],
)
def test_invalid_multi_labels_raise_a_one_line_error(tmp_path, rows, class_numbers, message):
    (tmp_path / "map.json").write_text(class_numbers)
    files = table_of(tmp_path, rows, "file,labels,clip", classes=[tmp_path / "map.json"])
    options = {"labels_column": "labels", "delimiter": ";", "clip_column": "clip"}
    with pytest.raises(InputError, match=message) as caught:
        get_reader("audio_csv")(files, rate=8000, file_column="file", **options)
    one_line(caught)


def test_an_empty_table_raises_a_one_line_error(tmp_path):
    files = table_of(tmp_path, [])
    files["table"][0].write_text("")
    with pytest.raises(InputError, match="expected the columns file, label") as caught:
        get_reader("audio_csv")(files, rate=8000, file_column="file", label_column="label")
    one_line(caught)


def test_audioset_skips_and_counts_segments_without_a_file(at, caplog):
    target = at("audioset-20k")
    with caplog.at_level(logging.INFO, "modgap"):
        table = target.read()
    said = [record.message for record in caplog.records if record.name == "modgap"]
    assert said == [f"6 of 158 segments have no sound file in {target.files['audio'][0]} and are skipped"]
    assert len(table) == 2 * audio.AUDIOSET_CLIPS
    assert table.labels.shape[1] == named_manifest("audioset-20k").n_classes == 527
    assert table.classes[3] == "Sound, kind 3"
    assert list(np.flatnonzero(table.labels[5])) == list(range(5, 527, audio.AUDIOSET_CLIPS))
    assert (table.splits[: audio.AUDIOSET_CLIPS] != SPLITS.index("test")).all()
    assert (table.splits[audio.AUDIOSET_CLIPS :] == SPLITS.index("test")).all()
    assert all(table.samples[row].shape == (1, 32_000) for row in (0, 1, 2, -1))


def test_the_error_for_audioset_without_sound_names_the_expected_files(at, tmp_path):
    files = at("audioset-20k").files | {"audio": [tmp_path]}
    with pytest.raises(InputError, match=r"<video>_<start>.wav or <video>.wav .* for 158 segments, got none") as caught:
        get_reader("audioset")(files, rate=32_000)
    one_line(caught)
    (tmp_path / "broken.csv").write_text('# header\nabc, 0.0, "/m/01"\n')
    with pytest.raises(InputError, match="expected video, start, end and labels in line 2"):
        get_reader("audioset")(files | {"train": [tmp_path / "broken.csv"]}, rate=32_000)
    with pytest.raises(InputError, match="expected the columns index, mid and display_name"):
        get_reader("audioset")(files | {"classes": [tmp_path / "broken.csv"]}, rate=32_000)
