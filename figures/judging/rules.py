"""What a claim is, and the rules by which result tables decide about it; `figures.judging.evidence` applies them.

Rules are declared before results exist and know no numbers of any result. This module needs neither pandas nor SciPy,
so that the tables behind the claims can be named at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "VERDICTS",
    "Claim",
    "Compare",
    "Extreme",
    "Paired",
    "Rule",
    "Share",
    "StudyClaim",
    "StudyInterval",
    "Values",
]

VERDICTS = ("supported", "refuted", "inconclusive", "not run")
"""Verdicts on a claim, and on each piece of evidence for it."""

Values = Mapping[str, tuple[str | float | bool, ...]]
"""Admitted values by column."""

_VERDICTS_COLUMNS = (
    *("claim", "kind", "world", "where", "method", "metric", "estimate", "low", "high", "exact"),
    *("verdict", "control", "note"),
)
_METRIC_COLUMNS = ("world", "n", "learning_rate", "method", "replicate", "status", "step", "metric", "value")


@dataclass(frozen=True)
class StudyClaim:
    """A claim in a study's file, judged by the study itself in each of its scenarios; controls are no evidence.

    Attributes
    ----------
    study : str
        Name of the study.
    claim : str
        The claim as its file words it.
    methods, worlds : tuple of str
        Scenarios asked for; empty for all of them.
    holds : bool
        False if the rejection of the study's claim is what supports ours.
    """

    study: str
    claim: str
    methods: tuple[str, ...] = ()
    worlds: tuple[str, ...] = ()
    holds: bool = True

    @property
    def table(self) -> str:
        """Name of the table that is read."""
        return f"{self.study}/verdicts"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that are read."""
        return _VERDICTS_COLUMNS

    @property
    def decision(self) -> str:
        """The rule in words."""
        verdict = "supports" if self.holds else "rejects"
        return f'study {self.study} {verdict} "{self.claim}"{_scenarios(self)}'


@dataclass(frozen=True)
class StudyInterval:
    """The 90 % interval of what a study's claim is about, held against a number of our own.

    Attributes
    ----------
    study, claim, methods, worlds
        As in `StudyClaim`.
    above : float
        The interval must lie above this number, in units of the estimate.
    """

    study: str
    claim: str
    above: float
    methods: tuple[str, ...] = ()
    worlds: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """Name of the table that is read."""
        return f"{self.study}/verdicts"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that are read."""
        return _VERDICTS_COLUMNS

    @property
    def decision(self) -> str:
        """The rule in words."""
        where = _scenarios(self)
        return f'the 90 % interval in study {self.study}, "{self.claim}"{where}, lies above {self.above:g}'


@dataclass(frozen=True)
class Extreme:
    """The largest or smallest number of a column, held against a bound: exact, without uncertainty.

    Attributes
    ----------
    table : str
        Table ``study/table``.
    column : str
        The column.
    of : {"max", "min", "max_abs"}
        Which number; max_abs is the largest absolute one.
    relation : {"<=", "<", ">=", ">"}
        How it must stand to the bound; equal numbers may differ by rounding (1e-9).
    bound : float or str
        A number, the name of a column, or "1/column".
    quantity : str
        What the number is, in words.
    by : tuple of str
        Columns whose values make a scenario each.
    where, unless : mapping
        Rows that are read, and rows that are left out, by column and values.
    """

    table: str
    column: str
    of: str
    relation: str
    bound: float | str
    quantity: str
    by: tuple[str, ...] = ()
    where: Values = field(default_factory=dict)
    unless: Values = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that are read."""
        bound = (self.bound.removeprefix("1/"),) if isinstance(self.bound, str) else ()
        return tuple(dict.fromkeys([self.column, *self.by, *self.where, *self.unless, *bound]))

    @property
    def decision(self) -> str:
        """The rule in words."""
        which = {"max": "largest", "min": "smallest", "max_abs": "largest absolute"}[self.of]
        bound = self.bound if isinstance(self.bound, str) else f"{self.bound:g}"
        rows = _rows(self.where, self.unless)
        return f"{self.table}{rows}: the {which} {self.quantity} is {self.relation} {bound}{_each(self.by)}"


@dataclass(frozen=True)
class Compare:
    """Two exact numbers of a table, such as those of two methods at the same alpha.

    Attributes
    ----------
    table, column, quantity, by
        As in `Extreme`; each scenario must have one row of either kind.
    first, second : mapping
        Rows of the first and of the second number, by column and values.
    relation : {"<", ">"}
        How the first must stand to the second.
    """

    table: str
    column: str
    first: Values
    second: Values
    relation: str
    quantity: str
    by: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that are read."""
        return tuple(dict.fromkeys([self.column, *self.by, *self.first, *self.second]))

    @property
    def decision(self) -> str:
        """The rule in words."""
        first, second = (" ".join(str(v) for values in side.values() for v in values) for side in self._sides())
        return f"{self.table}: the {self.quantity} of {first} is {self.relation} that of {second}{_each(self.by)}"

    def _sides(self) -> tuple[Values, Values]:
        """Return what tells the first rows from the second."""
        same = {key for key in self.first if self.first[key] == self.second.get(key)}
        first, second = ({k: v for k, v in side.items() if k not in same} for side in (self.first, self.second))
        return first, second


@dataclass(frozen=True)
class Paired:
    """A metric of two methods of an experiment with language models, paired by repetition.

    Attributes
    ----------
    experiment : str
        Name of the experiment.
    first, second : str
        Labels of the methods; the claim is that the first has the smaller mean.
    quantity : str
        What the metric is, in words.
    metric : str
        Name of the metric.
    whole_run : bool
        Whether the metric is one of whole runs, diverged ones included; others are taken at the step of each method's
        least mean loss on held-out examples, where a user would stop.
    worlds : tuple of str
        Worlds asked for; empty for all of them.
    """

    experiment: str
    first: str
    second: str
    quantity: str
    metric: str = "kl_preferred"
    whole_run: bool = False
    worlds: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """Name of the table that is read."""
        return f"{self.experiment}/metrics"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that are read."""
        return _METRIC_COLUMNS

    @property
    def decision(self) -> str:
        """The rule in words."""
        where = f", in {' and '.join(self.worlds)}" if self.worlds else ""
        stop = "" if self.whole_run else ", each stopped at its least held-out loss"
        return (
            f"experiment {self.experiment}: the mean {self.quantity} of {self.first} is less than that of "
            f"{self.second}{where}, paired by repetition{stop}"
        )


@dataclass(frozen=True)
class Share:
    """The share of data sets of an experiment with language models on which training diverged, over all its worlds.

    The languages are held fixed: worlds share their random fields, not their data. Learning rates share the data, and
    those of one data set count once: as diverged if any did where relation is "<", if all did where it is ">".

    Attributes
    ----------
    experiment : str
        Name of the experiment.
    method : str
        Label of the method.
    relation : {"<", ">"}
        How the share must stand to the limit.
    limit : float
        The limit, in (0, 1).
    """

    experiment: str
    method: str
    relation: str
    limit: float

    @property
    def table(self) -> str:
        """Name of the table that is read."""
        return f"{self.experiment}/metrics"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that are read."""
        return _METRIC_COLUMNS

    @property
    def decision(self) -> str:
        """The rule in words."""
        which = "any" if self.relation == "<" else "every"
        return (
            f"experiment {self.experiment}: the share of data sets on which {self.method} diverged at {which} learning "
            f"rate is {self.relation} {self.limit:g}"
        )


Rule = StudyClaim | StudyInterval | Extreme | Compare | Paired | Share
"""A rule of any kind."""


@dataclass(frozen=True)
class Claim:
    """A statement that results can contradict, and how they decide.

    Attributes
    ----------
    id : str
        Short name in kebab case, also its address in the report.
    statement : str
        The claim.
    source : str
        Who asserts it: a paper, or "ours".
    scope : str
        Where it is asserted, and what the evidence leaves open.
    rules : tuple of Rule
        All must be supported in all their scenarios; one that is refuted in one scenario refutes the claim.
    figure : str or None
        Name of the figure that shows it.
    test : str or None
        Test of the theory behind it, ``file::name``.

    Examples
    --------
    >>> rule = Extreme("ratio_shapes/table", "relative_ratio", "max", "<=", "1/alpha", "relative ratio", by=("alpha",))
    >>> Claim("bounded", "It is bounded.", "ours", "exact", (rule,)).decision
    'ratio_shapes/table: the largest relative ratio is <= 1/alpha for each alpha'
    """

    id: str
    statement: str
    source: str
    scope: str
    rules: tuple[Rule, ...]
    figure: str | None = None
    test: str | None = None

    @property
    def decision(self) -> str:
        """The rules in words."""
        return "; ".join(rule.decision for rule in self.rules)


def _scenarios(rule: StudyClaim | StudyInterval) -> str:
    """Return the scenarios that a rule asks for, in words."""
    methods = f" for {', '.join(rule.methods)}" if rule.methods else ""
    return methods + (f" in {', '.join(rule.worlds)}" if rule.worlds else "")


def _rows(where: Values, unless: Values) -> str:
    """Return which rows are read, in words."""
    kept = [f"{key} = {' or '.join(map(str, values))}" for key, values in where.items()]
    dropped = [f"{key} other than {' or '.join(map(str, values))}" for key, values in unless.items()]
    return f" ({', '.join(kept + dropped)})" if kept or dropped else ""


def _each(by: tuple[str, ...]) -> str:
    """Return which scenarios there are, in words."""
    return f" for each {' and '.join(by)}" if by else ""
