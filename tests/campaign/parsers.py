"""Fuzz of every parser: a valid small file is changed, and must be read, or refused in one message."""

import contextlib
import functools
import hashlib
import io
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modgap.errors import InputError
from tests.campaign import reader_files, run_files, seed_files, transformers_files
from tests.campaign.folders import temporary_folder
from tests.campaign.mutations import header_bits, mutate
from tests.campaign.types import CORE, Campaign

REGRESSIONS = Path(__file__).parent / "regressions"
MOST_REGRESSION_BYTES = 20_000
TRIES = 2000
HEADER_BYTES = 128
MOST_MESSAGE_CHARACTERS = 20_000


@dataclass(frozen=True)
class Parser:
    """A parser with valid files for it.

    Attributes:
        name: Name of the campaign.
        make: Function that writes valid files into a folder, and returns the one that is changed.
        parse: Function that reads the changed file completely.
        tries: Number of tries.
        quick: Number of tries of the quick share.
        header: Length of the header whose bits are all flipped, in bytes.
        registry: Module with the campaign in its `CAMPAIGNS`.
        regressions: Folder of files that failed.
    """

    name: str
    make: Callable[[Path], Path]
    parse: Callable[[Path], object]
    tries: int = TRIES
    quick: int = 12
    header: int = HEADER_BYTES
    registry: str = CORE
    regressions: Path = REGRESSIONS

    def campaign(self) -> Campaign:
        """Return the campaign: first each bit of the header, then random changes."""
        return Campaign(
            f"parse {self.name}",
            8 * self.header + self.tries,
            self.quick,
            functools.partial(_attempt, self),
            replay=functools.partial(_parse_content, self),
            registry=self.registry,
        )


@functools.cache
def _template(parser: Parser) -> tuple[Path, Path]:
    """Return a folder with the parser's valid files, and the one that is changed; made once in a process."""
    folder = temporary_folder()
    os.environ["MODGAP_CACHE"] = str(folder / "cache")
    path = parser.make(folder / "files")
    return folder / "files", path


def _attempt(parser: Parser, number: int) -> str | None:
    content = _template(parser)[1].read_bytes()
    header_tries = 8 * parser.header
    # The quick share, which has the first numbers, is spread over both kinds of changes.
    is_header = number < 2 * header_tries and number % 2 == 0
    changed = header_bits(content, number // 2, parser.header) if is_header else mutate(content, number)
    failure = _parse_content(parser, changed)
    if failure and len(changed) <= MOST_REGRESSION_BYTES:
        name = f"{parser.name.replace(' ', '_')}-{hashlib.sha256(changed).hexdigest()[:8]}"
        save_regression(parser.regressions / name, changed)
    return failure


def save_regression(path: Path, content: bytes) -> None:
    """Write a file that failed among those that the tests read again."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def parse_unchanged(parser: Parser) -> object:
    """Return what a parser reads from its valid files."""
    template, path = _template(parser)
    with tempfile.TemporaryDirectory(prefix="modgap-try-") as folder:
        files = shutil.copytree(template, Path(folder) / "files")
        return parser.parse(files / path.relative_to(template))


def _parse_content(parser: Parser, content: bytes) -> str | None:
    template, path = _template(parser)
    with tempfile.TemporaryDirectory(prefix="modgap-try-") as folder:
        files = Path(folder) / "files"
        shutil.copytree(template, files, copy_function=os.link)
        changed = files / path.relative_to(template)
        changed.unlink()
        changed.write_bytes(content)
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                parser.parse(changed)
        except InputError as error:
            return None if len(str(error)) < MOST_MESSAGE_CHARACTERS else f"message of {len(str(error))} characters"
        except MemoryError:
            return None
        except BaseException as error:  # Panics of Rust are no Exception.
            last = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__}: {str(error)[:100]} ({Path(last.filename).name}:{last.lineno})"
    return None


PARSERS = [
    Parser("npz", seed_files.npz, seed_files.read_target),
    Parser("npz compressed", seed_files.npz_compressed, seed_files.read_target),
    Parser("npy", seed_files.npy, seed_files.read_target),
    Parser("npy labels", seed_files.npy_labels, seed_files.read_npy_labels),
    Parser("safetensors", seed_files.safetensors, seed_files.read_target),
    Parser("hdf5", seed_files.hdf5, seed_files.read_target, quick=4),
    Parser("csv", seed_files.csv, seed_files.read_target),
    Parser("csv gz", seed_files.csv_gz, seed_files.read_target),
    Parser("parquet", seed_files.parquet, seed_files.read_target),
    Parser("png", seed_files.image("png"), seed_files.read_folder),
    Parser("jpg", seed_files.image("jpg"), seed_files.read_folder),
    Parser("gif", seed_files.image("gif"), seed_files.read_folder),
    Parser("transparent png", seed_files.transparent_image, seed_files.read_folder),
    Parser("listed images", seed_files.listed_images, seed_files.read_listed),
    Parser("group table", seed_files.group_table, seed_files.read_with_groups),
    Parser("split table", seed_files.split_list(".csv"), seed_files.read_with_splits),
    Parser("split lines", seed_files.split_list(".txt"), seed_files.read_with_splits),
    Parser("ts", seed_files.series_file, seed_files.read_target, quick=3),
    Parser("wav", seed_files.sound("wav"), seed_files.read_folder),
    Parser("flac", seed_files.sound("flac"), seed_files.read_folder),
    Parser("mp3", seed_files.sound("mp3"), seed_files.read_folder),
    Parser("idx", seed_files.idx(""), seed_files.read_reader("idx", "images")),
    Parser("idx gz", seed_files.idx(".gz"), seed_files.read_reader("idx", "images")),
    Parser("manifest", seed_files.manifest, seed_files.read_manifest),
    Parser("run record", seed_files.run_record, seed_files.read_run, quick=6),
    Parser("checkpoint position", seed_files.checkpoint("position.json"), seed_files.read_checkpoint, quick=6),
    Parser("checkpoint model", seed_files.checkpoint("model.safetensors"), seed_files.read_checkpoint, quick=6),
    Parser("ranking record", seed_files.ranking, seed_files.write_report, quick=4),
    Parser("discrepancy record", seed_files.discrepancy("result.json"), seed_files.write_report, quick=4),
    Parser("discrepancy classes", seed_files.discrepancy("classes.csv"), seed_files.write_report, quick=4),
    Parser("compare record", seed_files.compared("result.json"), seed_files.compare_folders, quick=4),
    Parser("compare samples", seed_files.compared("samples.npz"), seed_files.compare_folders, quick=4),
    Parser("compare csv", seed_files.error_table, seed_files.compare_table, quick=4),
    Parser("logits npz", seed_files.logits("npz"), seed_files.read_logits),
    Parser("logits safetensors", seed_files.logits("safetensors"), seed_files.read_logits),
    Parser("logits csv", seed_files.logits("csv"), seed_files.read_logits),
    Parser("logits pt", seed_files.logits("pt"), seed_files.read_logits, quick=2),
    Parser("weights safetensors", seed_files.weights("safetensors"), seed_files.read_weights, quick=4),
    Parser("weights pth", seed_files.weights("pth"), seed_files.read_weights, quick=4),
    *(Parser(name, make, read, quick=3) for name, make, read in (*transformers_files.PARSED, *run_files.PARSED)),
    Parser("cache entry", seed_files.cache_entry, seed_files.read_cache_entry),
    Parser("cache entry of many arrays", seed_files.large_cache_entry, seed_files.read_large_cache_entry, header=4096),
    Parser("converted copy", reader_files.converted_copy("array"), reader_files.read_converted_copy, header=4096),
    Parser("converted text", reader_files.converted_copy("text"), reader_files.read_converted_copy, header=4096),
    Parser("converted pickle", reader_files.converted_pickle, reader_files.read_converted_pickle, header=2048),
    *(Parser(f"reader {name}", make, read, quick=3) for name, make, read in reader_files.READERS),
    *(
        Parser(f"archive {name}", reader_files.archive(name), reader_files.unpack, quick=3)
        for name in (
            *("safe.zip", "safe.tar", "safe.tar.gz"),
            *("hostile.zip", "hostile.tar", "hostile.tar.gz"),
        )
    ),
]
PARSER_CAMPAIGNS = [parser.campaign() for parser in PARSERS]
