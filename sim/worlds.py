"""Worlds: prompts, a base policy, a preference model and a regime, as an exact problem and a sampler of counts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim.annotators import Annotators, average_preference
from sim.disturbances import check_noise, flip_labels, perturb_policy, thin_overlap
from sim.preferences import PREFERENCE_MODELS, PairwisePreference, ThumbsPreference, build_preference
from sim.preferences.arguments import check_integer, check_rng
from sim.real_data import observed_counts
from sim.sampling import Counts, draw_examples, draw_pairs
from theory import FiniteProblem
from theory.checks import FloatArray, check_choice, check_probabilities

__all__ = ["World", "build_world"]

REGIMES = ("paired", "unpaired")
REFERENCES = ("mixture", "base", "perturbed")
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
    "overlap",
    "alpha",
    "regime",
    "label_fraction",
    "label_noise",
    "annotators",
    "annotator_spread",
    "reference",
    "reference_error",
    "prompt_probs",
    "features",
    "well_specified",
)
_DEFAULT_SEED = 20260404
# Streams of a world's seed, beside that of its preference model.
_REFERENCE_STREAM, _FEATURE_STREAM = 1, 2


@dataclass(frozen=True, eq=False)
class World:
    """A data-generating law with its exact problem.

    Parameters
    ----------
    name : str
        Name in tables and figures.
    problem : FiniteProblem
        The laws of the data, with label noise if there is any, the reference and the prompt law.
    regime : {"paired", "unpaired"}
        Whether examples come as the two members of compared pairs, or one by one.
    label_fraction : ndarray
        Share of preferred examples at each prompt, in (0, 1), shape (prompts,); 1/2 in the paired regime.
    estimand : ndarray, optional
        The policy that errors are measured against, shape (prompts, responses): p+ of clean labels, fully reported.
        Default the p+ of `problem`.
    preference : ndarray, optional
        Clean win probabilities, shape (prompts, responses, responses), by which win rates and Nash gaps of policies
        are told; None where single responses are labelled.
    features : ndarray, optional
        Features of log-linear policies ``p_theta ~ p_ref exp(features @ theta)``, shape (prompts, responses, d);
        None for tabular policies.
    annotators : Annotators, optional
        The pool that labels each data set; None where examples are independent.

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
    estimand: FloatArray = field(default=None)  # type: ignore[assignment]  # filled in below
    preference: FloatArray | None = None
    features: FloatArray | None = None
    annotators: Annotators | None = None

    def __post_init__(self) -> None:
        """Take the p+ of the data for the estimand unless another one is given."""
        if self.estimand is None:
            object.__setattr__(self, "estimand", self.problem.p_preferred)

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
        problem, paired = self.problem, self.regime == "paired"
        if paired and n % 2:
            raise ValueError(f"n must be even in the paired regime, where examples come in pairs, got {n}")
        units = n // 2 if paired else n
        if self.annotators is not None:
            return self.annotators.sample(units, replicates, rng)
        if paired:
            return draw_pairs(units, replicates, problem.prompt_probs[:, None, None] * problem.pair_probs, rng)
        share = problem.prompt_probs * np.stack([self.label_fraction, 1.0 - self.label_fraction])
        law = share[:, :, None] * np.stack([problem.p_preferred, problem.p_nonpreferred])
        return draw_examples(units, replicates, law, rng)


def build_world(spec: Mapping[str, Any]) -> World:
    """Build a world from a table of settings, as studies hold them.

    Parameters
    ----------
    spec : mapping
        ``name``; then either ``preference`` (a key of `sim.preferences.PREFERENCE_MODELS`) with its table of
        ``options``, ``responses``, ``prompts`` and ``seed`` (of the random model, default 20260404) and ``base``
        (base policy mu, default uniform), or the laws ``p_preferred`` and ``p_nonpreferred`` with ``alpha`` and
        ``overlap`` (`sim.disturbances.thin_overlap`, default 1). Optional: ``regime`` ("paired" or "unpaired"; default
        that of the preference model, and unpaired for given laws), ``label_fraction`` (unpaired; default alpha),
        ``label_noise`` (probability of a flipped label, in [0, 1/2)), ``annotators`` and ``annotator_spread`` (see
        `sim.annotators.Annotators`), ``reference`` ("mixture", "base", "perturbed" with its ``reference_error``, see
        `sim.disturbances.perturb_policy`, or a policy; default "mixture"), ``prompt_probs`` (default uniform),
        ``features`` (dimension d of log-linear policies, Gaussian features) and ``well_specified`` (true: the first
        feature is ``log(p+ / p_ref)``, so that the estimand is such a policy). The options of from_counts are
        ``source = "arena"`` or ``csv = FILE``, ``min_decisive`` (decisive votes per pair of the core) and ``fit``.

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


def _world_of_model(name: str, spec: Mapping[str, Any]) -> World:
    """Build a world around a preference model."""
    for key in ("alpha", "overlap"):
        if key in spec:
            raise ValueError(f"{key} of world {name!r} follows from its preference model, got {spec[key]!r}")
    entry = PREFERENCE_MODELS[check_choice("preference", spec["preference"], PREFERENCE_MODELS)]
    options = spec.get("options", {})
    if not isinstance(options, Mapping):
        raise TypeError(f"options of world {name!r} must be a table, got {options!r}")
    if spec["preference"] == "from_counts":
        options = _counts_options(name, options)
    clean = build_preference(
        spec["preference"],
        options,
        responses=spec.get("responses"),
        prompts=spec.get("prompts"),
        rng=np.random.default_rng(_seed(spec)),
    )
    shape = (clean.prompts, clean.responses)
    base = np.full(shape, 1.0 / shape[1]) if "base" not in spec else _policy("base", spec["base"], shape)
    regime = check_choice("regime", spec.get("regime", entry.regime), REGIMES)
    spread = spec.get("annotator_spread", 0.0)
    model = average_preference(clean, spread) if "annotators" in spec else clean
    if isinstance(model, ThumbsPreference):
        if regime == "paired":
            raise ValueError(f"regime of world {name!r} must be unpaired for thumbs, got paired")
        if "annotators" in spec and not (np.all(model.report_up == 1.0) and np.all(model.report_down == 1.0)):
            raise ValueError(f"annotators of world {name!r} must report all labels, got report_up or report_down")
        laws = model.class_laws(base)
        everything = ThumbsPreference(model.name, model.label_probabilities)
        # Prompts whose labels are reported more often occur more often in the data.
        shown = check_probabilities("prompt_probs", spec.get("prompt_probs", np.full(shape[0], 1.0 / shape[0])))
        reported = shown * laws.reported
        spec = {**spec, "prompt_probs": reported / reported.sum()}
        estimand = everything.class_laws(base).p_preferred
        problem = _Laws(laws.p_preferred, laws.p_nonpreferred, laws.alpha, None, estimand, None)
    else:
        pairs = model.pair_law(base)
        preferred, nonpreferred = pairs.sum(axis=2), pairs.sum(axis=1)
        joint = pairs if regime == "paired" else None
        problem = _Laws(preferred, nonpreferred, np.full(shape[0], 0.5), joint, preferred, model.probabilities)
    return _world(name, spec, regime, base, problem, clean)


def _world_of_laws(name: str, spec: Mapping[str, Any]) -> World:
    """Build a world from its two class laws."""
    for key in ("p_preferred", "p_nonpreferred", "alpha"):
        if key not in spec:
            raise ValueError(f"world {name!r} must have p_preferred, p_nonpreferred and alpha, got no {key}")
    model_keys = ("options", "prompts", "responses", "annotators", "annotator_spread")
    surplus = [key for key in model_keys if key in spec]
    if surplus:
        raise ValueError(f"{surplus[0]} goes with a preference model, got it for the given laws of world {name!r}")
    regime = check_choice("regime", spec.get("regime", "unpaired"), REGIMES)
    preferred = np.atleast_2d(check_probabilities("p_preferred", spec["p_preferred"]))
    nonpreferred = _policy("p_nonpreferred", spec["p_nonpreferred"], preferred.shape)
    if "overlap" in spec:
        nonpreferred = thin_overlap(preferred, nonpreferred, spec["overlap"])
    base = _policy("base", spec["base"], preferred.shape) if "base" in spec else None
    alpha = spec["alpha"]
    if regime == "paired" and np.any(np.asarray(alpha) != 0.5):
        raise ValueError(f"alpha must be 1/2 in the paired regime, got {alpha!r}")
    return _world(name, spec, regime, base, _Laws(preferred, nonpreferred, alpha, None, preferred, None), None)


@dataclass(frozen=True, eq=False)
class _Laws:
    """Clean laws of a world, before label noise."""

    preferred: FloatArray
    nonpreferred: FloatArray
    alpha: Any
    pairs: FloatArray | None
    estimand: FloatArray
    preference: FloatArray | None


def _world(
    name: str,
    spec: Mapping[str, Any],
    regime: str,
    base: FloatArray | None,
    laws: _Laws,
    tastes_of: PairwisePreference | ThumbsPreference | None,
) -> World:
    """Finish a world: label fraction, noise, reference, prompt law, features and annotators."""
    clean = FiniteProblem(laws.preferred, laws.nonpreferred, None, spec.get("prompt_probs"), alpha=laws.alpha)
    fraction = _label_fraction(name, spec, regime, clean)
    noise = spec.get("label_noise", 0.0)
    check_noise(noise)
    noisy = flip_labels(clean.p_preferred, clean.p_nonpreferred, clean.alpha, fraction, noise)
    pairs = None if laws.pairs is None else (1.0 - noise) * laws.pairs + noise * laws.pairs.swapaxes(1, 2)
    problem = FiniteProblem(
        noisy.p_preferred,
        noisy.p_nonpreferred,
        _reference(name, spec, base, clean),
        spec.get("prompt_probs"),
        alpha=noisy.alpha,
        pair_probs=pairs,
    )
    annotators = None
    if "annotators" in spec:
        annotators = Annotators(
            spec["annotators"],
            spec.get("annotator_spread", 0.0),
            tastes_of,
            base,
            problem.prompt_probs,
            paired=regime == "paired",
            label_fraction=fraction if "label_fraction" in spec else None,
            label_noise=noise,
        )
    elif "annotator_spread" in spec:
        raise ValueError(f"annotator_spread of world {name!r} goes with annotators, got no number of them")
    features = _features(name, spec, laws.estimand, problem.reference)
    return World(name, problem, regime, noisy.label_fraction, laws.estimand, laws.preference, features, annotators)


def _label_fraction(name: str, spec: Mapping[str, Any], regime: str, clean: FiniteProblem) -> FloatArray:
    """Return the share of preferred examples at each prompt, before label noise."""
    if regime == "paired" and "label_fraction" in spec:
        raise ValueError(f"label_fraction is 1/2 in the paired regime, got {spec['label_fraction']!r}")
    fraction = np.asarray(spec.get("label_fraction", clean.alpha), dtype=float)
    if not np.all((fraction > 0) & (fraction < 1)):
        raise ValueError(f"label_fraction must lie strictly between 0 and 1, got {spec['label_fraction']!r}")
    if fraction.ndim > 1 or fraction.size not in (1, clean.prompts):
        raise ValueError(f"label_fraction must be one number or one per prompt, got shape {fraction.shape}")
    return np.broadcast_to(fraction, clean.prompts)


def _reference(name: str, spec: Mapping[str, Any], base: FloatArray | None, clean: FiniteProblem) -> FloatArray | None:
    """Return the reference policy; None for the mixture."""
    reference = spec.get("reference", "mixture")
    if ("reference_error" in spec) != (reference == "perturbed" if isinstance(reference, str) else False):
        given = f"reference {reference!r}" if "reference_error" in spec else "no reference_error"
        raise ValueError(f'reference = "perturbed" and reference_error of world {name!r} go together, got {given}')
    if not isinstance(reference, str):
        return _policy("reference", reference, clean.mixture.shape)
    check_choice("reference", reference, REFERENCES)
    if reference == "base" and base is None:
        raise ValueError(f"reference of world {name!r} is base, got no base policy")
    if reference == "perturbed":
        rng = np.random.default_rng([_seed(spec), _REFERENCE_STREAM])
        return perturb_policy(clean.mixture, spec["reference_error"], rng)
    return base if reference == "base" else None


def _features(name: str, spec: Mapping[str, Any], estimand: FloatArray, reference: FloatArray) -> FloatArray | None:
    """Return Gaussian features, the first one replaced by ``log(p+ / p_ref)`` in a well-specified world."""
    well_specified = spec.get("well_specified", False)
    if not isinstance(well_specified, bool):
        raise TypeError(f"well_specified must be true or false, got {well_specified!r}")
    if "features" not in spec:
        if well_specified:
            raise ValueError(f"well_specified of world {name!r} goes with features, got no number of them")
        return None
    dimension = check_integer("features", spec["features"], 1)
    rng = np.random.default_rng([_seed(spec), _FEATURE_STREAM])
    # The feature is the first axis of the draw: worlds of growing d share their first features.
    features = np.moveaxis(rng.standard_normal((dimension, *estimand.shape)), 0, 2)
    if well_specified:
        if np.any(estimand <= 0):
            raise ValueError(f"well_specified of world {name!r} needs p+ > 0 everywhere, got a response without mass")
        features[:, :, 0] = np.log(estimand) - np.log(reference)
    return features


def _counts_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts that from_counts needs: the Arena's or a CSV file's, or those given."""
    for key in options:
        check_choice("option of from_counts", key, ("source", "csv", "min_decisive", "fit", "counts", "names"))
    if "counts" in options:
        return dict(options)
    if ("source" in options) == ("csv" in options):
        raise ValueError(f'world {name!r} must have one of source = "arena" and csv = FILE, got {dict(options)!r}')
    source = options["csv"] if "csv" in options else check_choice("source", options["source"], ("arena",))
    observed = observed_counts(source, options.get("min_decisive"))
    return {"counts": observed.wins, "names": observed.names} | {k: options[k] for k in ("fit",) if k in options}


def _seed(spec: Mapping[str, Any]) -> int:
    """Return the seed of a world's random parts."""
    return check_integer("seed", spec.get("seed", _DEFAULT_SEED), 0)


def _policy(key: str, values: Any, shape: tuple[int, ...]) -> FloatArray:
    """Return a policy of the given shape, or raise."""
    policy = np.atleast_2d(check_probabilities(key, values))
    if policy.shape != shape:
        raise ValueError(f"{key} must have shape {shape}, got {policy.shape}")
    return policy
