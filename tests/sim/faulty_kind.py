"""A kind of study whose methods misbehave at one sample size, importable by worker processes."""

import os
import signal
import time

import numpy as np

from sim.engine.kinds import Kind
from sim.engine.study import parse_study
from sim.outcomes import Outcome
from theory.checks import check_choice

FAULTY = Kind("tests.sim.faulty_kind:build", "tests.sim.faulty_kind:check", "tests.sim.faulty_kind:estimate", block=10)
FAULT_AT = 20


def _raise():
    raise RuntimeError("a fault\nover two lines")


def _hang():
    """Wait in Python code, which a timeout can interrupt."""
    while True:
        time.sleep(0.01)


def _be_stuck():
    """Wait without an ear for anything but the end of the process."""
    while True:
        try:
            time.sleep(1.0)
        except BaseException:  # noqa: BLE001 -- that is the fault
            continue


def _die():
    """End as a process does that the system kills for lack of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def _die_once(marker):
    """End as a process does that the system kills for lack of memory that others used."""
    if not os.path.exists(marker):
        open(marker, "w").close()
        _die()


FAULTS = {"fine": lambda: None, "raises": _raise, "hangs": _hang, "stuck": _be_stuck, "dies": _die}


class Normal:
    """Means of standard normal samples."""

    def __init__(self, marker):
        self.marker = marker

    def sample(self, n, replicates, rng):
        return rng.standard_normal(replicates) / np.sqrt(n)


def build(settings):
    return Normal(settings.get("marker"))


def check(world, n, method, options):
    check_choice("method", method, {*FAULTS, "dies_once"})


def estimate(world, method, n, replicates, rng, *, label, data):
    if n == FAULT_AT:
        _die_once(world.marker) if method == "dies_once" else FAULTS[method]()
    return Outcome(method, label, np.full(len(data), "ok"), {"error": np.abs(data)}, {"error": 0.0})


def faulty_study(*methods, **settings):
    """Return a study of some methods beside a fine one; the caller registers `FAULTY` under "faulty" before."""
    return parse_study(
        {
            "name": "faulty",
            "kind": "faulty",
            "question": "Does the rest finish?",
            "seed": 1,
            "worlds": [{"name": "normal", **settings}],
            "methods": [{"label": name, "method": name} for name in ("fine", *methods)],
            "profiles": {"quick": {"n": [10, FAULT_AT, 40], "replicates": 10}},
        }
    )
