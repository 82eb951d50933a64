"""Exact fits of log-linear policies, one parameter vector for all prompts, many data sets at once.

``p_theta(y|x) ∝ p_ref(y|x) exp(phi(x, y).theta)``. Newton's method on the closed-form Hessian, with the absolute
values of its eigenvalues (so that directions of negative curvature are left downhill) and Armijo's line search.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.log_linear_risks import PairedRisk, Risk, Slopes, UnpairedRisk
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
_NUMBERS_AT_ONCE = 4_000_000  # bounds memory to a few arrays of 32 MB
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
        Largest component of the gradient in whitened coordinates, over the total mass, shape (problems,).
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
    q = np.broadcast_to(q, (problems, *phi.shape[:2]))
    whitened, basis = _whiten(phi, q.mean(axis=0))
    per_problem = phi.shape[0] * phi.shape[1] * max(phi.shape[2], phi.shape[1])
    size = max(1, _NUMBERS_AT_ONCE // per_problem)
    parts = [
        _fit_part(risk.rows(rows), _Space(whitened, q[rows]), theta[rows] @ np.linalg.pinv(basis).T, accept_limits)
        for rows in (slice(i, i + size) for i in range(0, problems, size))
    ]
    coordinates, policies, status, norm, iterations = (np.concatenate(values) for values in zip(*parts, strict=True))
    return LogLinearFit(coordinates @ basis.T, policies, status, norm, iterations)


@dataclass(frozen=True, eq=False)
class _Space:
    """Whitened features (prompts, responses, d) and references (problems, prompts, responses)."""

    features: FloatArray
    reference: FloatArray

    def rows(self, rows: NDArray[np.intp]) -> "_Space":
        """Return the space of some of the problems."""
        return _Space(self.features, self.reference[rows])

    def policies(self, coordinates: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log-ratios u and policies, (problems, prompts, responses)."""
        logits = self.logits(coordinates)
        largest = np.where(self.reference > 0, logits, -np.inf).max(axis=2, keepdims=True)
        weights = np.where(self.reference > 0, self.reference * np.exp(np.minimum(logits - largest, 0.0)), 0.0)
        total = weights.sum(axis=2, keepdims=True)
        return logits - largest - np.log(total), weights / total

    def logits(self, coordinates: FloatArray) -> FloatArray:
        """Return phi.theta, (problems, prompts, responses)."""
        prompts, responses, dimension = self.features.shape
        flat = coordinates @ self.features.reshape(prompts * responses, dimension).T
        return np.asarray(flat.reshape(-1, prompts, responses))

    def largest(self, values: FloatArray) -> FloatArray:
        """Return the largest absolute value of each problem where the reference has mass."""
        return np.asarray(np.where(self.reference > 0, np.abs(values), 0.0).max(axis=(1, 2)))


_Part = tuple[FloatArray, FloatArray, NDArray[np.str_], FloatArray, NDArray[np.int64]]


def _whiten(features: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return features centred and uncorrelated over the responses, and the basis (d, rank) of their coordinates.

    ``theta = basis @ coordinates`` lies in the span of the centred features, so that it is the shortest one.
    """
    weights = (reference > 0)[:, :, None] / np.maximum((reference > 0).sum(axis=1), 1)[:, None, None]
    centred = np.where(weights > 0, features - (weights * features).sum(axis=1, keepdims=True), 0.0)
    scaled = (np.sqrt(weights / len(features)) * centred).reshape(-1, features.shape[2])
    _, size, directions = np.linalg.svd(scaled, full_matrices=False)
    kept = size > np.abs(features).max(initial=0.0) * max(scaled.shape) * np.finfo(float).eps  # the rest is rounding
    basis = directions[kept].T / size[kept]
    return centred @ basis, basis


def _fit_part(risk: Risk, space: _Space, start: FloatArray, accept_limits: bool) -> _Part:
    """Return coordinates, policies, statuses, gradient norms and steps of problems that fit into memory together."""
    start = np.where(np.isfinite(_risk_at(risk, space, start))[:, None], start, 0.0)
    part = _descend(risk, space, start, accept_limits)
    if isinstance(risk, UnpairedRisk) and risk.has_edge:
        _finish_at_the_edge(risk, space, part, accept_limits)
    return part


def _finish_at_the_edge(risk: UnpairedRisk, space: _Space, part: _Part, accept_limits: bool) -> None:
    """Treat fits that stopped at the edge of the domain: those without a lower bound diverge, others get a barrier."""
    stuck = np.nonzero((part[2] == "nonconverged") & risk.at_edge(space.policies(part[0])[0]))[0]
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


def _risk_at(risk: Risk, space: _Space, coordinates: FloatArray) -> FloatArray:
    """Return the risks at given coordinates, each at its own reference point."""
    u, policy = space.policies(coordinates)
    return risk.value(u, risk.reference_point(u, policy))


def _descend(risk: Risk, space: _Space, start: FloatArray, accept_limits: bool) -> _Part:
    """Run Newton's method on all problems until each has converged, run away or failed."""
    mass, coordinates = risk.total_mass, start.copy()
    status = np.where(mass > 0, "nonconverged", "error")
    norm, steps = np.where(mass > 0, np.inf, 0.0), np.zeros(len(mass), dtype=np.int64)
    active = np.nonzero(mass > 0)[0]
    for _ in range(_MAX_STEPS):
        if not active.size:
            break
        some, place, here = risk.rows(active), space.rows(active), coordinates[active]
        u, policy = place.policies(here)
        point = some.reference_point(u, policy)
        slopes = some.slopes(u, policy, place.features, point)
        step, descent, lowest = _newton_step(slopes)
        change = place.logits(step)
        change -= (policy * change).sum(axis=2, keepdims=True)
        norm[active] = np.abs(slopes.gradient).max(axis=1, initial=0.0) / mass[active]
        flat = norm[active] <= _GRADIENT_TOLERANCE + np.sqrt(step.shape[1]) * slopes.noise / mass[active]
        moved = place.largest(policy * change if accept_limits else change)
        saddle = lowest < -_SADDLE * some.scale**2 * mass[active] - slopes.noise
        settled = flat & (moved <= _STEP_TOLERANCE) & ~saddle
        last = accept_limits & (-descent <= _NOTHING_TO_GAIN * mass[active]) & ~saddle
        gone = np.zeros_like(settled) if accept_limits else some.scale * place.largest(u) > _FARTHEST
        status[active[settled | last]], status[active[gone & ~settled]] = "ok", "diverged"
        # Responses whose losses have long become constant may go as far as they like.
        near = np.where(some.scale * u > -_FARTHEST, some.scale * change, 0.0)
        shorten = _LONGEST_STEP / np.maximum(place.largest(near), _LONGEST_STEP)
        reach = shorten * some.room(u, shorten[:, None, None] * change)
        factor = reach * _line_search(some, place, here, reach[:, None] * step, reach * descent, point)
        rest = ~settled & ~gone & ~some.at_edge(u)
        coordinates[active[rest]] += (factor[:, None] * step)[rest]
        steps[active[rest]] += 1
        active = active[rest & ~last & (factor > 0)]
    return coordinates, space.policies(coordinates)[1], status, norm, steps


def _newton_step(slopes: Slopes) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ``-|H|^-1 g``, its slope and the lowest eigenvalue of H, -inf where derivatives overflow."""
    usable = np.isfinite(slopes.hessian).all(axis=(1, 2)) & np.isfinite(slopes.gradient).all(axis=1)
    gradient = np.where(usable[:, None], slopes.gradient, 0.0)
    values, vectors = np.linalg.eigh(np.where(usable[:, None, None], slopes.hessian, np.eye(gradient.shape[1])))
    along = np.matmul(gradient[:, None, :], vectors)[:, 0]
    along = np.where(np.abs(along) > slopes.noise[:, None], along, 0.0)  # rounding is no direction
    size = np.abs(values)
    size = np.maximum(size, np.maximum(1e-14 * size.max(axis=1, keepdims=True, initial=0.0), np.finfo(float).tiny))
    step = -np.matmul(vectors, (along / size)[:, :, None])[:, :, 0]
    lowest = np.where(usable, values.min(axis=1, initial=np.inf), -np.inf)
    return step, (gradient * step).sum(axis=1), lowest


def _line_search(
    risk: Risk, space: _Space, coordinates: FloatArray, step: FloatArray, slope: FloatArray, point: FloatArray
) -> FloatArray:
    """Return the largest factors 1, 1/2, 1/4 ... with sufficient decrease (Armijo), 0 where there is none."""
    value = risk.value(space.policies(coordinates)[0], point)
    slack = 1e-14 * (risk.total_mass + np.abs(value))  # rounding of a sum: near the minimum the risk is flat to it
    factor, pending = np.ones(len(step)), np.arange(len(step))
    for _ in range(_MAX_HALVINGS):
        u, _ = space.rows(pending).policies(coordinates[pending] + factor[pending, None] * step[pending])
        reached = risk.rows(pending).value(u, point[pending])
        enough = value[pending] + _SUFFICIENT * factor[pending] * slope[pending] + slack[pending]
        pending = pending[~(reached <= enough)]
        if not pending.size:
            break
        factor[pending] *= 0.5
    factor[pending] = 0.0
    return factor


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
            masses[0],
            masses[1],
            _each_prompt("alpha", check_alpha(0.5 if alpha is None else alpha), masses[0]),
            get_generator(generator),
            strength,
            beyond_domain,
            _each_prompt(
                "prompt_probs",
                check_nonnegative("prompt_probs", 1.0 if prompt_probs is None else prompt_probs),
                masses[0],
            )[:, :, 0],
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
    """Return values that are one number, (prompts,) or (problems, prompts) in the shape of the masses."""
    problems, prompts, _ = masses.shape
    if values.shape not in ((), (prompts,), (problems, prompts)):
        raise ValueError(f"{name} must be one number, (prompts,) or (problems, prompts), got shape {values.shape}")
    return np.broadcast_to(np.broadcast_to(values, (problems, prompts))[:, :, None], masses.shape)
