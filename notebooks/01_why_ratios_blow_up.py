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
# # Why ratios blow up
#
# **Question.** DDRO fits the direct ratio p+/p- of preferred to non-preferred responses, RDRO the relative ratio
# p+/(alpha p+ + (1 - alpha) p-). What does the mixture in the denominator buy, exactly and in samples, and what does it
# not buy?

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from figures.style import METHOD_STYLES, alpha_styles
from sim import build_world, simulate
from theory import direct_ratio, loss_derivatives, relative_ratio, relative_ratio_bound

# %% [markdown]
# Ten responses that are equally likely to be preferred, and less and less likely not to be. The direct ratio doubles
# from each to the next. The relative one levels off below 1/alpha, whatever the laws are (proposition P1).

# %%
responses = np.arange(10)
p_preferred = np.full(10, 0.1)
p_nonpreferred = 2.0**-responses / np.sum(2.0**-responses)

fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.semilogy(responses, direct_ratio(p_preferred, p_nonpreferred), "k--D", label="direct ratio")
for alpha, style in alpha_styles([0.1, 0.5]).items():
    ratio = relative_ratio(p_preferred, p_nonpreferred, alpha)
    ax.semilogy(responses, ratio, label=f"relative ratio, {style.label}", **style.points())
    ax.axhline(float(relative_ratio_bound(alpha)), color=style.colour, linewidth=0.8)
ax.set(xlabel="response", ylabel="ratio", title=r"thin lines: the bound $1/\alpha$")
_ = ax.legend()

# %% [markdown]
# **In samples.** A response that was seen among the preferred examples and not among the others has an infinite direct
# estimate. Its relative estimate is at most 1/alpha, here 10, in every sample (P2). But the *policy* that minimises the
# RDRO risk must sum to one, and that may push a ratio above 1/alpha while n is small (P3).

# %%
world = build_world({"name": "overlap", "p_preferred": p_preferred, "p_nonpreferred": p_nonpreferred, "alpha": 0.1})
rows = []
for n in (100, 1_000, 10_000, 100_000):
    metrics = simulate(world, "rdro", n, 500, np.random.default_rng(n)).metrics
    rows.append(
        {
            "n": n,
            "samples with an infinite direct estimate": metrics["direct_infinite"].mean(),
            "largest relative estimate": metrics["max_relative_estimate"].max(),
            "largest ratio of a policy": metrics["max_ratio"].max(),
        }
    )
pd.DataFrame(rows).set_index("n").round(3)

# %% [markdown]
# **In gradients.** What a network feels is the derivative of the loss in the log-ratio u of policy to reference. RDRO's
# stays within [-1, 1]. DDRO's is unbounded as u approaches log(1/alpha), the edge of its domain (P4).

# %%
alpha = 0.5
u = np.linspace(-3, np.log(1 / alpha) - 1e-3, 400)
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for method in ("rdro", "ddro"):
    for preferred, width in [(True, 1.0), (False, 2.2)]:
        slope = loss_derivatives(method, u, np.full(u.shape, preferred), alpha).first
        label = f"{METHOD_STYLES[method].label}, {'preferred' if preferred else 'nonpreferred'}"
        ax.plot(u, slope, linewidth=width, label=label, **METHOD_STYLES[method].line())
ax.axvline(np.log(1 / alpha), color="grey", linewidth=0.8)
ax.set(xlabel="log-ratio u of policy to reference (nats)", ylabel="derivative of the loss in u", ylim=(-2, 10))
_ = ax.legend(title=r"$\alpha$ = 0.5")

# %% [markdown]
# **What was learnt.** The mixture bounds the ratio, its unnormalised estimate and the gradients, for all laws and all
# samples. It does not bound the ratio of a normalised policy in small samples.
#
# **Where to go on.** [02](02_losses_side_by_side.ipynb) puts all losses side by side, with a slider for alpha;
# [04](04_how_fast.ipynb) shows what a bounded gradient costs. `make figures` draws the same pictures with their
# uncertainty, `relative_ratio_is_bounded` and `loss_and_gradient_shapes`.
