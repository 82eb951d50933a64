"""Training throughput at the sizes of Qwen2.5-0.5B on a GPU: the fused output head against all logits.

Random weights in float32, products in bfloat16, a precomputed reference, rows of one length; each in a process of its
own. Model FLOPs are those of one forward and one backward pass without anything computed twice; products of the output
head count for completion tokens only. Without a GPU the same code runs at a tiny size on the CPU, says so, and
saves nothing.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from support.child import machine, peak_mebibytes, report, run_child
from support.published import measurement, save

MODES = ("fused", "full")
# Dense bfloat16 products per second, from the vendor's data sheets.
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12}


@dataclass(frozen=True)
class Sizes:
    """Model and batch."""

    vocabulary: int = 151_936
    hidden_size: int = 896
    layers: int = 24
    intermediate_size: int = 4_864
    heads: int = 14
    key_value_heads: int = 2
    rows: int = 8
    prompt: int = 256
    completion: int = 768
    steps: int = 12

    def flops(self) -> float:
        """Return the model FLOPs of a step: 6 per weight and token, and those of causal attention."""
        tokens = self.rows * (self.prompt + self.completion)
        keys = self.hidden_size // self.heads * self.key_value_heads
        weights = self.hidden_size * (2 * self.hidden_size + 2 * keys + 3 * self.intermediate_size)
        attention = self.hidden_size * (self.prompt + self.completion)  # half of two products with all positions
        head = self.vocabulary * self.hidden_size * self.rows * self.completion
        return 6.0 * (tokens * self.layers * (weights + attention) + head)


TINY = Sizes(4_096, 64, 2, 128, 4, 2, rows=4, prompt=16, completion=48, steps=4)


def train(mode: str, sizes: Sizes, cuda: bool) -> dict[str, Any]:
    """Return times of the steps after two that warm up, and the peak of memory."""
    import numpy as np
    import torch
    from transformers import TrainerCallback

    from lm import RatioConfig, RatioTrainer
    from lm.examples import ExampleSet
    from lm.tiny_models import tiny_qwen2

    times = []

    class Clock(TrainerCallback):
        """Takes the time of each step, the device's work included."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - self.began)

    rng = np.random.default_rng(20260404)
    ids = rng.integers(2, sizes.vocabulary, (sizes.rows, sizes.prompt + sizes.completion)).astype(np.int32)
    examples = ExampleSet(
        list(ids[:, : sizes.prompt]),
        list(ids[:, sizes.prompt :]),
        np.arange(sizes.rows) % 2 == 0,
        np.arange(sizes.rows),
    )
    model = tiny_qwen2(
        sizes.vocabulary,
        sizes.hidden_size,
        sizes.layers,
        intermediate_size=sizes.intermediate_size,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.key_value_heads,
    )
    before = peak_mebibytes()
    with tempfile.TemporaryDirectory() as folder:
        args = RatioConfig(
            folder,
            use_cpu=not cuda,
            bf16=True,
            log_probs=mode,
            per_device_train_batch_size=sizes.rows,
            learning_rate=1e-6,
            max_steps=sizes.steps,
            logging_steps=sizes.steps,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = RatioTrainer(model.cuda() if cuda else model, args, examples, callbacks=[Clock()])
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else peak_mebibytes() - before
    return {"seconds": times[2:], "peak_mebibytes": peak}


def device() -> str | None:
    """Return the name of the first GPU, or None."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of each process (default 2)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    name = device()
    sizes = Sizes() if name else TINY
    if arguments.child:
        report(train(arguments.child, sizes, name is not None))
        return
    peak = next((flops for card, flops in PEAK_FLOPS.items() if card in name), None) if name else None
    about = machine("torch", "transformers")
    print(f"{about['processor']}, {arguments.threads} threads, {about['versions']}")
    print(f"on {name}" if name else "no GPU was found: a tiny model on the CPU, which tells nothing of a GPU's speed")
    print(", ".join(f"{key} {value:,}" for key, value in asdict(sizes).items()))
    print(f"{'mode':6} {'s/step':>8} {'tokens/s':>9} {'peak MiB':>9} {'FLOP utilisation':>17}")
    rows = {mode: run_child(__file__, "--child", mode, threads=arguments.threads) for mode in MODES}
    tokens = sizes.rows * (sizes.prompt + sizes.completion)
    for mode, row in rows.items():
        seconds = statistics.median(row["seconds"])
        used = f"{sizes.flops() / seconds / peak:17.3f}" if peak else f"{'':>17}"
        print(f"{mode:6} {seconds:8.3f} {tokens / seconds:9,.0f} {row['peak_mebibytes']:9,.0f} {used}")
    if name:
        measurements = [one for mode, row in rows.items() for one in measured(mode, tokens, row)]
        facts = {"sizes": asdict(sizes), "flops_a_step": sizes.flops(), "peak_flops": peak}
        save(arguments.output, "lm_gpu", about | {"processor": name}, arguments.threads, measurements, **facts)


def measured(mode: str, tokens: int, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is published of one mode."""
    about = ("relratio, fused", "ours") if mode == "fused" else ("all logits", "peer")
    return [
        measurement(*about, "tokens", tokens, "time a step", "s", row["seconds"]),
        measurement(*about, "tokens", tokens, "peak memory", "MiB", [row["peak_mebibytes"]]),
    ]


if __name__ == "__main__":
    main()
