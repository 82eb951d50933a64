"""Time to the first step: from the start of a process to the report of its first optimiser step.

`python -m lm train --config tiny-qwen2`, as a user runs it, against scripts that train the same tiny model on the same
shipped rows with the same batch size: `trl`'s KTO trainer, which computes the same reference log-probabilities before,
and `transformers.Trainer` with its own next-token loss, which has no reference, no checks and no chat template and is
the floor. Every contender reports its first step on a line of its output, whose arrival ends the time. They take
turns after one run of each that fills the system's file cache, and the process is stopped then. CPU seconds are given
too: they suffer less from others on the machine.

Importing torch and transformers' Trainer, which all need, is nearly all of it (``python -X importtime -m lm train
...``). Trainer brings datasets with pandas and pyarrow, peft, quantisers, scipy.optimize, and of torch itself DTensor
with sympy, FSDP and dynamo, none of which can be left out from here. The model is so small that a second thread mostly
waits: where others use the cores this decides who is first, and ``--threads 1`` tells who needs less.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from support.child import machine
from support.published import measurement, save

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "lm" / "configs"
ROWS = len((DATA / "sample.jsonl").read_text(encoding="utf-8").splitlines())
BATCH = 8
NAMES = {"relratio": "relratio", "trl": "trl", "transformers": "transformers, no reference"}
QUANTITIES = {"seconds": ("time to first step", "s"), "cpu_seconds": ("CPU time to first step", "s")}
TARGET = 1.0  # times ours that trl takes at least
COMMON = {
    "use_cpu": True,
    "per_device_train_batch_size": BATCH,
    "per_device_eval_batch_size": BATCH,
    "learning_rate": 3e-4,
    "logging_steps": 1,
    "eval_strategy": "epoch",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}


def rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a shipped file."""
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def train_with_trl(folder: str) -> None:
    """Train with trl's KTO trainer."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    from lm.tiny_models import tiny_qwen2
    from lm.tokenizers import toy_tokenizer

    args = KTOConfig(folder, precompute_ref_log_probs=True, bf16=False, gradient_checkpointing=False, **COMMON)
    KTOTrainer(
        tiny_qwen2(len(toy_tokenizer())),
        args=args,
        train_dataset=Dataset.from_list(rows("sample.jsonl")),
        eval_dataset=Dataset.from_list(rows("sample_heldout.jsonl")),
        processing_class=toy_tokenizer(),
    ).train()


def train_with_transformers(folder: str) -> None:
    """Train with transformers' Trainer, by next-token prediction."""
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    from lm.tiny_models import tiny_qwen2
    from lm.tokenizers import toy_tokenizer

    tokenizer = toy_tokenizer()

    def tokenised(name: str) -> list[dict[str, Any]]:
        texts = ("\n".join(message["content"] for message in row["prompt"] + row["completion"]) for row in rows(name))
        return [dict(tokenizer(text)) for text in texts]

    Trainer(
        tiny_qwen2(len(tokenizer)),
        TrainingArguments(folder, **COMMON),
        DataCollatorForLanguageModeling(tokenizer, mlm=False),
        train_dataset=tokenised("sample.jsonl"),
        eval_dataset=tokenised("sample_heldout.jsonl"),
    ).train()


def first_step(kind: str, folder: str, threads: int) -> tuple[float, float]:
    """Return the seconds and CPU seconds from the start of a process to its report of the first step."""
    if kind == "relratio":
        settings = {"output_dir": folder, "logging_steps": 1, "per_device_train_batch_size": BATCH, "report_to": "none"}
        options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "lm", "train", "--config", "tiny-qwen2", *options]
    else:
        command = [sys.executable, str(Path(__file__).resolve()), "--child", kind, folder]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "TQDM_DISABLE": "1",
        "PYTHONWARNINGS": "ignore",
    }
    log = Path(folder) / "stderr"
    cpu_before = cpu_of_children()
    with log.open("w", encoding="utf-8") as errors:
        began = time.perf_counter()
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            reported = next((line for line in process.stdout if "'loss'" in line), None)
            seconds = time.perf_counter() - began
            process.kill()
    if reported is None:
        raise SystemExit(f"{' '.join(command)} must report a first step, got none\n{log.read_text(encoding='utf-8')}")
    return seconds, cpu_of_children() - cpu_before


def cpu_of_children() -> float:
    """Return the CPU seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each, in turns (default 5)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each process (default 2)")
    parser.add_argument("--kinds", nargs="+", default=[*NAMES], choices=[*NAMES], help="what to run")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, folder = arguments.child
        {"trl": train_with_trl, "transformers": train_with_transformers}[kind](folder)
        return
    about = machine("torch", "transformers", "trl")
    print(f"{about['processor']}, {arguments.threads} threads, load {about['load']}, {about['versions']}", flush=True)
    runs: dict[str, list[tuple[float, float]]] = {kind: [] for kind in arguments.kinds}
    for _ in range(arguments.rounds + 1):
        for kind, of_kind in runs.items():
            with tempfile.TemporaryDirectory() as folder:
                of_kind.append(first_step(kind, folder, arguments.threads))
    measurements = []
    medians: dict[str, dict[str, float]] = {}
    for kind, of_kind in runs.items():
        values = dict(zip(QUANTITIES, zip(*of_kind[1:], strict=True), strict=True))  # the first fills the file cache
        medians[kind] = {name: statistics.median(each) for name, each in values.items()}
        role, target = ("ours", None) if kind == "relratio" else ("peer", TARGET if kind == "trl" else None)
        measurements += [
            measurement(NAMES[kind], role, "rows", ROWS, *about_it, values[name], target if name == "seconds" else None)
            for name, about_it in QUANTITIES.items()
        ]
        print(
            f"{NAMES[kind]:26} {medians[kind]['seconds']:6.2f} s  {medians[kind]['cpu_seconds']:6.2f} CPU s", flush=True
        )
    if {"relratio", "trl"} <= medians.keys():
        ratio = medians["trl"]["seconds"] / medians["relratio"]["seconds"]
        print(f"time of trl >= {TARGET:g} of ours: {ratio:.2f}, {'met' if ratio >= TARGET else 'missed'}")
    save(arguments.output, "lm_start", about, arguments.threads, measurements)


if __name__ == "__main__":
    main()
