"""Small log-linear data sets for the tests of `sim.log_linear`."""

import numpy as np
from scipy.special import softmax


def world(problems=3, prompts=3, responses=4, dimension=2, seed=0):
    """Features, reference and positive masses of both classes, which sum to 1 in each problem."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(prompts, responses, dimension))
    reference = rng.dirichlet(np.full(responses, 3.0), size=prompts)
    tilted = softmax(np.log(reference) + features @ rng.normal(scale=0.4, size=dimension), axis=1)
    masses = []
    for law in (tilted, reference):
        counts = 2 + rng.poisson(40 * law, size=(problems, prompts, responses))
        masses.append(0.5 * counts / counts.sum(axis=(1, 2), keepdims=True))
    return features, reference, *masses
