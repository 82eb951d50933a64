"""No file of a user or of the hub is run as code: no source of ours does what could, each forbidden way is found."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("theory", "sim", "lm", "figures", "benchmarks", "notebooks", "docs")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "_build" not in path.parts)

# Modules that run what they read, or reach other machines; of pickle only the error that others raise is needed.
MODULES = {
    *("pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"),
    *("requests", "httpx", "aiohttp", "urllib.request", "urllib3", "http.client", "http.server", "socket", "ftplib"),
}
NAMES = {"pickle.UnpicklingError"}

CALLS = {
    *("eval", "exec", "compile", "__import__", "runpy.run_path", "runpy.run_module"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp"),
    *("joblib.load", "joblib.dump", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter"),
    *("pandas.read_pickle", "pandas.eval", "numpy.ctypeslib.load_library", "shutil.unpack_archive"),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all", "yaml.load_all"),
}
METHODS = {"to_pickle", "extractall"}
TEXT_ONLY = {"eval", "query"}  # methods of tables, that run what they are given: only text that stands in the source

# Keywords with the only value that they may have; those of a call that must be there.
KEYWORDS = {
    **dict.fromkeys(("trust_remote_code", "allow_pickle", "shell"), False),
    **dict.fromkeys(("weights_only", "use_safetensors"), True),
}
REQUIRED = {
    r"torch\.load": {"weights_only"},
    r"transformers\.Auto(Config|Tokenizer)\.from_pretrained": {"trust_remote_code"},
    r"transformers\.AutoModel\w*\.from_pretrained": {"trust_remote_code", "use_safetensors"},
    r"transformers\.(?!Auto)\w+\.from_pretrained": {"use_safetensors"},
}


def dotted(node, aliases):
    """Return the full name that an expression such as np.load stands for, or None."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, aliases)
        return None if owner is None else f"{owner}.{node.attr}"
    return None


def imports(tree):
    """Yield each name that a module imports, and the full name that it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname or alias.name.split(".")[0]), alias.name, bool(alias.asname)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield (alias.asname or alias.name), f"{node.module}.{alias.name}", True


def is_module(name):
    """Return whether a name is, or is in, a module that must not be used."""
    return name not in NAMES and any(name == module or name.startswith(f"{module}.") for module in MODULES)


def dangers(source):
    """Return what a source does that could run a file as code, or ask another machine, each as `line: what`."""
    tree = ast.parse(source)
    aliases, found = {}, []
    for short, full, exact in imports(tree):
        aliases[short] = full if exact else full.split(".")[0]
        if is_module(full):
            found.append(f"import of {full}")
    safe_loaders = {"yaml.SafeLoader", "yaml.CSafeLoader"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and safe_loaders & {dotted(base, aliases) for base in node.bases}:
            safe_loaders.add(node.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found += [f"{node.lineno}: {what}" for what in call_dangers(node, aliases, safe_loaders)]
    return found


def call_dangers(node, aliases, safe_loaders):
    """Yield what is wrong with a call."""
    name = dotted(node.func, aliases)
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in CALLS or (name and is_module(name)):
        yield f"call of {name}"
    if method in METHODS or (method in TEXT_ONLY and node.args and not is_text(node.args[0])):
        yield f"call of {method}"
    for keyword, value in keywords.items():
        if keyword in KEYWORDS and not (isinstance(value, ast.Constant) and value.value is KEYWORDS[keyword]):
            yield f"{keyword}={ast.unparse(value)}"
    for pattern, needed in REQUIRED.items():
        if name and re.fullmatch(pattern, name):
            yield from (f"{name} without {keyword}" for keyword in sorted(needed - set(keywords)))
    if name == "yaml.load":
        loader = keywords.get("Loader", node.args[1] if len(node.args) > 1 else None)
        if loader is None or dotted(loader, aliases) not in safe_loaders:
            yield "yaml.load without a safe loader"


def is_text(node):
    """Return whether an expression is text that stands in the source, with nothing put into it."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_can_run_what_it_reads(path):
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads as read",
        "import os\nimport marshal as m",
        "def f():\n    from urllib.request import urlopen",
        "import urllib.request",
        "import requests\nrequests.get('x')",
        "eval(text)",
        "exec(text)",
        "compile(text, 'x', 'exec')",
        "__import__(name)",
        "import os\nos.system('ls')",
        "from os import system as run\nrun('ls')",
        "import subprocess as s\ns.run('ls', shell=True)",
        "import subprocess\nsubprocess.run(command, shell=flag)",
        "import tempfile\ntempfile.mktemp()",
        "import joblib\njoblib.load(path)",
        "from joblib import load\nload(path)",
        "import torch\ntorch.load(path)",
        "import torch as t\nt.load(path, weights_only=False)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import pandas as pd\npd.read_pickle(path)",
        "table.to_pickle(path)",
        "table.query(condition)",
        "table.query(f'n == {n}')",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.load(text, yaml.Loader)",
        "import yaml\nyaml.load(text, Loader=yaml.UnsafeLoader)",
        "import yaml\nclass Own(yaml.Loader): pass\nyaml.load(text, Own)",
        "import yaml\nyaml.unsafe_load(text)",
        "from transformers import AutoTokenizer\nAutoTokenizer.from_pretrained(x)",
        "from transformers import AutoConfig\nAutoConfig.from_pretrained(x, trust_remote_code=True)",
        "from transformers import AutoModelForCausalLM as A\nA.from_pretrained(x, trust_remote_code=False)",
        "from transformers import Qwen2ForCausalLM\nQwen2ForCausalLM.from_pretrained(x, use_safetensors=None)",
        "import tarfile\ntarfile.open(x).extractall()",
    ],
)
def test_every_forbidden_way_is_found(source):
    assert len(dangers(source)) >= 1


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile(text)",
        "from pickle import UnpicklingError",
        "model.eval()",
        "table.query('metric == \"kl\"')",
        "import numpy as np\nnp.load(path)",
        "import yaml\nyaml.safe_load(text)",
        "import yaml\nclass Own(yaml.SafeLoader): pass\nyaml.load(text, Own)",
        "import torch\ntorch.load(path, weights_only=True)",
        "import subprocess\nsubprocess.run(['ls'])",
    ],
)
def test_what_is_harmless_passes(source):
    assert dangers(source) == []
