"""Sounds that programs render: pitch, independence of each other, options that are refused, and programs that fail."""

import datetime
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import modgap_zoo
from modgap.errors import InputError
from modgap.targets import Target, load_manifest, open_target
from modgap.targets.readers import get_reader
from modgap_zoo import rendering
from modgap_zoo.readers import rendered_glyphs
from modgap_zoo.readers.rendered_notes import FAMILIES
from modgap_zoo.rendering import debian_versions, run_program
from tests.fixtures.audio import wav
from tests.fixtures.packages import skip_if_absent
from zoo.tests.campaign.rendered_files import LANGUAGES, write_font

SYNTHESIZER = Path("/usr/bin/fluidsynth")
SPEAKER = Path("/usr/bin/espeak-ng")
SOUND_FONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")
NOTES = {"pitches": [69], "velocities": [100], "programs": [0], "seconds": 1.0, "rate": 16_000}
SPEECH = {"languages": ["de"], "texts": ["27"], "voices": ["m1"], "seconds": 1.0, "rate": 16_000}


def notes(program=SYNTHESIZER, sound_font=SOUND_FONT, **options):
    return get_reader("rendered_notes")({"program": [program], "sound_font": [sound_font]}, **NOTES | options)


def speech(program=SPEAKER, **options):
    return get_reader("rendered_speech")({"program": [program]}, **SPEECH | options)


@pytest.fixture
def installed_voices(monkeypatch):
    """Read the options of speech without the program, as if it had German and French voices."""
    monkeypatch.setattr(rendering, "run_program", lambda command, text="": LANGUAGES)


def fundamental(clip, rate):
    """Return the strongest frequency below 1 kHz of a clip, in hertz."""
    power = np.abs(np.fft.rfft(clip[0] * np.hanning(clip.shape[1]), 8 * clip.shape[1]))
    return np.argmax(power[: 8 * 1000 * clip.shape[1] // rate]) * rate / (8 * clip.shape[1])


def test_notes_have_their_pitch_and_are_in_their_families():
    skip_if_absent("notes")
    # Piano and flute.
    table = notes(pitches=[69, 76, 81], programs=[0, 73])
    assert table.classes == [FAMILIES[0], FAMILIES[9]]
    assert list(table.labels) == [0, 0, 0, 1, 1, 1]
    assert list(table.groups["pitch"]) == [69, 76, 81] * 2
    for index, hertz in enumerate([440, 659.26, 880] * 2):
        assert fundamental(table.samples[index], 16_000) == pytest.approx(hertz, rel=0.01)
    assert list(notes(pitches=[81, 57], label="pitch").classes) == ["pitch 57", "pitch 81"]
    assert list(notes(programs=[9, 2], label="program").labels) == [1, 0]


def test_a_note_begins_at_once_and_does_not_depend_on_the_note_before():
    skip_if_absent("notes")
    alone = notes().samples[0]
    after_others = notes(pitches=[40, 69], velocities=[127, 100]).samples[3]
    np.testing.assert_array_equal(after_others, alone)
    assert np.flatnonzero(np.abs(alone[0]) > 0.1 * np.abs(alone).max())[0] < 320


def test_clips_are_the_same_bytes_for_any_number_of_threads_and_any_order():
    skip_if_absent("spoken-digits")
    skip_if_absent("notes")
    for make in (
        lambda: speech(texts=["1", "2"], voices=["m1", "f2"]).samples,
        lambda: notes(programs=[0, 40], pitches=[60, 69]).samples,
    ):
        in_order = make()
        expected = [in_order[index].tobytes() for index in range(4)]
        samples = make()
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda index: samples[index].tobytes(), [3, 1, 2, 0])) == [  # noqa: B023
                expected[index] for index in (3, 1, 2, 0)
            ]


def test_languages_voices_speeds_and_pitches_are_heard():
    skip_if_absent("spoken-languages")
    table = speech(languages=["de", "fr"], voices=["m1", "f3"], speeds=[120, 240], pitches=[20, 80], seconds=2)
    clips = [table.samples[index] for index in range(len(table))]
    assert len({clip.tobytes() for clip in clips}) == 16
    assert (list(table.labels), table.classes) == ([0] * 8 + [1] * 8, ["de", "fr"])
    assert set(table.groups["voice"]) == {"m1", "f3"}
    ends = [np.flatnonzero(np.abs(clip[0]) > 0.01)[-1] for clip in clips]
    # Slow and fast clips alternate in pairs.
    assert all(ends[index] > 1.3 * ends[index + 2] for index in range(0, 16, 4))


def test_languages_of_the_target_differ_in_all_voices():
    skip_if_absent("spoken-languages")
    table = open_target("spoken-languages").read()
    rows = np.flatnonzero(table.labels % 3 == 1)[::4]
    assert len({table.samples[row].tobytes() for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"pitches": [60, 128]},
            r"option pitches is \[60, 128\]. Expected a list of different whole numbers from 0 to 127",
        ),
        ({"pitches": [60, 60]}, "a list of different whole numbers"),
        ({"velocities": [0]}, "a list of different whole numbers from 1 to 127"),
        ({"programs": []}, r"option programs is \[\]"),
        ({"seconds": float("nan")}, "option seconds is nan. Expected a number from 0.1 to 30"),
        ({"rate": 96_000}, "option rate is 96000. Expected a whole number from 4,000 to 48,000"),
        ({"label": "velocity"}, "option label is 'velocity'. Expected one of family, program, pitch"),
        ({"sound_font": Path("/tmp/TimGM6mb.sf2")}, "because FluidSynth opens only sound fonts that are installed"),
        ({"sound_font": SOUND_FONT.with_name("-f.sf2")}, "The sound font is /usr/share/sounds/sf2/-f.sf2"),
        ({"program": Path("/tmp/fluidsynth")}, "Expected the program fluidsynth in /usr/bin or .*, because no other"),
        ({"program": Path("/usr/bin/env")}, "The file of the role program is /usr/bin/env. Expected the program fluid"),
    ],
)
def test_options_of_notes_that_are_not_valid_are_refused(options, message):
    with pytest.raises(InputError, match=message) as caught:
        notes(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"languages": ["../de"]}, "Unknown language '../de'. Expected one of: de, fr"),
        ({"languages": ["fr-fr"]}, r"Unknown language 'fr-fr'. (Did you mean fr|Expected one of: de, fr)"),
        ({"languages": ["de", "de"]}, "Expected a list of different names"),
        ({"languages": [1]}, r"option languages is \[1\]. Expected a list of different names"),
        ({"voices": ["m1", "m9"]}, "option voices is 'm9'. Expected one of m1, m2"),
        ({"texts": ["[[a]]"]}, "a list of texts of 1 to 60 letters, digits, spaces, hyphens, commas and periods"),
        ({"texts": ["a\x01"]}, "a list of texts of 1 to 60 letters"),
        ({"texts": ["-", "a"]}, "a list of texts of 1 to 60 letters"),
        ({"texts": ["a" * 61]}, "a list of texts of 1 to 60 letters"),
        ({"texts": ["a", "a"]}, "a list of different texts"),
        ({"speeds": [40]}, "option speeds is .40.. Expected a list of different whole numbers from 80 to 450"),
        ({"pitches": [100]}, "from 0 to 99"),
        ({"label": "speed"}, "Expected one of language, text, voice"),
        ({"program": Path("/usr/bin/../bin/espeak-ng")}, "because no other program is started"),
    ],
)
def test_options_of_speech_that_are_not_valid_are_refused(installed_voices, options, message):
    with pytest.raises(InputError, match=message) as caught:
        speech(**options)
    assert "\n" not in str(caught.value)


HOSTILE = (
    -1, 0, True, 1e999, float("nan"), 10**30, "", "x" * 100_000, "--help", [], [[]], [{}], {}, {"a": 1}, [None], [-1],
    [True], [float("nan")], [10**30], ["--help"], ["a", 1], list(range(5000)), datetime.date(2020, 1, 1),
    [datetime.date(2020, 1, 1)],
)  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
def test_any_value_of_any_option_is_accepted_or_refused_in_one_line(installed_voices, tmp_path, value):
    write_font(tmp_path / "Small.ttf", "ab")
    glyphs = {"letters": "ab", "size": 24, "font_size": 16, "label": "letter"}
    calls = [
        (notes, {**NOTES, "label": "family"}),
        (speech, {**SPEECH, "speeds": [175], "pitches": [1], "label": "text"}),
    ]
    calls.append((lambda **options: rendered_glyphs.read({"font": [tmp_path / "Small.ttf"]}, **options), glyphs))
    messages = []
    for read, options in calls:
        for name in options:
            try:
                read(**options | {name: value})
            except InputError as error:
                messages.append(str(error))
    assert len(messages) >= 12
    assert all("\n" not in message and len(message) < 400 for message in messages)


def test_limits_of_samples_and_of_bytes_apply_before_anything_is_rendered(installed_voices, monkeypatch):
    with pytest.raises(InputError, match=r"describe 2,064,512 samples. .*export MODGAP_MAX_RENDERED=2064512"):
        notes(programs=list(range(128)), pitches=list(range(127)), velocities=list(range(1, 128)))
    # The clips are smaller than the limit, but one instrument at 48 kHz is not.
    with pytest.raises(InputError, match="MODGAP_MAX_RENDERED_BYTES"):
        notes(pitches=list(range(128)), velocities=list(range(1, 4)), seconds=30, rate=4000)
    monkeypatch.setenv("MODGAP_MAX_RENDERED", "3")
    with pytest.raises(InputError, match="describe 4 samples"):
        speech(languages=["de", "fr"], pitches=[1, 2])


def executable(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_program_that_fails_or_does_not_end_is_one_message(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="failed with exit code 3: first line second line"):
        run_program([executable(tmp_path / "a", "printf 'first line\\nsecond line' >&2; exit 3")])
    monkeypatch.setenv("MODGAP_MAX_RENDERING_SECONDS", "1")
    with pytest.raises(InputError, match=r"did not end within 1 seconds\. .*export MODGAP_MAX_RENDERING_SECONDS=10"):
        run_program([executable(tmp_path / "b", "exec sleep 20")])
    with pytest.raises(InputError, match="cannot be started: No such file"):
        run_program([str(tmp_path / "c")])


def test_programs_get_a_fixed_environment_and_no_settings_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("ESPEAK_DATA_PATH", "/elsewhere")
    variables = run_program([executable(tmp_path / "a", "env")], text="x").decode()
    names = {line.partition("=")[0] for line in variables.splitlines()}
    assert names <= {"PATH", "LC_ALL", "PWD", "SHLVL", "OLDPWD", "_"}


def test_programs_without_sound_are_one_message(monkeypatch):
    monkeypatch.setattr(rendering, "run_program", lambda command, folder: (folder / "notes.raw").write_bytes(b""))
    with pytest.raises(InputError, match=r"rendered no sound for the program 0 of .*TimGM6mb.sf2"):
        _ = notes().samples[0]
    for content, message in (
        (b"", "spoke nothing for the text '27' in the language de"),
        (wav(np.zeros(100), 22_050), "spoke nothing for the text"),
        (wav(np.zeros((100, 2)), 22_050), "wrote another format than mono sound of 16 bits"),
    ):
        answers = {"--voices": LANGUAGES, "--stdout": content}
        monkeypatch.setattr(rendering, "run_program", lambda command, text="", a=answers: a[command[-1]])
        with pytest.raises(InputError, match=message):
            _ = speech().samples[0]


def test_an_absent_program_is_named_with_the_command_that_installs_it(tmp_path):
    manifest = Path(modgap_zoo.__file__).parent / "manifests" / "spoken-digits.toml"
    path = tmp_path / "mine.toml"
    path.write_text(manifest.read_text().replace('folder = "/usr/bin"', f'folder = "{tmp_path}"'))
    with pytest.raises(
        InputError, match=r"espeak-ng, which does not exist. Install it with: apt-get install espeak-ng"
    ):
        open_target(str(path))
    # A program beside the manifest is never started.
    executable(tmp_path / "espeak-ng", "touch started")
    target = open_target(str(path))
    assert target.fingerprint["files"]
    with pytest.raises(InputError, match="because no other program is started"):
        target.read()
    assert not (tmp_path / "started").exists()
    with pytest.raises(InputError, match="reader rendered_speech needs a file of role 'program', got: none"):
        Target(load_manifest(manifest), {}).read()


def test_versions_are_those_of_installed_packages(tmp_path, monkeypatch):
    status = (
        "Package: a\nStatus: install ok installed\nPriority: optional\nVersion: 1:2.0-1\n\n"
        "Package: ab\nStatus: install ok installed\nVersion: 3\n\n"
        "Package: b\nStatus: deinstall ok config-files\nVersion: 4\n"
    )
    (tmp_path / "status").write_text(status)
    monkeypatch.setattr("modgap_zoo.rendering.DPKG_STATUS", tmp_path / "status")
    assert debian_versions(["a", "b", "c"]) == {"a": "1:2.0-1"}
    monkeypatch.setattr("modgap_zoo.rendering.DPKG_STATUS", tmp_path / "absent")
    assert debian_versions(["a"]) == {}
