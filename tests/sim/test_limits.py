"""Steps end in time, in any thread, and leave no alarm behind."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sim.engine.limits import OutOfTime, time_limit


def wait_in_python():
    """Wait in Python code, and swallow what is taken for a fault of one's own."""
    while True:
        try:
            time.sleep(0.001)
        except Exception:  # noqa: BLE001 -- that is the point
            continue


def test_a_blocking_call_of_the_main_thread_is_interrupted():
    with pytest.raises(OutOfTime, match=r"^took longer than 0\.05 s$"), time_limit(0.05):
        time.sleep(60.0)


def test_python_code_of_another_thread_is_interrupted():
    messages = []

    def work():
        try:
            with time_limit(0.05):
                wait_in_python()
        except OutOfTime as stop:
            messages.append(str(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=30.0)
    assert messages == ["took longer than 0.05 s"]


def test_nothing_is_left_of_a_limit_that_was_kept():
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(30.0):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0.0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before


def test_no_limit_sets_no_alarm():
    with time_limit(None):
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("place", ["stuck()", "thread = threading.Thread(target=stuck); thread.start(); thread.join()"])
def test_a_process_that_does_not_listen_ends_with_status_1(place):
    code = f"""
import threading, time
from sim.engine.limits import time_limit
def stuck():
    with time_limit(0.1):
        while True:
            try:
                time.sleep(0.01)
            except BaseException:
                pass
{place}
"""
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 1
