"""The suite's own settings do what they say."""

import signal
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")

SKIPPING_FILES = {
    "test_mark": "import pytest\n@pytest.mark.skip(reason='no network')\ndef test_it(): pass",
    "test_call": "import pytest\ndef test_it(): pytest.skip('no network')",
    "test_fixture": "import pytest\n@pytest.fixture\ndef net(): pytest.skip('no network')\ndef test_it(net): pass",
    "test_module": "import pytest\npytest.skip('no network', allow_module_level=True)",
}
EXPECTED_FAILURE = "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_it(): assert False"


@pytest.fixture
def inner(pytester, monkeypatch):
    """Return a function that runs test files in a pytest of their own, under this suite's conftest.

    Of all plugins it loads Hypothesis's alone, as others take three quarters of its time.
    """

    def run(files, **environment):
        for name in ("CI", "HYPOTHESIS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
        pytester.makepyfile(**files)
        return pytester.runpytest_subprocess("-p", "hypothesispytest", "--continue-on-collection-errors", "-ra")

    return run


def test_skips_are_errors_in_ci_with_their_reason(inner):
    result = inner(SKIPPING_FILES | {"test_xfail": EXPECTED_FAILURE}, CI="true")
    assert result.parseoutcomes() == {"failed": 1, "errors": 3, "xfailed": 1}  # only test_call skips in its call
    for name in SKIPPING_FILES:
        result.stdout.fnmatch_lines(f"*nothing may be skipped in CI, got {name}.py*no network*")


def test_skips_are_skips_elsewhere(inner):
    result = inner(SKIPPING_FILES | {"test_xfail": EXPECTED_FAILURE})
    assert result.parseoutcomes() == {"skipped": 4, "xfailed": 1}


@pytest.mark.parametrize(
    ("environment", "examples"),
    [
        ({}, 50),
        ({"CI": "true"}, 100),
        ({"HYPOTHESIS_PROFILE": "thorough"}, 100_000),
        ({"HYPOTHESIS_PROFILE": "dev", "CI": "true"}, 50),
    ],
)
def test_profile_is_chosen_by_environment(inner, environment, examples):
    source = f"from hypothesis import settings\ndef test_it(): assert settings.default.max_examples == {examples}"
    assert inner({"test_profile": source}, **environment).parseoutcomes() == {"passed": 1}


CASES = """
import pytest
from hypothesis import given, settings, strategies as st
@pytest.mark.parametrize("case", range(50))
@given(st.just(0))
@settings(max_examples=3)
def test_it(case, x): pass
def test_number(): assert test_it._hypothesis_internal_use_settings.max_examples == EXPECTED
"""


@pytest.mark.parametrize(("profile", "examples"), [("dev", 3), ("thorough", 2000)])
def test_properties_share_the_examples_of_the_thorough_profile_among_their_parameters(inner, profile, examples):
    source = CASES.replace("EXPECTED", str(examples))
    assert inner({"test_cases": source}, HYPOTHESIS_PROFILE=profile).parseoutcomes() == {"passed": 51}


def test_unknown_profile_stops_the_run(inner):
    result = inner({"test_it": "def test_it(): pass"}, HYPOTHESIS_PROFILE="thorogh")
    assert result.ret != pytest.ExitCode.OK
    assert "thorogh" in result.stderr.str()


def test_ctrl_c_is_answered_though_the_suite_was_started_in_the_background(inner):
    """As a shell's ``&`` does it: the suite is started with Ctrl-C ignored, and a test presses it all the same."""
    pressed = "import pytest, signal\ndef test_it():\n    with pytest.raises(KeyboardInterrupt): "
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = inner({"test_press": pressed + "signal.raise_signal(signal.SIGINT)"})
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.parseoutcomes() == {"passed": 1}
