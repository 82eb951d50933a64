# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How fast: constants, efficiency, misspecification
#
# **Question.** SFT, RDRO, DDRO and MLE all reach p+ at the rate n^(-1/2). Which needs fewer examples for the same
# error, how much of what the data hold does each one use, and what is left of it when alpha or the reference is wrong?

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from figures.style import METHOD_STYLES
from sim import build_world, simulate
from theory import GENERATORS, FiniteProblem, asymptotic_kl, efficiency, population_target, total_variation

# %% [markdown]
# **Constants.** n times the mean divergence KL(p+ || policy) tends to a constant that theory knows
# (`theory.asymptotic_kl`, the horizontal lines). Points are simulated means with 95 % intervals.

# %%
p_preferred, p_nonpreferred = [0.35, 0.25, 0.2, 0.12, 0.08], [0.08, 0.12, 0.2, 0.25, 0.35]
laws = {"p_preferred": p_preferred, "p_nonpreferred": p_nonpreferred, "alpha": 0.3}
world = build_world({"name": "five responses", **laws})
sizes, replicates = [500, 2_000, 10_000, 100_000], 4_000

fig, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
for method in ("sft", "rdro", "ddro", "mle"):
    style = METHOD_STYLES[method]
    scaled = [simulate(world, method, n, replicates, np.random.default_rng(n)).metrics["scaled_kl"] for n in sizes]
    margins = [1.96 * values.std(ddof=1) / np.sqrt(replicates) for values in scaled]
    ax.errorbar(sizes, [values.mean() for values in scaled], margins, label=style.label, capsize=3, **style.points())
    ax.axhline(asymptotic_kl(world.problem, method), linewidth=0.8, **style.line())
ax.set(xscale="log", xlabel="labelled examples n", ylabel="n KL(p+ || policy), mean (nats)")
_ = ax.legend()

# %% [markdown]
# **Efficiency** is the smallest possible constant, that of the Cramer-Rao bound, over a method's own. MLE has 1 by
# construction, and so has DDRO at alpha = 1/2 (P7). All of it is exact; nothing is simulated.

# %%
alphas = np.linspace(0.05, 0.95, 19)
problems = [FiniteProblem(p_preferred, p_nonpreferred, alpha=alpha) for alpha in alphas]
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.6), layout="constrained")
for method in ("mle", "ddro", "rdro", "sft"):
    values = [efficiency(problem, method) for problem in problems]
    for ax in axes:
        ax.plot(alphas, values, label=METHOD_STYLES[method].label, **METHOD_STYLES[method].line())
axes[0].set(xlabel="alpha", ylabel="efficiency", ylim=(0, 1.05), title="all")
axes[1].set(xlabel="alpha", ylim=(0.97, 1.001), title="the same, enlarged")
_ = axes[0].legend()

# %% [markdown]
# The generator of the Bregman divergence matters as much as the choice between RDRO and DDRO:

# %%
table = {
    (method, name): [
        efficiency(FiniteProblem(p_preferred, p_nonpreferred, alpha=a), method, generator=name)
        for a in (0.1, 0.3, 0.5, 0.9)
    ]
    for method in ("rdro", "ddro")
    for name in GENERATORS
}
pd.DataFrame(table, index=["alpha = .1", ".3", ".5", ".9"]).T.round(3)

# %% [markdown]
# **Told the wrong alpha**, methods aim elsewhere, however much data there are. Here the true alpha is 0.3, and the
# distance of each exact target from p+ is drawn against the alpha that was told. SFT has no alpha.

# %%
told = np.linspace(0.1, 0.6, 26)
fig, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
for method in ("rdro", "ddro", "mle"):
    targets = [population_target(world.problem, method, alpha=alpha) for alpha in told]
    distances = [total_variation(target, world.problem.p_preferred)[0] for target in targets]
    ax.plot(told, distances, label=METHOD_STYLES[method].label, **METHOD_STYLES[method].line())
ax.axvline(0.3, color="grey", linewidth=0.8)
ax.set(xlabel="alpha that was told (true: 0.3, grey)", ylabel="distance of target to p+ (TV)")
_ = ax.legend()

# %% [markdown]
# **Remedies.** The share of preferred labels in place of alpha, if labels are a plain sample of the mixture; and, for a
# reference that is not the mixture, a reference calibrated to the data. Means of the distance to p+ over 1,000 data
# sets of 10,000 examples:

# %%
skewed = build_world({"name": "wrong reference", **laws, "reference": "perturbed", "reference_error": 0.3})
cases = {
    "all is right": (world, {}),
    "told alpha = 0.45": (world, {"alpha": 0.45}),
    "share of preferred labels for alpha": (world, {"alpha": "plug_in"}),
    "reference wrong by 0.3 nats": (skewed, {}),
    "reference calibrated to the data": (skewed, {"alpha": "plug_in", "reference": "calibrated"}),
}
rows = {
    case: {
        method: simulate(where, method, 10_000, 1_000, np.random.default_rng(0), **options)
        .metrics["tv_preferred"]
        .mean()
        for method in ("rdro", "ddro", "mle")
    }
    for case, (where, options) in cases.items()
}
sft = simulate(world, "sft", 10_000, 1_000, np.random.default_rng(0)).metrics["tv_preferred"].mean()
pd.DataFrame(rows).T.assign(sft=sft).round(4)

# %% [markdown]
# **What was learnt.** At alpha = 0.3, SFT needs 1.5 times as many examples as RDRO for the same divergence, and ever
# more as alpha grows. RDRO with the logistic generator needs up to 2.4 % more than MLE and up to 2.1 % more than DDRO;
# with another generator the order may be reversed. A tighter convergence of RDRO than of DDRO is not to be seen in this
# limit. Told too large an alpha, RDRO is the least biased of the three; told far too small a one, MLE is. A calibrated
# reference repairs a wrong one, but leaves SFT in effect, and with it the gain over SFT is gone.
#
# **Where to go on.** Studies with their uncertainty: `python -m sim run constants wrong_alpha wrong_reference --profile
# quick --output results`; where laws hardly overlap and limits say little, `overlap`.
# [05](05_a_language_model_exactly.ipynb) leaves tables of probabilities for a network.
