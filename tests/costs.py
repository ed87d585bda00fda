"""What each file of tests costs: seconds of a processor, of its own process and of those that it waited for.

A plugin of pytest, also with pytest-xdist: `python -m pytest -p tests.costs`. Unlike what `--durations` says, it hardly
depends on what else the machine does. Servers and trainings that are forked count with the test in which they end.
"""

import collections
import os
import resource
from pathlib import Path

import pytest

from tests import forked

SHOWN = 40


def spent():
    """Seconds of a processor that this process and its children have taken."""
    own, children = (resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in (own, children)) + _of_forked()


def _of_forked():
    """Of the process that forks, and of those that it has waited for."""
    pid = forked.started()
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    item.stash[_BEGUN] = spent()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "teardown":
        report.processor_seconds = spent() - item.stash.get(_BEGUN, spent())
    return report


_BEGUN = pytest.StashKey[float]()


def pytest_terminal_summary(terminalreporter):
    by_file = collections.Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            by_file[getattr(report, "nodeid", "").partition("::")[0]] += getattr(report, "processor_seconds", 0.0)
    terminalreporter.section(f"seconds of a processor: {by_file.total():.0f}, of which by file")
    for file, seconds in by_file.most_common(SHOWN):
        terminalreporter.write_line(f"{seconds:8.1f}  {file}")
