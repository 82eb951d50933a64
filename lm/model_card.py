"""README.md of a trained model: what was trained on what, how, and what came of it."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from lm.config import RatioConfig
from lm.data import DataReport
from lm.evaluation import Estimate
from lm.files import replacing
from lm.method import Method
from lm.objective import Resolved
from lm.settings import ModelConfig

__all__ = ["model_card", "write_model_card"]

# Formula and source of each loss, with u = log p_theta(y|x) - log p_ref(y|x).
_LOSSES = {
    "sft": ("-u on preferred completions", "maximum likelihood"),
    "rdro": (
        "alpha c(u) - f'(e^u) on preferred and (1 - alpha) c(u) on other completions; with the logistic generator "
        "alpha softplus(u) + softplus(-u) and (1 - alpha) softplus(u)",
        "relative density ratio optimisation, arXiv 2604.04410",
    ),
    "ddro": (
        "-f'(g) on preferred and f'(g) g - f(g) on other completions, with g = (1 - alpha) e^u / (1 - alpha e^u)",
        "direct density ratio optimisation, arXiv 2505.07558, section 4",
    ),
    "mle": (
        "-log(alpha e^u) on preferred and -log(1 - alpha e^u) on other completions",
        "likelihood of the class given the completion, derived in this repository",
    ),
    "kto": (
        "1 - sigmoid(beta (u - kl)) on preferred and 1 - sigmoid(beta (kl - u)) on other completions",
        "arXiv 2402.01306, equation (8)",
    ),
    "dpo": ("softplus(-beta (u_chosen - u_rejected))", "arXiv 2305.18290, equation (7)"),
    "ipo": ("(u_chosen - u_rejected - 1 / (2 beta))^2", "arXiv 2310.12036, equation (17)"),
}
_SETTINGS = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "optim",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "world_size",
    "bf16",
    "fp16",
    "padding_free",
    "seed",
)
_PACKAGES = ("relratio", "torch", "transformers", "accelerate", "peft", "numpy")


def model_card(
    model: ModelConfig,
    config: RatioConfig,
    resolved: Resolved,
    reports: Mapping[str, DataReport],
    results: Mapping[str, Estimate],
    steps: int,
) -> str:
    """Return the text of a model card, with front matter for the hub.

    Parameters
    ----------
    model : ModelConfig
        The model that training started from, and its adapter.
    config : RatioConfig
        Method and training.
    resolved : Resolved
        What alpha and the class weights came to.
    reports : mapping of str to DataReport
        Data sets by name, such as "train" and "eval".
    results : mapping of str to Estimate
        Held-out estimates by name; may be empty.
    steps : int
        Optimiser steps that were taken.

    Returns
    -------
    str
        Markdown.
    """
    method = config.resolved
    name = Path(config.output_dir).name
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(model, method), sort_keys=False)}---\n",
        f"# {name}\n\n`{model.model}` trained with `{method.name}` for {steps:,} optimiser steps.",
        _method_section(method, resolved),
        _data_section(reports),
        f"## Results\n\n{_results(results)}",
        "## Training\n\n" + _rows(("setting", "value"), _training(model, config)),
        "## Versions\n\n" + _rows(("package", "version"), _versions()),
        f"## How to load it\n\n```python\n{_loading(model, config.output_dir)}\n```",
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def write_model_card(folder: str | Path, text: str) -> None:
    """Write README.md into the folder of a model, whole or not at all.

    Parameters
    ----------
    folder : path
        The folder.
    text : str
        What `model_card` returns.
    """
    with replacing(Path(folder) / "README.md") as draft:
        draft.write_text(text, encoding="utf-8")


def _front_matter(model: ModelConfig, method: Method) -> dict[str, object]:
    """Return the fields that the hub reads; a tiny model or a folder is no model of the hub."""
    fields: dict[str, object] = {}
    if model.model.count("/") == 1 and not Path(model.model).exists():
        fields["base_model"] = model.model
    fields["library_name"] = "peft" if model.lora_rank else "transformers"
    fields["pipeline_tag"] = "text-generation"
    fields["tags"] = ["relratio", "alignment", method.name, *(["lora"] if model.lora_rank else [])]
    return fields


def _method_section(method: Method, resolved: Resolved) -> str:
    """Return what the loss is."""
    formula, source = _LOSSES[method.name]
    text = (
        f"## Method\n\nLoss: `{formula}` ({source}), with u the log-ratio of policy to reference of a whole completion."
    )
    options = [
        (option, getattr(method, option))
        for option in ("generator", "weighting", "beyond_domain", "beta", "reference")
        if getattr(method, option) is not None
    ]
    if resolved.alpha is not None:
        options.append(
            (f"alpha ({method.alpha})" if isinstance(method.alpha, str) else "alpha", f"{resolved.alpha:.6g}")
        )
    elif resolved.alpha_range is not None:
        options.append((f"alpha ({method.alpha})", "{:.6g} to {:.6g}".format(*resolved.alpha_range)))
    if resolved.class_weights is not None:
        options.append(("weight of a preferred example", f"{resolved.class_weights[0]:.6g}"))
        options.append(("weight of another example", f"{resolved.class_weights[1]:.6g}"))
    options.append(("examples", f"{resolved.examples:,}"))
    return f"{text}\n\n{_rows(('option', 'value'), options)}"


def _data_section(reports: Mapping[str, DataReport]) -> str:
    """Return counts of the data sets, side by side."""
    counts = {
        "rows": "rows",
        "examples": "examples",
        "kept": "examples kept",
        "dropped_overlong": "dropped as too long",
        "cut": "kept, but cut",
        "mismatched": "prompts that are no token prefix",
        "preferred": "preferred sequences",
        "nonpreferred": "other sequences",
        "tokens": "tokens",
    }
    rows = [(text, *(f"{getattr(report, field):,}" for report in reports.values())) for field, text in counts.items()]
    return "## Data\n\n" + _rows(("", *reports), rows)


def _results(results: Mapping[str, Estimate]) -> str:
    """Return held-out estimates."""
    if not results:
        return "No held-out data was given."
    rows = [
        (
            name,
            f"{estimate.value:.4f}",
            "-" if estimate.standard_error is None else f"{estimate.standard_error:.4f}",
            f"{estimate.count:,}",
        )
        for name, estimate in results.items()
    ]
    text = "On held-out data, in nats; standard errors count the completions of one prompt together.\n\n"
    return text + _rows(("metric", "value", "standard error", "n"), rows)


def _training(model: ModelConfig, config: RatioConfig) -> list[tuple[str, object]]:
    """Return settings of model and training."""
    rows: list[tuple[str, object]] = [("attention", model.attention)]
    if model.model_dtype is not None:
        rows.append(("model_dtype", model.model_dtype))
    if model.lora_rank:
        rows += [(name, getattr(model, name)) for name in ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")]
    for name in _SETTINGS:
        value = getattr(config, name)
        rows.append((name, getattr(value, "value", value)))
    return rows


def _versions() -> list[tuple[str, str]]:
    """Return versions of Python and of the packages that matter."""
    found = [("python", platform.python_version())]
    for package in _PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:  # run from a checkout that is not installed
            continue
    return found


def _loading(model: ModelConfig, folder: str) -> str:
    """Return code that loads the model."""
    if model.lora_rank:
        return (
            "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer\n\n"
            f"model = AutoPeftModelForCausalLM.from_pretrained({folder!r})\n"
            f"tokenizer = AutoTokenizer.from_pretrained({folder!r})"
        )
    return (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"model = AutoModelForCausalLM.from_pretrained({folder!r})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({folder!r})"
    )


def _rows(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
