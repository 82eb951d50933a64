"""Risks of many log-linear policies at once, and their gradients and Hessians in closed form.

With ``u = phi.theta - log sum_y p_ref exp(phi.theta)`` the derivatives of u are the centred features
``c = phi - E_theta[phi]``, and the second ones ``-Cov_theta(phi)`` at all responses of a prompt. A risk
``sum_xy l_xy(u_xy)`` has therefore the gradient ``sum l' c = sum_xy (l'_xy - p_xy sum_y l'_xy) phi_xy`` and the
Hessian ``sum_xy (l''_xy - p_xy sum_y l'_xy) c c^T``. Margins between two responses of a prompt are linear in theta.
Derived here.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sim.log_linear_newton import Design, PairedCurvature, Slopes, UnpairedCurvature, some_of
from theory import (
    Generator,
    ddro_losses,
    dpo_losses,
    ipo_losses,
    kto_losses,
    loss_derivatives,
    mle_losses,
    pair_loss_derivatives,
    rdro_losses,
    sft_losses,
)
from theory.checks import FloatArray
from theory.losses import BeyondDomain

__all__ = ["PairedRisk", "Policies", "Risk", "UnpairedRisk"]

_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False)
class Policies:
    """Log-ratios u, ratios e^u and probabilities, (problems, prompts, responses)."""

    u: FloatArray
    ratio: FloatArray
    probabilities: FloatArray

    def rows(self, rows: NDArray[np.intp]) -> "Policies":
        """Return the policies of some of the problems."""
        return Policies(some_of(self.u, rows), some_of(self.ratio, rows), some_of(self.probabilities, rows))


class Risk(Protocol):
    """What the Newton iteration needs of a risk; arrays have shape (problems, prompts, responses)."""

    @property
    def total_mass(self) -> FloatArray:
        """Return the sum of all masses of each problem, (problems,)."""

    @property
    def scale(self) -> float:
        """Return the factor of u inside the loss: log-ratios are large when they are large against its inverse."""

    @property
    def many_minima(self) -> bool:
        """Return whether the minimum that is found depends on every step."""

    def rows(self, rows: NDArray[np.intp]) -> Self:
        """Return the risk of some of the problems."""

    def reference_point(self, at: Policies) -> FloatArray:
        """Return the constant that the loss detaches, (problems,)."""

    def at_edge(self, u: FloatArray) -> NDArray[np.bool_]:
        """Return where the iteration runs into the edge of the domain and is given up, (problems,)."""

    def room(self, u: FloatArray, change: FloatArray) -> FloatArray:
        """Return the largest factor of a step that changes u by `change` and stays inside the domain, (problems,)."""

    def value(self, at: Policies, point: FloatArray) -> FloatArray:
        """Return the risk of each problem, (problems,); +inf beyond a domain."""

    def slopes(self, at: Policies, design: Design, point: FloatArray) -> Slopes:
        """Return gradients and Hessians in the coordinates of the features of `design`."""


@dataclass(frozen=True, eq=False)
class UnpairedRisk:
    """``sum_xy B l+(u) + D l-(u)`` with class-weighted masses B and D, (problems, prompts, responses).

    `alpha` has shape (problems, prompts, 1); `prompt_probs` (problems, prompts) weighs the prompts in kto's reference
    point.
    """

    method: str
    preferred: FloatArray
    nonpreferred: FloatArray
    alpha: FloatArray
    generator: Generator
    beta: float
    beyond_domain: BeyondDomain
    prompt_probs: FloatArray

    @cached_property
    def total_mass(self) -> FloatArray:
        """Return the sum of all masses of each problem; those of the preferred class alone for sft."""
        used = self.preferred if self.method == "sft" else self.preferred + self.nonpreferred
        return np.asarray(used.sum(axis=(1, 2)))

    @property
    def scale(self) -> float:
        """Return beta for kto, else 1."""
        return self.beta if self.method == "kto" else 1.0

    @property
    def many_minima(self) -> bool:
        """Return True for kto, whose losses are bounded."""
        return self.method == "kto"

    def rows(self, rows: NDArray[np.intp]) -> Self:
        """Return the risk of some of the problems."""
        return replace(
            self,
            preferred=some_of(self.preferred, rows),
            nonpreferred=some_of(self.nonpreferred, rows),
            alpha=some_of(self.alpha, rows),
            prompt_probs=self.prompt_probs[rows],
        )

    @property
    def has_edge(self) -> bool:
        """Return whether the losses are infinite from ``alpha r = 1`` on."""
        return self.method == "mle" or (self.method == "ddro" and self.beyond_domain == "infinite")

    @property
    def bounded_at_edge(self) -> bool:
        """Return whether the preferred loss has a limit at the edge; with other generators it falls to -inf."""
        return self.method == "mle" or self.generator.name == "logistic"

    def at_edge(self, u: FloatArray) -> NDArray[np.bool_]:
        """Return where a response of the preferred class alone has come close to the edge, (problems,)."""
        if not self.has_edge:
            return np.zeros(len(u), dtype=bool)
        close = 1e-3 if self.bounded_at_edge else 1e-9
        return np.asarray((self._unguarded & (u + np.log(self.alpha) > -close)).any(axis=(1, 2)))

    def room(self, u: FloatArray, change: FloatArray) -> FloatArray:
        """Return the largest factor of a change of u that leads at most 9/10 of the way to the edge, to first order."""
        if not self.has_edge:
            return np.ones(len(u))
        slack = 0.9 * np.maximum(-np.log(self.alpha) - u, 0.0)
        rising = (self.preferred + self.nonpreferred > 0) & (change > slack)
        return np.asarray(np.where(rising, slack / np.where(rising, change, 1.0), 1.0).min(axis=(1, 2)))

    def with_barrier(self, share: float) -> Self:
        """Return the risk with a nonpreferred mass of a share of B at responses of the preferred class alone."""
        return replace(self, nonpreferred=np.where(self._unguarded, share * self.preferred, self.nonpreferred))

    @property
    def _unguarded(self) -> NDArray[np.bool_]:
        """Return responses of the preferred class alone: nothing holds them back from the edge."""
        return (self.preferred > 0) & (self.nonpreferred <= 0)

    def reference_point(self, at: Policies) -> FloatArray:
        """Return ``E_x KL(policy || reference)`` for kto, else 0."""
        if self.method != "kto":
            return np.zeros(len(at.u))
        return np.asarray((self.prompt_probs * (at.probabilities * at.u).sum(axis=2)).sum(axis=1))

    def value(self, at: Policies, point: FloatArray) -> FloatArray:
        """Return the risk of each problem; cells without mass do not count, whatever their loss."""
        u = at.u
        if self._logistic:
            losses = 1.0 + at.ratio
            np.log(losses, out=losses)  # of small ratios too it is within eps
            losses *= self._curved
            losses -= self.preferred * u
            total = losses.sum(axis=(1, 2))
            return np.where(np.isnan(total), np.inf, total)
        kl = np.broadcast_to(point[:, None, None], u.shape)
        total = np.zeros(len(u))
        for flag, mass in ((True, self.preferred), (False, self.nonpreferred)):
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                losses = self._losses(u, np.full(u.shape, flag), kl)
                total += np.where(mass > 0, mass * losses, 0.0).sum(axis=(1, 2))
        return np.where(np.isnan(total), np.inf, total)

    def slopes(self, at: Policies, design: Design, point: FloatArray) -> Slopes:
        """Return gradients and Hessians."""
        policy = at.probabilities
        with np.errstate(over="ignore", invalid="ignore"):  # derivatives may overflow; the fit then stops
            first, second = (
                self._derivatives_of_logistic(at.ratio) if self._logistic else self._derivatives(at.u, point)
            )
            pull = first.sum(axis=2, keepdims=True)
            pulled = pull * policy
            # u carries rounding errors of eps (1 + |u|), which the second derivatives pass on.
            blurred = np.abs(second)
            blurred += np.abs(pulled)
            blurred *= 1.0 + np.abs(at.u)
            blurred += np.abs(first)
            first -= pulled
            second -= pulled
            curvature = UnpairedCurvature(design, second, policy)
            return Slopes(design.adjoint(first), curvature, 16.0 * _EPS * blurred.sum(axis=(1, 2)))

    @property
    def _logistic(self) -> bool:
        """Return whether the losses are those of logistic rdro, whose derivatives need no more than the ratio."""
        return self.method == "rdro" and self.generator.name == "logistic"

    @cached_property
    def _mixture(self) -> FloatArray:
        """Return ``alpha B + (1 - alpha) D``."""
        return self.alpha * self.preferred + (1.0 - self.alpha) * self.nonpreferred

    @cached_property
    def _curved(self) -> FloatArray:
        """Return the factor of ``log(1 + r)`` in the risk of logistic rdro, beside a term linear in u."""
        return self._mixture + self.preferred

    def _derivatives_of_logistic(self, ratio: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the derivatives of ``(alpha B + (1 - alpha) D) log(1 + r) + B log(1 + 1/r)``."""
        weight = 1.0 + ratio
        np.reciprocal(weight, out=weight)
        sigmoid = ratio * weight
        first = self._mixture * sigmoid
        first -= self.preferred * weight
        weight *= sigmoid
        weight *= self._curved
        return first, weight

    def _derivatives(self, u: FloatArray, point: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return first and second derivatives of the risk in u, through `theory.loss_derivatives`."""
        first, second = np.zeros_like(u), np.zeros_like(u)
        kl = np.broadcast_to(point[:, None, None], u.shape)
        for flag, mass in ((True, self.preferred), (False, self.nonpreferred)):
            derivatives = loss_derivatives(
                self.method,
                u,
                np.full(u.shape, flag),
                np.broadcast_to(self.alpha, u.shape),
                self.generator,
                beyond_domain=self.beyond_domain,
                beta=self.beta,
                kl=kl,
            )
            first += np.where(mass > 0, mass * derivatives.first, 0.0)
            second += np.where(mass > 0, mass * derivatives.second, 0.0)
        return first, second

    def _losses(self, u: FloatArray, preferred: NDArray[np.bool_], kl: FloatArray) -> FloatArray:
        """Return the losses of one class at every cell."""
        alpha = np.broadcast_to(self.alpha, u.shape)
        match self.method:
            case "rdro":
                losses = rdro_losses(u, preferred, alpha, self.generator)
            case "ddro":
                losses = ddro_losses(u, preferred, alpha, self.generator, self.beyond_domain)
            case "mle":
                losses = mle_losses(u, preferred, alpha)
            case "kto":
                losses = kto_losses(u, preferred, self.beta, kl)
            case _:
                losses = sft_losses(u, preferred)
        return np.asarray(losses)


@dataclass(frozen=True, eq=False)
class PairedRisk:
    """``sum_xij P_ij l(u_i - u_j)`` with masses P of (chosen, rejected) pairs, (problems, prompts, K, K)."""

    method: str
    pairs: FloatArray
    beta: float

    @cached_property
    def total_mass(self) -> FloatArray:
        """Return the sum of all masses of each problem."""
        return np.asarray(self.pairs.sum(axis=(1, 2, 3)))

    @property
    def scale(self) -> float:
        """Return beta for dpo; the loss of ipo is quadratic, so that no log-ratio is too large for it."""
        return self.beta if self.method == "dpo" else 0.0

    @property
    def many_minima(self) -> bool:
        """Return False: the risk is convex."""
        return False

    def rows(self, rows: NDArray[np.intp]) -> Self:
        """Return the risk of some of the problems."""
        return replace(self, pairs=self.pairs[rows])

    def reference_point(self, at: Policies) -> FloatArray:
        """Return 0: nothing is detached."""
        return np.zeros(len(at.u))

    def at_edge(self, u: FloatArray) -> NDArray[np.bool_]:
        """Return False: the losses are finite everywhere."""
        return np.zeros(len(u), dtype=bool)

    def room(self, u: FloatArray, change: FloatArray) -> FloatArray:
        """Return 1: the losses are finite everywhere."""
        return np.ones(len(u))

    def value(self, at: Policies, point: FloatArray) -> FloatArray:
        """Return the risk of each problem."""
        chosen, rejected = (np.broadcast_to(v, self.pairs.shape) for v in (at.u[..., :, None], at.u[..., None, :]))
        losses = (dpo_losses if self.method == "dpo" else ipo_losses)(chosen, rejected, self.beta)
        return np.asarray((self.pairs * losses).sum(axis=(1, 2, 3)))

    def slopes(self, at: Policies, design: Design, point: FloatArray) -> Slopes:
        """Return gradients and Hessians."""
        derivatives = pair_loss_derivatives(self.method, at.u[..., :, None] - at.u[..., None, :], self.beta)
        first, second = self.pairs * derivatives.first, self.pairs * derivatives.second
        links = second + second.swapaxes(2, 3)
        blurred = np.abs(first).sum(axis=(2, 3)) + (links.sum(axis=3) * (1.0 + np.abs(at.u))).sum(axis=2)
        gradient = design.adjoint(np.asfortranarray(first.sum(axis=3) - first.sum(axis=2)))
        return Slopes(gradient, PairedCurvature(design, links), 16.0 * _EPS * blurred.sum(axis=1))
