"""A limit on the time that a step may take, in any thread, for Python code and for what is stuck below it."""

import ctypes
import faulthandler
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["OutOfTime", "time_limit"]


class OutOfTime(BaseException):
    """Raised in a step that takes too long; no Exception, so that no step takes it for a fault of its own."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise `OutOfTime` in the body when it takes longer; end the process if it then goes on for as long again.

    In the main thread an alarm interrupts Python code and blocking calls, in other threads (as those of Dask's
    workers) Python code. What does not come back to Python is beyond all exceptions: after twice the time and a second
    the process ends, with the stack on stderr, and whoever runs it has to record that.

    Parameters
    ----------
    seconds : float or None
        The limit, greater than 0; None for none.

    Raises
    ------
    OutOfTime
        After `seconds`.

    Examples
    --------
    >>> with time_limit(60.0):
    ...     sum(range(1000))
    499500
    """
    if seconds is None:
        yield
        return
    in_main_thread = threading.current_thread() is threading.main_thread()
    with (_alarm if in_main_thread else _watch)(seconds, f"took longer than {seconds:g} s", 2.0 * seconds + 1.0):
        yield


@contextmanager
def _alarm(seconds: float, message: str, end: float) -> Iterator[None]:
    """Limit a step of the main thread."""

    def stop(number: int, frame: object) -> None:
        raise OutOfTime(message)

    before = signal.signal(signal.SIGALRM, stop)
    faulthandler.dump_traceback_later(end, exit=True)  # runs without Python's lock, which the step may hold
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _watch(seconds: float, message: str, end: float) -> Iterator[None]:
    """Limit a step of another thread."""
    thread, lock, running = threading.get_ident(), threading.Lock(), True

    def stop() -> None:
        with lock:  # a step that has just ended is left alone
            if running:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(OutOfTime))

    timers = threading.Timer(seconds, stop), threading.Timer(end, os._exit, (1,))
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    except OutOfTime as raised:  # the interpreter raised the bare class
        raise OutOfTime(message) from raised
    finally:
        for timer in timers:
            timer.cancel()
        with lock:
            running = False
