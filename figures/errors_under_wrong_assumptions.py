"""A wrong alpha, a wrong reference, noisy labels and unequal label rates leave errors that no sample size removes.

Mean errors against the sample size, with the error of each method's exact target as a thin line: where an assumption
fails, errors end there; where a remedy holds, they go on falling.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, LineStyle, letter, new_axes, new_figure, variant_styles
from figures.tables import only_series

__all__ = ["TABLES", "draw", "plot_error_under_assumption"]

_COLUMNS = ("world", "n", "method", "metric", "mean", "low", "high", "exact")
TABLES = {
    "wrong_alpha/summary": _COLUMNS,
    "wrong_reference/summary": (*_COLUMNS, "reference_error"),
    "label_noise/summary": (*_COLUMNS, "label_noise"),
    "prompt_rates/summary": _COLUMNS,
}
"""Tables read, with the columns needed."""

# A total variation below this is the rounding of an exact target that is the preferred law itself.
_ZERO = 1e-8


@dataclass(frozen=True)
class _Panel:
    """What a panel shows: a title, the rows of a study's summary, and the look of each method's label."""

    study: str
    title: str
    where: dict[str, object]
    lines: dict[str, LineStyle]


def _shades(method: str, labels: Mapping[str, str]) -> dict[str, LineStyle]:
    """Return looks of variants of one method, from its label in the table to its look."""
    looks = variant_styles(method, list(labels.values()))
    return {key: looks[text] for key, text in labels.items()}


def _told(alpha: float) -> _Panel:
    """Return the panel of methods that are told some alpha, beside two that are told none."""
    label = f"rdro told {alpha:g}"
    return _Panel(
        "wrong_alpha",
        rf"true $\alpha$ = 0.3, told {alpha:g}",
        {"world": "five_responses"},
        {f"{method} told {alpha:g}": METHOD_STYLES[method] for method in ("mle", "ddro")}
        | _shades("rdro", {"rdro plug-in": "RDRO, class share", label: "RDRO"})
        | {"sft": METHOD_STYLES["sft"]},
    )


def _noisy(world: str) -> _Panel:
    """Return the panel of all methods under flipped labels in one world."""
    methods = ("kto", "mle", "ddro", "rdro", "sft", "dpo")
    looks = {method: METHOD_STYLES[method] for method in methods}
    return _Panel(
        "label_noise", f"a tenth of the labels flipped ({world})", {"world": world, "label_noise": 0.1}, looks
    )


_PANELS = {
    "alpha_understated": _told(0.15),
    "alpha_overstated": _told(0.45),
    "wrong_reference": _Panel(
        "wrong_reference",
        "reference off by 0.3 nats",
        {"world": "tabular", "reference_error": 0.3},
        {method: METHOD_STYLES[method] for method in ("mle", "ddro")}
        | _shades("rdro", {"rdro calibrated": "RDRO, calibrated", "rdro": "RDRO"})
        | {"sft": METHOD_STYLES["sft"]},
    ),
    "noisy_thumbs": _noisy("thumbs"),
    "noisy_pairs": _noisy("pairs"),
    "prompt_rates": _Panel(
        "prompt_rates",
        "label rates from 0.1 to 0.9",
        {"world": "unequal rates"},
        _shades(
            "rdro",
            {
                "rdro, one alpha": r"RDRO, one $\alpha$",
                "rdro, alpha(x)": r"RDRO, $\alpha(x)$",
                "rdro, alpha(x), weights(x)": r"RDRO, $\alpha(x)$, weights(x)",
            },
        )
        | _shades("mle", {"mle, one alpha": r"MLE, one $\alpha$", "mle, alpha(x)": r"MLE, $\alpha(x)$"}),
    ),
}


def plot_error_under_assumption(
    summary: pd.DataFrame, assumption: str = "alpha_overstated", *, ax: Axes | None = None
) -> Axes:
    """Plot mean errors against the sample size where an assumption fails, with the errors of exact targets.

    Parameters
    ----------
    summary : DataFrame
        Summary of the study wrong_alpha, wrong_reference, label_noise or prompt_rates, as `assumption` tells.
    assumption : {"alpha_understated", "alpha_overstated", "wrong_reference", "noisy_thumbs", "noisy_pairs", \
"prompt_rates"}
        What fails.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One line for each method with the 95 % interval of the mean as a band, and a thin line at the error of its
        exact target where that is not 0.

    Raises
    ------
    ValueError
        If there is no such panel, or the table has no such rows.
    """
    if assumption not in _PANELS:
        raise ValueError(f"assumption must be one of {', '.join(_PANELS)}; got {assumption!r}")
    ax = new_axes() if ax is None else ax
    panel, rows = _PANELS[assumption], _select(summary, assumption)
    for index, (method, style) in enumerate(panel.lines.items()):
        line = rows[rows["method"] == method]
        points = {**style.points(), "markerfacecolor": "none", "markersize": max(6.5 - 1.0 * index, 2.5)}
        ax.loglog(line["n"], line["mean"], label=style.label, **points)
        ax.fill_between(line["n"], line["low"], line["high"], color=style.colour, alpha=0.25, linewidth=0)
        if line["exact"].max() > _ZERO:
            ax.axhline(line["exact"].max(), **{**style.line(), "linewidth": 0.7})
    ax.set(xlabel="labelled examples n", ylabel="TV distance to preferred law", title=panel.title)
    ax.yaxis.set_minor_formatter(NullFormatter())
    low, high = rows["mean"].min(), rows["mean"].max()
    # The lower left corner is empty as errors fall, or made so where they do not: the legend fits there.
    ax.set_ylim(low / (high / low) ** 0.5, high * 1.6)
    ax.legend(loc="lower left", ncols=2)
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw a panel for each assumption.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    figure = new_figure(DOUBLE_COLUMN, 7.4)
    axes = figure.subplots(3, 2)
    parts = []
    for ax, name, place in zip(axes.flat, _PANELS, "abcdef", strict=True):
        summary = tables[f"{_PANELS[name].study}/summary"]
        plot_error_under_assumption(summary, name, ax=ax)
        parts.append(_select(summary, name)[list(_COLUMNS)].assign(assumption=name, panel=place))
    letter(axes)
    figure.supxlabel(
        "bands: 95 % intervals of the mean; thin horizontal lines: exact targets other than the preferred law itself\n"
        r"class share: $\alpha$ taken from the data; off by 0.3 nats: standard deviation of errors in its logits"
        "\ncalibrated: reference fitted to the pooled data, which makes tabular RDRO agree with SFT; "
        r"$\alpha(x)$, weights(x): by prompt",
        fontsize=7,
    )
    return Drawing(figure, pd.concat(parts, ignore_index=True))


def _select(summary: pd.DataFrame, assumption: str) -> pd.DataFrame:
    """Return the points of one panel."""
    panel = _PANELS[assumption]
    rows = summary[(summary["metric"] == "tv_preferred") & summary["method"].isin(panel.lines)]
    for key, value in panel.where.items():
        rows = rows[np.isclose(rows[key], value) if isinstance(value, float) else rows[key] == value]
    absent = [method for method in panel.lines if method not in set(rows["method"])]
    if absent:
        raise ValueError(f"{panel.study} must hold tv_preferred of {absent[0]} for {assumption}, got none")
    return only_series(rows.astype({"exact": np.float64}).sort_values(["method", "n"]), ["method", "n"])
