"""Runs campaigns in child processes, several at a time, and keeps each chunk's outcome in a file."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.campaign.types import Campaign

START_SECONDS = 180.0
"""Time in which a child process must have imported its libraries."""
MOST_FAILURES = 20
"""Failures after which a chunk is not continued."""


def run_campaigns(campaigns: Sequence[Campaign], results: Path, workers: int, *, quick: bool = False) -> list[dict]:
    """Make all tries of campaigns that are not in the file of results yet.

    Args:
        campaigns: The campaigns.
        results: File with one line of JSON for each chunk of tries that is done.
        workers: Number of child processes at a time.
        quick: True for the quick share alone.

    Returns:
        The records of all chunks: campaign, first and last number, number of tries, failures by number.
    """
    done = {}
    if results.exists():
        records = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
        done = {(record["campaign"], record["first"], record["last"]): record for record in records}
    chunks = [
        (campaign, first, min(first + campaign.chunk, tries))
        for campaign in campaigns
        for tries in [campaign.quick if quick else campaign.tries]
        for first in range(0, tries, campaign.chunk)
    ]
    missing = [chunk for chunk in chunks if (chunk[0].name, *chunk[1:]) not in done]
    with ThreadPoolExecutor(workers) as pool, results.open("a", encoding="utf-8") as stream:
        for future in as_completed(pool.submit(run_chunk, *chunk) for chunk in missing):
            record = future.result()
            done[record["campaign"], record["first"], record["last"]] = record
            stream.write(json.dumps(record) + "\n")
            stream.flush()
            part = f"{record['campaign']} {record['first']}-{record['last']}"
            print(f"{part}: {len(record['failures'])} failures", file=sys.stderr, flush=True)
    return [done[campaign.name, first, last] for campaign, first, last in chunks]


def run_chunk(campaign: Campaign, first: int, last: int) -> dict[str, Any]:
    """Make the tries from `first` to before `last`; a hang or a crash ends the child, and the next one goes on."""
    failures: dict[int, str] = {}
    next_try = first
    while next_try < last and len(failures) < MOST_FAILURES:
        running = None
        for answer in _answers(campaign, next_try, last):
            if "begin" in answer:
                running = answer["begin"]
                continue
            if answer["failure"]:
                failures[answer["end"]] = answer["failure"]
            running = None
            next_try = answer["end"] + 1
            if len(failures) >= MOST_FAILURES:
                break
        if next_try < last and len(failures) < MOST_FAILURES:
            failures[next_try] = "hang or crash" if running is not None else "the child process did not start"
            next_try += 1
    return {
        "campaign": campaign.name,
        "first": first,
        "last": last,
        "tries": next_try - first,
        "failures": {str(number): text for number, text in failures.items()},
    }


def _answers(campaign: Campaign, first: int, last: int) -> Iterator[dict[str, Any]]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with (
        tempfile.TemporaryFile() as errors,
        tempfile.TemporaryDirectory(prefix="modgap-campaign-", ignore_cleanup_errors=True) as scratch,
    ):
        # Other users enter it, too.
        Path(scratch).chmod(0o755)
        arguments = [campaign.registry, campaign.name, str(first), str(last), scratch]
        command = [sys.executable, "-m", "tests.campaign.worker", *arguments]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=environment, start_new_session=True
        )
        try:
            yield from _lines(child, campaign.seconds)
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _lines(child: subprocess.Popen, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield the answers of a child until it ends, or is silent for longer than a try may take."""
    stream = child.stdout
    assert stream is not None
    selector = selectors.DefaultSelector()
    selector.register(stream, selectors.EVENT_READ)
    buffer = b""
    limit = START_SECONDS
    while selector.select(limit):
        limit = seconds
        data = os.read(stream.fileno(), 1 << 16)
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        yield from map(json.loads, lines)


def format_summary(records: Sequence[dict]) -> str:
    """Return the table of tries and failures by campaign, and the failures below it."""
    lines = [f"{'campaign':32} {'tries':>8} {'failures':>9}"]
    for name in dict.fromkeys(record["campaign"] for record in records):
        chosen = [record for record in records if record["campaign"] == name]
        tries = sum(record["tries"] for record in chosen)
        lines.append(f"{name:32} {tries:>8,} {sum(len(record['failures']) for record in chosen):>9,}")
    total = sum(record["tries"] for record in records)
    lines.append(f"{'all':32} {total:>8,} {sum(len(record['failures']) for record in records):>9,}")
    for record in records:
        lines += [f"{record['campaign']} {number}: {text}" for number, text in record["failures"].items()]
    return "\n".join(lines)
