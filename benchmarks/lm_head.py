"""Time and memory of sequence log-probabilities at the full vocabulary of Qwen2.5, forward and backward.

The fused output head against its two oracles, which any other code would use: all logits at once ("full"), and logits
of a chunk of tokens rebuilt in the backward pass ("checkpoint"). Each runs in a process of its own, in turns; memory is
the rise of the resident set's high-water mark over model, inputs and libraries. Gradients are checked to agree.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support.child import machine, peak_mebibytes, report, run_child

VOCABULARY = 151_936
SEQUENCES, TOKENS = 8, 384  # 3,072 predicted tokens
WIDTHS = (128, 896)  # of the tiny model of lm_step, and of Qwen2.5-0.5B
MODES = ("fused", "checkpoint", "full")
TARGET_MEMORY, TARGET_TIME = 0.25, 1.0  # of the full path


def measure(mode: str, width: int) -> dict[str, Any]:
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
            self.lm_head = nn.Linear(width, VOCABULARY, bias=False)
            nn.init.normal_(self.lm_head.weight, std=0.02, generator=generator)

        def get_output_embeddings(self) -> nn.Module:
            return self.lm_head

        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
            return SimpleNamespace(logits=self.lm_head(self.hidden))

    model = HeadAlone()
    ids = torch.randint(VOCABULARY, (SEQUENCES, TOKENS + 1), generator=torch.Generator().manual_seed(1))
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


def compare(width: int, rounds: int, threads: int) -> dict[str, Any]:
    """Return medians of each mode over some rounds, ratios to the full path and the largest differences."""
    runs: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for _ in range(rounds):
        for mode in MODES:
            runs[mode].append(run_child(__file__, "--child", mode, width, threads=threads))
    row: dict[str, Any] = {"width": width}
    full = runs["full"][0]
    for mode in MODES:
        times = [run["seconds"] for run in runs[mode]]
        row[mode] = {
            "seconds": {"median": statistics.median(times), "min": min(times), "max": max(times)},
            "cpu_seconds": statistics.median(run["cpu_seconds"] for run in runs[mode]),
            "peak_mebibytes": statistics.median(run["peak_mebibytes"] for run in runs[mode]),
            "difference": max(
                largest_difference(runs[mode][0][name], full[name])
                for name in ("log_probs", "gradient_norms", "gradient_sample")
            ),
        }
    for mode in MODES:
        row[mode]["time_ratio"] = row[mode]["seconds"]["median"] / row["full"]["seconds"]["median"]
        row[mode]["memory_ratio"] = row[mode]["peak_mebibytes"] / row["full"]["peak_mebibytes"]
    return row


def largest_difference(values: list[float], expected: list[float]) -> float:
    """Return the largest difference, relative to the largest expected value."""
    return max(abs(a - b) for a, b in zip(values, expected, strict=True)) / max(abs(b) for b in expected)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="processes of each mode (default 2)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each process (default 2)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        report(measure(arguments.child[0], int(arguments.child[1])))
        return
    about = machine("torch")
    rows = [compare(width, arguments.rounds, arguments.threads) for width in WIDTHS]
    print(f"{about['processor']}, {arguments.threads} threads, load {about['load']}, {about['versions']}")
    print(f"{SEQUENCES * TOKENS:,} tokens, vocabulary {VOCABULARY:,}; ratios to the full path")
    print(
        f"{'width':>5}  {'mode':10} {'seconds':>8} {'ratio':>6} {'CPU s':>6} {'peak MiB':>9} {'ratio':>6} "
        f"{'difference':>11}"
    )
    for row in rows:
        for mode in MODES:
            cell = row[mode]
            print(
                f"{row['width']:5}  {mode:10} {cell['seconds']['median']:8.2f} {cell['time_ratio']:6.2f} "
                f"{cell['cpu_seconds']:6.2f} "
                f"{cell['peak_mebibytes']:9,.0f} {cell['memory_ratio']:6.3f} {cell['difference']:11.1e}"
            )
        met = row["fused"]["memory_ratio"] <= TARGET_MEMORY and row["fused"]["time_ratio"] <= TARGET_TIME
        print(f"{row['width']:5}  memory <= {TARGET_MEMORY}, time <= {TARGET_TIME}: {'met' if met else 'missed'}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    result = {"machine": about, "threads": arguments.threads, "tokens": SEQUENCES * TOKENS, "vocabulary": VOCABULARY}
    (arguments.output / "lm_head.json").write_text(json.dumps(result | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
