r"""The tables of a paper: each as ``tables/NAME.tex``, in LaTeX with booktabs, and as ``tables/NAME.csv``.

Errors are total variations to the preferred law unless said otherwise; intervals hold 95 %.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PAPER_TABLES", "PaperTable", "write_claims_table", "write_table"]

_Tables = Mapping[str, "pd.DataFrame"]

_FOLDER = "tables"
_METHODS = ("sft", "mle", "rdro", "ddro", "dpo", "ipo", "kto")
_RATES = ("world", "regime", "method", "metric", "slope", "low", "high")
_ERRORS = ("world", "n", "regime", "method", "metric", "mean", "low", "high", "exact")
_WORLDS = ("consistency", "arena")
_EFFICIENCIES = ("alpha", "method", "generator", "asymptotic_kl", "efficiency")
_CONSTANTS = ("n", "alpha", "method", "metric", "mean", "low", "high", "exact")
_DYNAMICS = ("world", "n", "overlap", "learning_rate", "method", "metric", "mean", "low", "high")
_LANGUAGE = (
    *(
        "world",
        "n",
        "learning_rate",
        "method",
        "step",
        "metric",
        "replicates",
        "finite",
        "mean",
        "low",
        "high",
        "exact",
    ),
    *("share_diverged", "share_diverged_low", "share_diverged_high"),
)


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper.

    Attributes
    ----------
    caption : str
        What it shows.
    tables : mapping of str to tuple of str
        Columns needed of each table ``study/table``.
    rows : callable
        From these tables to the rows, in the columns that `figures.latex.tabular` explains.
    """

    caption: str
    tables: Mapping[str, tuple[str, ...]]
    rows: Callable[[_Tables], "pd.DataFrame"]


def _worlds(tables: _Tables, kind: str, metric: str) -> "pd.DataFrame":
    """Return the rows of one metric in the paired worlds of the studies of consistency, without controls."""
    import pandas as pd

    table = pd.concat([tables[f"{study}/{kind}"] for study in _WORLDS], ignore_index=True)
    chosen = (table["metric"] == metric) & (table["regime"] == "paired") & table["method"].isin(_METHODS)
    return table[chosen].astype({"exact": float} if "exact" in table else {})


def _by_method(table: "pd.DataFrame", value: str, *, interval: bool) -> "pd.DataFrame":
    """Return one row for each world and one column for each method, with half of its interval if wanted."""
    table = table.assign(half=(table["high"] - table["low"]) / 2)
    wide = table.pivot(index="world", columns="method", values=[value, "half"]).loc[list(dict.fromkeys(table["world"]))]
    columns = {}
    for method in (method for method in _METHODS if method in set(table["method"])):
        columns[method] = wide[value, method]
        if interval:
            columns[f"{method} half"] = wide["half", method]
    return wide[[]].droplevel(0, axis=1).assign(**columns).reset_index()


def _rates(tables: _Tables) -> "pd.DataFrame":
    """Return slopes of log error on log n."""
    return _by_method(_worlds(tables, "rates", "tv_target"), "slope", interval=True)


def _largest(tables: _Tables) -> "pd.DataFrame":
    """Return the errors at the largest sample size of each world."""
    table = _worlds(tables, "summary", "tv_preferred")
    return table[table["n"] == table.groupby("world")["n"].transform("max")]


def _targets(tables: _Tables) -> "pd.DataFrame":
    """Return the errors of exact targets."""
    return _by_method(_largest(tables), "exact", interval=False)


def _final_errors(tables: _Tables) -> "pd.DataFrame":
    """Return simulated errors."""
    table = _largest(tables)
    rows = _by_method(table, "mean", interval=True)
    rows.insert(1, "n", rows["world"].map(table.groupby("world")["n"].max()))
    return rows


def _efficiencies(tables: _Tables) -> "pd.DataFrame":
    """Return exact efficiencies, one column for each alpha."""
    table = tables["efficiencies/table"]
    wide = table.pivot(index=["method", "generator"], columns="alpha", values="efficiency")
    wide = wide.loc[list(dict.fromkeys(zip(table["method"], table["generator"], strict=True)))]
    return wide.rename(columns=lambda alpha: f"alpha {alpha:g}").reset_index()


def _constants(tables: _Tables) -> "pd.DataFrame":
    """Return n E[KL] as simulated and in the limit, for each alpha, method and generator."""
    table = tables["constants/summary"].astype({"exact": float})
    rows = table[(table["metric"] == "scaled_kl") & (table["n"] == table["n"].max())]
    rows = rows[rows["method"] != "rdro pooled"]  # the negative control
    return rows.assign(half=(rows["high"] - rows["low"]) / 2).rename(
        columns={"exact": "limit", "mean": "simulated", "half": "simulated half"}
    )[["n", "alpha", "method", "limit", "simulated", "simulated half"]]


def _divergence(tables: _Tables) -> "pd.DataFrame":
    """Return the shares of training runs that diverged."""
    table = tables["dynamics/summary"]
    rows = table[(table["metric"] == "diverged") & (table["n"] == table["n"].max())]
    return rows.sort_values(["world", "method", "overlap", "learning_rate"], kind="stable").rename(
        columns={"world": "optimiser", "mean": "diverged", "low": "diverged low", "high": "diverged high"}
    )[["optimiser", "method", "overlap", "learning_rate", "diverged", "diverged low", "diverged high"]]


def _language(experiment: str) -> Callable[[_Tables], "pd.DataFrame"]:
    """Return the maker of the rows of an experiment with language models."""
    keys = ["world", "n", "learning_rate", "method"]
    shares = {f"share_diverged{end}": f"diverged{end.replace('_', ' ')}" for end in ("", "_low", "_high")}
    names = {"replicates": "runs", "mean": "KL", "half": "KL half", "exact": "exact target", **shares}

    def rows(tables: _Tables) -> "pd.DataFrame":
        table = tables[f"{experiment}/summary"].astype({"exact": float})
        steps = table.groupby(keys, sort=False)["step"].max().rename("last").reset_index()
        # Where every run diverged there is no distance, but a share.
        runs = table.drop_duplicates(keys)[[*keys, "replicates", *shares]].merge(steps, on=keys)
        distances = table[table["metric"] == "kl_preferred"]
        distances = distances.assign(half=(distances["high"] - distances["low"]) / 2)
        found = runs.merge(
            distances[[*keys, "step", "mean", "half", "exact"]],
            left_on=[*keys, "last"],
            right_on=[*keys, "step"],
            how="left",
        )
        return found.rename(columns=names)[[*keys, *names.values()]]

    return rows


_STUDIES_OF_RATES = {f"{study}/rates": _RATES for study in _WORLDS}
_STUDIES_OF_ERRORS = {f"{study}/summary": _ERRORS for study in _WORLDS}

PAPER_TABLES: dict[str, PaperTable] = {
    "rates": PaperTable(
        "Slopes of the log of the mean distance to each method's own target on log n, by preference model",
        _STUDIES_OF_RATES,
        _rates,
    ),
    "exact_targets": PaperTable(
        "Distance of each method's exact target from the preferred law, by preference model",
        _STUDIES_OF_ERRORS,
        _targets,
    ),
    "final_errors": PaperTable(
        "Mean distance to the preferred law at the largest n, by preference model", _STUDIES_OF_ERRORS, _final_errors
    ),
    "efficiencies": PaperTable(
        "Exact asymptotic efficiencies: the Cramer-Rao bound over the method's limit of n E[KL]",
        {"efficiencies/table": _EFFICIENCIES},
        _efficiencies,
    ),
    "constants": PaperTable(
        "n E[KL(p+ || policy)], simulated and in the limit", {"constants/summary": _CONSTANTS}, _constants
    ),
    "divergence": PaperTable(
        "Share of training runs that diverged, tabular policies", {"dynamics/summary": _DYNAMICS}, _divergence
    ),
    **{
        f"lm_{name}": PaperTable(
            f"Language models, experiment {name}: KL(p+ || policy) in nats after the last step",
            {f"{name}/summary": _LANGUAGE},
            _language(name),
        )
        for name in (
            *("methods", "stability", "sample_size", "alpha", "weighting", "rates_by_prompt", "reference_error"),
        )
    },
}
"""Every table of a paper that is drawn from result tables, by name."""


def write_table(name: str, rows: "pd.DataFrame", caption: str, folder: Path, *, wide: str = "") -> list[Path]:
    """Write a table as LaTeX and as CSV.

    Parameters
    ----------
    name : str
        File name without its end.
    rows : DataFrame
        In the columns that `figures.latex.tabular` explains.
    caption : str
        What it shows.
    folder : Path
        Where ``tables`` is made.
    wide : str
        Column of long texts.

    Returns
    -------
    list of Path
        Both files.

    Raises
    ------
    ValueError
        If there are no rows.
    """
    from figures.latex import tabular

    if rows.empty:
        raise ValueError(f"table {name} must have at least one row, got none")
    place = folder / _FOLDER
    place.mkdir(exist_ok=True)
    latex, csv = place / f"{name}.tex", place / f"{name}.csv"
    text = tabular(list(rows.columns), rows.to_dict("records"), caption, wide=wide)
    latex.write_text(text, encoding="utf-8", newline="\n")
    rows.to_csv(csv, index=False, float_format="%.10g", lineterminator="\n", encoding="utf-8")
    return [latex, csv]


def write_claims_table(claims: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write the verdicts on claims as LaTeX and as CSV.

    Parameters
    ----------
    claims : sequence of mapping
        As `figures.verdicts.judge_claims` returns them.
    folder : Path
        Where ``tables`` is made.

    Returns
    -------
    list of Path
        Both files.
    """
    import pandas as pd

    rows = pd.DataFrame([{key: claim[key] for key in ("statement", "source", "verdict")} for claim in claims])
    return write_table("claims", rows, "Verdicts on the claims", folder, wide="statement")
