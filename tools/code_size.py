"""Count the project: code lines by room, modules, classes, functions, layers of packages, options, and words of docs.

    python tools/code_size.py [ROOT]

Lines are those of code, without blank lines, comments and docstrings. A class is made in one place if one expression of
the code calls it. A function of a module is used once if its name occurs in one expression: of its module if the name
begins with an underscore, else of all code. The command line is one of the packages. Options are counted by name in the
running command line, so the dependencies of modgap must be installed. Words are those of the README and the docs.
"""

import argparse
import ast
import io
import os
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("modgap", "cli")
BESIDE = {
    "zoo/modgap_zoo": "the zoo",
    "tests": "tests of the core",
    "zoo/tests": "tests of the zoo",
    "benchmarks": "benchmarks",
    "benchmarks/tests": "tests of benchmarks",
}
OPTIONS = """
import click
from modgap.cli.main import modgap


def commands(command, context):
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), context)
    yield command


found = list(commands(modgap, click.Context(modgap)))
options = [one.opts[-1] for command in found for one in command.params if isinstance(one, click.Option)]
print(sum(not isinstance(one, click.Group) for one in found), len(options), len(set(options)))
"""
NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
)


@dataclass(frozen=True)
class Size:
    """Sizes of a code base.

    Attributes:
        lines: Code lines of each package or loose module.
        modules: Number of modules, without empty ones.
        classes: Number of classes.
        classes_made_once: Number of classes that one expression makes.
        functions: Number of functions of modules, without methods and functions inside functions.
        functions_used_once: Number of them that one expression names.
        anys: Number of annotations `Any`.
    """

    lines: dict[str, int]
    modules: int
    classes: int
    classes_made_once: int
    functions: int
    functions_used_once: int
    anys: int


def docstring_lines(tree: ast.Module) -> set[int]:
    """Return the numbers of the lines of the docstrings of a module, its classes and its functions."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    documented = [node.body[0] for node in ast.walk(tree) if isinstance(node, kinds) and ast.get_docstring(node)]
    return {line for node in documented for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def code_lines(text: str) -> int:
    """Return the number of lines of a module that have code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring_lines(ast.parse(text)))


def room(path: Path) -> str:
    """Return the room that a module is in: a folder, or `modgap/x.py` for a loose module; loose tests are one room."""
    if path.parts[0] == "modgap" or (path.parts[0] != "cli" and len(path.parts) > 2):
        return "/".join(path.parts[:2])
    return path.parts[0]


def measure(root: Path, folders: Iterable[str] = FOLDERS) -> Size:
    """Return the sizes of the Python files of some folders."""
    texts = {path.relative_to(root): path.read_text("utf-8") for one in folders for path in (root / one).rglob("*.py")}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines: Counter[str] = Counter()
    for path, text in texts.items():
        lines[room(path)] += code_lines(text)
    uses = {path: Counter(_used_names(tree)) for path, tree in trees.items()}
    all_uses = sum(uses.values(), Counter())
    calls = Counter(name for tree in trees.values() for name in _called_names(tree))
    classes = [node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    functions = [
        (uses[path] if node.name.startswith("_") else all_uses)[node.name]
        for path, tree in trees.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("__")
    ]
    return Size(
        dict(lines),
        sum(bool(text.strip()) for text in texts.values()),
        len(classes),
        sum(calls[name] == 1 for name in classes),
        len(functions),
        functions.count(1),
        sum(uses_any for tree in trees.values() for uses_any in _anys(tree)),
    )


def _used_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def _called_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id
            elif isinstance(node.func, ast.Attribute):
                yield node.func.attr


def _anys(tree: ast.Module) -> Iterator[bool]:
    return (node.id == "Any" for node in ast.walk(tree) if isinstance(node, ast.Name))


def imports(root: Path) -> dict[str, set[str]]:
    """Return the packages and loose modules that each of them imports, imports inside functions included."""
    graph: dict[str, set[str]] = defaultdict(set)
    for path in (path for folder in FOLDERS for path in (root / folder).rglob("*.py")):
        start = room(path.relative_to(root))
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module == "modgap":
                names = [f"modgap.{one.name}" for one in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "modgap" and len(parts) > 1:
                    end = "cli" if parts[1] == "cli" else f"modgap/{parts[1]}"
                    end = end if (root / end).is_dir() else f"{end}.py"
                    if end != start and (root / end).exists():
                        graph[start].add(end)
        graph[start] |= set()
    return dict(graph)


def layers(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the rooms by layer, the lowest first; rooms of a circle are in no layer."""
    heights: dict[str, int] = {}
    rest = set(graph)
    while ready := {name for name in rest if all(one in heights for one in graph[name])}:
        for name in ready:
            heights[name] = 1 + max((heights[one] for one in graph[name]), default=0)
        rest -= ready
    return [sorted(n for n, h in heights.items() if h == height) for height in range(1, 1 + max(heights.values()))]


def options(root: Path) -> tuple[int, int, int]:
    """Return the numbers of commands, of declared options, and of options of different names."""
    call = [sys.executable, "-c", OPTIONS]
    found = subprocess.run(
        call, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=True
    )
    commands, declared, names = map(int, found.stdout.split())
    return commands, declared, names


def words(root: Path) -> int:
    """Return the number of words of the README and the docs."""
    pages = [root / "README.md", *(path for path in (root / "docs").rglob("*.md") if "_build" not in path.parts)]
    return sum(len(page.read_text("utf-8").split()) for page in pages)


def main() -> None:
    """Print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=ROOT)
    root = parser.parse_args().root.resolve()
    size = measure(root)
    total = sum(size.lines.values())
    for name, lines in sorted(size.lines.items()):
        print(f"{lines:7,}  {name}")
    print(f"{total:7,}  code lines of modgap and cli")
    for folder, title in BESIDE.items():
        counted = measure(root, [folder]).lines
        lines = {name: n for name, n in counted.items() if name == folder or name not in BESIDE}
        if len(lines) > 1:
            print("".join(f"{n:7,}  {name}\n" for name, n in sorted(lines.items())), end="")
        print(f"{sum(lines.values()):7,}  code lines of {title}")
    print(f"{size.modules:7,}  modules")
    print(f"{size.classes:7,}  classes, {size.classes_made_once:,} of them made in one place")
    once = size.functions_used_once
    print(f"{size.functions:7,}  functions, {once:,} of them ({once / size.functions:.0%}) used once")
    print(f"{1000 * size.anys / total:7.1f}  annotations Any per 1,000 code lines")
    graph = imports(root)
    floors = layers(graph)
    in_circles = set(graph) - {name for floor in floors for name in floor}
    n_imports = sum(map(len, graph.values()))
    print(f"{len(graph):7,}  packages and loose modules, {n_imports:,} imports between them, {len(floors)} layers")
    print(f"         circles: {', '.join(sorted(in_circles)) or 'none'}")
    commands, declared, names = options(root)
    print(f"{names:7,}  options, declared {declared:,} times for {commands} commands")
    print(f"{words(root):7,}  words of README and docs")


if __name__ == "__main__":
    main()
