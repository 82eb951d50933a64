"""Worlds: prompts, a base policy, a preference model and a regime, as an exact problem and a sampler of counts.

Tabular estimators depend on a data set only through its counts, so the samplers draw the counts directly: a replicate
of 10^9 examples costs what one of 10^3 does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.preferences import PREFERENCE_MODELS, PairwisePreference, ThumbsPreference, build_preference
from sim.preferences.arguments import IntArray, check_integer, check_rng
from sim.real_data import WinCounts, dense_core, load_arena, read_comparisons_csv
from theory import FiniteProblem
from theory.checks import FloatArray, check_choice, check_probabilities

__all__ = ["Counts", "World", "build_world", "match_pairs", "observed_counts"]

REGIMES = ("paired", "unpaired")
_KEYS = (
    "name",
    "preference",
    "options",
    "seed",
    "prompts",
    "responses",
    "base",
    "p_preferred",
    "p_nonpreferred",
    "alpha",
    "regime",
    "label_fraction",
    "reference",
    "prompt_probs",
)
_DEFAULT_SEED = 20260404
# NumPy's hypergeometric sampler accepts populations below this size.
_LARGEST_POPULATION = 10**9


@dataclass(frozen=True, eq=False)
class Counts:
    """Data sets of a world, reduced to counts.

    Attributes
    ----------
    preferred, nonpreferred : ndarray of int64
        How often each response occurs in each class, shape (replicates, prompts, responses).
    pairs : ndarray of int64 or None
        How often response i was chosen over j, shape (replicates, prompts, responses, responses); None where the
        data are unpaired.
    """

    preferred: IntArray
    nonpreferred: IntArray
    pairs: IntArray | None = None


@dataclass(frozen=True, eq=False)
class World:
    """A data-generating law with its exact problem.

    Parameters
    ----------
    name : str
        Name in tables and figures.
    problem : FiniteProblem
        The laws, reference and prompt law.
    regime : {"paired", "unpaired"}
        Whether examples come as the two members of compared pairs, or one by one.
    label_fraction : ndarray
        Share of preferred examples at each prompt, in (0, 1), shape (prompts,); 1/2 in the paired regime.

    Examples
    --------
    >>> problem = FiniteProblem([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], alpha=0.5)
    >>> world = World("toy", problem, "unpaired", problem.alpha)
    >>> world.sample(10**9, 2, np.random.default_rng(0)).preferred.shape
    (2, 1, 3)
    """

    name: str
    problem: FiniteProblem
    regime: str
    label_fraction: FloatArray

    def sample(self, n: int, replicates: int, rng: np.random.Generator) -> Counts:
        """Draw the counts of independent data sets.

        Parameters
        ----------
        n : int
            Labelled examples in each data set, at least 1; even in the paired regime, where they are n/2 pairs.
        replicates : int
            Number of data sets, at least 1.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        Counts
            With pairs in the paired regime.

        Raises
        ------
        ValueError
            If n or replicates is not a positive integer, or n is odd in the paired regime.
        """
        check_integer("n", n, 1)
        check_integer("replicates", replicates, 1)
        check_rng(rng)
        problem = self.problem
        shape = problem.p_preferred.shape
        if self.regime == "paired":
            if n % 2:
                raise ValueError(f"n must be even in the paired regime, where examples come in pairs, got {n}")
            law = problem.prompt_probs[:, None, None] * problem.pair_probs
            pairs = rng.multinomial(n // 2, _normalised(law), size=replicates).reshape(replicates, *law.shape)
            return Counts(pairs.sum(axis=3), pairs.sum(axis=2), pairs)
        preferred = (problem.prompt_probs * self.label_fraction)[:, None] * problem.p_preferred
        nonpreferred = (problem.prompt_probs * (1.0 - self.label_fraction))[:, None] * problem.p_nonpreferred
        law = np.stack([preferred, nonpreferred])
        drawn = rng.multinomial(n, _normalised(law), size=replicates).reshape(replicates, 2, *shape)
        return Counts(drawn[:, 0], drawn[:, 1])


def build_world(spec: Mapping[str, Any]) -> World:
    """Build a world from a table of settings, as studies hold them.

    Parameters
    ----------
    spec : mapping
        ``name``; then either ``preference`` (a key of `sim.preferences.PREFERENCE_MODELS`) with its table of
        ``options``, ``responses``, ``prompts`` and ``seed`` (of the random model, default 20260404) and ``base``
        (base policy mu, default uniform), or the laws ``p_preferred`` and ``p_nonpreferred`` with ``alpha``. Optional:
        ``regime`` ("paired" or "unpaired"; default that of the preference model, and unpaired for given laws),
        ``label_fraction`` (unpaired; default alpha), ``reference`` ("mixture", "base" or a policy; default
        "mixture"), ``prompt_probs`` (default uniform). The options of from_counts are ``source = "arena"`` or
        ``csv = FILE``, and ``min_decisive`` (decisive votes per pair in the dense core).

    Returns
    -------
    World
        The world, with its exact problem.

    Raises
    ------
    ValueError
        If a key is unknown (the nearest is named), a setting is missing or out of range, or settings contradict.
    ImportError
        If the Arena counts are asked for and the optional package that carries them is missing.

    Examples
    --------
    >>> spec = {
    ...     "name": "cycles",
    ...     "preference": "hodge",
    ...     "options": {"cyclic_share": 0.5, "signal": 1.0},
    ...     "responses": 6,
    ... }
    >>> build_world(spec).problem.assumption_m_holds
    True
    """
    if not isinstance(spec, Mapping):
        raise TypeError(f"a world must be a table of settings, got {type(spec).__name__}")
    for key in spec:
        check_choice("key of a world", key, _KEYS)
    name = spec.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"a world must have a name, got {name!r}")
    by_model, by_laws = "preference" in spec, "p_preferred" in spec or "p_nonpreferred" in spec
    if by_model == by_laws:
        raise ValueError(
            f"world {name!r} must have either a preference model or the laws p_preferred and p_nonpreferred, got "
            f"{'both' if by_model else 'neither'}"
        )
    return _world_of_model(name, spec) if by_model else _world_of_laws(name, spec)


def match_pairs(counts: Counts, rng: np.random.Generator) -> IntArray:
    """Match preferred and non-preferred examples of each prompt at random, for methods that need pairs.

    Every example of the smaller class gets a partner of the other class, without replacement; the rest is left over.
    Any such pairing of independent draws is exactly Bradley-Terry with scores ``log(p+/p-)``.

    Parameters
    ----------
    counts : Counts
        Unpaired counts.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of int64
        Counts of (chosen, rejected), shape (replicates, prompts, responses, responses).

    Raises
    ------
    ValueError
        If a class has 10^9 examples or more at a prompt, beyond NumPy's hypergeometric sampler.

    Examples
    --------
    >>> counts = Counts(np.array([[[3, 1]]]), np.array([[[2, 5]]]))
    >>> match_pairs(counts, np.random.default_rng(0)).sum()
    np.int64(4)
    """
    totals = counts.preferred.sum(axis=-1), counts.nonpreferred.sum(axis=-1)
    largest = int(max(total.max() for total in totals))
    if largest >= _LARGEST_POPULATION:
        raise ValueError(f"random matching needs fewer than 10^9 examples of a class at a prompt, got {largest}")
    # The smaller class is dealt partners from the larger one, response by response.
    swap = (totals[0] > totals[1])[..., None]
    smaller = np.where(swap, counts.nonpreferred, counts.preferred)
    rest = np.where(swap, counts.preferred, counts.nonpreferred).copy()
    responses = rest.shape[-1]
    table = np.zeros((*rest.shape, responses), dtype=np.int64)
    for i in range(responses):
        wanted = smaller[..., i].copy()
        for j in range(responses):
            others = rest[..., j + 1 :].sum(axis=-1)
            drawn = rng.hypergeometric(rest[..., j], others, wanted) if j + 1 < responses else wanted
            table[..., i, j] = drawn
            rest[..., j] -= drawn
            wanted = wanted - drawn
    return np.where(swap[..., None], np.swapaxes(table, -1, -2), table)


def _world_of_model(name: str, spec: Mapping[str, Any]) -> World:
    """Build a world around a preference model."""
    if "alpha" in spec:
        raise ValueError(f"alpha of world {name!r} follows from its preference model, got {spec['alpha']!r}")
    entry = PREFERENCE_MODELS[check_choice("preference", spec["preference"], PREFERENCE_MODELS)]
    options = spec.get("options", {})
    if not isinstance(options, Mapping):
        raise TypeError(f"options of world {name!r} must be a table, got {options!r}")
    if spec["preference"] == "from_counts":
        options = _counts_options(name, options)
    rng = np.random.default_rng(check_integer("seed", spec.get("seed", _DEFAULT_SEED), 0))
    model = build_preference(
        spec["preference"], options, responses=spec.get("responses"), prompts=spec.get("prompts"), rng=rng
    )
    shape = (model.prompts, model.responses)
    base = np.full(shape, 1.0 / shape[1]) if "base" not in spec else _policy("base", spec["base"], shape)
    regime = check_choice("regime", spec.get("regime", entry.regime), REGIMES)
    if isinstance(model, ThumbsPreference):
        if regime == "paired":
            raise ValueError(f"regime of world {name!r} must be unpaired for thumbs, got paired")
        laws = model.class_laws(base)
        # Prompts whose labels are reported more often occur more often in the data.
        shown = check_probabilities("prompt_probs", spec.get("prompt_probs", np.full(shape[0], 1.0 / shape[0])))
        reported = shown * laws.reported
        spec = {**spec, "prompt_probs": reported / reported.sum()}
        return _world(name, spec, regime, base, laws.p_preferred, laws.p_nonpreferred, laws.alpha, None)
    assert isinstance(model, PairwisePreference)
    pairs = model.pair_law(base)
    preferred, nonpreferred = pairs.sum(axis=2), pairs.sum(axis=1)
    joint = pairs if regime == "paired" else None
    return _world(name, spec, regime, base, preferred, nonpreferred, np.full(shape[0], 0.5), joint)


def _world_of_laws(name: str, spec: Mapping[str, Any]) -> World:
    """Build a world from its two class laws."""
    for key in ("p_preferred", "p_nonpreferred", "alpha"):
        if key not in spec:
            raise ValueError(f"world {name!r} must have p_preferred, p_nonpreferred and alpha, got no {key}")
    surplus = [key for key in ("options", "seed", "prompts", "responses") if key in spec]
    if surplus:
        raise ValueError(f"{surplus[0]} goes with a preference model, got it for the given laws of world {name!r}")
    regime = check_choice("regime", spec.get("regime", "unpaired"), REGIMES)
    preferred = np.atleast_2d(check_probabilities("p_preferred", spec["p_preferred"]))
    base = _policy("base", spec["base"], preferred.shape) if "base" in spec else None
    alpha = spec["alpha"]
    if regime == "paired" and np.any(np.asarray(alpha) != 0.5):
        raise ValueError(f"alpha must be 1/2 in the paired regime, got {alpha!r}")
    return _world(name, spec, regime, base, preferred, spec["p_nonpreferred"], alpha, None)


def _world(
    name: str,
    spec: Mapping[str, Any],
    regime: str,
    base: FloatArray | None,
    preferred: FloatArray,
    nonpreferred: FloatArray,
    alpha: Any,
    pairs: FloatArray | None,
) -> World:
    """Finish a world: reference, prompt law and label fraction."""
    reference = spec.get("reference", "mixture")
    if isinstance(reference, str):
        check_choice("reference", reference, ("mixture", "base"))
        if reference == "base" and base is None:
            raise ValueError(f"reference of world {name!r} is base, got no base policy")
        reference = base if reference == "base" else None
    problem = FiniteProblem(preferred, nonpreferred, reference, spec.get("prompt_probs"), alpha=alpha, pair_probs=pairs)
    if regime == "paired" and "label_fraction" in spec:
        raise ValueError(f"label_fraction is 1/2 in the paired regime, got {spec['label_fraction']!r}")
    fraction = np.asarray(spec.get("label_fraction", problem.alpha), dtype=float)
    if not np.all((fraction > 0) & (fraction < 1)):
        raise ValueError(f"label_fraction must lie strictly between 0 and 1, got {spec['label_fraction']!r}")
    if fraction.ndim > 1 or fraction.size not in (1, problem.prompts):
        raise ValueError(f"label_fraction must be one number or one per prompt, got shape {fraction.shape}")
    return World(name, problem, regime, np.broadcast_to(fraction, problem.prompts))


def observed_counts(source: str, min_decisive: int | None = None) -> WinCounts:
    """Read observed comparisons, and cut them to a dense core on request.

    Parameters
    ----------
    source : str
        "arena" for the Chatbot Arena counts of the optional package leaderbot, else the path of a CSV file.
    min_decisive : int, optional
        Decisive comparisons that every pair of the core must have, at least 1; default no cut.

    Returns
    -------
    WinCounts
        Names and win counts.

    Raises
    ------
    ValueError
        If there is no such file, it is malformed (row and column are named), or no core of two items is left.
    ImportError
        If the optional package is missing.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "wins.csv"
    >>> _ = path.write_text("winner,loser,count" + chr(10) + "a,b,3" + chr(10) + "b,a,1")
    >>> observed_counts(str(path)).total
    4
    """
    if source != "arena" and not Path(source).is_file():
        raise ValueError(f'comparisons must come from "arena" or an existing CSV file, got {source!r}')
    observed = load_arena() if source == "arena" else read_comparisons_csv(source)
    if min_decisive is None:
        return observed
    return observed.restrict(dense_core(observed.wins, observed.names, min_decisive))


def _counts_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts that from_counts needs: the Arena's or a CSV file's, or those given."""
    for key in options:
        check_choice("option of from_counts", key, ("source", "csv", "min_decisive", "counts", "names"))
    if "counts" in options:
        return dict(options)
    if ("source" in options) == ("csv" in options):
        raise ValueError(f'world {name!r} must have one of source = "arena" and csv = FILE, got {dict(options)!r}')
    source = options["csv"] if "csv" in options else check_choice("source", options["source"], ("arena",))
    observed = observed_counts(source, options.get("min_decisive"))
    return {"counts": observed.wins, "names": observed.names}


def _policy(key: str, values: Any, shape: tuple[int, int]) -> FloatArray:
    """Return a policy of the given shape, or raise."""
    policy = np.atleast_2d(check_probabilities(key, values))
    if policy.shape != shape:
        raise ValueError(f"{key} must have shape {shape}, got {policy.shape}")
    return policy


def _normalised(law: FloatArray) -> FloatArray:
    """Return a flat law that sums to one up to a last rounding, as NumPy's multinomial sampler demands."""
    flat = law.ravel()
    return flat / flat.sum()
