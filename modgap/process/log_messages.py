"""Messages of the log that are left out within a block."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_messages_from(level: int) -> Iterator[None]:
    """Log messages of at least a level within a block, whose other messages are not those of what needs its results.

    Other threads, such as the one that says how far a command is, log all of their messages.
    """
    log, thread = logging.getLogger("modgap"), threading.get_ident()

    def is_shown(record: logging.LogRecord) -> bool:
        return record.levelno >= level or record.thread != thread

    # It comes first, so that other filters do not know messages that nobody has seen.
    log.filters.insert(0, is_shown)
    try:
        yield
    finally:
        log.removeFilter(is_shown)


@contextmanager
def each_message_once(path: str, name: str) -> Iterator[None]:
    """Log each message once within a block, whose jobs read the same target again.

    Args:
        path: Absolute path of the target, which takes the place of its name in messages of jobs.
        name: Name of the target.
    """
    log, logged = logging.getLogger("modgap"), set[str]()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage().replace(path, name)
        is_repeated = message in logged
        logged.add(message)
        return not is_repeated

    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)
