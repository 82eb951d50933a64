"""Command line of the language-model part: ``python -m lm COMMAND``, see ``python -m lm --help``."""

import argparse
import dataclasses
import gc
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from lm.settings import DataConfig, MethodConfig, ModelConfig

if TYPE_CHECKING:
    from lm.options import Settings

__all__ = ["main"]

_FAILED, _REFUSED, _INTERRUPTED, _PIPE_CLOSED = 1, 2, 130, 141
_KEPT = "nothing that was saved is lost"
_PROFILES = ("smoke", "quick", "paper")
_GROUPS = {"model": ModelConfig, "data": DataConfig, "method": MethodConfig}
_REQUIRED = {
    "inspect": ("train_data",),
    "precompute": ("model", "train_data", "output_dir"),
    "train": ("model", "train_data", "output_dir"),
    "evaluate": ("model", "eval_data", "output_dir"),
}
"""Fields that each command with settings needs."""
_EPILOG = """\
from the data to a model, here with a shipped configuration (tiny, on a CPU, less than a minute):
  relratio-lm inspect --config tiny-qwen2
  relratio-lm train --config tiny-qwen2 --output_dir runs/first --learning_rate 1e-4
  relratio-lm evaluate --config tiny-qwen2 --checkpoint runs/first --completions runs/first/completions.json

relratio-lm train --help lists all fields.

exit status: 0 all was done, 1 a run failed, 2 the request was refused, 130 interrupted
"""
_SETTINGS = """\
Settings are lines `field: value` of the configuration file; --field value or --field=value on the command line takes
their place. Paths are relative to the current folder; in the file ${config_folder} stands for the file's own folder.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default those of the process.

    Returns
    -------
    int
        Exit status: 0 when everything asked for was done, 1 when a run failed, 2 when the request was refused, 130 when
        the user interrupted, 141 when the output was closed.

    Examples
    --------
    >>> main(["train", "--config", "/dev/null"])
    2
    """
    parser = _parser()
    arguments, arguments.overrides = parser.parse_known_args(argv)
    if arguments.command == "validate" and arguments.overrides:
        parser.error(f"validate takes no such argument: {arguments.overrides[0]}")
    try:
        # Here, as --help must not wait for these imports, nor what is wrong in the settings for those of a command.
        if arguments.command in _REQUIRED:
            arguments.settings = _settings(arguments)
        command = getattr(_imported(f"lm.commands.{arguments.command}"), arguments.command)
        status = int(command(arguments))
        sys.stdout.flush()  # here, where a closed pipe is told apart from a fault
        return status
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        return _PIPE_CLOSED
    except ArithmeticError as error:  # such as a loss that is not finite
        return _report(error, _FAILED)
    except (ImportError, OSError, TypeError, ValueError) as error:
        return _report(error, _REFUSED)
    except KeyboardInterrupt as stop:
        print(f"\nrelratio-lm: interrupted; {stop if str(stop) else _KEPT}", file=sys.stderr)
        return _INTERRUPTED


def _imported(name: str) -> ModuleType:
    """Import a module without looking for garbage in what comes with torch: half a million objects that all stay.

    To look at them again and again takes an eighth of the time to a first training step.
    """
    if "torch" in sys.modules or not gc.isenabled():
        return import_module(name)
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def _settings(arguments: argparse.Namespace) -> "Settings":
    """Return the settings of a command, in which the method's options go together."""
    from lm.method import resolve_method
    from lm.options import load_settings

    settings = load_settings(arguments.config, arguments.overrides).require(*_REQUIRED[arguments.command])
    own = {field.name for field in dataclasses.fields(MethodConfig)} & settings.ratio.keys()
    resolve_method(MethodConfig(**{name: settings.ratio[name] for name in own}))
    return settings


def _report(error: Exception, status: int) -> int:
    """Print an error on one line, with the rank of a process beside the first, and return the status."""
    rank = os.environ.get("RANK", "0")  # of torchrun and accelerate
    where = "" if rank == "0" else f" (rank {rank})"
    print(f"relratio-lm{where}: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="relratio-lm",
        description="Alignment of language models by relative density ratio optimisation, and its peers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    inspect = _add(commands, "inspect", "show what training would see", _SETTINGS)
    inspect.description = _wrapped(
        "Read and tokenise the data and show what training would see: classes, lengths, rows that are cut or dropped, "
        "duplicates, alpha and weights, and three rows with prompt and completion tokens told apart. No model is "
        "loaded."
    )
    inspect.add_argument("--json", action="store_true", help="print the numbers as JSON")
    precompute = _add(commands, "precompute", "compute the reference's log-probabilities", _SETTINGS)
    precompute.description = _wrapped(
        "Compute the log-probabilities of the data under the reference, once, and keep them for training."
    )
    train = _add(commands, "train", "train a model", f"{_SETTINGS}\n{_fields()}")
    train.description = _wrapped(
        "Train a model, evaluate it and save it with its tokenizer and a model card to OUTPUT_DIR. Data and settings "
        "are checked before a model is loaded. --resume_from_checkpoint true goes on from the last checkpoint of a run "
        "that was stopped. Start it by torchrun or accelerate launch to use several devices."
    )
    evaluate = _add(commands, "evaluate", "evaluate a trained model", _SETTINGS)
    evaluate.description = _wrapped(
        "Evaluate a trained model on held-out data: risk, AUC, rewards of both classes with standard errors; sample "
        "completions and write them in AlpacaEval's form."
    )
    evaluate.add_argument("--checkpoint", metavar="DIR", help="trained model (default: OUTPUT_DIR)")
    evaluate.add_argument("--completions", metavar="FILE", help="JSON file for sampled completions (default: none)")
    validate = commands.add_parser(
        "validate",
        help="compare the methods where the truth is known",
        description="Fine-tune tiny models by every method on languages whose every probability is known, and tell how "
        "far each is from its target. No download, no GPU. What an earlier run saved is not run again.",
        allow_abbrev=False,
    )
    validate.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="name (default: all)")
    validate.add_argument("--profile", choices=_PROFILES, default="quick", help="size (default: quick)")
    validate.add_argument("--output", default="results", metavar="DIR", help="folder of results (default: results)")
    validate.add_argument("--jobs", type=_positive, metavar="N", help="processes (default: one a core)")
    validate.add_argument(
        "--progress", action="store_true", help="print lines `progress EXPERIMENT DONE TOTAL`, for programs, and no bar"
    )
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, epilog: str
) -> argparse.ArgumentParser:
    """Add a command that takes settings."""
    command = commands.add_parser(
        name,
        help=text,
        usage=f"relratio-lm {name} [--config FILE] [--field value ...]",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument(
        "--config", metavar="FILE", help="YAML file, or the name of a shipped configuration, such as tiny-qwen2"
    )
    return command


def _fields() -> str:
    """Return the text on all fields, by group."""
    blocks = []
    for group, settings in _GROUPS.items():
        lines = [f"fields of the {group}:"]
        for field in dataclasses.fields(settings):
            text = field.metadata["help"]
            if field.default not in (None, ""):
                text += f" (default {str(field.default).lower() if isinstance(field.default, bool) else field.default})"
            lines += textwrap.wrap(text, _width(), initial_indent=f"  {field.name:<20}  ", subsequent_indent=" " * 24)
        blocks.append("\n".join(lines))
    blocks.append(
        "fields of transformers.TrainingArguments:\n"
        + _wrapped(
            "All of them are fields here, such as output_dir (required), learning_rate, num_train_epochs, "
            "per_device_train_batch_size, gradient_accumulation_steps, lr_scheduler_type, warmup_steps, bf16, fsdp, "
            "deepspeed, eval_strategy, save_steps, report_to, seed, resume_from_checkpoint; its documentation "
            "tells about each.",
            indent="  ",
        )
    )
    return "\n\n".join(blocks)


def _wrapped(text: str, indent: str = "") -> str:
    """Return a text on lines that fit the terminal."""
    return textwrap.fill(text, _width(), initial_indent=indent, subsequent_indent=indent)


def _width() -> int:
    """Return the length of lines."""
    return min(shutil.get_terminal_size().columns, 120)


def _positive(text: str) -> int:
    """Return a positive integer, or raise what argparse reports."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
