"""Files of a target: the one of a role, those of each split or suffix, class folders, lists of groups and of splits."""

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError, UsageError, count
from modgap.labels.written_names import number_names
from modgap.storage.damaged_files import convert_read_errors, one_line_errors
from modgap.storage.limits import check_memory
from modgap.storage.paths import has_suffix
from modgap.targets.data_frames import SUFFIXES, list_names, read_frame
from modgap.targets.samples import SPLITS, Samples, Table
from modgap.targets.splits import SPLIT_OF_SPELLING, split_numbers

GROUP_LIST = "group-list"
"""Role of a table of the groups of files in class folders."""
SPLIT_LIST = "split-list"
"""Role of a file that lists the splits of samples, for any reader."""
SPLIT_LIST_SUFFIXES = (*SUFFIXES, ".txt")
log = logging.getLogger("modgap")


def single_file(files: Mapping[str, Sequence[Path]], role: str) -> Path:
    """Return the one path of a role.

    Raises:
        InputError: When the role has several files.
        KeyError: When the role has no file.
    """
    paths = files[role]
    if len(paths) != 1:
        raise InputError(
            f"expected one file of role {role!r}, got {len(paths)}: {', '.join(map(str, paths))}. "
            "Write a manifest for each of them."
        )
    return paths[0]


def files_by_split(files: Mapping[str, Sequence[Path]], suffix: str = "") -> list[tuple[int, Path]]:
    """Return index into SPLITS and path of every file of the roles train, val and test, in that order.

    Args:
        files: Paths by role.
        suffix: Text after the split's name in the role, such as `-labels`.

    Raises:
        KeyError: When no split has a file.
    """
    paths = [(code, path) for code, split in enumerate(SPLITS) for path in files.get(f"{split}{suffix}", ())]
    if not paths:
        raise KeyError(f"{SPLITS[0]}{suffix}")
    return paths


def data_files(files: Mapping[str, Sequence[Path]], role: str = "data") -> list[tuple[int | None, Path]]:
    """Return the files of one role, with None for the split, or else those of all splits as `files_by_split` does.

    Args:
        files: Paths by role.
        role: Role of files that define no splits.

    Raises:
        KeyError: When neither the role nor a split has a file.
    """
    if role in files:
        return [(None, path) for path in files[role]]
    if files.keys().isdisjoint(SPLITS):
        raise KeyError(role)
    return [*files_by_split(files)]


def list_files(folder: Path, suffixes: Collection[str] | None = None, *, links: bool = True) -> list[Path]:
    """Return the files with one of the suffixes (lower case) anywhere below a folder, sorted by path.

    The files ._NAME, in which macOS keeps attributes of the file NAME, are left out. So is everything in hidden
    folders, such as .thumbnails or .ipynb_checkpoints, which would otherwise be read as classes.

    Args:
        folder: The folder.
        suffixes: The suffixes. None takes all files.
        links: False to leave out symbolic links, which are further names of other files.
    """
    return sorted(
        path
        for path in folder.rglob("*")
        if (suffixes is None or has_suffix(path, suffixes))
        and (links or not path.is_symlink())
        and not path.name.startswith("._")
        and not any(part.startswith(".") for part in path.relative_to(folder).parts[:-1])
        and path.is_file()
    )


def read_text(path: Path, subject: str) -> str:
    """Return the text of a file in UTF-8.

    Args:
        path: The file.
        subject: Description of the file with its path, for the message.

    Raises:
        InputError: When the file cannot be read.
    """
    with one_line_errors(f"cannot read {subject}"):
        return path.read_text(encoding="utf-8")


def class_folder_labels(
    folder: Path, paths: Sequence[Path], noun: str
) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """Return labels (N,), class names, and index into SPLITS (N,) of files that lie in class folders.

    Args:
        folder: Folder that holds a folder for each class, or the folders train, val and test that do. Without the
            latter there are no splits.
        paths: The N files below it.
        noun: Name of such files in the plural, for error messages.

    Raises:
        InputError: When there is no file, a file is not in a class folder, all class folders are one level deeper, or
            folders of splits have other names.
    """
    parts = [path.relative_to(folder).parts for path in paths]
    loose = [part[0] for part in parts if len(part) < 2]
    if not parts or loose:
        others = f" and {len(loose) - 1:,} more" if len(loose) > 1 else ""
        fault = f"{noun} that are in no class folder: {loose[0]}{others}" if loose else f"no {noun}"
        raise InputError(
            f"{folder} contains {fault}. Expected a sub-folder of {noun} for each class. Move the {noun} of a class "
            "into one."
        )
    has_splits = all(part[0] in SPLITS and len(part) > 2 for part in parts)
    if not has_splits:
        _check_folders(folder, parts, noun)
    class_level = 1 if has_splits else 0
    numbered = number_names([part[class_level] for part in parts], "class folder")
    codes = np.array([SPLITS.index(part[0]) for part in parts]) if has_splits else None
    return numbered.numbers, list(numbered.names), codes


def _check_folders(folder: Path, parts: Sequence[tuple[str, ...]], noun: str) -> None:
    """Raise if the folders with the files are not those of classes.

    If all files are in one folder, it holds the class folders instead of being one. Folders of splits would be read as
    classes because of their names, or of a folder beside them.
    """
    names = {part[0] for part in parts}
    inner = sorted({part[1] for part in parts if len(part) > 2})
    if len(names) == 1 and len(inner) > 1:
        name = names.pop()
        raise InputError(
            f"All {noun} in {folder} are in the folder {name}, which has the sub-folders {inner[0]} and {inner[1]}"
            f"{' and others' if len(inner) > 2 else ''}. Expected a sub-folder of {folder} for each class. If these "
            f"sub-folders are the classes, name {folder / name} instead."
        )
    splits = sorted({part[0] for part in parts if len(part) > 2 and part[0].lower() in SPLIT_OF_SPELLING})
    if len(splits) > 1:
        raise InputError(
            f"{folder} has the folders {' and '.join(splits)}, which look like splits and would be read as classes. "
            "Name the folders of the splits train, val and test, and move other folders away."
        )


def labeled_files(
    files: Mapping[str, Sequence[Path]],
    samples: Callable[[Sequence[Path]], Samples],
    suffixes: Collection[str],
    noun: str,
    group_pattern: str | None,
    path_pattern: str | None,
    links: bool,
) -> Table:
    """Return the table of the files below the folder of the role `data`, whose classes are folders or parts of paths.

    The names of the samples are the paths of their files relative to the folder.

    Args:
        files: Paths by role, of which GROUP_LIST may be a table of groups.
        samples: Function that returns the samples in some files.
        suffixes: Suffixes of the files.
        noun: Name of such files in the plural, for error messages.
        group_pattern: Pattern of the path, or table, that gives the group of each file; see `groups_of_paths`.
        path_pattern: Regular expression, as for `match_paths`, in place of folders of classes.
        links: False to leave out symbolic links.

    Raises:
        InputError: When there are no files, or they have no class or group.
    """
    folder = single_file(files, "data")
    paths = list_files(folder, suffixes, links=links)
    if path_pattern is None:
        labels, classes, codes = class_folder_labels(folder, paths, noun)
        group = str(single_file(files, GROUP_LIST)) if GROUP_LIST in files else group_pattern
        groups = None if group is None else {"group": groups_of_paths(folder, paths, group)}
        return Table(samples(paths), labels, classes, codes, groups, names=names_below(folder, paths))
    matches = match_paths(names_below(folder, paths), path_pattern, noun, str(folder))
    names = [match.string for match in matches]
    parts = [match.groupdict() for match in matches]
    if "label" not in parts[0]:
        raise InputError(f"The pattern {path_pattern!r} has no group (?P<label>...), which is the class of a file.")
    numbered = number_names([str(part["label"]) for part in parts], "label")
    groups = {"group": np.array([str(part["group"]) for part in parts])} if "group" in parts[0] else None
    located = samples([folder / name for name in names])
    return Table(located, numbered.numbers, list(numbered.names), groups=groups, names=names)


def match_paths(names: Sequence[str], pattern: str, noun: str, location: str) -> list[re.Match[str]]:
    """Return the match of each path that a regular expression fits; the other paths are left out.

    Args:
        names: Paths relative to the folder of the data, with slashes.
        pattern: Regular expression of the whole path, whose group `label`, if any, is the class of the file, and whose
            group `group` says which files belong together.
        noun: Name of the files in the plural, for error messages.
        location: Folder of the data, for error messages.

    Raises:
        InputError: When the expression is invalid or fits no path.
    """
    matches = [match for name in names if (match := compile_pattern(pattern).fullmatch(name))]
    if not matches:
        example = f", such as {names[0]}" if names else ""
        raise InputError(f"{location} has {count(len(names), 'file')}{example}, but no {noun} that fit {pattern!r}.")
    return matches


def compile_pattern(pattern: str, replacement: str = "") -> re.Pattern[str]:
    """Return a regular expression of a manifest, after checking what takes the place of the texts that it finds.

    Raises:
        InputError: When the expression or the replacement is invalid.
    """
    try:
        compiled = re.compile(pattern)
        compiled.sub(replacement, "")
    except (re.error, IndexError) as error:
        raise InputError(f"{pattern!r} is no regular expression with the groups that it needs: {error}.") from error
    return compiled


FILE_NAMES = ("file", "path", "filename", "file_name", "filepath", "image", "sound", "audio")
"""Names of columns of file names, in the order in which they are looked for."""
SAMPLE_NAMES = ("sample", *FILE_NAMES)
"""Names of columns that name the samples in a list of groups or of splits."""
PLACE = "{group}"
ENDS = "/_. "
"""Characters that end a group if the pattern ends with its place."""


def groups_of_paths(folder: Path, paths: Sequence[Path], group: str) -> np.ndarray:
    """Return the group of each file, such as its subject, shape (N,).

    Args:
        folder: Folder that holds the files.
        paths: The N files below it.
        group: Part of the path relative to the folder, with {group} in place of the group's name, such as
            `/s{group}_`; the path begins with /. Or the path of a table with a column of files (file, path or similar)
            and one column of groups.

    Raises:
        UsageError: When the pattern has no place for the group, or several.
        InputError: When a file has no group.
    """
    names = names_below(folder, paths)
    if has_suffix(Path(group), SUFFIXES):
        group_of_file = _listed_values(Path(group), "group")
        if missing := [name for name in names if not group_of_file.get(name, "").strip()]:
            raise InputError(
                f"{Path(group)} has no group for {len(missing):,} of {len(names):,} files, such as {missing[0]}. "
                "Expected each path relative to the folder of the data."
            )
        return np.array([group_of_file[name] for name in names])
    if group.count(PLACE) != 1:
        raise UsageError(
            f'`custom_data={{"group": {group!r}}}` has {group.count(PLACE)} times {PLACE}. Expected it once in a part '
            f"of the path, such as /subject{PLACE}_, or a .csv file with the columns file and group."
        )
    before, after = group.split(PLACE)
    groups = [_group_of(f"/{name}", before, after) for name in names]
    if missing := [name for name, found in zip(names, groups, strict=True) if not found]:
        raise InputError(
            f'`custom_data={{"group": {group!r}}}` does not match {len(missing):,} of {len(names):,} paths, such as '
            f"/{missing[0]}. Expected a match in each path relative to {folder}."
        )
    return np.array(groups)


def names_below(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Return the path of each file relative to a folder, with slashes, as lists of files have it."""
    return [path.relative_to(folder).as_posix() for path in paths]


def _group_of(path: str, before: str, after: str) -> str:
    """Return the first text between two texts that is in one part of a path; empty if there is none.

    Example:
        >>> _group_of("/cats/s12_trial3.png", "/s", "_"), _group_of("/a/7.png", "/a/", ""), _group_of("/a/b", "x", "")
        ('12', '7', '')
    """
    at = path.find(before)
    while at >= 0:
        rest = path[at + len(before) :]
        group, end, _ = rest.partition(after) if after else (re.split(f"[{ENDS}]", rest)[0], "any", "")
        if end and group and "/" not in group:
            return group
        at = path.find(before, at + 1)
    return ""


def _listed_values(table: Path, noun: str, *, in_order: bool = False) -> dict[str, str]:
    """Return the value of each sample in a table, by the name of the sample.

    Args:
        table: Table with a column of samples and one of values, which has the name of the values if there are others.
        noun: Name of the values.
        in_order: True if the samples may have their numbers from 0 as names, where a column of values is the only one.

    Raises:
        InputError: If there are no such columns, or a sample has two values.
    """
    frame = read_frame(table, lambda columns: columns)
    by_lower_case = {str(name).lower(): name for name in frame.columns}
    sample_column = next((by_lower_case[name] for name in SAMPLE_NAMES if name in by_lower_case), None)
    others = [name for name in frame.columns if name != sample_column]
    value_column = by_lower_case.get(noun, others[0] if len(others) == 1 else None)
    is_in_order = in_order and len(frame.columns) == 1
    if value_column is None or (sample_column is None and not is_in_order):
        raise InputError(
            f"{table} has the columns {list_names(frame.columns)}. Expected a column of files (one of "
            f"{', '.join(SAMPLE_NAMES)}) and one column of {noun}s."
        )
    samples = range(len(frame)) if is_in_order else frame[sample_column]
    pairs = list(dict.fromkeys(zip(map(str, samples), frame[value_column].astype(str), strict=True)))
    values = dict(pairs)
    for sample, value in pairs:
        if values[sample] != value:
            raise InputError(
                f"{table} has two {noun}s for {sample}: {value!r} and {values[sample]!r}. Remove one of them."
            )
    return values


def listed_splits(path: Path, names: Sequence[str] | None, size: int) -> np.ndarray:
    """Return the index into SPLITS of each sample, from a file that lists the splits.

    Args:
        path: Table with a column of samples (sample, file, path or similar) and a column `split`; or a `.txt` file, or
            a table of one column, with the splits of all samples in their order.
        names: Name of each sample in such a table; None for its number from 0.
        size: Number N of samples.

    Raises:
        InputError: If a sample has no split or two, or a split has another name than train, val or test.
    """
    if has_suffix(path, (".txt",)):
        check_memory(path, path.stat().st_size)
        with convert_read_errors(path, "names of splits"):
            lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
        split_of_sample = {str(number): line for number, line in enumerate(lines)}
    else:
        split_of_sample = _listed_values(path, "split", in_order=True)
    samples = [str(number) for number in range(size)] if names is None else names
    if missing := [name for name in samples if name not in split_of_sample]:
        in_order = ", or one split in each line, for all samples in their order" if names is None else ""
        raise InputError(
            f"{path} has no split for {len(missing):,} of {size:,} samples, such as {missing[0]}. Expected a table "
            f"with the columns sample and split{in_order}."
        )
    described = set(samples)
    further = [name for name in split_of_sample if name not in described]
    if further and names is None:
        raise InputError(
            f"{path} has splits of {count(len(split_of_sample), 'sample')}, but there are {size:,}. Expected one split "
            "for each sample, whose numbers start at 0."
        )
    if further:
        of_samples = count(len(further), "sample")
        log.warning("%s has splits of %s that the data does not have, such as %s.", path, of_samples, further[0])
    return split_numbers([split_of_sample[name] for name in samples], str(path))
