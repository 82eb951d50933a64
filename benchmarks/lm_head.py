"""Time and memory of sequence log-probabilities over width, vocabulary and length, forward and backward.

The fused output head against its two oracles, which any other code would use: all logits at once ("all logits"), and
logits of a chunk of tokens rebuilt in the backward pass ("checkpointed chunks"). Each runs in a process of its own on
the same hidden states; memory is the rise of the resident set's high-water mark over model, inputs and libraries.
Log-probabilities and gradients are checked to agree. Widths are those of the tiny model of lm_step and of Qwen2.5-0.5B;
they vary at the largest vocabulary, vocabularies at the smallest width, and lengths at the smallest of both.

At large widths products with the head take nearly all of the time, and whatever rebuilds the logits needs four of them
where all logits need three: 4/3 of the time, less what all logits lose by passes over memory that no cache holds, where
ours are over tiles of 16 MiB, which it does hold.

The fourth product cannot be saved by taking gradients in the forward pass, as fused heads do whose loss is a mean over
tokens: here a token counts by the slope of the loss at its sequence's whole log-ratio, which is known once all tiles
have been seen. The gradient of the hidden states could be taken before, but for that factor; that of the head sums over
sequences and needs every tile again.

At width 896 and 151,936 tokens the gradient of the head takes 519 MiB, whoever computes it. Of our 572 MiB it leaves
53, of the 1,803 of all logits 1,284: 24 times ours, where whole peaks differ by 3.2 times.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from support.child import machine, peak_mebibytes, report, run_child
from support.published import measurement, save


class Case(NamedTuple):
    """Sizes of one comparison; the batch has SEQUENCES x length predicted tokens."""

    width: int
    vocabulary: int
    length: int


SEQUENCES, LENGTH = 4, 256
WIDTHS = (128, 896)
VOCABULARIES = (32_000, 64_000, 151_936)  # of Llama 2, and of Qwen2.5
LENGTHS = (256, 512, 1_024, 2_048)
MODES = ("fused", "checkpoint", "full")
NAMES = {"fused": "relratio, fused", "full": "all logits", "checkpoint": "checkpointed chunks"}
QUANTITIES = {
    "seconds": ("time a pass", "s"),
    "cpu_seconds": ("CPU time a pass", "s"),
    "peak_mebibytes": ("peak memory", "MiB"),
}
TARGETS = {"seconds": 1.0, "peak_mebibytes": 4.0}  # times ours that all logits take at least
ROUNDING = 1e-4  # of sums over a sequence, relative to the largest


def measure(mode: str, case: Case, passes: int) -> dict[str, Any]:
    """Return seconds of forward and backward passes, the peak in MiB, and what tells whether the passes agree."""
    import torch
    from torch import nn

    from lm.output_head import LogProbHead

    class HeadAlone(nn.Module):
        """A language model of nothing but its last hidden states and its output head."""

        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(20260404)
            self.hidden = nn.Parameter(torch.randn(SEQUENCES, case.length + 1, case.width, generator=generator))
            self.lm_head = nn.Linear(case.width, case.vocabulary, bias=False)
            nn.init.normal_(self.lm_head.weight, std=0.02, generator=generator)

        def get_output_embeddings(self) -> nn.Module:
            return self.lm_head

        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
            return SimpleNamespace(logits=self.lm_head(self.hidden))

    model = HeadAlone()
    shape = (SEQUENCES, case.length + 1)
    ids = torch.randint(case.vocabulary, shape, generator=torch.Generator().manual_seed(1))
    batch = {"input_ids": ids, "completion_mask": torch.arange(case.length + 1).expand_as(ids) > 0}
    head = LogProbHead(model, mode=mode)
    slopes = torch.linspace(-1.0, 1.0, SEQUENCES)  # as different losses of examples would have
    before = peak_mebibytes()
    seconds, cpu_seconds = [], []
    for _ in range(passes):
        model.zero_grad()
        start, cpu_start = time.perf_counter(), time.process_time()
        log_probs = head.sequence_log_probs(model, batch)
        (log_probs * slopes).sum().backward()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mebibytes": [peak_mebibytes() - before],
        "log_probs": log_probs.tolist(),
        "gradient_norms": [model.hidden.grad.norm().item(), model.lm_head.weight.grad.norm().item()],
        "gradient_sample": model.hidden.grad[:, ::48, ::16].flatten().tolist(),
    }


@cache
def compare(case: Case, passes: int, threads: int) -> dict[str, dict[str, Any]]:
    """Return time, memory and largest difference from all logits of each mode."""
    runs = {mode: run_child(__file__, "--child", mode, *case, "--passes", passes, threads=threads) for mode in MODES}
    for mode, run in runs.items():
        run["difference"] = max(
            largest_difference(run[name], runs["full"][name])
            for name in ("log_probs", "gradient_norms", "gradient_sample")
        )
        if not run["difference"] <= ROUNDING:
            raise SystemExit(f"{NAMES[mode]} must agree with all logits to {ROUNDING}, got {run['difference']:.1e}")
    return runs


def largest_difference(values: list[float], expected: list[float]) -> float:
    """Return the largest difference, relative to the largest expected value."""
    return max(abs(a - b) for a, b in zip(values, expected, strict=True)) / max(abs(b) for b in expected)


def measured(
    size_name: str, size: int, runs: dict[str, dict[str, Any]], targets: dict[str, float]
) -> list[dict[str, Any]]:
    """Return what is published of one size; all logits are the first peer."""
    rows = []
    for mode, name in NAMES.items():
        role = "ours" if mode == "fused" else "peer"
        aims = targets if mode == "full" else {}
        rows += [
            measurement(name, role, size_name, size, *about, runs[mode][quantity], aims.get(quantity))
            for quantity, about in QUANTITIES.items()
        ]
    return rows


def show(size_name: str, size: int, runs: dict[str, dict[str, Any]], targets: dict[str, float]) -> None:
    """Print medians, ratios to ours, and whether targets are met."""
    medians = {mode: {name: statistics.median(run[name]) for name in QUANTITIES} for mode, run in runs.items()}
    ours = medians["fused"]
    for mode in MODES:
        cells = "  ".join(
            f"{row:9,.2f} {unit} {row / ours[name]:6.2f}"
            for (name, (_, unit)), row in zip(QUANTITIES.items(), medians[mode].values(), strict=True)
        )
        print(f"{size_name:10} {size:8,}  {NAMES[mode]:20} {cells}  {runs[mode]['difference']:8.1e}", flush=True)
    for name, target in targets.items():
        ratio = medians["full"][name] / ours[name]
        verdict = "met" if ratio >= target else "missed"
        print(f"{QUANTITIES[name][0]} of all logits >= {target:g} of ours: {ratio:.2f}, {verdict}", flush=True)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=3, help="timed passes of each process (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each process (default 2)")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, help="hidden sizes (default 128 896)")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=VOCABULARIES, help="tokens of the model")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="tokens of a sequence")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    parser.add_argument("--child", nargs=4, metavar=("MODE", "WIDTH", "VOCABULARY", "LENGTH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        report(measure(arguments.child[0], Case(*map(int, arguments.child[1:])), arguments.passes))
        return
    about = machine("torch")
    print(f"{about['processor']}, {arguments.threads} threads, load {about['load']}, {about['versions']}")
    print(f"{SEQUENCES} sequences; medians, ratios to ours, and the largest difference from all logits")
    measurements, differences = [], {}
    for size_name, size, case in cases(arguments.widths, arguments.vocabularies, arguments.lengths):
        runs = compare(case, arguments.passes, arguments.threads)
        aimed = (size_name, size) in (("width", max(arguments.widths)), ("length", max(arguments.lengths)))
        targets = TARGETS if aimed else {}
        show(size_name, size, runs, targets)
        measurements += measured(size_name, size, runs, targets)
        differences[f"{size_name} {size}"] = max(run["difference"] for run in runs.values())
    facts = {"sequences": SEQUENCES, "length": LENGTH, "largest_difference": differences}
    save(arguments.output, "lm_head", about, arguments.threads, measurements, **facts)


def cases(widths: list[int], vocabularies: list[int], lengths: list[int]) -> Iterator[tuple[str, int, Case]]:
    """Yield what is varied, its value and all sizes."""
    for width in widths:
        yield "width", width, Case(width, max(vocabularies), LENGTH)
    for vocabulary in vocabularies:
        yield "vocabulary", vocabulary, Case(min(widths), vocabulary, LENGTH)
    for length in lengths:
        yield "length", length, Case(min(widths), min(vocabularies), length)


if __name__ == "__main__":
    main()
