"""Time and memory of training without padding, against rows padded to the longest of their batch.

Both are our trainer, with the same rows in the same random order, eight to a batch, as users have them by default: rows
are not grouped by length, which would make batches of one kind. A batch without padding is one row; its attention is
taken a sequence at a time. Lengths are log-normal with the median of NumPy's docstrings, 209 words, and at most 1,024,
the default of max_length. Their spread is what counts: a log-standard deviation of .35, as in the shipped sample; .98,
as in NumPy's 463 docstrings; and .7 between, where the target is. The output head skips padding in both, so that only
the layers gain: the model's head has .38 of the weights of its layers, as in Qwen2.5-0.5B. Losses are checked to agree;
time is that of a thousand tokens that are no padding, and the first step, which warms up, is left out.

transformers' own "sdpa" attends over all pairs of positions of the row and masks those of different sequences: with it
a step without padding took as long as the padded one (2.6 and 2.5 CPU seconds, 1.4 by sequence; 8 rows, 47% padding).
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from support.child import machine, peak_mebibytes, report, run_child
from support.published import measurement, save

VOCABULARY, WIDTH, LAYERS = 3_500, 256, 4
ROWS = 8
MEDIAN, LONGEST, PROMPT = 209, 1_024, 8
SPREADS = (35, 70, 98)  # hundredths of the log-standard deviation of lengths
NAMES = {"packed": "relratio, padding-free", "padded": "relratio, padded"}
QUANTITIES = {
    "seconds": ("time a thousand tokens", "s"),
    "cpu_seconds": ("CPU time a thousand tokens", "s"),
    "peak_mebibytes": ("peak memory", "MiB"),
}
TARGET, AIMED = 1.5, 70  # times ours that padded rows take at least, at this spread
ROUNDING = 1e-3  # of a loss: log-probabilities of hundreds of tokens are sums of thousands of nats in float32


def lengths(spread: int, rows: int, median: int) -> Any:
    """Return the lengths of some rows in tokens."""
    import numpy as np

    drawn = np.random.default_rng(20260404).lognormal(np.log(median), spread / 100, rows)
    return drawn.astype(int).clip(2 * PROMPT, LONGEST)


def train(kind: str, spread: int, steps: int, median: int) -> dict[str, Any]:
    """Return what each step took for a thousand tokens, the peak of memory and the losses."""
    import numpy as np
    from support.clock import StepClock

    from lm import RatioConfig, RatioTrainer
    from lm.examples import ExampleSet
    from lm.tiny_models import tiny_qwen2

    rng = np.random.default_rng(1)
    ids = [rng.integers(VOCABULARY, size=n).astype(np.int32) for n in lengths(spread, ROWS * steps, median)]
    examples = ExampleSet(
        [row[:PROMPT] for row in ids], [row[PROMPT:] for row in ids], np.arange(len(ids)) % 2 == 0, np.arange(len(ids))
    )
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        args = RatioConfig(
            folder,
            padding_free=kind == "packed",
            use_cpu=True,
            per_device_train_batch_size=ROWS,
            num_train_epochs=1,
            learning_rate=1e-5,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = RatioTrainer(tiny_qwen2(VOCABULARY, WIDTH, LAYERS), args, examples, callbacks=[clock])
        before = peak_mebibytes()
        trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    thousands = np.diff([0, *(entry["num_tokens"] for entry in history)]) / 1_000
    walls, cpus = np.array(clock.steps).T / thousands
    return {
        "seconds": walls[1:].tolist(),
        "cpu_seconds": cpus[1:].tolist(),
        "peak_mebibytes": [peak_mebibytes() - before],
        "losses": [entry["loss"] for entry in history],
    }


def compare(spread: int, steps: int, median: int, threads: int) -> dict[str, dict[str, Any]]:
    """Return what both kinds took; their losses agree."""
    arguments = (spread, "--steps", steps, "--median", median)
    runs = {kind: run_child(__file__, "--child", kind, *arguments, threads=threads) for kind in NAMES}
    difference = max(abs(a - b) for a, b in zip(*(run["losses"] for run in runs.values()), strict=True))
    if not difference <= ROUNDING:
        raise SystemExit(f"losses with and without padding must agree to {ROUNDING}, got {difference:.1e}")
    return runs


def show(spread: int, padding: float, runs: dict[str, dict[str, Any]]) -> None:
    """Print medians, ratios to ours, and whether the target is met."""
    medians = {kind: {name: statistics.median(run[name]) for name in QUANTITIES} for kind, run in runs.items()}
    ours = medians["packed"]
    for kind, row in medians.items():
        ratios = "  ".join(f"{row[name] / ours[name]:5.2f}" for name in QUANTITIES)
        print(
            f"log-sd .{spread:02}, {padding:4.0%} padding  {NAMES[kind]:22} {1_000 / row['seconds']:8,.0f} tokens/s  "
            f"{row['cpu_seconds']:6.3f} CPU s  {row['peak_mebibytes']:6,.0f} MiB   {ratios}",
            flush=True,
        )
    if spread == AIMED:
        ratio = medians["padded"]["seconds"] / ours["seconds"]
        print(
            f"time with padding >= {TARGET} of ours: {ratio:.2f}, {'met' if ratio >= TARGET else 'missed'}", flush=True
        )


def measured(spread: int, runs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is published of one spread."""
    size = ("hundredths of log-sd of lengths", spread)
    return [
        measurement(
            NAMES[kind],
            "ours" if kind == "packed" else "peer",
            *size,
            *about,
            run[name],
            TARGET if (kind, spread, name) == ("padded", AIMED, "seconds") else None,
        )
        for kind, run in runs.items()
        for name, about in QUANTITIES.items()
    ]


def padding_share(spread: int, steps: int, median: int) -> float:
    """Return the expected share of padding in batches of rows in random order, from ten thousand batches."""
    import numpy as np

    drawn = lengths(spread, ROWS * steps, median)
    batches = np.random.default_rng(2).choice(drawn, (10_000, ROWS))
    return 1 - batches.mean() / batches.max(axis=1).mean()


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8, help="steps of each run, the first one to warm up (default 8)")
    parser.add_argument("--spreads", type=int, nargs="+", default=SPREADS, help="log-sd of lengths, in hundredths")
    parser.add_argument("--median", type=int, default=MEDIAN, help="median length in tokens (default 209)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each process (default 2)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "SPREAD"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    steps, median, threads = arguments.steps, arguments.median, arguments.threads
    if steps < 2:
        parser.error(f"--steps must be at least 2, got {steps}")
    if arguments.child:
        report(train(arguments.child[0], int(arguments.child[1]), steps, median))
        return
    about = machine("torch", "transformers")
    print(f"{about['processor']}, {threads} threads, load {about['load']}, {about['versions']}")
    print(f"{ROWS} rows a batch, vocabulary {VOCABULARY:,}, width {WIDTH}, {LAYERS} layers; ratios: time, CPU, memory")
    measurements, shares = [], {}
    for spread in arguments.spreads:
        runs = compare(spread, steps, median, threads)
        shares[spread] = padding_share(spread, steps, median)
        show(spread, shares[spread], runs)
        measurements += measured(spread, runs)
    save(arguments.output, "lm_packing", about, threads, measurements, padding=shares)


if __name__ == "__main__":
    main()
