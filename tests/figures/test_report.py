"""The report as a file: the same bytes for the same input, nothing loaded, nothing taken for markup, clear errors."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from figures.judging.rules import VERDICTS
from figures.provenance import read_provenance
from figures.report import write_report
from tests.figures.reports import CLAIMS, FIGURE, PROVENANCE, make_claim, write_figures

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    """Folder of figures, to be broken."""
    return write_figures(tmp_path)


def page(claims, folder):
    """Return the text of a report."""
    return write_report(claims, folder, PROVENANCE).read_text(encoding="utf-8")


def test_same_input_gives_the_same_bytes_in_another_process_and_folder(folder, tmp_path):
    text = page(CLAIMS, folder)
    code = (
        "import sys; from pathlib import Path; from figures.report import write_report; "
        "from tests.figures.reports import *; "
        "print(write_report(CLAIMS, write_figures(Path(sys.argv[1])), PROVENANCE))"
    )
    other = tmp_path / "elsewhere"
    other.mkdir()
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", code, str(other)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{other / 'report.html'}\n")
    assert (other / "report.html").read_text(encoding="utf-8") == text
    assert str(tmp_path) not in text and str(ROOT) not in text
    assert not [path.name for path in other.iterdir() if path.name.startswith(".")]


def test_page_allows_only_its_own_style_and_script_and_links_to_nothing_else(folder):
    text = page(CLAIMS, folder)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.keys() == {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    links = re.findall(r'(?:href|src)="([^"]*)"', text)
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r'\s(style|on\w+)="', text) and "@import" not in text and "url(" not in text


def test_texts_are_never_markup(folder):
    nasty = "<script>alert(1)</script> \"'&"
    claim = make_claim("nasty", statement=nasty, source=nasty, scope=nasty, decision=nasty, summary=nasty, test=nasty)
    claim["evidence"][0] |= {"study": nasty, "scenario": nasty, "quantity": nasty, "note": nasty}
    text = page([claim], folder)
    assert text.count("<script>") == 1 and text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 10


def test_every_verdict_has_a_look_and_is_counted(folder):
    text = page(CLAIMS, folder)
    counts = re.findall(r"</span> ([a-z ]+)</span></dt>\s*<dd><strong>(\d+)</strong>", text)
    assert counts == [("supported", "4"), ("refuted", "1"), ("inconclusive", "1"), ("not run", "2")]
    assert [verdict for verdict, _ in counts] == list(VERDICTS)


def test_a_picture_is_stored_once_as_png_or_else_as_svg(folder):
    picture = base64.b64encode((folder / f"{FIGURE}.png").read_bytes()).decode()
    assert page(CLAIMS, folder).count(picture) == 1
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = manifest["figures"][FIGURE]["files"]
    files[f"{FIGURE}.svg"] = files.pop(f"{FIGURE}.png")
    (folder / f"{FIGURE}.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    text = page(CLAIMS, folder)
    assert picture not in text and "data:image/svg+xml;base64," in text


def test_figures_carry_their_claim_as_alternative_text_and_where_they_come_from(folder):
    text = page(CLAIMS, folder)
    assert 'alt="Plot: The direct density ratio diverges while the relative one stays under 1/alpha."' in text
    assert "a" * 64 in text and "boundedness/summary.parquet" in text and "drawn with matplotlib&nbsp;3.11.2." in text


def test_claim_whose_figure_is_not_drawn_says_so(folder):
    assert "Figure: tails_as_overlap_vanishes, which is not drawn here." in page(CLAIMS, folder)


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ([make_claim("twin"), make_claim("twin")], "each claim must have an id of its own, got 2 called 'twin'"),
        ([make_claim("odd", verdict="maybe")], "verdict must be one of supported, .*; got 'maybe' for odd"),
    ],
)
def test_claims_that_the_page_cannot_show_are_refused(claims, message, folder):
    old = write_report(CLAIMS, folder, PROVENANCE).read_bytes()
    with pytest.raises(ValueError, match=message):
        write_report(claims, folder, PROVENANCE)
    assert (folder / "report.html").read_bytes() == old


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must describe the figures beside it, got JSONDecodeError"),
        ("[]", "must describe the figures beside it, got TypeError"),
        (
            f'{{"figures": {{"{FIGURE}": {{"tables": {{}}, "versions": {{}}, "files": {{"{FIGURE}.pdf": ""}}}}}}}}',
            "neither PNG nor SVG",
        ),
    ],
)
def test_manifest_that_describes_no_figures_is_refused(text, message, folder):
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        write_report(CLAIMS, folder, PROVENANCE)


def test_missing_picture_is_named(folder):
    (folder / f"{FIGURE}.png").unlink()
    with pytest.raises(ValueError, match=rf"must describe the figures beside it, .*{FIGURE}\.png"):
        write_report(CLAIMS, folder, PROVENANCE)


def test_provenance_is_that_of_studies_experiments_and_exact_tables(tmp_path):
    study = {"name": "b", "kind": "monte_carlo", "profile": {"name": "quick"}, "seed": 7}
    experiment = {"name": "a", "profile": {"name": "paper"}, "seed": 8, "versions": {"torch": "2", "sources": "cd"}}
    files = {
        "b/config.json": study | {"versions": {"numpy": "2", "sources": "ab"}},
        "a/settings.json": experiment,
        "c/config.json": {"name": "c", "kind": "exact", "table": "c", "parameters": {}},
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    assert read_provenance(tmp_path) == {
        "profiles": ["paper", "quick"],
        "studies": [
            {"study": "a", "profile": "paper", "seed": 8, "sources": "cd", "versions": {"torch": "2"}},
            {"study": "b", "profile": "quick", "seed": 7, "sources": "ab", "versions": {"numpy": "2"}},
            {"study": "c", "profile": None, "seed": None, "sources": None, "versions": {}},
        ],
    }
    (tmp_path / "b" / "config.json").write_text('{"name": "b"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.json must hold the settings of a study, got KeyError: 'versions'"):
        read_provenance(tmp_path)
