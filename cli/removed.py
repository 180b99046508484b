"""Options and commands that earlier versions had, and what to write in their place."""

REMOVED_OPTIONS: dict[tuple[str, str], str] = {}
"""What to write in place of an option, by command and option."""
REMOVED_COMMANDS: dict[str, str] = {}
"""What to write in place of a command."""


def removed_option(command: str, option: str) -> str:
    """Return the sentences about a removed option of a command; empty if the command never had it."""
    instead = REMOVED_OPTIONS.get((command, option))
    return f"{option} was removed. {instead}" if instead else ""


def removed_command(command: str) -> str:
    """Return the sentences about a removed command; empty if there never was one of this name."""
    instead = REMOVED_COMMANDS.get(command)
    return f"modgap {command} was removed. {instead}" if instead else ""
