"""Wrong kinds of things get an error that states the rule, not a traceback from inside NumPy."""

import numpy as np
import pytest

from sim import build_world

HODGE = {"name": "x", "preference": "hodge", "responses": 3, "options": {"signal": 1.0, "cyclic_share": 0.5}}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hodge", "a world must be a table of settings, got str"),
        ({**HODGE, "options": 3}, "options of world 'x' must be a table, got 3"),
        ({**HODGE, "seed": "a"}, "seed must be an integer, got 'a'"),
        ({**HODGE, "responses": 2.5}, "responses must be an integer, got 2.5"),
        ({**HODGE, "preference": 3}, "preference must be a string"),
    ],
)
def test_bad_worlds(spec, message):
    with pytest.raises(TypeError) as error:
        build_world(spec)
    assert message in str(error.value)


def test_a_generator_is_needed_to_draw():
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator, got NoneType"):
        build_world(HODGE).sample(10, 5, None)


def test_a_seed_is_not_a_generator():
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator, got int"):
        build_world(HODGE).sample(10, 5, np.int64(3).item())
