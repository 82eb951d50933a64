"""Verdicts: the evidence for each claim weighed, written as claims.md and claims.json."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures.claims import CLAIMS, Claim, claim_tables
from figures.judging.rules import VERDICTS

if TYPE_CHECKING:
    import pandas as pd

    from figures.judging.evidence import Evidence

__all__ = ["COMBINATION", "claims_table", "combine", "judge_claims", "write_claims"]

COMBINATION = (
    "A claim is refuted if any scenario refutes it; else not run if any of its results are missing; else supported if "
    "all scenarios support it; else inconclusive. Tests are one-sided at 5 % after Holm's correction over the "
    "scenarios of a rule; intervals hold 90 %. Controls are never evidence."
)
"""How the verdicts of scenarios make that of a claim."""

_RULES_SHOWN = 2


def judge_claims(results: Path, claims: Sequence[Claim] = CLAIMS) -> list[dict[str, Any]]:
    """Judge claims by result tables.

    Parameters
    ----------
    results : Path
        Folder of results.
    claims : sequence of Claim
        The claims; default all.

    Returns
    -------
    list of dict
        One for each claim: id, statement, source, scope, figure, test, decision, verdict, summary and evidence, a list
        of `figures.judging.evidence.Evidence` as dict. Where a table is missing the verdict is "not run".

    Raises
    ------
    ValueError
        If a table that is there cannot be read, is empty or lacks a column.

    Examples
    --------
    >>> {claim["verdict"] for claim in judge_claims(Path("nowhere"))}
    {'not run'}
    """
    from figures.judging.evidence import find_evidence

    tables = _present(results, claims)
    judged = []
    for claim in claims:
        found = [find_evidence(rule, tables.get(rule.table)) for rule in claim.rules]
        verdict = combine(row.verdict for rows in found for row in rows)
        judged.append(
            {
                **{key: getattr(claim, key) for key in ("id", "statement", "source", "scope", "figure", "test")},
                "decision": claim.decision,
                "verdict": verdict,
                "summary": _summary(verdict, found),
                "evidence": [row.as_dict() for rows in found for row in rows],
            }
        )
    return judged


def combine(verdicts: Iterable[str]) -> str:
    """Return the verdict on a claim from those of its scenarios, as `COMBINATION` says.

    Examples
    --------
    >>> combine(["supported", "refuted", "not run"]), combine(["supported", "not run"])
    ('refuted', 'not run')
    >>> combine(["supported", "supported"]), combine(["supported", "inconclusive"])
    ('supported', 'inconclusive')
    """
    found = set(verdicts)
    if "refuted" in found:
        return "refuted"
    if "not run" in found or not found:
        return "not run"
    return "supported" if found == {"supported"} else "inconclusive"


def claims_table(claims: Sequence[dict[str, Any]]) -> str:
    """Return the verdicts as a Markdown table, counts first.

    Parameters
    ----------
    claims : sequence of dict
        From `judge_claims`.

    Returns
    -------
    str
        Lines that end with a newline.
    """
    counts = {verdict: sum(claim["verdict"] == verdict for claim in claims) for verdict in VERDICTS}
    lines = [
        f"{len(claims)} claims: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}.",
        "",
        "| claim | source | verdict | scenarios and decisive numbers | figure |",
        "|---|---|---|---|---|",
    ]
    for claim in claims:
        figure = f"`{claim['figure']}`" if claim["figure"] else ""
        source = claim["source"].partition(" (")[0]
        cells = [claim["statement"], source, f"**{claim['verdict']}**", claim["summary"]]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} | {figure} |")
    return "\n".join(lines) + "\n"


def write_claims(claims: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Write claims.md and claims.json.

    Parameters
    ----------
    claims : sequence of dict
        From `judge_claims`.
    folder : Path
        Where to; it must exist.

    Returns
    -------
    list of Path
        The files, whose bytes depend on the claims alone.
    """
    document = {"combination": COMBINATION, "claims": list(claims)}
    files = {
        "claims.md": "\n".join([f"# Claims\n\n{COMBINATION}\n", claims_table(claims), *map(_section, claims)]),
        "claims.json": json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return [folder / name for name in files]


def _present(results: Path, claims: Sequence[Claim]) -> dict[str, "pd.DataFrame"]:
    """Read the tables that claims need and that are there."""
    from figures.tables import read_tables, table_path

    columns = claim_tables(claims)
    return read_tables(results, {name: c for name, c in columns.items() if table_path(results, name).is_file()})


def _summary(verdict: str, found: Sequence[Sequence["Evidence"]]) -> str:
    """Return how many scenarios there are, and the decisive numbers: those of scenarios with the claim's verdict."""
    every = [row for rows in found for row in rows]
    decisive = [[row for row in rows if row.verdict == verdict] for rows in found]
    if verdict == "not run":
        return "; ".join(dict.fromkeys(row.note for rows in decisive for row in rows))
    counts = {name: sum(row.verdict == name for row in every) for name in VERDICTS}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    parts = list(dict.fromkeys(_part(rows) for rows in decisive if rows))
    shown = parts[:_RULES_SHOWN] + (["…"] if len(parts) > _RULES_SHOWN else [])
    return f"{told}: {'; '.join(shown)}"


def _part(rows: Sequence["Evidence"]) -> str:
    """Return the numbers of one rule."""
    first = rows[0]
    estimates = [row.estimate for row in rows if row.estimate is not None]
    bounds = [row.compared_with for row in rows if row.compared_with is not None]
    text = f"{first.study}, {first.quantity}"
    if not estimates:
        return f"{text}: {first.note}"
    text += f" {_range(estimates)}"
    if len(rows) == 1 and first.low is not None and first.high is not None:
        text += f" [{_shown(first.low)}, {_shown(first.high)}]"
    return f"{text} against {_range(bounds)}" if bounds else text


def _range(values: Sequence[float]) -> str:
    """Return a number, or the range of several."""
    low, high = _shown(min(values)), _shown(max(values))
    return low if low == high else f"{low} to {high}"


def _shown(value: float) -> str:
    """Return a number to four digits."""
    return f"{value:.4g}"


def _section(claim: dict[str, Any]) -> str:
    """Return what claims.md says about one claim."""
    lines = [
        f"## {claim['id']}\n",
        f"{claim['statement']}\n",
        f"- Verdict: **{claim['verdict']}**. {claim['summary']}",
        f"- Source: {claim['source']}",
        f"- Scope: {claim['scope']}",
        f"- Decision: {claim['decision']}",
    ]
    lines += [f"- {key.capitalize()}: `{claim[key]}`" for key in ("figure", "test") if claim[key]]
    head = "| study | scenario | quantity | estimate | interval | against | verdict | note |"
    return "\n".join([*lines, "", head, "|---|---|---|---|---|---|---|---|", *map(_line, claim["evidence"]), ""])


def _line(row: dict[str, Any]) -> str:
    """Return one piece of evidence as a line of a table."""
    interval = "" if row["low"] is None or row["high"] is None else f"{_shown(row['low'])} to {_shown(row['high'])}"
    numbers = ["" if row[key] is None else _shown(row[key]) for key in ("estimate", "compared_with")]
    cells = [row["study"], row["scenario"], row["quantity"], numbers[0], interval, numbers[1]]
    cells += [row["verdict"], row["note"]]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
