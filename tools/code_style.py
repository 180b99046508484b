"""Count what makes code hard to read: vague names, inverted docstrings, parallel assignments, skipped formatting.

    python tools/code_style.py [PATH ...] [--list]

Without paths it reads modgap, cli, benchmarks and tools. `--list` prints the file and line of each occurrence.
"""

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("modgap", "cli", "benchmarks", "tools")
VAGUE = frozenset(
    ["own", "found", "held", "given", "kept", "each", "place", "known", "words", "facts", "details", "outcome"]
)
OPENINGS = ("what", "whether", "which", "who", "whose", "of which")


def bindings(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (name, line) of each assigned name, argument, function, class and field in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno


def _docstrings(tree: ast.AST) -> Iterator[tuple[str, int]]:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield text, getattr(node, "lineno", 1)


def _assignments(tree: ast.AST) -> Iterator[tuple[bool, int]]:
    """Yield (is parallel, line) of each assignment; `a, b = x, y` is parallel."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            tuples = isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
            yield tuples, node.lineno


def _function_lengths(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            yield (node.end_lineno or node.lineno) - body[0].lineno + 1


def measure(paths: list[Path]) -> dict[str, tuple[list[str], int]]:
    """Return, for each habit, the lines where it occurs and the number of lines where it could occur."""
    counts: dict[str, tuple[list[str], int]] = {}

    def add(habit: str, occurrences: list[str], total: int) -> None:
        earlier_occurrences, earlier_total = counts.get(habit, ([], 0))
        counts[habit] = (earlier_occurrences + occurrences, earlier_total + total)

    for path in paths:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        names = list(bindings(tree))
        vague = [(name, line) for name, line in names if name.strip("_").lower() in VAGUE]
        if path.stem.strip("_") in VAGUE:
            vague.append((path.stem, 1))
        add("vague names", [f"{path}:{line} {name}" for name, line in vague], len(names) + 1)
        docstrings = list(_docstrings(tree))
        inverted = [item for item in docstrings if item[0].lower().startswith(tuple(f"{w} " for w in OPENINGS))]
        add("inverted docstrings", [f"{path}:{line} {t.splitlines()[0]}" for t, line in inverted], len(docstrings))
        assignments = list(_assignments(tree))
        add("parallel assignments", [f"{path}:{line}" for parallel, line in assignments if parallel], len(assignments))
        skips = [f"{path}:{i}" for i, line in enumerate(text.splitlines(), 1) if line.rstrip().endswith("# fmt: skip")]
        add("fmt: skip", skips, len(text.splitlines()))
        lengths = list(_function_lengths(tree))
        add("functions over 50 lines", [f"{path}" for length in lengths if length > 50], len(lengths))
    return counts


def python_files(paths: list[Path]) -> list[Path]:
    """Return the Python files in folders and files, sorted."""
    files: set[Path] = set()
    for path in paths:
        files.update(path.rglob("*.py") if path.is_dir() else [path])
    return sorted(files)


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / name for name in FOLDERS])
    parser.add_argument("--list", action="store_true", help="print the file and line of each occurrence")
    options = parser.parse_args()
    files = python_files(options.paths)
    for habit, (occurrences, total) in measure(files).items():
        print(f"{habit}: {len(occurrences)} of {total} ({len(occurrences) / max(total, 1):.1%})")
        if options.list:
            print("\n".join(f"  {occurrence}" for occurrence in occurrences))
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    lengths = sorted(length for tree in trees for length in _function_lengths(tree))
    median = lengths[len(lengths) // 2]
    p90 = lengths[len(lengths) * 9 // 10]
    print(f"function bodies: median {median}, p90 {p90}, max {lengths[-1]}")


if __name__ == "__main__":
    main()
