"""Newton steps of many log-linear policies at once.

All problems share their features, so that products with their Hessians are matrix products over the whole batch, and
the mean of their Hessians is close to each of them. Where a Hessian is known to have no negative eigenvalue, the step
comes from conjugate gradients, preconditioned by that mean; elsewhere, and where these do not converge, from the
eigenvalues of the Hessian, in absolute value.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from theory.checks import FloatArray

__all__ = ["Curvature", "Design", "PairedCurvature", "Slopes", "UnpairedCurvature", "newton_step", "some_of"]

_LOOSEST, _TIGHTEST = 1e-2, 1e-6  # relative residuals of conjugate gradients
_PRODUCTS = 25  # of a Hessian and a vector in one step; more cost as much as its eigenvalues
_RIDGE = 1e-5  # of the mean curvature, in the preconditioner: keeps rounding out of directions without curvature
_NUMBERS_AT_ONCE = 4_000_000  # bounds memory to a few arrays of 32 MB


def some_of(values: FloatArray, rows: NDArray[np.intp]) -> FloatArray:
    """Return some problems of an array, with the problems innermost in memory."""
    return np.asarray(np.take(values.T, rows, axis=-1).T)


@dataclass(frozen=True, eq=False)
class Design:
    """Features (prompts, responses, d) as a linear map and its adjoint.

    Arrays (problems, prompts, responses) have their problems innermost in memory: sums over responses then add long
    vectors, which is several times faster than adding up rows of ten numbers.
    """

    features: FloatArray

    @cached_property
    def _flat(self) -> FloatArray:
        """Return the features, (responses * prompts, d)."""
        prompts, responses, dimension = self.features.shape
        return np.ascontiguousarray(self.features.swapaxes(0, 1).reshape(responses * prompts, dimension))

    def logits(self, coordinates: FloatArray) -> FloatArray:
        """Return phi.theta, (problems, prompts, responses)."""
        prompts, responses, _ = self.features.shape
        return np.asarray((self._flat @ coordinates.T).reshape(responses, prompts, len(coordinates)).T)

    def adjoint(self, values: FloatArray) -> FloatArray:
        """Return ``sum_xy values phi``, (problems, d)."""
        return np.asarray((self._flat.T @ values.T.reshape(len(self._flat), len(values))).T)


class Curvature(Protocol):
    """Hessians of many problems."""

    @property
    def design(self) -> Design:
        """Return the features."""

    @property
    def convex(self) -> NDArray[np.bool_]:
        """Return where a Hessian surely has no negative eigenvalue, (problems,)."""

    def product(self, vectors: FloatArray) -> FloatArray:
        """Return the products with one vector for each problem, (problems, d)."""

    def mean(self) -> FloatArray:
        """Return a matrix close to the Hessians of all problems, (d, d)."""

    def rows(self, rows: NDArray[np.intp]) -> "Curvature":
        """Return the curvature of some of the problems."""

    def dense(self) -> FloatArray:
        """Return the Hessians, (problems, d, d)."""


@dataclass(frozen=True, eq=False)
class UnpairedCurvature:
    """``sum_xy weights c c^T`` with the centred features ``c = phi - E_policy[phi]``."""

    design: Design
    weights: FloatArray
    policy: FloatArray

    @property
    def convex(self) -> NDArray[np.bool_]:
        """Return where no weight is negative."""
        return np.asarray(self.weights.min(axis=(1, 2), initial=np.inf) >= 0.0)

    def product(self, vectors: FloatArray) -> FloatArray:
        """Return the products with one vector for each problem."""
        along = self.design.logits(vectors)
        along -= (self.policy * along).sum(axis=2, keepdims=True)
        along *= self.weights
        along -= self.policy * along.sum(axis=2, keepdims=True)
        return self.design.adjoint(along)

    def mean(self) -> FloatArray:
        """Return the Hessian of the mean weights and the mean policy."""
        middle = [values.mean(axis=0, keepdims=True) for values in (self.weights, self.policy)]
        return UnpairedCurvature(self.design, *middle).dense()[0]

    def rows(self, rows: NDArray[np.intp]) -> "UnpairedCurvature":
        """Return the curvature of some of the problems."""
        return UnpairedCurvature(self.design, some_of(self.weights, rows), some_of(self.policy, rows))

    def dense(self) -> FloatArray:
        """Return the Hessians."""
        features, problems = self.design.features, len(self.weights)
        means = np.matmul(self.policy.swapaxes(0, 1), features).swapaxes(0, 1)
        centred = (features - means[:, :, None, :]).reshape(problems, self.weights[0].size, features.shape[2])
        weighted = centred * np.ascontiguousarray(self.weights).reshape(problems, self.weights[0].size, 1)
        return np.asarray(np.matmul(weighted.swapaxes(1, 2), centred))


@dataclass(frozen=True, eq=False)
class PairedCurvature:
    """``sum_xij links (phi_i - phi_j) (phi_i - phi_j)^T / 2`` with symmetric links (problems, prompts, K, K)."""

    design: Design
    links: FloatArray

    @property
    def convex(self) -> NDArray[np.bool_]:
        """Return where no link is negative."""
        return np.asarray(self.links.min(axis=(1, 2, 3), initial=np.inf) >= 0.0)

    def product(self, vectors: FloatArray) -> FloatArray:
        """Return the products with one vector for each problem."""
        along = self.design.logits(vectors)
        pulled = np.matmul(self.links, along[..., None])[..., 0]
        return self.design.adjoint(np.asfortranarray(self.links.sum(axis=3) * along - pulled))

    def mean(self) -> FloatArray:
        """Return the mean of the Hessians."""
        return PairedCurvature(self.design, self.links.mean(axis=0, keepdims=True)).dense()[0]

    def rows(self, rows: NDArray[np.intp]) -> "PairedCurvature":
        """Return the curvature of some of the problems."""
        return PairedCurvature(self.design, self.links[rows])

    def dense(self) -> FloatArray:
        """Return the Hessians: Laplacians of the links between the features."""
        features = self.design.features
        prompts, responses, dimension = features.shape
        laplacian = self.links.sum(axis=3)[..., None] * np.eye(responses) - self.links
        flat = features.reshape(prompts * responses, dimension)
        return np.asarray(np.matmul(flat.T, np.matmul(laplacian, features).reshape(len(self.links), *flat.shape)))


@dataclass(frozen=True)
class Slopes:
    """Gradients (problems, d), Hessians and the rounding error of the gradients (problems,)."""

    gradient: FloatArray
    curvature: Curvature
    noise: FloatArray


def newton_step(slopes: Slopes, mass: FloatArray, exact: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ``-|H|^-1 g``, its slope and a lower bound of the eigenvalues of H, -inf where derivatives overflow.

    Conjugate gradients stop at a residual of 1e-2 of the gradient, falling with the gradient over the mass to 1e-6, so
    that Newton's method still converges at its own rate. `exact` steps all come from eigenvalues.
    """
    step, lowest = np.zeros_like(slopes.gradient), np.zeros(len(mass))
    convex = np.isfinite(slopes.gradient).all(axis=1) & np.isfinite(slopes.noise) & (not exact)
    if not exact:
        convex &= slopes.curvature.convex
    solved = convex.copy()
    if convex.any():
        some = slice(None) if convex.all() else np.nonzero(convex)[0]
        curvature = slopes.curvature if convex.all() else slopes.curvature.rows(np.nonzero(convex)[0])
        given = (slopes.gradient[some], slopes.noise[some], mass[some])
        step[some], solved[some] = _conjugate_gradients(curvature, *given)
    rest = np.nonzero(~solved)[0]
    prompts, responses, dimension = slopes.curvature.design.features.shape
    size = max(1, _NUMBERS_AT_ONCE // (prompts * responses * max(responses, dimension)))
    for rows in (rest[i : i + size] for i in range(0, len(rest), size)):
        hessian = slopes.curvature.rows(rows).dense()
        step[rows], lowest[rows] = _by_eigenvalues(slopes.gradient[rows], hessian, slopes.noise[rows])
    return step, (np.where(np.isfinite(slopes.gradient), slopes.gradient, 0.0) * step).sum(axis=1), lowest


def _conjugate_gradients(
    curvature: Curvature, gradient: FloatArray, noise: FloatArray, mass: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return approximate solutions of ``H step = -g`` and where they are accurate enough."""
    matrix = curvature.mean()
    ridge = max(_RIDGE * float(np.trace(matrix)) / max(len(matrix), 1), float(np.finfo(float).tiny))
    inverse = np.linalg.inv(matrix + ridge * np.eye(len(matrix)))
    size = np.abs(gradient).max(axis=1, initial=0.0)
    goal = np.maximum(np.clip(size / mass, _TIGHTEST, _LOOSEST) * size, noise)
    step, residual, direction = np.zeros_like(gradient), -gradient, np.zeros_like(gradient)
    pending, energy = size > goal, np.full(len(gradient), np.inf)
    for _ in range(_PRODUCTS):
        if not pending.any():
            break
        conditioned = (inverse @ residual.T).T
        before, energy = energy, (residual * conditioned).sum(axis=1)
        direction *= (energy / np.where(before > 0, before, 1.0))[:, None]
        direction += conditioned
        product = curvature.product(direction)
        bend = (direction * product).sum(axis=1)
        length = np.where(pending & (bend > 0), energy / np.where(bend > 0, bend, 1.0), 0.0)[:, None]
        step += length * direction
        residual -= length * product
        pending &= np.abs(residual).max(axis=1, initial=0.0) > goal
    return step, ~pending


def _by_eigenvalues(gradient: FloatArray, hessian: FloatArray, noise: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ``-|H|^-1 g`` and the lowest eigenvalue of H, -inf where derivatives overflow."""
    usable = np.isfinite(hessian).all(axis=(1, 2)) & np.isfinite(gradient).all(axis=1)
    gradient = np.where(usable[:, None], gradient, 0.0)
    values, vectors = np.linalg.eigh(np.where(usable[:, None, None], hessian, np.eye(gradient.shape[1])))
    along = np.matmul(gradient[:, None, :], vectors)[:, 0]
    along = np.where(np.abs(along) > noise[:, None], along, 0.0)  # rounding is no direction
    size = np.abs(values)
    floor = np.maximum(1e-14 * size.max(axis=1, initial=0.0), np.maximum(noise, np.finfo(float).tiny))
    size = np.maximum(size, floor[:, None])  # a curvature of nothing but rounding has no directions of its own
    step = -np.matmul(vectors, (along / size)[:, :, None])[:, :, 0]
    return step, np.where(usable, values.min(axis=1, initial=np.inf), -np.inf)
