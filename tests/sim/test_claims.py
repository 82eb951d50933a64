"""Claims are read as written, and refused with the rule they break."""

import tomllib

import pytest

from sim.claims.claim import KINDS, check_claim, parse_claim

EVERY_KIND = """
[[claims]]
claim = "rdro and ddro reach p+ at rate 1/2"
kind = "rate"
metric = "tv_preferred"
methods = ["rdro", "ddro"]
slope = -0.5
margin = 0.04
n_min = 1_000

[[claims]]
claim = "dpo stays at its own target"
kind = "target"
metric = "tv_preferred"
methods = ["dpo"]
at_n = 1_000_000

[[claims]]
claim = "pooled weighting reaches p+"
kind = "floor"
metric = "tv_preferred"
methods = ["pooled"]
where = { alpha = 0.2, generator = ["logistic", "square"] }
exponent = "free"
control = "negative"

[[claims]]
claim = "n KL is the constant of the theory"
kind = "constant"
metric = "scaled_kl"

[[claims]]
claim = "ddro fails in at most one data set of twenty"
kind = "failures"
most = 0.05
worlds = ["much_overlap"]
control = "positive"

[[claims]]
claim = "rdro's worst case is at most half of ddro's"
kind = "contrast"
metric = "tv_preferred"
methods = ["rdro"]
other = "ddro"
factor = 0.5
statistic = "q975"
"""


def minimal(kind, **more):
    """Return the smallest table of a kind."""
    needed = {"failures": {"most": 0.1}, "contrast": {"metric": "tv", "other": "ddro"}}.get(kind, {"metric": "tv"})
    return {"claim": "it holds", "kind": kind} | needed | more


def test_a_file_with_every_kind_is_read():
    tables = tomllib.loads(EVERY_KIND)["claims"]
    claims = [parse_claim(f"claims[{i}]", table) for i, table in enumerate(tables)]
    assert [claim.kind for claim in claims] == list(KINDS)
    rate, target, floor, constant, failures, contrast = claims
    assert rate.methods == ("rdro", "ddro") and rate.settings == {"slope": -0.5, "margin": 0.04, "n_min": 1000}
    assert target.settings == {"margin": 0.01, "at_n": 1_000_000, "max_failed": 0.01}
    assert floor.where == {"alpha": (0.2,), "generator": ("logistic", "square")}
    assert (floor.control, floor.expect, floor.settings["exponent"]) == ("negative", "rejected", "free")
    assert (constant.worlds, constant.methods, constant.control, constant.expect) == ((), (), "none", "supported")
    assert (failures.metric, failures.control, failures.settings) == (
        *("", "positive"),
        {"most": 0.05, "least": None, "at_n": None},
    )
    assert (contrast.settings["statistic"], contrast.settings["factor"]) == ("q975", 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_defaults_and_refuses_the_settings_of_others(kind):
    claim = parse_claim("claims[0]", minimal(kind))
    assert set(claim.settings) == set(KINDS[kind])
    other = "slope" if kind != "rate" else "at_n"
    with pytest.raises(ValueError, match=rf"key of claims\[0\] must be one of .*; got '{other}'"):
        parse_claim("claims[0]", minimal(kind, **{other: 1}))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (minimal("rate") | {"claim": " "}, r"claims\[0\] must have a claim, a string that is not blank; got ' '"),
        ({"claim": "it holds"}, r"claims\[0\] must have a kind, .*; got None"),
        (minimal("rates"), r"kind of claims\[0\] must be one of .*; got 'rates' \(did you mean 'rate'\?\)"),
        (minimal("rate", n_mni=3), r"got 'n_mni' \(did you mean 'n_min'\?\)"),
        ({"claim": "it holds", "kind": "rate"}, r"metric of claims\[0\] must be a string that is not blank, got None"),
        ({"claim": "c", "kind": "contrast", "metric": "tv"}, r"must have the key other, as its kind is contrast"),
        (minimal("rate", margin=0), r"margin of claims\[0\] must be finite and greater than 0, got 0"),
        (minimal("rate", slope=float("inf")), r"slope of claims\[0\] must be finite, got inf"),
        (minimal("rate", n_min=0), r"n_min of claims\[0\] must be a positive integer, got 0"),
        (
            minimal("floor", exponent="fre"),
            r"exponent of claims\[0\] must be a number greater than 0 or \"free\", got 'fre'",
        ),
        (minimal("target", at_n=True), r"at_n of claims\[0\] must be a positive integer, got True"),
        (minimal("target", max_failed=1.5), r"max_failed of claims\[0\] must lie between 0 and 1, got 1.5"),
        (minimal("failures", most=1.0), r"most of claims\[0\] must lie strictly between 0 and 1, got 1.0"),
        (minimal("failures", least=0.1), r"must have one of the keys most and least, got both"),
        ({"claim": "c", "kind": "failures"}, r"must have one of the keys most and least, got none"),
        (
            minimal("contrast", statistic="mode"),
            r"statistic of claims\[0\] must be one of mean, median, q975; got 'mode'",
        ),
        (minimal("rate", control="negativ"), r"control of claims\[0\] must be one of .*did you mean 'negative'"),
        (minimal("rate", expect="inconclusive"), r"expect of claims\[0\] must be one of rejected, supported"),
        (
            minimal("rate", control="negative", expect="supported"),
            "must agree with its control, got supported for a neg",
        ),
        (minimal("rate", control="positive", expect="rejected"), "must agree with its control, got rejected for a pos"),
        (minimal("rate", methods=["a", "a"]), r"methods of claims\[0\] must all be different"),
        (minimal("rate", worlds=[""]), r"an entry of worlds of claims\[0\] must be a string that is not blank, got ''"),
    ],
)
def test_a_wrong_value_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        parse_claim("claims[0]", table)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (minimal("rate", slope="-0.5"), r"slope of claims\[0\] must be a number, got '-0.5'"),
        (minimal("rate", margin="wide"), r"margin of claims\[0\] must be a number, got str"),
        (minimal("rate", methods="rdro"), r"methods of claims\[0\] must be an array of strings, got 'rdro'"),
        (minimal("rate", where=[1]), r"where of claims\[0\] must be a table of swept settings, got \[1\]"),
        (minimal("rate", where={"alpha": []}), r"alpha of where of claims\[0\] must be a number, a string or an array"),
        (
            minimal("rate", where={"alpha": True}),
            r"alpha of where of claims\[0\] must be a number, a string or an array",
        ),
        (minimal("rate", control=1), r"control of claims\[0\] must be a string, one of"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(table, message):
    with pytest.raises(TypeError, match=message):
        parse_claim("claims[0]", table)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"worlds": ["hodg"]},
            r"worlds of claims\[0\] must be one of hodge, thumbs; got 'hodg' \(did you mean 'hodge'",
        ),
        ({"methods": ["dro"]}, r"methods of claims\[0\] must be one of ddro, rdro; got 'dro'"),
        ({"other": "mle"}, r"other of claims\[0\] must be one of ddro, rdro; got 'mle'"),
        (
            {"where": {"alfa": 0.2}},
            r"key of where of claims\[0\] must be one of alpha; got 'alfa' \(did you mean 'alpha'",
        ),
    ],
)
def test_names_that_the_study_lacks_are_refused(more, message):
    place, names = "claims[0]", (["hodge", "thumbs"], ["rdro", "ddro"], ["alpha"])
    with pytest.raises(ValueError, match=message):
        check_claim(place, parse_claim(place, minimal("contrast", **more)), *names)
    check_claim(place, parse_claim(place, minimal("contrast", worlds=["hodge"], where={"alpha": 0.2})), *names)
