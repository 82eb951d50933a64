"""First-order optimisation of many rows at once: each row its own data, parameters, divergence and nothing shared.

The formulas are those of `theory.losses`, differentiated by autograd. torch is needed here and not elsewhere in the
tabular simulations.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from sim.preferences.arguments import IntArray
from theory import Generator
from theory.checks import FloatArray
from theory.losses import (
    BeyondDomain,
    ddro_losses,
    dpo_losses,
    ipo_losses,
    kto_losses,
    mle_losses,
    rdro_losses,
    sft_losses,
)

__all__ = ["PAIR_METHODS", "Descent", "Objective", "descend", "guarded_step", "single_thread"]

PAIR_METHODS = ("dpo", "ipo")
"""Methods whose data are counts of (chosen, rejected) pairs."""


@dataclass(frozen=True, eq=False)
class Objective:
    """Weighted mean loss of every row, as a function of its log-ratios and its counts.

    ``sum_i counts_i w_i loss_i(u) / sum_i counts_i``, with the static weights ``w`` of single examples.

    Parameters
    ----------
    method : str
        One of `theory.METHODS`.
    weights : Tensor
        Weights of one preferred and one non-preferred example in each row, shape (rows, 2, 1, 1); 1 for pairs.
    reference : Tensor
        Reference policy, shape (prompts, responses), for the reference point of kto.
    prompt_probs : Tensor
        Prompt law, shape (prompts,), for the same.
    alpha : ndarray
        alpha of rdro, ddro and mle at each prompt, shape (prompts,).
    generator : Generator
        Generator of rdro and ddro.
    beta : float
        Parameter of kto, dpo and ipo.
    beyond_domain : {"infinite", "extend"}
        What ddro does beyond its domain.

    Examples
    --------
    >>> from theory import get_generator
    >>> weights, reference, law = torch.ones(1, 2, 1, 1), torch.full((1, 2), 0.5), torch.ones(1)
    >>> logistic = get_generator("logistic")
    >>> objective = Objective("rdro", weights, reference, law, np.array([0.5]), logistic, 0.1, "infinite")
    >>> counts = torch.tensor([[[[2.0, 1.0]], [[1.0, 2.0]]]])
    >>> round(float(objective(torch.zeros(1, 1, 2), counts)), 5)  # ln 2 at u = 0
    0.69315
    """

    method: str
    weights: torch.Tensor
    reference: torch.Tensor
    prompt_probs: torch.Tensor
    alpha: FloatArray
    generator: Generator
    beta: float
    beyond_domain: BeyondDomain

    def __call__(self, log_ratio: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Return the loss of every row, for log-ratios (rows, prompts, responses) and counts of one data layout."""
        if self.method in PAIR_METHODS:
            chosen = log_ratio[..., :, None].expand(counts.shape)
            rejected = log_ratio[..., None, :].expand(counts.shape)
            losses = (dpo_losses if self.method == "dpo" else ipo_losses)(chosen, rejected, self.beta)
            return (counts * losses).sum(dim=(1, 2, 3)) / counts.sum(dim=(1, 2, 3))
        # A cell that was not drawn has no loss: its log-ratio must not bring in 0 * inf.
        u = torch.where(counts > 0, log_ratio[:, None], 0.0)
        losses = self._unpaired(u, log_ratio)
        return (counts * self.weights * losses).sum(dim=(1, 2, 3)) / counts.sum(dim=(1, 2, 3))

    def _unpaired(self, u: torch.Tensor, log_ratio: torch.Tensor) -> torch.Tensor:
        """Return the losses of both classes at every cell, shape (rows, 2, prompts, responses)."""
        preferred = torch.tensor([True, False])[:, None, None].expand(u.shape)
        match self.method:
            case "sft":
                return sft_losses(u, preferred)
            case "kto":
                return kto_losses(u, preferred, self.beta, self._reference_point(log_ratio).expand(u.shape))
            case "mle":
                return mle_losses(u, preferred, self._alpha(u))
            case "ddro":
                return ddro_losses(u, preferred, self._alpha(u), self.generator, self.beyond_domain)
            case _:
                return rdro_losses(u, preferred, self._alpha(u), self.generator)

    def _alpha(self, u: torch.Tensor) -> float | torch.Tensor:
        """Return alpha as one number where it is one, else one value per cell."""
        if np.all(self.alpha == self.alpha[0]):
            return float(self.alpha[0])
        return torch.from_numpy(self.alpha)[:, None].expand(u.shape)

    def _reference_point(self, log_ratio: torch.Tensor) -> torch.Tensor:
        """Return ``KL(p_theta || p_ref)`` of every row, detached, shape (rows, 1, 1, 1)."""
        u = torch.where(self.reference > 0, log_ratio.detach(), 0.0)
        divergence = (self.reference * torch.exp(u) * u).sum(dim=2) @ self.prompt_probs
        return divergence[:, None, None, None]


@dataclass(frozen=True, eq=False)
class Descent:
    """Where the rows ended.

    Attributes
    ----------
    log_ratio : ndarray
        Log-ratios u of the policies to the reference, shape (rows, prompts, responses).
    diverged_at : ndarray
        Number of updates made before the row's loss, gradient or parameters were found not to be finite; NaN else.
    largest_gradient_norm : ndarray
        Largest Euclidean norm of the row's gradients, before clipping; inf if a gradient was not finite.
    first_gradient_norm, last_gradient_norm : ndarray
        Norms of the gradient on all data, at the start and at the end.
    loss : ndarray
        Loss on all data at the end.
    """

    log_ratio: FloatArray
    diverged_at: FloatArray
    largest_gradient_norm: FloatArray
    first_gradient_norm: FloatArray
    last_gradient_norm: FloatArray
    loss: FloatArray


def descend(
    objective: Objective,
    counts: IntArray,
    features: FloatArray | None,
    *,
    optimiser: str,
    learning_rate: float,
    steps: int,
    batch_size: int,
    clip_norm: float | None,
    rng: np.random.Generator,
) -> Descent:
    """Minimise the loss of every row from the reference on, freezing rows that diverge.

    Policies are ``p_ref exp(s) / Z`` with scores s = theta (tabular) or ``features @ theta`` (log-linear) and theta
    starting at 0: with ``theta + log p_ref`` as softmax logits, started at the reference, the path is the same.

    Parameters
    ----------
    objective : Objective
        The loss.
    counts : ndarray of int64
        Data of every row, of the layout that the objective takes, at least one example in each.
    features : ndarray or None
        Features of log-linear policies, shape (prompts, responses, d); None for tabular ones.
    optimiser : {"sgd", "adam"}
        torch's, with its default settings.
    learning_rate : float
        Step size, greater than 0.
    steps : int
        Number of updates, at least 1.
    batch_size : int
        Examples (or pairs) drawn with replacement for each update; 0 takes all data each time.
    clip_norm : float or None
        Gradients of a row are scaled down to this norm.
    rng : numpy.random.Generator
        Draws the minibatches.

    Returns
    -------
    Descent
        Final log-ratios and what happened on the way.

    Notes
    -----
    A row is frozen at the parameters at which its loss on the batch, its gradient or a parameter is not finite, and
    likewise if its loss on all data is not finite at the end. Both optimisers work parameter by parameter, so a row
    depends on its own data alone.

    Examples
    --------
    >>> from theory import get_generator
    >>> weights, reference, law = (torch.ones(s, dtype=torch.float64) for s in ((1, 2, 1, 1), (1, 2), (1,)))
    >>> logistic = get_generator("logistic")
    >>> objective = Objective("rdro", weights, reference / 2, law, np.array([0.5]), logistic, 0.1, "infinite")
    >>> settings = {"optimiser": "sgd", "learning_rate": 1.0, "steps": 100, "batch_size": 0, "clip_norm": None}
    >>> counts = np.array([[[[8, 2]], [[2, 8]]]])
    >>> end = descend(objective, counts, None, **settings, rng=np.random.default_rng(0))
    >>> (np.exp(end.log_ratio) / 2).round(4)
    array([[[0.8, 0.2]]])
    """
    everything = torch.from_numpy(counts.astype(np.float64))
    policy = _Policies(objective.reference, features, len(counts))
    step_class = torch.optim.Adam if optimiser == "adam" else torch.optim.SGD
    stepper = step_class([policy.parameters], lr=learning_rate)
    alive = torch.ones(len(counts), dtype=torch.bool)
    diverged_at = torch.full((len(counts),), torch.nan, dtype=torch.float64)
    largest = torch.zeros(len(counts), dtype=torch.float64)
    _, _, first = _evaluate(objective, policy, everything)
    for step, batch in enumerate(_batches(counts, everything, steps, batch_size, rng)):
        loss, gradient, norm = _evaluate(objective, policy, batch)
        broken = alive & ~(torch.isfinite(loss) & torch.isfinite(norm) & policy.finite())
        largest = torch.where(alive, torch.fmax(largest, torch.nan_to_num(norm, nan=torch.inf)), largest)
        diverged_at[broken] = float(step)
        alive &= ~broken
        if not alive.any():
            break
        guarded_step(policy.parameters, stepper, _clip(gradient, norm, clip_norm), alive)
    loss, _, last = _evaluate(objective, policy, everything)
    diverged_at[alive & ~(torch.isfinite(loss) & torch.isfinite(last) & policy.finite())] = float(steps)
    with torch.no_grad():
        log_ratio = policy.log_ratio()
    return Descent(*(values.numpy() for values in (log_ratio, diverged_at, largest, first, last, loss)))


class _Policies:
    """Parameters of every row, starting at the reference."""

    def __init__(self, reference: torch.Tensor, features: FloatArray | None, rows: int) -> None:
        """Start all rows at the reference."""
        self._log_reference = torch.log(reference)
        self._features = None if features is None else torch.from_numpy(np.ascontiguousarray(features))
        shape = tuple(reference.shape) if features is None else (features.shape[2],)
        self.parameters = torch.zeros((rows, *shape), dtype=reference.dtype, requires_grad=True)

    def log_ratio(self) -> torch.Tensor:
        """Return ``u = s - log sum p_ref e^s``, shape (rows, prompts, responses)."""
        scores = self.parameters
        if self._features is not None:
            scores = torch.einsum("pkd,rd->rpk", self._features, scores)
        return scores - torch.logsumexp(scores + self._log_reference, dim=2, keepdim=True)

    def finite(self) -> torch.Tensor:
        """Return which rows have finite parameters only."""
        return torch.isfinite(self.parameters.detach()).flatten(1).all(dim=1)


def guarded_step(
    parameters: torch.Tensor, stepper: torch.optim.Optimizer, gradient: torch.Tensor, alive: torch.Tensor
) -> None:
    """Make one optimiser step, which leaves frozen rows where they are.

    Parameters
    ----------
    parameters : Tensor
        The leaf that the optimiser moves, one row per replicate.
    stepper : torch.optim.Optimizer
        An optimiser that works parameter by parameter.
    gradient : Tensor
        Gradient, of the shape of `parameters`.
    alive : Tensor of bool
        Rows that move, shape (rows,).

    Examples
    --------
    >>> parameters = torch.zeros(2, 1, requires_grad=True)
    >>> stepper = torch.optim.SGD([parameters], lr=1.0)
    >>> guarded_step(parameters, stepper, torch.ones(2, 1), torch.tensor([True, False]))
    >>> parameters.flatten().tolist()
    [-1.0, 0.0]
    """
    moving = alive.reshape(-1, *(1,) * (gradient.ndim - 1))
    before = parameters.detach().clone()
    parameters.grad = torch.where(moving, gradient, 0.0)
    stepper.step()
    with torch.no_grad():
        parameters.copy_(torch.where(moving, parameters, before))


def _evaluate(
    objective: Objective, policy: _Policies, counts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return every row's loss, gradient and gradient norm."""
    losses = objective(policy.log_ratio(), counts)
    (gradient,) = torch.autograd.grad(losses.sum(), policy.parameters)
    return losses.detach(), gradient, torch.linalg.vector_norm(gradient.flatten(1), dim=1)


def _batches(
    counts: IntArray, everything: torch.Tensor, steps: int, batch_size: int, rng: np.random.Generator
) -> Iterator[torch.Tensor]:
    """Yield the counts of one batch per step: all data, or multinomial draws from each row's own."""
    if batch_size == 0:
        for _ in range(steps):
            yield everything
        return
    shares = counts.reshape(len(counts), -1).astype(np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    for _ in range(steps):
        drawn = rng.multinomial(batch_size, shares).astype(np.float64)
        yield torch.from_numpy(drawn.reshape(counts.shape))


def _clip(gradient: torch.Tensor, norm: torch.Tensor, clip_norm: float | None) -> torch.Tensor:
    """Return gradients whose rows are no longer than `clip_norm`."""
    if clip_norm is None:
        return gradient
    shrink = torch.clamp(clip_norm / torch.clamp(norm, min=torch.finfo(norm.dtype).tiny), max=1.0)
    return gradient * shrink.reshape(-1, *(1,) * (gradient.ndim - 1))


@contextmanager
def single_thread() -> Iterator[None]:
    """Let torch use one thread, so that sums have one order, and give back the former number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
