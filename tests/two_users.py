"""Run commands as other users who share a cache: `python -m tests.two_users FOLDER` prints what they got as JSON.

Each user is a process that is forked from one of root, which has imported all libraries: a user may not be able to read
the interpreter's files, as where root has installed it.
"""

import json
import os
import sys
from pathlib import Path

from tests.commands import run_in_process

GROUP = 65_000
SOURCE = "random:timm:test_vit"
USERS = {"ada": 65_001, "ben": 65_002, "eve": 65_003}
STRANGERS = 65_100
"""Group of a user who may only read."""


def commands(folder: Path) -> list[list[str]]:
    """Return a discrepancy and a ranking, which print their records."""
    data = str(folder / "data.npz")
    options = ["--input-size", "32", "--json"]
    scores = ["--by", "knn", "--score", "leep", "--resamples", "0", "--backend", "serial", "--baselines", "none"]
    search = ["--estimator", "search", "--permutations", "0", "--restarts", "1", "--bound-seconds", "0"]
    return [
        ["discrepancy", "--source", SOURCE, "--target", data, *search, *options],
        ["rank", "--sources", SOURCE, "--target", data, *scores, *options],
    ]


def run_all(folder: Path) -> list[dict]:
    """Run both commands here, and return their results."""
    done = [run_in_process(*arguments) for arguments in commands(folder)]
    results = [json.loads(one.stdout) for one in done]
    answers = [results[0]["estimates"], results[1]["sources"]]
    return [
        {"code": one.returncode, "stderr": one.stderr, "answer": answer}
        for one, answer in zip(done, answers, strict=True)
    ]


def run_as(user: str, group: int, folder: Path) -> list[dict]:
    """Run both commands as a user, and return their results."""
    home = folder / user
    home.mkdir()
    os.chown(home, USERS[user], group)
    if not (child := os.fork()):
        code = 1
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(USERS[user])
            os.umask(0o002)
            os.environ["HOME"] = str(home)
            (home / "results.json").write_text(json.dumps(run_all(folder)))
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, f"{user} got no results"
    return json.loads((home / "results.json").read_text())


def entries(cache: Path) -> list[str]:
    """Return the entries of the cache with their times of change."""
    return sorted(f"{path} {path.stat().st_mtime_ns}" for path in cache.rglob("*.safetensors"))


def main() -> None:
    """Let three users share a cache: one fills it, one of the same group uses it, and one may only read it."""
    folder = Path(sys.argv[1])
    os.environ["MODGAP_CACHE"] = str(folder / "scratch")
    alone = run_all(folder)
    cache = folder / "cache"
    cache.mkdir()
    os.chown(cache, 0, GROUP)
    cache.chmod(0o2775)
    os.environ["MODGAP_CACHE"] = str(cache)
    report = {"alone": alone, "ada": run_as("ada", GROUP, folder), "written": entries(cache)}
    report |= {"ben": run_as("ben", GROUP, folder), "read": entries(cache)}
    hidden = min(cache.rglob("*.safetensors"))
    hidden.chmod(0o600)
    report |= {"eve": run_as("eve", STRANGERS, folder), "unchanged": entries(cache), "hidden": str(hidden)}
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
