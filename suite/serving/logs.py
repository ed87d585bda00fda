"""The server's log, for a terminal and for programs that read it line by line."""

import copy
import logging
from pathlib import Path

from suite.errors import escaped, shown_on_a_line


class LineFormatter(logging.Formatter):
    """Shows names of files, bundles and requests on one line each: control characters as their escapes, so that none of
    them moves a cursor or begins a line of its own, and long ones cut."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.args, tuple):
            record = copy.copy(record)
            record.args = tuple(_shown(value) for value in record.args or ())
        return escaped(super().format(record))


def _shown(value: object) -> object:
    return shown_on_a_line(str(value)) if isinstance(value, str | Path) else value
