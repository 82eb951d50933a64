"""Claims made up for the tests of the report, and a folder of figures without any plotting."""

import json
import struct
import zlib

FIGURE = "relative_ratio_is_bounded"
DATA = "panel,x\na,1\n"

_STATEMENTS = {
    "ratio-bounded": ("supported", "The relative ratio never exceeds 1/alpha."),
    "consistent": ("supported", "Errors of RDRO fall like one over √n without Bradley-Terry."),
    "naive-cafe": ("supported", "A naïve statement with an accented word is found by plain letters."),
    "weighting": ("supported", "Balanced weights reach the preferred law."),
    "tighter": ("refuted", "RDRO converges with a smaller constant than DDRO."),
    "stable": ("inconclusive", "DDRO trains as stably as RDRO."),
    "language-models": ("not run", "Language models learn the preferred law."),
    "not-drawn": ("not run", "A claim may have a figure that was not drawn."),
}
_SOURCES = {"tighter": "RDRO paper (arXiv 2604.04410)", "stable": "DDRO paper (arXiv 2505.07558)"}
_FIGURES = {"language-models": None, "not-drawn": "tails_as_overlap_vanishes"}


def make_row(**changes):
    """Return a row of evidence."""
    row = {"study": "consistency", "scenario": "hodge, regime=paired, rdro", "quantity": "slope of log TV on log n"}
    row |= {"estimate": -0.5, "low": -0.51, "high": -0.49, "level": 0.9, "compared_with": -0.5, "verdict": "supported"}
    return row | {"note": ""} | changes


def make_claim(name, **changes):
    """Return a claim."""
    claim = {
        "id": name,
        "statement": f"The claim {name}.",
        "source": "ours",
        "scope": "finite responses",
        "figure": FIGURE,
        "test": "tests/theory/test_target_values.py::test_p5_under_assumption_m_rdro_targets_the_preferred_law",
        "decision": "the 90 % interval lies within -.5 ± .05",
        "verdict": "supported",
        "summary": "1 of 1",
        "evidence": [make_row()],
    }
    return claim | changes


CLAIMS = [
    make_claim(
        name,
        verdict=verdict,
        statement=statement,
        source=_SOURCES.get(name, "ours"),
        figure=_FIGURES.get(name, FIGURE),
        evidence=[make_row(verdict=verdict)] if verdict != "not run" else [],
    )
    for name, (verdict, statement) in _STATEMENTS.items()
]
CLAIMS[0]["evidence"] = [make_row(low=None, high=None, level=None)]
CLAIMS[1]["evidence"] = [make_row(scenario=f"world number {number}") for number in range(40)]
PROVENANCE = {
    "profiles": ["quick"],
    "studies": [
        {"study": "consistency", "profile": "quick", "seed": 1, "sources": "0123abcd", "versions": {"numpy": "2.4.6"}},
        {"study": "ratio_shapes", "profile": None, "seed": None, "sources": None, "versions": {}},
    ],
}


def write_figures(folder):
    """Write a folder with one figure, its data and a manifest, and return it."""
    (folder / f"{FIGURE}.png").write_bytes(_png(400, 200))
    (folder / f"{FIGURE}.csv").write_text(DATA, encoding="utf-8")
    entry = {
        "tables": {"boundedness/summary.parquet": "a" * 64},
        "versions": {"matplotlib": "3.11.2"},
        "files": {f"{FIGURE}.{end}": "b" * 64 for end in ("pdf", "png", "csv")},
    }
    (folder / "manifest.json").write_text(json.dumps({"figures": {FIGURE: entry}}), encoding="utf-8")
    return folder


def _png(width, height):
    """Return a grey picture."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress((b"\0" + b"\x80" * width) * height)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
