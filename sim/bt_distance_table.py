"""The distances from Bradley-Terry of preference models and of real votes, as the table of an exact study."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sim.bt_distance import BTDistance, BTTest, bt_distance, bt_test
from sim.preferences.arguments import check_integer
from sim.real_data import ARENA_MINIMUM, observed_counts
from sim.worlds import World, build_world
from theory.checks import check_choice

__all__ = ["bt_distances"]

_QUANTITIES = ("size", "shape", "weak", "moderate", "strong")
_VOTE_KEYS = ("name", "source", "min_decisive")


def bt_distances(
    *,
    worlds: Sequence[Mapping[str, Any]],
    votes: Sequence[Mapping[str, Any]] = (),
    replicates: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Tabulate size, shape and order of the distance from Bradley-Terry: of models exactly, of votes beside a null.

    Models are measured on their win probabilities, with pairs weighed as their base policy draws them. Votes are
    measured on their observed shares, with pairs weighed by their number of comparisons. Sampling noise adds to each
    number of the votes, so that each has the central 95 % and the mean of tables drawn from the fitted Bradley-Terry
    model beside it (`sim.bt_distance.bt_test`). Without noise all five numbers of a Bradley-Terry model are 0.

    Parameters
    ----------
    worlds : sequence of mapping
        Settings of worlds of one prompt, as of `sim.build_world`, whose preference models compare pairs.
    votes : sequence of mapping
        Observed comparisons: ``name``, ``source`` ("arena" or the path of a CSV file) and ``min_decisive`` (decisive
        votes per pair of the dense core, default 200).
    replicates : int
        Bootstrap tables of each null, at least 1.
    seed : int
        Seed of the nulls, at least 0; each table of votes has a stream of its own.

    Returns
    -------
    DataFrame
        Five rows for each world and each table of votes, with the columns world, preference (key of
        `sim.PREFERENCE_MODELS`), items, comparisons (0 where probabilities are exact), quantity ("size" in nats per
        comparison, "shape", "weak", "moderate" or "strong", shares in [0, 1]), value, null_mean, null_low, null_high
        (0 where probabilities are exact), replicates (0 likewise) and p_value (of the likelihood-ratio test of
        Bradley-Terry, on all rows of the votes; NaN where probabilities are exact).

    Raises
    ------
    ValueError, TypeError
        If there is neither a world nor votes, two have one name, a world or a source is not valid, a world has several
        prompts or no pairs, or `replicates` or `seed` is out of range.
    ImportError
        If the Arena counts are asked for and the optional package that carries them is missing.

    References
    ----------
    .. [1] `sim.bt_distance`: size derived here, shape and order after the works cited there.

    Examples
    --------
    >>> cycle = {"name": "cycle", "preference": "rock_paper_scissors", "options": {"signal": 1.0}, "responses": 3}
    >>> table = bt_distances(worlds=[cycle])
    >>> table[["quantity", "value"]].round(3).to_dict("list")["value"]
    [0.111, 1.0, 1.0, 1.0, 1.0]
    """
    check_integer("replicates", replicates, 1)
    check_integer("seed", seed, 0)
    _check_names([*worlds, *votes])
    for spec in votes:
        for key in spec:
            check_choice("key of votes", key, _VOTE_KEYS)
    frames = [_exact_rows(build_world(spec), spec["preference"]) for spec in worlds]
    streams = np.random.SeedSequence(seed).spawn(len(votes))
    frames += [
        _vote_rows(spec, replicates, np.random.default_rng(stream)) for spec, stream in zip(votes, streams, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


def _check_names(specs: Sequence[Mapping[str, Any]]) -> None:
    """Raise unless there are worlds or votes, each with a name of its own and worlds with a preference model."""
    if not specs:
        raise ValueError("worlds and votes must hold at least one table, got none")
    for spec in specs:
        if not isinstance(spec, Mapping):
            raise TypeError(f"worlds and votes must be tables of settings, got {spec!r}")
    names = [spec.get("name") for spec in specs]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ValueError(f"worlds and votes must have different names, got {repeated[0]!r} twice")
    for spec in specs:
        if "source" not in spec and "preference" not in spec:
            raise ValueError(
                f"each world must have a preference and votes a source, got neither in {spec.get('name')!r}"
            )


def _exact_rows(world: World, preference: str) -> pd.DataFrame:
    """Return the rows of a world, whose probabilities are known exactly."""
    pairs = world.problem.pair_probs
    if world.preference is None or world.regime != "paired":
        raise ValueError(f"a world must compare pairs to have a distance from Bradley-Terry, got {world.name!r}")
    if len(pairs) != 1:
        raise ValueError(f"a world must have one prompt to have one distance, got {len(pairs)} in {world.name!r}")
    # Both orders of a pair together: how often the base policy draws it.
    distance = bt_distance(world.preference[0], pairs[0] + pairs[0].T)
    keys = {"world": world.name, "preference": preference, "items": pairs.shape[1], "comparisons": 0}
    nothing = {"null_mean": 0.0, "null_low": 0.0, "null_high": 0.0, "replicates": 0, "p_value": np.nan}
    return pd.DataFrame([{**keys, "quantity": q, "value": getattr(distance, q), **nothing} for q in _QUANTITIES])


def _vote_rows(spec: Mapping[str, Any], replicates: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return the rows of observed comparisons, with their null."""
    observed = observed_counts(spec["source"], spec.get("min_decisive", ARENA_MINIMUM))
    test = bt_test(observed.wins, replicates, rng, observed.names)
    keys = {
        "world": spec["name"],
        "preference": "from_counts",
        "items": len(observed.names),
        "comparisons": observed.total,
    }
    return pd.DataFrame(
        [
            {**keys, "quantity": q, "value": getattr(test.observed, q), **_null(test.null, q), **_evidence(test)}
            for q in _QUANTITIES
        ]
    )


def _null(null: BTDistance, quantity: str) -> dict[str, float]:
    """Return mean and central 95 % of one number under Bradley-Terry."""
    values = np.asarray(getattr(null, quantity))
    low, high = np.quantile(values, [0.025, 0.975])
    return {"null_mean": values.mean(), "null_low": low, "null_high": high}


def _evidence(test: BTTest) -> dict[str, float]:
    """Return how many replicates made the null, and the p-value."""
    return {"replicates": len(test.null_statistic) + test.failed, "p_value": test.p_value}
