"""Arguments in messages: Python names them, and the command line shows its options."""

import ast
import functools
import re
from pathlib import Path

import click
import pytest

from modgap.cli.commands import COMMANDS, load_command, name_options

MODULES = sorted(Path("modgap").rglob("*.py"))
ANSWERS = (
    "discrepancy/verdict.py",
    "distortion/answer.py",
    "ranking/comparison/answer.py",
    "ranking/matrix/answer.py",
    "ranking/recommendation.py",
    "training/answer.py",
)
"""Modules whose sentences are stored in records, with the options of the command that was run."""
COMMAND = re.compile(r"(?:modgap|pip|hf) [^`]*?(?=\. |`|$)|VALUE --[^`]*")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def options_by_parameter() -> dict[str, set[str]]:
    """Return the options that the parameters of the commands have, by name."""
    commands = [load_command(name) for name in COMMANDS]
    commands += [one for group in commands if isinstance(group, click.Group) for one in group.commands.values()]
    options: dict[str, set[str]] = {}
    for parameter in (one for command in commands for one in command.params if isinstance(one, click.Option)):
        options.setdefault(parameter.name, set()).add(parameter.opts[0])
    return options


@functools.cache
def texts_of(path: Path) -> list[str]:
    """Return the texts of a module, with VALUE in place of values; docstrings and descriptions of fields are none."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out: set[ast.AST] = set()
    texts = []
    # Nodes are walked after those that contain them.
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) or (isinstance(node, ast.keyword) and node.arg == "description"):
            left_out.add(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_optional":
            left_out.add(node.args[0])
        elif isinstance(node, ast.JoinedStr):
            left_out.update(node.values)
        if node in left_out:
            continue
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(part.value if isinstance(part, ast.Constant) else "VALUE" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    return texts


def test_backticks_mark_commands_and_arguments():
    # The last is an argument of modgap.compare that no command has.
    names = "|".join([*options_by_parameter(), "custom_data", "groups"])
    expected = re.compile(rf"(?:{names})(?:[=\[].*)?|VALUE|{COMMAND.pattern}")
    marked = {part for path in MODULES for text in texts_of(path) for part in re.findall("`([^`]+)`", text)}
    assert len(marked) > 50
    assert [part for part in marked if not expected.fullmatch(part)] == []


def test_messages_have_options_in_commands_only():
    modules = [path for path in MODULES if path.relative_to("modgap").as_posix() not in ANSWERS]
    # A text that begins with an option is a part of a command.
    texts = [COMMAND.sub("", text) for path in modules for text in texts_of(path) if not text.startswith(" --")]
    assert [text for text in texts if " " in text.strip() and OPTION.search(text)] == []


def test_arguments_name_one_option_each():
    several = {name: options for name, options in options_by_parameter().items() if len(options) > 1}
    assert not several


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("`limit` is 0.", "--limit is 0."),
        ('Use `split="all"` or a larger `limit`.', "Use --split all or a larger --limit."),
        ("Pass `pseudo_classes=10`.", "Pass --pseudo-classes 10."),
        ("Pass `resume=True` to continue it.", "Pass --resume to continue it."),
        ("`head='probe:my data'` names", "--head probe:my data names"),
        ('Use `source="timm:NAME", weights="a.pt"`.', "Use --source timm:NAME --weights a.pt."),
        ('Pass `custom_data={"fill": "mean"}`.', "Pass --fill mean."),
        ('`custom_data={"series_column": "COLUMN", "time_column": "t"}`', "--series COLUMN --time t"),
        ('`custom_data["x_name"]` does not apply.', "--x does not apply."),
        ('Pass `settings={"stage2.epochs": 5}`.', "Pass --set stage2.epochs=5."),
        ('Pass `settings={"KEY": VALUE}`.', "Pass --set KEY=VALUE."),
        ('Pass `settings={"stage2.keep_epochs": [1, 5]}`.', "Pass --set 'stage2.keep_epochs=[1, 5]'."),
        ('Pass a larger `settings["stage2.batch_size"]`.', "Pass a larger --set stage2.batch_size."),
        ('such as `sweep={"stage2.learning_rate": [1e-4, 3e-4]}`', "such as --sweep stage2.learning_rate=1e-4,3e-4"),
        ("Use `estimators` search or soft, and `runs`.", "Use --estimator search or soft, and --run."),
    ],
)
def test_the_command_line_shows_options(message, shown):
    assert name_options(message) == shown


@pytest.mark.parametrize(
    "message",
    [
        "Run `modgap targets` for a list of them.",
        "`input_ids` must be a tensor.",
        '`limit=(((` and `custom_data={"a": 1}`',
        "`limit=" + "(" * 10_000 + "`",
        "`groups` applies to one mapping",
        "a ` alone, and `` two",
    ],
)
def test_other_texts_stay_as_they_are(message):
    assert name_options(message) == message
