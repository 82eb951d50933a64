"""Policies on R^d made of small networks, trained with the losses of `theory.losses` on many data sets at once."""

from dataclasses import dataclass

import numpy as np
import torch

from sim.dynamics.descent import guarded_step, single_thread
from theory import class_weights
from theory.checks import FloatArray
from theory.losses import BeyondDomain, ddro_losses, mle_losses, rdro_losses

__all__ = ["NetworkFit", "NetworkSettings", "fit_networks"]


@dataclass(frozen=True)
class NetworkSettings:
    """Size and training of the networks ``f(y) = v' tanh(W y + b)``.

    Parameters
    ----------
    hidden : int
        Hidden units.
    steps : int
        Largest number of Adam steps on all training data.
    patience : int
        A run stops after this many steps without a lower held-out risk.
    learning_rate : float
        Adam's step size.
    held_out : float
        Share of each class kept for choosing the step, in (0, 1).
    """

    hidden: int
    steps: int
    patience: int
    learning_rate: float
    held_out: float


@dataclass(frozen=True, eq=False)
class NetworkFit:
    """Fitted log-ratios ``u = f - log Z`` at test points, and what became of each run.

    Attributes
    ----------
    log_ratio : ndarray
        Shape (replicates, test points); NaN for diverged runs.
    diverged : ndarray of bool
        Whether a loss, gradient or parameter was not finite, shape (replicates,).
    best_step : ndarray
        Step whose held-out risk was lowest, shape (replicates,).
    """

    log_ratio: FloatArray
    diverged: np.ndarray
    best_step: np.ndarray


def fit_networks(
    method: str,
    preferred: FloatArray,
    nonpreferred: FloatArray,
    reference: FloatArray,
    test: FloatArray,
    alpha: float,
    settings: NetworkSettings,
    rng: np.random.Generator,
    *,
    generator: str = "logistic",
    beyond_domain: BeyondDomain = "infinite",
) -> NetworkFit:
    """Train one network policy ``p_ref e^f / Z`` per data set, keeping the step of lowest held-out risk.

    Parameters
    ----------
    method : {"rdro", "ddro", "mle"}
        The loss; balanced classes for rdro and ddro, every example alike for mle.
    preferred, nonpreferred : ndarray
        Examples of the two classes, shapes (replicates, n+, d) and (replicates, n-, d), at least 2 each.
    reference : ndarray
        Draws of the reference, shape (replicates, m, d): Z is the mean of ``e^f`` over them.
    test : ndarray
        Points at which the log-ratio is wanted, shape (test points, d).
    alpha : float
        alpha of the loss, in (0, 1).
    settings : NetworkSettings
        Size and training.
    rng : numpy.random.Generator
        Draws the first layer; the last one starts at 0, so that every policy starts at the reference.
    generator : str
        Generator of rdro and ddro.
    beyond_domain : {"infinite", "extend"}
        What ddro does beyond its domain.

    Returns
    -------
    NetworkFit
        Log-ratios at the test points.

    Notes
    -----
    float32 throughout. A run whose training loss becomes infinite before it has stopped has diverged and gives no
    estimate. Held-out examples beyond the domain make the held-out risk infinite, so that such a step is not chosen.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> up, down = rng.normal(0.5, 1, (1, 500, 1)), rng.normal(-0.5, 1, (1, 500, 1))
    >>> pool = np.concatenate([up, down], axis=1)
    >>> settings = NetworkSettings(hidden=16, steps=200, patience=20, learning_rate=0.01, held_out=0.2)
    >>> fit = fit_networks("rdro", up, down, pool, np.array([[-1.0], [1.0]]), 0.5, settings, rng)
    >>> bool(np.abs(np.exp(fit.log_ratio[0]) - [0.54, 1.46]).max() < 0.2)
    True
    """
    parts = _split(preferred, nonpreferred, settings.held_out)
    losses = _Losses(method, alpha, generator, beyond_domain, [part.shape[1] for part in parts])
    width = settings.hidden * (preferred.shape[2] + 2)
    with single_thread():
        points = torch.from_numpy(np.concatenate([*parts, reference], axis=1).astype(np.float32))
        parameters = torch.from_numpy(_start(len(preferred), preferred.shape[2], settings.hidden, rng))
        parameters.requires_grad_()
        stepper = torch.optim.Adam([parameters], lr=settings.learning_rate)
        alive = torch.ones(len(preferred), dtype=torch.bool)
        best, lowest = parameters.detach().clone(), torch.full((len(preferred),), torch.inf)
        best_step = torch.zeros(len(preferred))
        for step in range(settings.steps + 1):
            risk, held = losses.risks(_scores(parameters, points, width))
            (gradient,) = torch.autograd.grad(risk.sum(), parameters)
            alive &= torch.isfinite(risk.detach()) & torch.isfinite(gradient).all(dim=1)
            better = held < lowest
            lowest, best_step = torch.where(better, held, lowest), torch.where(better, float(step), best_step)
            best = torch.where(better[:, None], parameters.detach(), best)
            moving = alive & (step - best_step < settings.patience)
            if not moving.any() or step == settings.steps:
                break
            guarded_step(parameters, stepper, gradient, moving)
        with torch.no_grad():
            everywhere = torch.from_numpy(test.astype(np.float32)).expand(len(preferred), -1, -1)
            pool = points[:, -reference.shape[1] :]
            log_ratio = _scores(best, everywhere, width) - _log_mean(_scores(best, pool, width))
    found = np.where(alive.numpy()[:, None], log_ratio.numpy().astype(np.float64), np.nan)
    return NetworkFit(found, ~alive.numpy(), best_step.numpy().astype(np.float64))


@dataclass(frozen=True)
class _Losses:
    """The risks of one method, for examples in the order of `_split` before the draws of the reference."""

    method: str
    alpha: float
    generator: str
    beyond_domain: BeyondDomain
    sizes: list[int]

    def risks(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return every replicate's class-weighted risk on training and (without gradient) on held-out examples."""
        trained, total = sum(self.sizes[:2]), sum(self.sizes)
        u = scores[:, :total] - _log_mean(scores[:, total:])
        return self._risk(u[:, :trained], self.sizes[:2]), self._risk(u[:, trained:].detach(), self.sizes[2:])

    def _risk(self, u: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        """Return the class-weighted risk of every replicate, preferred examples first."""
        weights = class_weights(sizes[0] / sum(sizes), "pooled" if self.method == "mle" else "balanced").risk_weights
        losses = self._losses(u, (torch.arange(u.shape[1]) < sizes[0]).expand(u.shape))
        means = losses[:, : sizes[0]].mean(dim=1), losses[:, sizes[0] :].mean(dim=1)
        return float(weights[0]) * means[0] + float(weights[1]) * means[1]

    def _losses(self, u: torch.Tensor, preferred: torch.Tensor) -> torch.Tensor:
        """Return the loss of every example."""
        if self.method == "mle":
            return mle_losses(u, preferred, self.alpha)
        if self.method == "ddro":
            return ddro_losses(u, preferred, self.alpha, self.generator, self.beyond_domain)
        return rdro_losses(u, preferred, self.alpha, self.generator)


def _split(preferred: FloatArray, nonpreferred: FloatArray, held_out: float) -> list[FloatArray]:
    """Return training examples of both classes, then held-out ones; draws are independent, so the last are as good."""
    cuts = [
        min(max(round((1.0 - held_out) * part.shape[1]), 1), part.shape[1] - 1) for part in (preferred, nonpreferred)
    ]
    return [preferred[:, : cuts[0]], nonpreferred[:, : cuts[1]], preferred[:, cuts[0] :], nonpreferred[:, cuts[1] :]]


def _start(rows: int, dimension: int, hidden: int, rng: np.random.Generator) -> np.ndarray:
    """Return flat starting parameters (W, b, v): normal directions and offsets, and a last layer of zeros."""
    directions = rng.standard_normal((rows, dimension * hidden)) / np.sqrt(dimension)
    offsets = rng.standard_normal((rows, hidden))
    return np.concatenate([directions, offsets, np.zeros((rows, hidden))], axis=1).astype(np.float32)


def _scores(parameters: torch.Tensor, points: torch.Tensor, width: int) -> torch.Tensor:
    """Return f at points (rows, m, d), shape (rows, m)."""
    rows, _, dimension = points.shape
    hidden = width // (dimension + 2)
    directions = parameters[:, : dimension * hidden].reshape(rows, dimension, hidden)
    offsets = parameters[:, dimension * hidden : (dimension + 1) * hidden]
    last = parameters[:, (dimension + 1) * hidden :]
    activations = torch.tanh(torch.baddbmm(offsets[:, None], points, directions))
    return torch.bmm(activations, last[:, :, None])[:, :, 0]


def _log_mean(scores: torch.Tensor) -> torch.Tensor:
    """Return ``log mean e^f`` of every row, shape (rows, 1)."""
    return torch.logsumexp(scores, dim=1, keepdim=True) - float(np.log(scores.shape[1]))
