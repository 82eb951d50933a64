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
# # Losses side by side
#
# **Question.** Every method here is a function of one number, the log-ratio u = log(policy/reference) of a response.
# What does each pay for preferred and for non-preferred responses, what does alpha change, and which policy does each
# one aim at?

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from figures import plot_loss_shapes
from figures.style import METHOD_STYLES
from sim.exact_tables import loss_shapes
from theory import (
    METHODS,
    FiniteProblem,
    ddro_losses,
    dpo_losses,
    ipo_losses,
    kto_losses,
    mle_losses,
    population_target,
    rdro_losses,
    sft_losses,
    total_variation,
)

# %% [markdown]
# **Five losses of single responses**, at alpha = 0.3. Preferred responses should get a large u, the others a small one.
# At u = log(1/alpha) = 1.2 RDRO pays least for a preferred response, and asks for no more. There DDRO and MLE end:
# beyond they are infinite, as no p- would explain such a policy. (At alpha = 1/2 the two are one and the same, P7.) SFT
# does not see non-preferred responses. KTO levels off on both sides: what is very wrong is hardly corrected.

# %%
u = np.linspace(-4.0, 3.0, 701)
fig, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for ax, preferred in zip(axes, (True, False), strict=True):
    label = np.full(u.shape, preferred)
    losses = {
        "rdro": rdro_losses(u, label, alpha=0.3),
        "ddro": ddro_losses(u, label, alpha=0.3),
        "mle": mle_losses(u, label, alpha=0.3),
        "sft": sft_losses(u, label),
        "kto": kto_losses(u, label, beta=1.0, kl=0.0),
    }
    for method, loss in losses.items():
        ax.plot(u, loss, label=METHOD_STYLES[method].label, **METHOD_STYLES[method].line())
    title = "preferred" if preferred else "nonpreferred"
    ax.set(xlabel="log-ratio u of policy to reference (nats)", ylabel="loss (nats)", title=title, ylim=(-3, 5))
_ = axes[0].legend()

# %% [markdown]
# **Two losses of pairs** depend on the difference of two log-ratios alone: both responses may become less likely, as
# long as the chosen one does so less. DPO pulls at every margin; IPO pulls back from margins above 1/(2 beta).

# %%
margin = np.linspace(-3.0, 3.0, 601)
fig, ax = plt.subplots(figsize=(4.5, 3), layout="constrained")
for method, loss_of in [("dpo", dpo_losses), ("ipo", ipo_losses)]:
    loss = loss_of(margin, np.zeros_like(margin), beta=1.0)
    ax.plot(margin, loss, label=METHOD_STYLES[method].label, **METHOD_STYLES[method].line())
ax.set(xlabel="margin, chosen less rejected log-ratio (nats)", ylabel="loss", ylim=(0, 8), title=r"$\beta$ = 1")
_ = ax.legend()

# %% [markdown]
# **What alpha does.** The derivative is what an optimiser feels. RDRO's stays within [-1, 1], shaded, for every alpha.
# DDRO's explodes at log(1/alpha), the thin lines, which come closer as alpha grows. Dotted is DDRO continued linearly
# beyond its domain, an extension of our own.

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.6), sharey=True, layout="constrained")
for ax, preferred in zip(axes, (True, False), strict=True):
    plot_loss_shapes(loss_shapes(alphas=[0.2, 0.5, 0.8]), "derivative", preferred, ax=ax)
_ = fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize="small")

# %% [markdown]
# The same with **alpha of your own choice**. Move the slider if your Jupyter shows one; where there is none, this cell
# draws the picture for alpha = 0.35.


# %%
def draw(alpha):
    _, axes = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained")
    for ax, quantity in zip(axes, ("loss", "derivative"), strict=True):
        plot_loss_shapes(loss_shapes(alphas=[alpha]), quantity, preferred=False, ax=ax)
    axes[0].legend(fontsize="small")
    plt.show()


try:
    from ipywidgets import FloatSlider, interact
except ImportError:
    draw(0.35)
else:
    interact(draw, alpha=FloatSlider(0.35, min=0.05, max=0.95, step=0.05, continuous_update=False))

# %% [markdown]
# **What each one aims at.** In the limit of much data a method finds the minimiser of its population risk, which can be
# computed exactly. Here are three responses, with the mixture at alpha = 0.2 as the reference.

# %%
problem = FiniteProblem([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], alpha=0.2)
options = {"kto": {"beta": 1.0}, "dpo": {"beta": 1.0}, "ipo": {"beta": 1.0}}
targets = {method: population_target(problem, method, **options.get(method, {}))[0] for method in METHODS}
targets["rdro, plain mean over mixed batches"] = population_target(problem, "rdro", weighting="pooled")[0]
table = pd.DataFrame(targets, index=["first", "second", "third"]).T
table["distance to p+"] = [float(total_variation(target, problem.p_preferred[0])) for target in targets.values()]
table.round(3)

# %% [markdown]
# **What was learnt.** SFT, RDRO, DDRO and MLE aim at p+, by different ways: SFT ignores half of the data, DDRO and MLE
# have an edge where they are infinite, RDRO has bounded slopes everywhere. KTO, DPO and IPO aim at other policies. And
# RDRO aims at p+ only if both classes weigh the same: a plain mean over mixed batches does not.
#
# **Where to go on.** [03](03_build_your_own_preferences.ipynb) lets you watch these targets being reached from data.
# All losses are in `theory.losses`, for NumPy and torch alike; their exact targets in `theory.population_target`.
