"""Options, values and commands that earlier versions had, and what to write in their place."""

PILOT = "Pass --pilot N, which fine-tunes the first N known sources for ten epochs at three learning rates."
ASSIGNMENT = "Pass --estimator search, which starts from the assignment of the classes by their largest outputs."
REMOVED_OPTIONS: dict[tuple[str, str], str] = {
    ("rank", "--budget"): "Pass fewer sources, or fewer samples with --limit.",
    ("rank", "--minutes"): PILOT,
    ("rank", "--pilot-epochs"): PILOT,
    ("rank", "--history"): "A ranking begins with the known sources of the target's kind, and keeps no history.",
    ("rank", "--backend"): "Pass --jobs 1 for one job after the other, or --address HOST:PORT for a cluster of Dask.",
    ("rank", "--cluster"): "Start workers of Dask with dask-jobqueue, and pass the address of their scheduler to "
    "--address.",
    ("rank", "--shard"): "Start workers of Dask with your scheduler, and pass the address of theirs to --address.",
    ("rank", "--status"): "A running command shows how far it is, and Dask's dashboard shows the jobs of a cluster.",
    ("discrepancy", "--restarts"): "The search anneals once; leave the option out.",
    ("discrepancy", "--bound-seconds"): "The search certifies no lower bound; leave the option out.",
    ("discrepancy", "--subsets"): ASSIGNMENT,
    ("rank", "--cached"): "Run the same command without it: results in the cache are not computed again.",
}
"""What to write in place of an option, by command and option."""
REMOVED_VALUES: dict[tuple[str, str, str], str] = {("discrepancy", "--estimator", "assignment"): ASSIGNMENT}
"""What to write in place of a value, by command, option and value."""
REMOVED_COMMANDS: dict[str, str] = {
    "history": "modgap rank names the known sources of the target's kind instead. Your history folder is left as it "
    "is; the version that made it exports it with modgap history export.",
}
"""What to write in place of a command."""


def removed_option(command: str, option: str) -> str:
    """Return the sentences about a removed option of a command; empty if the command never had it."""
    instead = REMOVED_OPTIONS.get((command, option))
    return f"{option} was removed. {instead}" if instead else ""


def removed_value(command: str, option: str, value: str) -> str:
    """Return the sentences about a removed value of an option; empty if the option never had it."""
    instead = REMOVED_VALUES.get((command, option, value))
    return f"{option} {value} was removed. {instead}" if instead else ""


def removed_command(command: str) -> str:
    """Return the sentences about a removed command; empty if there never was one of this name."""
    instead = REMOVED_COMMANDS.get(command)
    return f"modgap {command} was removed. {instead}" if instead else ""
