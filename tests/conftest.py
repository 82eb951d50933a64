"""Settings of the whole suite: Hypothesis profiles, Ctrl-C that works, and skips that are errors in CI."""

import os
import signal
from collections import Counter
from collections.abc import Generator

import hypothesis
import pytest

# No deadline anywhere: the suite times nothing, since machines differ. `ci` draws the same examples on every run;
# `dev` draws new ones each time and remembers failures; `thorough` is for hunting, and takes hours (make thorough).
hypothesis.settings.register_profile("dev", max_examples=50, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("thorough", max_examples=100_000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

# Tests run on all cores already (pytest-xdist): threads of a test would wait for each other, at several times the CPU.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # or the import of densratio, compiled by it, gives torch all cores

# A shell that starts the suite in the background has Ctrl-C ignored, by us and by every process that we start; some
# tests press it and wait for the answer.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before any are deselected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each property all examples of the thorough profile, divided over its parameters, whatever it asks for."""
    if hypothesis.settings.get_current_profile_name() != "thorough":
        return
    properties = [item.function for item in items if hasattr(item.function, "hypothesis")]
    for test, cases in Counter(properties).items():
        examples = -(-hypothesis.settings.default.max_examples // cases)
        own = test._hypothesis_internal_use_settings  # no public way leads to the settings of a test
        test._hypothesis_internal_use_settings = hypothesis.settings(own, max_examples=examples)


def _fail_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure when CI is set: there, whatever a test needs is installed."""
    if report.outcome == "skipped" and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped in CI, got {report.nodeid} ({reason})"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Check the report of each phase of a test."""
    report = yield
    _fail_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Check the report of each collected module, which `pytest.importorskip` skips as a whole."""
    report = yield
    _fail_skip(report)
    return report
