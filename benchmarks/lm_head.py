"""Time and memory of sequence log-probabilities at the full vocabulary of Qwen2.5, forward and backward.

The fused output head against its two oracles, which any other code would use: all logits at once ("full"), and logits
of a chunk of tokens rebuilt in the backward pass ("checkpoint"). Each runs in a process of its own, in turns; memory is
the rise of the resident set's high-water mark over model, inputs and libraries. Gradients are checked to agree.
"""

import argparse
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support.child import machine, peak_mebibytes, report, run_child
from support.published import measurement, save

VOCABULARY = 151_936
SEQUENCES, TOKENS = 8, 384  # 3,072 predicted tokens
WIDTHS = (128, 896)  # of the tiny model of lm_step, and of Qwen2.5-0.5B
MODES = ("fused", "checkpoint", "full")
NAMES = {"fused": "relratio, fused", "checkpoint": "checkpointed chunks", "full": "all logits"}
QUANTITIES = {
    "seconds": ("time a pass", "s"),
    "cpu_seconds": ("CPU time a pass", "s"),
    "peak_mebibytes": ("peak memory", "MiB"),
}
TARGET_MEMORY, TARGET_TIME = 0.25, 1.0  # of the full path


def measure(mode: str, width: int, vocabulary: int) -> dict[str, Any]:
    """Return seconds and MiB of one forward and backward pass, and what tells whether the passes agree."""
    import torch
    from torch import nn

    from lm.output_head import LogProbHead

    class HeadAlone(nn.Module):
        """A language model of nothing but its last hidden states and its output head."""

        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(20260404)
            self.hidden = nn.Parameter(torch.randn(SEQUENCES, TOKENS + 1, width, generator=generator))
            self.lm_head = nn.Linear(width, vocabulary, bias=False)
            nn.init.normal_(self.lm_head.weight, std=0.02, generator=generator)

        def get_output_embeddings(self) -> nn.Module:
            return self.lm_head

        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
            return SimpleNamespace(logits=self.lm_head(self.hidden))

    model = HeadAlone()
    ids = torch.randint(vocabulary, (SEQUENCES, TOKENS + 1), generator=torch.Generator().manual_seed(1))
    batch = {"input_ids": ids, "completion_mask": torch.arange(TOKENS + 1).expand_as(ids) > 0}
    head = LogProbHead(model, mode=mode)
    slopes = torch.linspace(-1.0, 1.0, SEQUENCES)  # as different losses of examples would have
    before = peak_mebibytes()
    start, cpu_start = time.perf_counter(), time.process_time()
    log_probs = head.sequence_log_probs(model, batch)
    (log_probs * slopes).sum().backward()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mebibytes": peak_mebibytes() - before,
        "log_probs": log_probs.tolist(),
        "gradient_norms": [model.hidden.grad.norm().item(), model.lm_head.weight.grad.norm().item()],
        "gradient_sample": model.hidden.grad[:, ::48, ::16].flatten().tolist(),
    }


def compare(width: int, vocabulary: int, rounds: int, threads: int) -> dict[str, Any]:
    """Return time and memory of each mode over some rounds, ratios to the full path and the largest differences."""
    runs: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for _ in range(rounds):
        for mode in MODES:
            runs[mode].append(run_child(__file__, "--child", mode, width, vocabulary, threads=threads))
    row: dict[str, Any] = {"width": width}
    full = runs["full"][0]
    for mode in MODES:
        row[mode] = {
            **{name: [run[name] for run in runs[mode]] for name in QUANTITIES},
            "difference": max(
                largest_difference(runs[mode][0][name], full[name])
                for name in ("log_probs", "gradient_norms", "gradient_sample")
            ),
        }
    for mode in MODES:
        for ratio, name in (("time_ratio", "seconds"), ("memory_ratio", "peak_mebibytes")):
            row[mode][ratio] = statistics.median(row[mode][name]) / statistics.median(row["full"][name])
    return row


def measured(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is published of one width."""
    return [
        measurement(NAMES[mode], "ours" if mode == "fused" else "peer", "width", row["width"], *about, row[mode][name])
        for mode in MODES
        for name, about in QUANTITIES.items()
    ]


def largest_difference(values: list[float], expected: list[float]) -> float:
    """Return the largest difference, relative to the largest expected value."""
    return max(abs(a - b) for a, b in zip(values, expected, strict=True)) / max(abs(b) for b in expected)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each mode (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each process (default 2)")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, help="hidden sizes (default 128 896)")
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY, help="tokens (default 151936)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        report(measure(arguments.child[0], *map(int, arguments.child[1:])))
        return
    about = machine("torch")
    rows = [compare(width, arguments.vocabulary, arguments.rounds, arguments.threads) for width in arguments.widths]
    print(f"{about['processor']}, {arguments.threads} threads, load {about['load']}, {about['versions']}")
    print(f"{SEQUENCES * TOKENS:,} tokens, vocabulary {arguments.vocabulary:,}; ratios to the full path")
    show(rows)
    facts = {"tokens": SEQUENCES * TOKENS, "vocabulary": arguments.vocabulary}
    facts["largest_difference"] = {row["width"]: {mode: row[mode]["difference"] for mode in MODES} for row in rows}
    save(arguments.output, "lm_head", about, arguments.threads, [one for row in rows for one in measured(row)], **facts)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table and whether targets are met."""
    print(
        f"{'width':>5}  {'mode':10} {'seconds':>8} {'ratio':>6} {'CPU s':>6} {'peak MiB':>9} {'ratio':>6} "
        f"{'difference':>11}"
    )
    for row in rows:
        for mode in MODES:
            cell = row[mode]
            seconds, cpu, peak = (statistics.median(cell[name]) for name in QUANTITIES)
            print(
                f"{row['width']:5}  {mode:10} {seconds:8.2f} {cell['time_ratio']:6.2f} {cpu:6.2f} "
                f"{peak:9,.0f} {cell['memory_ratio']:6.3f} {cell['difference']:11.1e}"
            )
        met = row["fused"]["memory_ratio"] <= TARGET_MEMORY and row["fused"]["time_ratio"] <= TARGET_TIME
        print(f"{row['width']:5}  memory <= {TARGET_MEMORY}, time <= {TARGET_TIME}: {'met' if met else 'missed'}")


if __name__ == "__main__":
    main()
