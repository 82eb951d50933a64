"""The registry of methods: from data sets, or the population, to policies; one entry per method."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.log_linear import fit_log_linear
from sim.options import MethodOptions, Setting, empirical_setting, population_setting, population_weighting
from sim.sampling import Counts, match_pairs
from sim.solvers import Estimates, fit_dpo, fit_ipo, fit_kto, fit_ratio, fit_sft
from sim.worlds import World
from theory import FiniteProblem, NoTargetError, get_generator, population_target
from theory.checks import FloatArray, check_choice, check_positive

__all__ = ["DEFAULT_BETA", "METHODS", "Method", "estimate", "exact_target"]

DEFAULT_BETA = 0.1
"""beta of kto, dpo and ipo, as in `theory.population_target`."""


@dataclass(frozen=True)
class Method:
    """A method as the simulations know it.

    Attributes
    ----------
    summary : str
        One line for lists.
    fit : callable
        ``fit(setting, pairs, options) -> Estimates``, exact for tabular policies.
    paired : bool
        Whether it learns from pairs; unpaired examples are then matched at random.
    """

    summary: str
    fit: Callable[[Setting, FloatArray, MethodOptions], Estimates]
    paired: bool = False


def _ratio_method(name: str) -> Callable[[Setting, FloatArray, MethodOptions], Estimates]:
    """Return the fit of a method that models ratios of unpaired examples."""

    def fit(setting: Setting, pairs: FloatArray, options: MethodOptions) -> Estimates:
        if options.beyond_domain == "extend":
            return _fit_extended(setting, options)
        return fit_ratio(setting, name, get_generator(options.generator))

    return fit


def _beta(options: MethodOptions) -> float:
    """Return beta, or its default."""
    return DEFAULT_BETA if options.beta is None else check_positive(options.beta, "beta")


METHODS: dict[str, Method] = {
    "sft": Method("supervised fine-tuning on the preferred examples", lambda s, pairs, options: fit_sft(s)),
    "rdro": Method("relative density ratio optimisation", _ratio_method("rdro")),
    "ddro": Method("direct density ratio optimisation", _ratio_method("ddro")),
    "mle": Method("likelihood of the class given the response: the efficient benchmark", _ratio_method("mle")),
    "kto": Method(
        "Kahneman-Tversky optimisation, at its own reference point", lambda s, pairs, o: fit_kto(s, _beta(o))
    ),
    "dpo": Method(
        "direct preference optimisation, on pairs",
        lambda s, pairs, options: fit_dpo(s.reference, pairs, _beta(options)),
        paired=True,
    ),
    "ipo": Method(
        "identity preference optimisation, on pairs",
        lambda s, pairs, options: fit_ipo(s.reference, pairs, _beta(options)),
        paired=True,
    ),
}
"""Methods by name."""


def estimate(world: World, data: Counts, method: str, options: MethodOptions, rng: np.random.Generator) -> Estimates:
    """Fit a method to data sets of a world.

    Parameters
    ----------
    world : World
        Where the data come from; with features, policies are log-linear.
    data : Counts
        Data sets.
    method : str
        Key of `METHODS`.
    options : MethodOptions
        Its options.
    rng : numpy.random.Generator
        Matches unpaired examples for methods that learn from pairs; not used otherwise.

    Returns
    -------
    Estimates
        One policy for each data set.

    Examples
    --------
    >>> from sim.worlds import build_world
    >>> world = build_world({"name": "toy", "p_preferred": [0.7, 0.3], "p_nonpreferred": [0.2, 0.8], "alpha": 0.5})
    >>> data = Counts(np.array([[[7, 3]]]), np.array([[[2, 8]]]))
    >>> estimate(world, data, "rdro", MethodOptions(), np.random.default_rng(0)).policies.round(6)
    array([[[0.7, 0.3]]])
    """
    setting = empirical_setting(world.problem, data, method, options)
    pairs = None
    if METHODS[method].paired:
        pairs = match_pairs(data, rng) if data.pairs is None else data.pairs
    return _fit(world, setting, pairs, method, options)


def exact_target(world: World, method: str, options: MethodOptions) -> FloatArray | None:
    """Return what a method converges to in a world, or None where it has no unique target.

    Parameters
    ----------
    world : World
        The population.
    method : str
        Key of `METHODS`.
    options : MethodOptions
        Its options.

    Returns
    -------
    ndarray or None
        Policy, shape (prompts, responses).

    Raises
    ------
    ValueError
        If the method is unknown, or an option is not valid or belongs to another method.

    Notes
    -----
    Tabular policies: `theory.population_target`. Log-linear policies and the extended ddro: the fit to the
    population's masses, which starts at the reference and is the minimum found from there. A target does not depend
    on the sample size, so it is kept for the next call, and not writeable; options that hold lists or arrays are no
    keys, and their targets are found anew.

    Examples
    --------
    >>> from sim.worlds import build_world
    >>> world = build_world({"name": "toy", "p_preferred": [0.7, 0.3], "p_nonpreferred": [0.2, 0.8], "alpha": 0.5})
    >>> exact_target(world, "dpo", MethodOptions(beta=1.0)).round(3)
    array([[0.884, 0.116]])
    """
    try:
        hash(options)
    except TypeError:
        return _exact_target(world, method, options)
    return _kept_target(world, method, options)


def _exact_target(world: World, method: str, options: MethodOptions) -> FloatArray | None:
    """Find an exact target."""
    check_choice("method", method, METHODS)
    options.check(method)
    problem, fraction = world.problem, world.label_fraction
    setting = population_setting(problem, fraction, method, options)
    weighting = population_weighting(method, options, fraction)
    given = {
        "alpha": None if options.alpha is None else setting.alpha[0],
        "generator": options.generator,
        "weighting": options.weighting if method == "mle" else weighting,  # its own weights are no option
        "beta": options.beta,
        "preferred_fraction": fraction,
    }
    try:
        target = population_target(_with_reference(problem, setting.reference[0]), method, **given)
    except NoTargetError:
        target = None
    if world.features is not None or options.beyond_domain == "extend":
        pairs = (problem.prompt_probs[:, None, None] * problem.pair_probs)[None]
        fit = _fit(world, setting, pairs, method, options)
        target = fit.policies[0] if fit.status[0] == "ok" else None
    if target is not None:
        target.setflags(write=False)
    return target


_kept_target = lru_cache(maxsize=256)(_exact_target)


def _fit(world: World, setting: Setting, pairs: FloatArray | None, method: str, options: MethodOptions) -> Estimates:
    """Fit tabular or log-linear policies."""
    if world.features is None:
        return METHODS[method].fit(setting, pairs, options)
    paired = METHODS[method].paired
    fit = fit_log_linear(
        method,
        world.features,
        setting.reference,
        preferred=None if paired else setting.preferred,
        nonpreferred=None if paired else setting.nonpreferred,
        pairs=pairs,
        alpha=setting.alpha,
        generator=options.generator,
        beta=_beta(options),
        beyond_domain=options.beyond_domain,
        prompt_probs=setting.prompt_shares,
        accept_limits=method == "kto",  # whose optimum is often a deterministic policy
    )
    needs_both = not paired and method != "sft"
    status = np.where(setting.usable | (not needs_both), fit.status, "error")
    policies = np.where(np.isin(status, ("ok", "nonconverged"))[:, None, None], fit.policies, np.nan)
    return Estimates(policies, status, fit.gradient_norm, int(fit.iterations.max()))


def _fit_extended(setting: Setting, options: MethodOptions) -> Estimates:
    """Fit ddro with the continued log-ratio: the minimum reached from the reference, one tabular policy a prompt."""
    sets, prompts, responses = setting.preferred.shape
    fit = fit_log_linear(
        "ddro",
        np.eye(responses)[None],
        setting.reference.reshape(-1, 1, responses),
        preferred=setting.preferred.reshape(-1, 1, responses),
        nonpreferred=setting.nonpreferred.reshape(-1, 1, responses),
        alpha=setting.alpha.reshape(-1, 1),
        generator=options.generator,
        beyond_domain="extend",
        accept_limits=True,
    )
    grouped = fit.status.reshape(sets, prompts)
    status = np.full(sets, "ok", dtype="<U12")
    for name in ("nonconverged", "diverged"):
        status = np.where((grouped == name).any(axis=1), name, status)
    status = np.where(setting.usable, status, "error")
    policies = fit.policies.reshape(setting.preferred.shape)
    policies = np.where(np.isin(status, ("ok", "nonconverged"))[:, None, None], policies, np.nan)
    return Estimates(policies, status, fit.gradient_norm.reshape(sets, prompts).max(axis=1), int(fit.iterations.max()))


def _with_reference(problem: FiniteProblem, reference: FloatArray) -> FiniteProblem:
    """Return the problem with another reference."""
    return FiniteProblem(
        problem.p_preferred,
        problem.p_nonpreferred,
        reference,
        problem.prompt_probs,
        alpha=problem.alpha,
        pair_probs=problem.explicit_pair_probs,
    )
