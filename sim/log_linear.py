"""Exact fits of log-linear policies, one parameter vector for all prompts, many data sets at once.

``p_theta(y|x) ∝ p_ref(y|x) exp(phi(x, y).theta)``. Newton's method with Armijo's line search; `sim.log_linear_newton`
solves for its steps. Negative curvature is left downhill, through the absolute values of the eigenvalues.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.log_linear_newton import Design, newton_step, some_of
from sim.log_linear_risks import PairedRisk, Policies, Risk, UnpairedRisk
from theory import METHODS, Generator, get_generator
from theory.checks import FloatArray, as_floats, check_alpha, check_choice, check_nonnegative, check_positive
from theory.losses import BeyondDomain

__all__ = ["LogLinearFit", "fit_log_linear"]

_MAX_STEPS = 300
_MAX_HALVINGS = 50
_SUFFICIENT = 1e-4
_LONGEST_STEP = 5.0  # in units of scaled log-ratios
_FARTHEST = 30.0  # scaled log-ratios beyond which a policy has run away: e^-30 = 1e-13
_GRADIENT_TOLERANCE = 1e-10  # times the total mass, in whitened coordinates
_STEP_TOLERANCE = 1e-9  # of the log-ratios, or of the probabilities where limits are accepted
_NOTHING_TO_GAIN = 1e-12  # decrease of the risk that Newton's step predicts, times the mass
_SADDLE = 1e-8  # curvature below minus this times the mass is negative
_NUMBERS_AT_ONCE = 100_000  # so that a few arrays fit into the cache
_BARRIERS = (1e-3, 1e-5, 1e-7, 1e-9)  # nonpreferred masses in units of the preferred one


@dataclass(frozen=True, eq=False)
class LogLinearFit:
    """Log-linear policies fitted to many data sets.

    Attributes
    ----------
    parameters : ndarray
        theta, shape (problems, d): the shortest one among those of the same policy.
    policies : ndarray
        Shape (problems, prompts, responses); where the fit has diverged, the last iterate.
    status : ndarray of str
        "ok", "nonconverged", "diverged" (the parameters run away: no finite minimiser) or "error" (no mass at all:
        the start is kept), shape (problems,).
    gradient_norm : ndarray
        Largest component of the gradient in whitened coordinates, over the total mass, shape (problems,); that of
        converged fits before a last step of at most 1e-9.
    iterations : ndarray
        Newton steps of each problem, shape (problems,).
    """

    parameters: FloatArray
    policies: FloatArray
    status: NDArray[np.str_]
    gradient_norm: FloatArray
    iterations: NDArray[np.int64]


def fit_log_linear(
    method: str,
    features: ArrayLike,
    reference: ArrayLike,
    *,
    preferred: ArrayLike | None = None,
    nonpreferred: ArrayLike | None = None,
    pairs: ArrayLike | None = None,
    alpha: ArrayLike | None = None,
    generator: str | Generator = "logistic",
    beta: float | None = None,
    beyond_domain: BeyondDomain = "infinite",
    prompt_probs: ArrayLike | None = None,
    start: ArrayLike | None = None,
    accept_limits: bool = False,
) -> LogLinearFit:
    """Fit log-linear policies to masses of examples: counts of data sets, or population laws.

    ``min_theta sum_xy B l+(u_xy) + D l-(u_xy)``, or ``sum_xij P_ij l(u_xi - u_xj)`` for dpo and ipo, with
    ``u = log p_theta - log p_ref = phi.theta - log sum_y p_ref exp(phi.theta)``.

    Parameters
    ----------
    method : {"sft", "rdro", "ddro", "mle", "kto", "dpo", "ipo"}
        The loss.
    features : array_like
        phi, shape (prompts, responses, d); one theta is shared by all prompts.
    reference : array_like
        p_ref, shape (prompts, responses) or (problems, prompts, responses).
    preferred, nonpreferred : array_like, optional
        Masses B and D, not negative, (problems, prompts, responses): class-weighted and with the prompt's share inside.
        Needed by the unpaired methods.
    pairs : array_like, optional
        Masses P of (chosen, rejected), (problems, prompts, responses, responses). Needed by dpo and ipo.
    alpha : float or array_like, optional
        alpha of rdro, ddro and mle, in (0, 1): one number, (prompts,) or (problems, prompts).
    generator : str or Generator
        Generator of rdro and ddro.
    beta : float, optional
        Parameter of kto, dpo and ipo, greater than 0.
    beyond_domain : {"infinite", "extend"}
        For ddro, as in `theory.losses.ddro_losses`.
    prompt_probs : array_like, optional
        Shares of the prompts in kto's reference point, (prompts,) or (problems, prompts).
    start : array_like, optional
        First theta, (d,) or (problems, d); default 0, the reference. Where the risk is infinite there, 0 is used.
    accept_limits : bool
        Whether a policy that converges while theta runs away (some probabilities fall to 0) is "ok". With a parameter
        of its own for every response such limits are policies like any other.

    Returns
    -------
    LogLinearFit
        Parameters, policies and what became of every fit.

    Raises
    ------
    ValueError
        If an argument is missing, has a wrong shape or range, or mass lies where the reference has none.

    Notes
    -----
    *Converged* means a gradient of at most 1e-10 of the total mass and a Newton step of at most 1e-9 in every log-ratio
    (with `accept_limits`: in every probability, or a step that promises to lower the risk by less than 1e-12 of the
    mass: what is left undetermined costs nothing), at a point without negative curvature. *Diverged* means a log-ratio
    beyond 30 nats (30 / beta for kto and dpo), ``p/p_ref < 1e-13``: the minimiser lies at infinity.

    Directions in which features are constant within every prompt change no policy; theta has no part in them (minimum
    norm). Directions that no example determines stay where they started.

    Logistic ddro and mle with the "infinite" option may have their minimum on the edge of the domain, at a response
    never seen in the nonpreferred class. Such fits are repeated with a nonpreferred mass of 1e-3 ... 1e-9 times B
    there, a barrier. With another generator ddro has no lower bound there and diverges.

    Risks need not be convex in theta, except those of sft, dpo and ipo: the minimum found is the one that Newton's
    method reaches from `start`. kto's reference point is the current ``E_x KL(p_theta || p_ref)``, renewed at every
    step and never differentiated, as in training, so that the fit comes to rest at the fixed point of
    `theory.kto_target`; that there is only one is not checked.

    References
    ----------
    .. [1] Dauphin et al., "Identifying and attacking the saddle point problem", arXiv 1406.2572 (absolute eigenvalues);
       gradients and Hessians derived here.

    Examples
    --------
    >>> features, reference = np.array([[[0.0], [1.0], [2.0]]]), np.full((1, 3), 1 / 3)
    >>> tilted = np.exp([0.0, 0.5, 1.0]) / np.exp([0.0, 0.5, 1.0]).sum()
    >>> fit = fit_log_linear("sft", features, reference, preferred=tilted[None, None], nonpreferred=np.zeros((1, 1, 3)))
    >>> fit.status, fit.parameters.round(8)
    (array(['ok'], dtype='<U12'), array([[0.5]]))
    """
    phi, risk, q = _check(
        method, features, reference, preferred, nonpreferred, pairs, alpha, generator, beta, beyond_domain, prompt_probs
    )
    problems = len(risk.total_mass)
    theta = np.zeros(phi.shape[2]) if start is None else as_floats("start", start)
    if theta.shape not in ((phi.shape[2],), (problems, phi.shape[2])):
        raise ValueError(f"start must have shape (d,) or (problems, d) with d = {phi.shape[2]}, got {theta.shape}")
    theta = np.broadcast_to(theta, (problems, phi.shape[2]))
    whitened, basis, inverse = _whiten(phi, q.mean(axis=0))
    space, start = _Space(Design(whitened), np.asfortranarray(q)), theta @ inverse.T
    per_problem = phi.shape[0] * phi.shape[1] * (phi.shape[1] if isinstance(risk, PairedRisk) else 1)
    size = max(1, _NUMBERS_AT_ONCE // per_problem)
    parts = [
        _fit_part(risk.rows(rows), space.rows(rows), start[rows], accept_limits)
        for rows in (np.arange(i, min(i + size, problems)) for i in range(0, problems, size))
    ]
    coordinates, policies, status, norm, iterations = (np.concatenate(values) for values in zip(*parts, strict=True))
    return LogLinearFit(coordinates @ basis.T, policies, status, norm, iterations)


@dataclass(frozen=True, eq=False)
class _Space:
    """Whitened features, and references (problems, prompts, responses) or a common one (1, prompts, responses)."""

    design: Design
    reference: FloatArray

    def rows(self, rows: NDArray[np.intp]) -> "_Space":
        """Return the space of some of the problems."""
        return self if len(self.reference) == 1 else _Space(self.design, some_of(self.reference, rows))

    @cached_property
    def _full(self) -> bool:
        """Return whether the reference has mass everywhere."""
        return bool((self.reference > 0).all())

    def policies(self, logits: FloatArray) -> Policies:
        """Return the policies ``p_ref exp(logits)``, normalised."""
        u = logits - self._where_mass(logits, -np.inf).max(axis=2, keepdims=True)
        ratio = np.exp(u if self._full else np.minimum(u, 0.0))
        total = (self.reference * ratio).sum(axis=2, keepdims=True)
        ratio /= total
        u -= np.log(total)
        return Policies(u, ratio, self.reference * ratio)

    def largest(self, values: FloatArray) -> FloatArray:
        """Return the largest absolute value of each problem where the reference has mass."""
        return np.asarray(self._where_mass(np.abs(values), 0.0).max(axis=(1, 2)))

    def _where_mass(self, values: FloatArray, other: float) -> FloatArray:
        """Return values, and another one where the reference has no mass."""
        return values if self._full else np.where(self.reference > 0, values, other)


_Part = tuple[FloatArray, FloatArray, NDArray[np.str_], FloatArray, NDArray[np.int64]]


def _whiten(features: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return features centred and uncorrelated over the responses, a basis (d, rank) and its inverse.

    ``theta = basis @ coordinates`` lies in the span of the centred features, so that it is the shortest one.
    """
    weights = (reference > 0)[:, :, None] / np.maximum((reference > 0).sum(axis=1), 1)[:, None, None]
    centred = np.where(weights > 0, features - (weights * features).sum(axis=1, keepdims=True), 0.0)
    scaled = (np.sqrt(weights / len(features)) * centred).reshape(-1, features.shape[2])
    _, size, directions = np.linalg.svd(scaled, full_matrices=False)
    kept = size > np.abs(features).max(initial=0.0) * max(scaled.shape) * np.finfo(float).eps  # the rest is rounding
    basis = directions[kept].T / size[kept]
    return centred @ basis, basis, directions[kept] * size[kept][:, None]


def _fit_part(risk: Risk, space: _Space, start: FloatArray, accept_limits: bool) -> _Part:
    """Return coordinates, policies, statuses, gradient norms and steps of problems that fit into memory together."""
    part = _descend(risk, space, start, accept_limits)
    if isinstance(risk, UnpairedRisk) and risk.has_edge:
        _finish_at_the_edge(risk, space, part, accept_limits)
    return part


def _finish_at_the_edge(risk: UnpairedRisk, space: _Space, part: _Part, accept_limits: bool) -> None:
    """Treat fits that stopped at the edge of the domain: those without a lower bound diverge, others get a barrier."""
    stuck = np.nonzero((part[2] == "nonconverged") & risk.at_edge(space.policies(space.design.logits(part[0])).u))[0]
    if not stuck.size:
        return
    if not risk.bounded_at_edge:
        part[2][stuck] = "diverged"
        return
    steps, place = part[4][stuck], space.rows(stuck)
    coordinates = np.zeros_like(part[0][stuck])
    for barrier in _BARRIERS:
        again = _descend(risk.rows(stuck).with_barrier(barrier), place, coordinates, accept_limits)
        coordinates, steps = again[0], steps + again[4]
    for whole, new in zip(part, (*again[:4], steps), strict=True):
        whole[stuck] = new


def _descend(risk: Risk, space: _Space, start: FloatArray, accept_limits: bool) -> _Part:
    """Run Newton's method on all problems until each has converged, run away or failed."""
    coordinates, at, value = _start(risk, space, start)
    mass, policies = risk.total_mass, np.array(at.probabilities, order="F")
    status = np.where(mass > 0, "nonconverged", "error")
    norm, steps = np.where(mass > 0, np.inf, 0.0), np.zeros(len(mass), dtype=np.int64)
    some, place, active, going = risk, space, np.arange(len(mass)), mass > 0
    exact = accept_limits or risk.many_minima  # on the way to a limit the curvature vanishes
    for _ in range(_MAX_STEPS):
        if not going.all():
            rows = np.nonzero(going)[0]
            some, place, at, active, value = some.rows(rows), place.rows(rows), at.rows(rows), active[rows], value[rows]
        if not active.size:
            break
        point = some.reference_point(at)
        if point.any():  # another point than that of the last step makes another risk
            value = some.value(at, point)
        slopes = some.slopes(at, place.design, point)
        step, descent, lowest = newton_step(slopes, mass[active], exact)
        change = place.design.logits(step)
        change -= (at.probabilities * change).sum(axis=2, keepdims=True)
        distance, length = some.scale * place.largest(at.u), place.largest(change)
        norm[active] = np.abs(slopes.gradient).max(axis=1, initial=0.0) / mass[active]
        flat = norm[active] <= _GRADIENT_TOLERANCE + np.sqrt(step.shape[1]) * slopes.noise / mass[active]
        moved = place.largest(at.probabilities * change) if accept_limits else length
        saddle = lowest < -_SADDLE * some.scale**2 * mass[active] - slopes.noise
        settled = flat & (moved <= _STEP_TOLERANCE) & ~saddle
        last = accept_limits & (-descent <= _NOTHING_TO_GAIN * mass[active]) & ~saddle
        gone = np.zeros_like(settled) if accept_limits else distance > _FARTHEST
        status[active[settled | last]], status[active[gone & ~settled]] = "ok", "diverged"
        rest = ~settled & ~gone & ~some.at_edge(at.u)
        if not rest.all():
            rows = np.nonzero(~rest)[0]
            _put(policies, active[rows], some_of(at.probabilities, rows))
            rows = np.nonzero(settled & (not accept_limits))[0]  # with limits a last step may be a long way
            coordinates[active[rows]] += step[rows]
            _put(policies, active[rows], some_of(at.probabilities, rows) * (1.0 + some_of(change, rows)))
            rows = np.nonzero(rest)[0]
            some, place, at, active = some.rows(rows), place.rows(rows), at.rows(rows), active[rows]
            step, descent, last, point, distance, length, value = (
                values[rows] for values in (step, descent, last, point, distance, length, value)
            )
            change = some_of(change, rows)
        if (distance > _FARTHEST).any():
            # Responses whose losses have long become constant may go as far as they like.
            length = place.largest(np.where(some.scale * at.u > -_FARTHEST, change, 0.0))
        reach = np.minimum(_LONGEST_STEP / np.maximum(some.scale * length, _LONGEST_STEP), some.room(at.u, change))
        change *= reach[:, None, None]
        factor, at, value = _line_search(some, place, at, value, change, reach * descent, point)
        coordinates[active] += (factor * reach)[:, None] * step
        steps[active] += 1
        going = ~last & (factor > 0)
        ended = np.nonzero(~going)[0]
        _put(policies, active[ended], some_of(at.probabilities, ended))
    _put(policies, active, at.probabilities)
    return coordinates, policies, status, norm, steps


def _start(risk: Risk, space: _Space, start: FloatArray) -> tuple[FloatArray, Policies, FloatArray]:
    """Return first coordinates, policies and risks: 0, the reference, where the risk at `start` is infinite."""
    at = space.policies(space.design.logits(start))
    value = risk.value(at, risk.reference_point(at))
    if np.isfinite(value).all():
        return start.copy(), at, value
    start = np.where(np.isfinite(value)[:, None], start, 0.0)
    at = space.policies(space.design.logits(start))
    return start, at, risk.value(at, risk.reference_point(at))


def _put(whole: FloatArray, rows: NDArray[np.intp], values: FloatArray) -> None:
    """Write some problems of an array whose problems are innermost in memory."""
    whole.T[..., rows] = values.T


def _line_search(
    risk: Risk,
    space: _Space,
    at: Policies,
    value: FloatArray,
    change: FloatArray,
    slope: FloatArray,
    point: FloatArray,
) -> tuple[FloatArray, Policies, FloatArray]:
    """Return the largest factors 1, 1/2, 1/4 ... with sufficient decrease (Armijo), or 0, and policies and risks there.

    `change` is that of the log-ratios, and `slope` that of the risk, for the factor 1.
    """
    slack = 1e-14 * (risk.total_mass + np.abs(value))  # rounding of a sum: near the minimum the risk is flat to it
    factor, reached = np.ones(len(slope)), space.policies(at.u + change)
    lower = risk.value(reached, point)
    pending = np.nonzero(~(lower <= value + _SUFFICIENT * slope + slack))[0]
    if not pending.size:
        return factor, reached, lower
    for _ in range(_MAX_HALVINGS):
        factor[pending] *= 0.5
        nearer = some_of(at.u, pending) + factor[pending, None, None] * some_of(change, pending)
        here = risk.rows(pending).value(space.rows(pending).policies(nearer), point[pending])
        pending = pending[~(here <= value[pending] + _SUFFICIENT * factor[pending] * slope[pending] + slack[pending])]
        if not pending.size:
            break
    factor[pending] = 0.0
    reached = space.policies(at.u + factor[:, None, None] * change)
    return factor, reached, risk.value(reached, point)


def _check(
    method: str,
    features: ArrayLike,
    reference: ArrayLike,
    preferred: ArrayLike | None,
    nonpreferred: ArrayLike | None,
    pairs: ArrayLike | None,
    alpha: ArrayLike | None,
    generator: str | Generator,
    beta: float | None,
    beyond_domain: BeyondDomain,
    prompt_probs: ArrayLike | None,
) -> tuple[FloatArray, Risk, FloatArray]:
    """Return checked features, the risk and the references (problems or 1, prompts, responses)."""
    check_choice("method", method, METHODS)
    check_choice("beyond_domain", beyond_domain, ("infinite", "extend"))
    phi, q = as_floats("features", features), check_nonnegative("reference", reference)
    if phi.ndim != 3:
        raise ValueError(f"features must have shape (prompts, responses, d), got {phi.shape}")
    paired = method in ("dpo", "ipo")
    masses = _masses(
        method, phi.shape, {"pairs": pairs} if paired else {"preferred": preferred, "nonpreferred": nonpreferred}
    )
    problems = len(masses[0])
    q = q[None] if q.ndim == 2 else q
    if q.shape[1:] != phi.shape[:2] or len(q) not in (1, problems):
        raise ValueError(
            f"reference must have shape (prompts, responses) or (problems, prompts, responses), got {q.shape}"
        )
    needed = (
        {"beta": beta} if paired or method == "kto" else {"alpha": alpha} if method in ("rdro", "ddro", "mle") else {}
    )
    needed |= {"prompt_probs": prompt_probs} if method == "kto" else {}
    for name, value in needed.items():
        if value is None:
            raise ValueError(f"{name} must be given for {method}, got None")
    strength = 1.0 if beta is None else check_positive(beta, "beta")
    if paired:
        seen = masses[0].sum(axis=2) + masses[0].sum(axis=3)
        risk: Risk = PairedRisk(method, masses[0] * ~np.eye(phi.shape[1], dtype=bool), strength)
    else:
        seen = masses[0] + masses[1]
        risk = UnpairedRisk(
            method,
            np.asfortranarray(masses[0]),
            np.asfortranarray(masses[1]),
            _each_prompt("alpha", check_alpha(0.5 if alpha is None else alpha), masses[0])[:, :, None],
            get_generator(generator),
            strength,
            beyond_domain,
            _each_prompt(
                "prompt_probs",
                check_nonnegative("prompt_probs", 1.0 if prompt_probs is None else prompt_probs),
                masses[0],
            ),
        )
    if ((seen > 0) & (q <= 0)).any():
        raise ValueError("masses must lie where the reference has mass, got mass at a response without any")
    return phi, risk, q


def _masses(method: str, shape: tuple[int, ...], given: dict[str, ArrayLike | None]) -> list[FloatArray]:
    """Return the masses, or raise unless all are given with the shape that the features imply."""
    expected = (shape[0], shape[1], shape[1]) if "pairs" in given else (shape[0], shape[1])
    masses = []
    for name, values in given.items():
        if values is None:
            raise ValueError(f"{name} must be given for {method}, got None")
        mass = check_nonnegative(name, values)
        if mass.shape[1:] != expected or (masses and mass.shape != masses[0].shape):
            raise ValueError(f"{name} must have shape (problems, {', '.join(map(str, expected))}), got {mass.shape}")
        masses.append(mass)
    return masses


def _each_prompt(name: str, values: FloatArray, masses: FloatArray) -> FloatArray:
    """Return values that are one number, (prompts,) or (problems, prompts) for each problem and prompt."""
    problems, prompts, _ = masses.shape
    if values.shape not in ((), (prompts,), (problems, prompts)):
        raise ValueError(f"{name} must be one number, (prompts,) or (problems, prompts), got shape {values.shape}")
    return np.broadcast_to(values, (problems, prompts))
