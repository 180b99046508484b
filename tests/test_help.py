"""The help that a new user reads, the names that the shell completes, and the suggestions for wrong usage."""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from modgap.baselines import baseline_names
from modgap.cli.commands import COMMANDS, SECTIONS
from modgap.cli.completion import source_names, target_names
from modgap.cli.main import main, modgap
from modgap.ranking.scores import score_names
from modgap.sources import source_infos
from modgap.targets import manifest_names
from modgap.training.methods import method_names
from tests.commands import run_in_process

SUBCOMMANDS = {"data": ["fetch", "verify", "convert", "path"], "cache": ["ls", "verify", "merge", "prune"]}
ALL_COMMANDS = [
    "",
    *COMMANDS,
    *(f"{group} {name}" for group, names in SUBCOMMANDS.items() for name in names),
]
GROUPS_WITH_HELP = ["", *SUBCOMMANDS]
OPTION_SECTIONS = {
    "discrepancy": {
        "Source and target": "source target logits weights",
        "Samples": "split limit pseudo-classes data-dir",
        "Custom data": "kind label label-type task series time group split-from x y background columns fill "
        "standardize",
        "How samples pass through the source": "input-size representation embedder head",
        "Estimators": "estimator trials classes per-class measure temperature",
        "Statistics": "weight per-group splits permutations permutations-for permutations-by control seed",
        "Hardware": "device dtype batch-size loader-workers threads",
        "Output": "out format json quiet",
    },
    "compare": {
        "Comparison": "estimator",
        "Output": "format figure quiet",
    },
    "data fetch": {
        "Files": "data-dir discard-archives",
        "Download": "dry-run yes timeout",
        "Output": "quiet",
    },
}


def help_text(command):
    """Return the help of a command at 80 columns."""
    done = run_in_process(*command.split(), "--help", COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def sections(text):
    """Return the lines of each section of a help text, by title and in order."""
    found = {}
    lines = []
    for line in text.splitlines():
        if re.fullmatch(r"\S.*:", line):
            lines = found.setdefault(line.removesuffix(":"), [])
        else:
            lines.append(line)
    return found


def completions(*words, last=""):
    """Return the kinds and values that bash is offered for the last word of a command line."""
    command_line = " ".join(["modgap", *words, last])
    done = run_in_process(COMP_WORDS=command_line, COMP_CWORD=str(len(words) + 1), _MODGAP_COMPLETE="bash_complete")
    assert (done.returncode, done.stderr) == (0, "")
    return [tuple(line.split(",", 1)) for line in done.stdout.splitlines()]


def names(*words, last=""):
    found = completions(*words, last=last)
    assert {kind for kind, _ in found} <= {"plain"}
    return [name for _, name in found]


def test_commands_are_listed_in_sections_in_order():
    found = sections(help_text(""))
    titles = ["Measure", "Choose a source", "Transfer", "Look up sources and targets", "Data", "Housekeeping"]
    assert list(found) == [*titles, "Options", "Example"]
    listed = {title: [line.split()[0] for line in found[title] if line.strip()] for title in titles}
    assert listed == {title: list(commands) for title, commands in SECTIONS.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_exists_and_describes_itself_as_in_the_list(name):
    command = modgap.get_command(click.Context(modgap), name)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help


@pytest.mark.parametrize("command", OPTION_SECTIONS)
def test_options_are_grouped_by_theme(command):
    found = sections(help_text(command))
    listed = {
        title: " ".join(match[1] for line in lines if (match := re.match(r"  --([a-z-]+)", line)))
        for title, lines in found.items()
    }
    assert {title: listed[title] for title in OPTION_SECTIONS[command]} == OPTION_SECTIONS[command]
    in_order = [title for title in found if title in OPTION_SECTIONS[command]]
    assert in_order == list(OPTION_SECTIONS[command])


@pytest.mark.parametrize("name", ["compare", "discrepancy", "distortion", "rank", "train"])
def test_no_option_but_the_help_is_without_a_theme(name):
    other = [line for line in sections(help_text(name))["Other options"] if line.strip()]
    assert [line.split()[:2] for line in other] == [["-h,", "--help"]]


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_help_fits_in_80_columns_and_has_an_example_that_parses(command):
    text = help_text(command)
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"Usage: modgap {command}".rstrip())
    examples = [line.strip() for line in sections(text)["Example"] if line.startswith("  modgap ")]
    assert examples
    assert all(line.startswith(f"modgap {command}".rstrip()) for line in examples[-1:])
    for line in examples:
        check_parses(line.split()[1:])


def check_parses(arguments):
    """Parse the arguments of a command, as far as its options and arguments go, without running it."""
    command, context = modgap, click.Context(modgap, info_name="modgap")
    while isinstance(command, click.Group):
        command = command.get_command(context, arguments[0])
        arguments = arguments[1:]
    command.make_context("modgap", list(arguments)).close()


@pytest.mark.parametrize("group", GROUPS_WITH_HELP)
def test_a_group_without_arguments_prints_its_help(group):
    done = run_in_process(*group.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run_in_process(*group.split(), "--help").stdout


@pytest.mark.parametrize("group", SUBCOMMANDS)
def test_sub_commands_are_in_the_order_of_their_use(group):
    listed = sections(help_text(group))["Commands"]
    assert [line.split()[0] for line in listed if re.match(r"  \w", line)] == SUBCOMMANDS[group]


def test_the_module_has_the_name_of_the_command():
    done = subprocess.run([sys.executable, "-m", "modgap", "data"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: modgap data [OPTIONS]")


def test_completed_names_are_all_names_there_are():
    assert source_names() == [info.name for info in source_infos()]
    assert target_names() == manifest_names()
    fitted = ["linear-probe", "baseline", *(f"baseline:{name}" for name in baseline_names())]
    assert names("train", "--method") == [*method_names(), *fitted]
    assert names("baselines", "") == baseline_names()
    assert names("rank", "--by") == score_names()


@pytest.mark.parametrize(
    ("words", "last", "expected"),
    [
        (["discrepancy", "--target"], "dig", ["digits"]),
        (["discrepancy", "--source"], "vit", ["vit-b", "vit-fashion"]),
        (["discrepancy", "--source"], "random:swin", ["random:swin-b", "random:swin-b-in1k"]),
        (["discrepancy", "--estimator"], "s", ["search", "soft"]),
        (["compare", "--estimator"], "soft-", ["soft-matched"]),
        (["discrepancy", "--head"], "probe:dig", ["probe:digits"]),
        (["rank", "--sources"], "vit-b,mini", ["vit-b,minilm"]),
        (["rank", "--score"], "log", ["logme"]),
        (["train", "--method"], "fine", ["finetune", "finetune++"]),
        (["distortion", "--surrogate"], "fashion", ["fashion-mnist"]),
        (["data", "fetch"], "nina", ["ninapro"]),
        (["sources"], "mini", ["minilm"]),
        (["targets"], "nina", ["ninapro"]),
        (["methods"], "or", ["orca"]),
        (["scores"], "lee", ["leep", "leep-held-out"]),
        ([], "r", ["rank", "report"]),
        (["cache"], "", ["ls", "verify", "merge", "prune"]),
    ],
)
def test_names_are_completed(words, last, expected):
    assert names(*words, last=last) == expected


@pytest.mark.parametrize(
    ("words", "last", "expected"),
    [
        (["discrepancy", "--target"], "./photos", [("file", "./photos")]),
        (["discrepancy", "--logits"], "x", [("file", "x")]),
        (["discrepancy", "--out"], "x", [("dir", "x")]),
        (["discrepancy", "--embedder"], "runs", [("dir", "runs")]),
        (["report"], "x", [("dir", "x")]),
        (["compare"], "x", [("file", "x")]),
    ],
)
def test_the_shell_completes_paths(words, last, expected):
    assert completions(*words, last=last) == expected


@pytest.mark.parametrize(
    "words", ["discrepancy --source v", "discrepancy --target d", "train --method m", "rank --by l"]
)
def test_completion_imports_neither_torch_nor_numba(words):
    code = (
        "import sys; from modgap.cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'numba', 'timm', 'scipy', 'matplotlib', 'seaborn'} & set(sys.modules)), "
        "file=sys.stderr)"
    )
    request = {"COMP_WORDS": f"modgap {words}", "COMP_CWORD": "3", "_MODGAP_COMPLETE": "bash_complete"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **request})
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert done.stdout.startswith("plain,")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_is_given_its_script(shell):
    done = run_in_process(_MODGAP_COMPLETE=f"{shell}_source")
    assert done.returncode == 0
    assert f"_MODGAP_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["discrepency"], "Did you mean discrepancy?"),
        (["data", "fetsh", "digits"], "Did you mean fetch?"),
        (["cache", "lss"], "Did you mean ls?"),
        (["discrepancy", "--targt", "digits"], "Did you mean --target or --task?"),
        (["--verson"], "Did you mean --version?"),
        (["train"], "Missing option '--method'. See modgap train --help."),
        (["cache", "prune", "--qqqq"], ". See modgap cache prune --help."),
        (["report", "a", "b"], "See modgap report --help."),
    ],
)
def test_wrong_usage_is_one_line_with_a_way_out(arguments, message):
    done = run_in_process(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("modgap: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_the_page_about_the_command_line_lists_all_commands():
    page = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
    for title, commands in SECTIONS.items():
        assert f"| **{title}** |" in page
        for name, text in commands.items():
            assert f"| `modgap {name}` | {text} |" in page


@pytest.mark.parametrize(("variables", "styled"), [({"NO_COLOR": "1"}, False), ({}, True)])
@pytest.mark.parametrize("arguments", [["data"], ["methods"], ["methods", "mona"]])
def test_no_color_switches_off_all_styles_of_a_terminal(arguments, variables, styled, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    output = on_a_terminal(*arguments, **variables)
    assert arguments[-1] in output
    assert ("\x1b[1m" in output) is styled
    assert ("\x1b" in output) is styled


def on_a_terminal(*arguments, **variables):
    """Return the output of a command on a pseudo-terminal, in a forked process, which imports nothing again."""
    pty = pytest.importorskip("pty")
    child, master = pty.fork()
    if child == 0:
        run_and_exit(arguments, {"TERM": "xterm", **variables})
    with open(master, "rb", buffering=0) as reader:
        output = b""
        # On Linux, reading raises an error once the process has closed the terminal.
        with contextlib.suppress(OSError):
            while part := reader.read(1 << 16):
                output += part
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return output.decode()


def run_and_exit(arguments, variables):
    """Run a command with the standard streams that the system gave to this process, and end the process."""
    code = 1
    try:
        os.environ.update(variables)
        sys.argv = ["modgap", *arguments]
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def test_the_page_describes_json_and_quiet_as_they_are(own_logits):
    arguments = ("discrepancy", "--logits", own_logits, "--trials", 100, "--permutations", 0, "--json", "--quiet")
    done = run_in_process(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["kind"] == "discrepancy"
