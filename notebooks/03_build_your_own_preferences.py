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
# # Consistency: build your own preferences
#
# **Question.** The papers say that RDRO and DDRO find the preferred law p+ whatever the preferences are, Bradley-Terry
# or not. Take preferences of your own: do the estimates approach p+ as data grow, how fast, and what do other methods
# approach?

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from figures.style import METHOD_STYLES
from sim import PREFERENCE_MODELS, build_world, fit_rate, simulate
from sim.bt_distance import bt_distance
from sim.preferences import PairwisePreference, PreferenceModel
from theory import population_target, total_variation

# %% [markdown]
# **Your preferences** are a table: entry (i, j) is the probability that answer i is preferred to answer j. Change it as
# you like, as long as (i, j) and (j, i) sum to one. In this one short beats long, long beats witty and witty beats
# short, so that no scores explain it; kind beats each of them a little.

# %%
answers = ["short", "kind", "witty", "long"]
wins = np.array(
    [
        [0.5, 0.4, 0.3, 0.8],
        [0.6, 0.5, 0.6, 0.6],
        [0.7, 0.4, 0.5, 0.2],
        [0.2, 0.4, 0.8, 0.5],
    ]
)
bt_distance(wins)

# %% [markdown]
# That is the distance from Bradley-Terry: *size* in nats a comparison (votes of the Chatbot Arena have 0.0005), *shape*
# the share of the squared logits that no scores explain, and the shares of triples that violate weak, moderate and
# strong transitivity.
#
# **A model of preferences** is an entry of a registry. From then on it is a name like all the others, here and in the
# files of studies.

# %%
PREFERENCE_MODELS["answers"] = PreferenceModel(
    build=lambda: PairwisePreference("answers", wins),
    summary="four answers, three of them in a circle",
    formula="P_ij from a table",
    source="this notebook",
    regime="paired",
)
world = build_world({"name": "four answers", "preference": "answers", "base": [0.4, 0.1, 0.2, 0.3]})

# %% [markdown]
# The base policy says how often each answer is written, and two that it wrote are compared. The law of the winner is
# p+, that of the loser p-, their mixture is the reference (assumption M), and every method's target is known exactly.

# %%
methods = {"rdro": {}, "ddro": {}, "sft": {}, "dpo": {"beta": 1.0}, "ipo": {"beta": 1.0}}
laws = {"p+": world.problem.p_preferred, "p-": world.problem.p_nonpreferred, "reference": world.problem.reference}
targets = {name: population_target(world.problem, name, **options) for name, options in methods.items()}
table = pd.DataFrame({name: law[0] for name, law in (laws | targets).items()}, index=answers).T
table["distance to p+"] = [float(total_variation(law, world.estimand)[0]) for law in (laws | targets).values()]
table.round(3)

# %% [markdown]
# **Watch it converge.** All methods see the same data sets, of n labelled answers each. Means over the data sets with
# 95 % bands, which are narrow; thin horizontal lines are the distances of the exact targets. RDRO and DDRO lie on one
# another.

# %%
replicates = 400
sizes = [300, 3_000, 30_000, 300_000, 3_000_000]
rows = []
for n in sizes:
    rng = np.random.default_rng(n)
    data = world.sample(n, replicates, rng)
    for method, options in methods.items():
        result = simulate(world, method, n, replicates, rng, data=data, **options)
        for metric in ("tv_preferred", "tv_target"):
            errors = result.metrics[metric]
            mean, standard_error = errors.mean(), errors.std(ddof=1) / np.sqrt(replicates)
            rows.append((method, metric, n, mean, standard_error, result.exact[metric]))
errors = pd.DataFrame(rows, columns=["method", "metric", "n", "mean", "standard_error", "exact"])

fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.8), sharey=True, layout="constrained")
for ax, (metric, title) in zip(axes, {"tv_preferred": "p+", "tv_target": "own exact target"}.items(), strict=True):
    for method, curve in errors[errors["metric"] == metric].groupby("method", sort=False):
        style, margin = METHOD_STYLES[method], 1.96 * curve["standard_error"]
        ax.loglog(curve["n"], curve["mean"], label=style.label, fillstyle="none", **style.points())
        ax.fill_between(curve["n"], curve["mean"] - margin, curve["mean"] + margin, color=style.colour, alpha=0.25)
        if curve["exact"].max() > 1e-8:
            ax.axhline(curve["exact"].max(), color=style.colour, linewidth=0.8)
    ax.set(xlabel="labelled examples n", title=f"distance to {title}")
axes[0].set_ylabel("total variation")
_ = axes[1].legend()

# %% [markdown]
# **How fast?** Slopes of log error on log n over the larger sizes, with 95 % intervals: -1/2 is the usual rate.

# %%
larger = errors[(errors["metric"] == "tv_target") & errors["n"].isin(sizes[-3:])]
rates = {method: fit_rate(curve) for method, curve in larger.groupby("method", sort=False)}
slopes = {method: [rate.slope, rate.low, rate.high] for method, rate in rates.items()}
pd.DataFrame(slopes, index=["slope of distance to own target", "from", "to"]).T.round(3)

# %% [markdown]
# **Is it Bradley-Terry that matters?** `hodge` is a dial from pure Bradley-Terry (0) to pure cycles (1) at constant
# strength. Targets are exact, so that there is nothing to simulate.

# %%
shares = np.linspace(0.0, 1.0, 11)
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for method, options in methods.items():
    distances = []
    for share in shares:
        dial = {"preference": "hodge", "responses": 8, "options": {"cyclic_share": share, "signal": 1.0}}
        hodge = build_world({"name": "dial", **dial})
        distances.append(total_variation(population_target(hodge.problem, method, **options), hodge.estimand)[0])
    ax.plot(shares, distances, label=METHOD_STYLES[method].label, fillstyle="none", **METHOD_STYLES[method].points())
ax.set(xlabel="cyclic share of the preferences", ylabel="distance of target to p+ (TV)")
_ = ax.legend()

# %% [markdown]
# **What was learnt.** RDRO, DDRO and SFT reach p+ at the rate n^(-1/2) whatever the preferences are. DPO and IPO reach
# their own targets just as fast, and those are not p+. Under pure Bradley-Terry they are furthest from it: what
# separates these methods is their aim, not a model that fails. Plain SFT is consistent as well; what it lacks is
# efficiency.
#
# **Where to go on.** [04](04_how_fast.ipynb) compares the constants in front of n^(-1/2). `python -m sim list` shows
# the studies, `sim/studies/consistency.toml` is this notebook for thirteen models of preferences, and `python -m sim
# run FILE.toml` runs one of yours. Votes of your own in a CSV file are a world too: see `from_counts`.
