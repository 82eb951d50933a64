"""Small studies that the tests of the engine run for real."""

import copy

from sim.engine.study import parse_study

_LAWS = {"p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.1, 0.3, 0.6], "alpha": 0.5}

SMALL = {
    "name": "small",
    "kind": "monte_carlo",
    "question": "Does the engine work?",
    "seed": 7,
    "worlds": [
        {"name": "laws", **_LAWS},
        {"name": "other", **_LAWS, "label_fraction": 0.3},
    ],
    "methods": [
        {"label": "rdro", "method": "rdro"},
        # Unpaired data are matched at random for dpo, so it draws from a stream of its own.
        {"label": "dpo", "method": "dpo", "beta": 1.0},
    ],
    "vary": {"alpha": [0.3]},
    # Two blocks of replicates, the second one not full.
    "profiles": {"quick": {"n": [40, 200, 1000], "replicates": 1010}, "smoke": {"n": [40], "replicates": 3}},
}


def small_table(**changes):
    """Return the study's table with some entries replaced; None removes one."""
    table = copy.deepcopy(SMALL) | changes
    return {key: value for key, value in table.items() if value is not None}


def small_study(**changes):
    """Return the study with some entries replaced."""
    return parse_study(small_table(**changes))
