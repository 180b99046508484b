"""The names of the commands, and the options that take the place of arguments in messages.

Messages name the arguments of the public functions in backticks. `name_options` replaces them by the options of the
command line.
"""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache

import click

SECTIONS = {
    "Measure": {
        "discrepancy": "Measure how far a source's knowledge is from target data.",
        "compare": "Compare results on the same samples, corrected for their number.",
        "distortion": "Measure how much knowledge fine-tuning leaves in a source.",
    },
    "Choose a source": {
        "rank": "Rank source models for target data.",
        "report": "Write results as one self-contained HTML page.",
        "scores": "List the transferability scores, or show one.",
    },
    "Transfer": {
        "transfer": "Find the best model for your data within some minutes.",
        "train": "Transfer a source model to target data, with MoNA and others.",
        "predict": "Predict for new samples with a trained model.",
        "export": "Write a trained model to one file, for modgap or for others.",
        "baselines": "List the baselines of a target's own field, or show one.",
        "methods": "List the transfer methods, or show one.",
        "features": "Write features of a source on target data to a file.",
    },
    "Look up sources and targets": {
        "sources": "List the source models, or show one.",
        "targets": "List the targets, or show one.",
    },
    "Data": {
        "data": "Fetch, verify, convert or locate the data of a target.",
    },
    "Housekeeping": {
        "cache": "List, verify, merge or prune the cache of all results.",
        "env": "Show versions and the machine, to paste into a bug report.",
    },
}
"""Names and descriptions of the commands, by section of the help."""
COMMANDS = {name: text for section in SECTIONS.values() for name, text in section.items()}
ARGUMENTS = re.compile(r"`(?P<name>\w+)(?:[=\[][^`]*)?`")
"""Texts in backticks that can name an argument, such as `limit` or `split="all"`. Commands such as `modgap env` have a
space after their first word."""


def load_command(name: str) -> click.Command:
    """Import the command with this name from the module with the same name."""
    command: click.Command = getattr(importlib.import_module(f"modgap.cli.{name}"), name)
    return command


@cache
def _options() -> dict[str, str]:
    """Return the option of each argument, such as `--limit` of `limit`, from all commands.

    The parameters of a command have the names of the arguments. If commands differ, the last one counts.
    """
    commands = [load_command(name) for name in COMMANDS]
    commands += [one for group in commands if isinstance(group, click.Group) for one in group.commands.values()]
    parameters = (parameter for command in commands for parameter in command.params)
    return {one.name: one.opts[0] for one in parameters if one.name and isinstance(one, click.Option)}


def name_options(message: str) -> str:
    """Return a message with the options of the command line in place of the arguments in backticks.

    Example:
        >>> name_options('`limit` is 0. Pass `split="all"`, `resume=True` or `settings={"stage2.epochs": 5}`.')
        '--limit is 0. Pass --split all, --resume or --set stage2.epochs=5.'
        >>> name_options('Pass `custom_data={"series_column": "id"}`, or see `modgap targets`.')
        'Pass --series id, or see `modgap targets`.'
    """
    return ARGUMENTS.sub(_replacement, message)


def _replacement(match: re.Match[str]) -> str:
    """Return the options that replace a text in backticks, or the text itself if it names no argument.

    The text is parsed as the arguments of a call: `limit` has no value there, and `split="all"` has one.
    """
    if match["name"] not in (*_options(), "custom_data"):
        return match[0]
    text = f"_({match[0][1:-1]})"
    try:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        options = [part for one in call.keywords for part in _options_with_value(one.arg or "", one.value, text)]
        return " ".join([*map(_option_without_value, call.args), *options])
    except (SyntaxError, ValueError, KeyError, RecursionError, MemoryError):
        # The text is not modgap's but that of a user or a library.
        return match[0]


def _option_without_value(node: ast.expr) -> str:
    """Return the option of an argument without a value, such as `limit` or `settings["stage2.epochs"]`."""
    if not isinstance(node, ast.Subscript):
        return _options()[ast.unparse(node)]
    name, key = ast.unparse(node.value), ast.literal_eval(node.slice)
    return _options()[key] if name == "custom_data" else f"{_options()[name]} {key}"


def _options_with_value(name: str, node: ast.expr, text: str) -> Iterator[str]:
    """Yield the options that give an argument its value.

    Args:
        name: Name of the argument. Those of `settings`, `sweep` and `custom_data` take a mapping, with one option for
            each key.
        node: Value of the argument in the parsed text.
        text: The parsed text, from which values are copied as they are written.
    """
    if isinstance(node, ast.Dict):
        for key, value in zip(map(ast.literal_eval, filter(None, node.keys)), node.values, strict=True):
            if name == "custom_data":
                yield from _options_with_value(key, value, text)
            else:
                parts = value.elts if name == "sweep" and isinstance(value, ast.List) else [value]
                values = ",".join(_value_text(part, text) for part in parts)
                yield f"{_options()[name]} {shlex.quote(f'{key}={values}')}"
    elif isinstance(node, ast.Constant) and node.value is True:
        yield _options()[name]
    else:
        yield f"{_options()[name]} {_value_text(node, text)}"


def _value_text(node: ast.expr, text: str) -> str:
    """Return a value as the command line takes it: a text without quotation marks, and others as they are written."""
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return str(ast.literal_eval(node)) if is_text else ast.get_source_segment(text, node) or ""
