"""What the options of a method come to: defaults filled in, options of other methods refused. Light to import."""

from dataclasses import dataclass

from lm.settings import MethodConfig
from theory import GENERATORS
from theory.checks import check_alpha, check_choice, check_positive

__all__ = ["ALPHAS", "METHODS", "PAIR_METHODS", "RATIO_METHODS", "Method", "resolve_method"]

METHODS = ("sft", "rdro", "ddro", "mle", "kto", "dpo", "ipo")
RATIO_METHODS = ("rdro", "ddro", "mle")
PAIR_METHODS = ("dpo", "ipo")
ALPHAS = ("auto", "auto_by_prompt", "column")

# Option: the methods that have it and its default.
_OPTIONS: dict[str, tuple[tuple[str, ...], float | str]] = {
    "alpha": (RATIO_METHODS, "auto"),
    "generator": (("rdro", "ddro"), "logistic"),
    "weighting": (("rdro", "ddro", "kto"), "balanced"),
    "beyond_domain": (("ddro",), "infinite"),
    "beta": (("kto", "dpo", "ipo"), 0.1),
}
_CHOICES = {
    "generator": tuple(GENERATORS),
    "weighting": ("balanced", "pooled", "balanced_by_prompt"),
    "beyond_domain": ("infinite", "extend"),
    "reference": ("precomputed", "frozen", "adapter_off", "none"),
    "log_probs": ("fused", "checkpoint", "full"),
    "on_nonfinite": ("raise", "skip"),
}


@dataclass(frozen=True)
class Method:
    """A method with all its options; None where the method has no such option.

    Attributes
    ----------
    name : str
        One of `METHODS`.
    alpha : float or str, optional
        Number in (0, 1), "auto", "auto_by_prompt" or "column".
    generator, weighting, beyond_domain : str, optional
        As in `theory`; weighting may be "balanced_by_prompt".
    beta : float, optional
        Above 0.
    reference : str
        "precomputed", "frozen", "adapter_off" or, for sft alone, "none".
    """

    name: str
    alpha: float | str | None
    generator: str | None
    weighting: str | None
    beyond_domain: str | None
    beta: float | None
    reference: str

    @property
    def pairs(self) -> bool:
        """Whether an example is a pair of a chosen and a rejected completion."""
        return self.name in PAIR_METHODS

    @property
    def width(self) -> int:
        """Sequences of an example: 2 for pairs and for kto, whose second one is mismatched."""
        return 2 if self.pairs or self.name == "kto" else 1


def resolve_method(config: MethodConfig) -> Method:
    """Fill in the defaults of a method.

    Parameters
    ----------
    config : MethodConfig
        What the user said; it is left as it is.

    Returns
    -------
    Method
        What is meant.

    Raises
    ------
    ValueError
        If an option is unknown, outside its range, or belongs to another method.

    Examples
    --------
    >>> resolve_method(MethodConfig(method="dpo")).beta
    0.1
    >>> resolve_method(MethodConfig(method="rdro", beta=0.1))
    Traceback (most recent call last):
    ...
    ValueError: beta is an option of kto, dpo, ipo, got it for rdro
    """
    name = check_choice("method", config.method, METHODS)
    options: dict[str, float | str | None] = {}
    for option, (methods, default) in _OPTIONS.items():
        given = getattr(config, option)
        if name not in methods:
            if given is not None:
                raise ValueError(f"{option} is an option of {', '.join(methods)}, got it for {name}")
            options[option] = None
        else:
            options[option] = default if given is None else given
    reference = config.reference or ("none" if name == "sft" else "precomputed")
    method = Method(name=name, reference=reference, **options)  # type: ignore[arg-type]
    _check_method(method)
    _check_run(config, method)
    return method


def _check_method(method: Method) -> None:
    """Refuse values outside the range of their option."""
    if isinstance(method.alpha, str):
        check_choice("alpha", method.alpha, ALPHAS)
    elif method.alpha is not None:
        check_alpha(method.alpha)
    if method.beta is not None:
        check_positive(method.beta, "beta")
    for option in ("generator", "weighting", "beyond_domain", "reference"):
        if getattr(method, option) is not None:
            check_choice(option, getattr(method, option), _CHOICES[option])
    if method.reference == "none" and method.name != "sft":
        raise ValueError(f"reference 'none' is an option of sft, got it for {method.name}")


def _check_run(config: MethodConfig, method: Method) -> None:
    """Refuse settings of the computation that make no sense with each other."""
    for option in ("log_probs", "on_nonfinite"):
        check_choice(option, getattr(config, option), _CHOICES[option])
    users = {"reference_model": ("precomputed", "frozen"), "reference_cache": ("precomputed",)}
    for option, references in users.items():
        if getattr(config, option) is not None and method.reference not in references:
            raise ValueError(
                f"{option} is an option of reference {' and '.join(references)}, got it for {method.reference!r}"
            )
    counts = {"sample_completions": 0, "sample_new_tokens": 1}
    if config.chunk_mebibytes is not None:
        counts["chunk_mebibytes"] = 1
    for option, least in counts.items():
        value = getattr(config, option)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{option} must be a whole number of at least {least}, got {value!r}")
