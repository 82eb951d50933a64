"""Everything the READMEs tell a reader to do is done here, and everything it names or links to exists.

Fenced blocks have one of these tags:

console       lines that start with `$ ` are commands (the rest is their output, not compared). A block is complete in
              itself: its `python -m` commands run in order in one empty folder, at smoke size.
python        a script, run in an empty folder
pycon         a doctest session, likewise
text, bibtex  not run

Each check takes the text of a README, so that the last test can show that it fails on a broken one.
"""

import ast
import doctest
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from figures.claims import CLAIMS
from figures.judging.rules import VERDICTS
from figures.readme import fill, gallery

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The README of a package may name no newcomer's commands and has no verdicts.
PACKAGE_READMES = {name: (ROOT / name / "README.md").read_text(encoding="utf-8") for name in ("sim", "lm")}
ONLY_MAIN = ("two_commands", "verdicts", "gallery", "links")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

PACKAGES = [name for name in PROJECT["tool"]["setuptools"]["packages"] if "." not in name]
SCRIPTS = {name: value.split(".")[0] for name, value in PROJECT["project"]["scripts"].items()}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
IGNORED = (ROOT / ".gitignore").read_text(encoding="utf-8").split()

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.M | re.S)
PUBLIC_NAME = re.compile(rf"((?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+)(?:\(.*\))?")
TEST_REFERENCE = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
VERDICT_ROW = re.compile(r"^\| (.+?) \| (.+?) \| \*\*(.+?)\*\* \| .+? \| (?:`(\w+)`)? ?\|$", flags=re.M)


def blocks(text, *tags):
    """Return the bodies of the fenced blocks that carry one of the tags."""
    return [body for tag, body in FENCE.findall(text) if tag in tags]


def commands(text):
    """Return all commands of the console blocks."""
    return [line[2:] for block in blocks(text, "console") for line in block.splitlines() if line.startswith("$ ")]


def prose(text):
    """Return the text without its fenced blocks."""
    return FENCE.sub("", text)


def inline_code(text):
    """Return the contents of the backticks outside fenced blocks."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def python_arguments(command):
    """Return what follows `python` in a command that runs one of the packages, at smoke size, or None."""
    words = shlex.split(re.sub(r"--profile[ =]\w+", "--profile smoke", command))
    if words[0] in SCRIPTS:
        return ["-m", SCRIPTS[words[0]], *words[1:]]
    return words[1:] if words[:2] == ["python", "-m"] and words[2] in PACKAGES else None


def make_target(command):
    """Return the one target of a make command, or None for any other command."""
    words = [word for word in shlex.split(command) if "=" not in word]
    return words[1] if words[0] == "make" and len(words) == 2 else None


def anchors(path):
    """Return the anchors that code hosts make of a Markdown file's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path.read_text(encoding="utf-8")), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def check_tags(text, folder):
    """Every fenced block has a tag that says how it is checked."""
    assert {tag for tag, _ in FENCE.findall(text)} <= {"console", "python", "pycon", "text", "bibtex"}
    assert text.count("```") == 2 * len(FENCE.findall(text))


def check_two_commands(text, folder):
    """The two commands of a newcomer are shown."""
    assert {"make figures", "make test"} <= set(commands(text))


def check_console(text, folder):
    """Each command succeeds (packages), or is a target of the Makefile (make), or fetches the code (git, cd)."""
    for number, block in enumerate(blocks(text, "console")):
        assert commands(f"```console\n{block}```"), f"a console block must show a command, got {block}"
        workplace = folder / str(number)
        workplace.mkdir()
        for command in commands(f"```console\n{block}```"):
            if (arguments := python_arguments(command)) is not None:
                run = subprocess.run([sys.executable, *arguments], cwd=workplace, capture_output=True, text=True)
                assert run.returncode == 0, f"{command}\n{run.stdout}\n{run.stderr}"
            elif shlex.split(command)[0] not in {"git", "cd"}:
                assert make_target(command) in TARGETS, f"{command} must be a command that this test can check"


def check_inline_commands(text, folder):
    """A command named in a sentence is a make target, or is shown, and so run, in a console block."""
    for code in inline_code(text):
        if code.split()[0] in {"make", "python", "pip", "pytest", *SCRIPTS} and " " in code:
            assert code in commands(text) or make_target(code) in TARGETS, f"{code} must stand in a console block"


def check_python(text, folder):
    """Scripts run without an error or a warning."""
    for block in blocks(text, "python"):
        exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})


def check_sessions(text, folder):
    """Doctest sessions print what they show."""
    for block in blocks(text, "pycon"):
        session = doctest.DocTestParser().get_doctest(block, {}, "README.md", "README.md", 0)
        assert session.examples, f"a pycon block must hold a session, got {block}"
        assert doctest.DocTestRunner().run(session).failed == 0


def check_links(text, folder):
    """Relative links lead to a file, and to a heading of it where they name one."""
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)) if not re.match(r"https?:|mailto:", link)]
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = ROOT / (path or "README.md")
        assert target.exists(), f"a link leads to {link}, which does not exist"
        assert not anchor or anchor in anchors(target), f"a link leads to {link}, which has no such heading"


def check_files(text, folder):
    """Files and folders named in a sentence exist, or are made by the make targets and ignored by git."""
    for code in inline_code(text):
        if re.fullmatch(r"[\w.-]*(/[\w.*-]*)+|[\w-]+\.(toml|txt|md|cff|py)", code):
            made = code in IGNORED or any(f"/{code}".startswith(entry) for entry in IGNORED if entry.startswith("/"))
            assert made or any(ROOT.glob(code.rstrip("/"))), f"{code} is named, which does not exist"


def check_public_names(text, folder):
    """Dotted names of the packages can be imported."""
    for code in inline_code(text):
        if match := PUBLIC_NAME.fullmatch(code):
            pkgutil.resolve_name(match[1])


def check_verdicts(text, folder):
    """The tables of verdicts hold all claims in order, those of the papers first, each with its source and figure."""
    claims = sorted(CLAIMS, key=lambda claim: claim.source == "ours")
    wanted = [(claim.statement, claim.source.partition(" (")[0], claim.figure or "") for claim in claims]
    rows = VERDICT_ROW.findall(text)
    assert [(statement.replace(r"\|", "|"), source, figure) for statement, source, _, figure in rows] == wanted
    assert {verdict for _, _, verdict, _ in rows} <= set(VERDICTS)


def check_gallery(text, folder):
    """The gallery is what `figures.readme` makes."""
    assert fill(text, "gallery", gallery()) == text


def check_tests_named(text, folder):
    """A test named as `tests/file.py::name` is defined there."""
    for path, name in TEST_REFERENCE.findall(text):
        body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        names = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert name in names, f"{path} must define {name}"


CHECKS = {name.removeprefix("check_"): value for name, value in list(globals().items()) if name.startswith("check_")}

BROKEN = {
    "tags": ["```\nls\n```", "```console\n$ make test\n"],
    "two_commands": ["```console\n$ make test\n```"],
    "console": [
        "```console\n$ make tset\n```",
        "```console\n$ make clean test\n```",
        "```console\n$ rm -r results\n```",
        "```console\n$ python -m sim run no_such_study --profile paper\n```",
        "```console\n$ relratio-figures --no-such-option\n```",
        "```console\nmake test\n```",
    ],
    "inline_commands": ["Run `make tset`.", "Run `python -m sim list`.", "Run `pip install relratio`."],
    "python": ["```python\nraise AssertionError\n```"],
    "sessions": ["```pycon\n>>> 1 + 1\n3\n```", "```pycon\n1 + 1\n```"],
    "links": ["[gone](no/such/file.md)", "[gone](README.md#no-such-heading)", "no link"],
    "files": ["See `no/such/file.py`.", "See `no_such_file.toml`."],
    "public_names": ["Call `theory.no_such_name`."],
    "verdicts": [
        "| a claim of nobody | ours | **supported** | 1 supported | |",
        README.replace("**supported**", "**believed**"),
        README.replace("| ours |", "| RDRO paper |"),
    ],
    "gallery": [README.replace("figures/gallery/", "elsewhere/")],
    "tests_named": ["`tests/test_readme.py::test_no_such_name`"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_readme(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    CHECKS[name](README, tmp_path)


@pytest.mark.parametrize("package", PACKAGE_READMES)
@pytest.mark.parametrize(
    "name",
    [
        # Training and validation take a minute; the tests of each package run the same commands in the gate.
        pytest.param(name, marks=pytest.mark.slow) if name == "console" else name
        for name in CHECKS
        if name not in ONLY_MAIN
    ],
)
def test_package_readme(name, package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    CHECKS[name](PACKAGE_READMES[package], tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [pytest.param(name, text, id=f"{name}-{number}") for name in CHECKS for number, text in enumerate(BROKEN[name])],
)
def test_broken_readme_is_noticed(name, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, AttributeError)):
        CHECKS[name](text, tmp_path)
