"""Time and memory of a training step with the RDRO objective, against the same objective on `trl`'s KTO trainer.

Both train the same tiny Qwen2 on the same rows with the same learning rate, each in a process of its own, at the
vocabularies of Llama 2 and Qwen2.5. Ours runs by default, with the reference precomputed; with a live reference, a
second model that is asked at every step ("frozen"); and with all logits ("full"). The peer runs as trl sets it up
(reference model at every step, bfloat16, checkpointing), with its reference log-probabilities precomputed, and as lean
as its options allow: precomputed, float32, no checkpointing, and no forward pass for KTO's reference point, which RDRO
does not need. What is precomputed is computed before the first step, and the first step, which warms up, is left out.
CPU seconds are given too: they suffer less from others on the machine. Losses are compared on short rows, where sums
in float32 carry six digits.

A step has 8 rows at 32,000 tokens but 2 at 151,936, where 8 would take trl 15 GB: 8 times all its logits in float32, as
at 32,000. Fewer contenders run there, which bound the others: a live reference costs us a fifth to two fifths, and trl
with its reference precomputed lies between trl as it comes and the lean one. One step of each is timed there, two at
32,000, so that all takes about ten minutes, in 4 GB.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from support.child import machine, peak_mebibytes, report, run_child
from support.published import measurement, save

Rows = list[tuple[list[int], list[int], bool]]  # prompts, completions that end with END, labels

VOCABULARIES = (32_000, 151_936)  # of Llama 2, and of Qwen2.5
WIDTH, LAYERS = 128, 2
PROMPT, COMPLETION = 64, 320
MOST_ROWS, MOST_BYTES = 8, 2**29  # of a step, and of all its logits in float32
ALPHA = 0.39
END, PADDING = 0, 1
COMMON = {
    "use_cpu": True,
    "learning_rate": 1e-4,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
PEERS: dict[str, dict[str, Any]] = {
    "trl": {},
    "trl, precomputed": {"precompute_ref_log_probs": True},
    "trl, lean": {
        "precompute_ref_log_probs": True,
        "loss_type": "apo_zero_unpaired",
        "bf16": False,
        "gradient_checkpointing": False,
    },
}
OURS: dict[str, dict[str, Any]] = {
    "relratio": {},
    "relratio, frozen": {"reference": "frozen"},
    "relratio, full": {"log_probs": "full"},
}
BOUNDS = ["relratio", "relratio, full", "trl", "trl, lean"]  # contenders beyond the smallest vocabulary
QUANTITIES = {
    "seconds": ("time a step", "s"),
    "cpu_seconds": ("CPU time a step", "s"),
    "peak_mebibytes": ("peak memory", "MiB"),
}
# Times ours that the peer takes at least.
TARGETS = {"trl": {"seconds": 4.0, "peak_mebibytes": 2.0}, "trl, precomputed": {"seconds": 2.0}}


def rows_of_step(vocabulary: int) -> int:
    """Return the number of rows of a step, at least 2: KTO pairs each prompt with the completion of another."""
    return max(2, min(MOST_ROWS, MOST_BYTES // (4 * (PROMPT + COMPLETION) * vocabulary)))


def rows(prompt: int, completion: int, vocabulary: int) -> Rows:
    """Return prompts, completions that end with `END`, and labels."""
    import numpy as np

    rng = np.random.default_rng(20260404)
    ids = rng.integers(2, vocabulary, (rows_of_step(vocabulary), prompt + completion - 1)).tolist()
    return [(row[:prompt], [*row[prompt:], END], i % 2 == 0) for i, row in enumerate(ids)]


def model(vocabulary: int) -> Any:
    """Return the model before training."""
    from lm.tiny_models import tiny_qwen2

    return tiny_qwen2(vocabulary, WIDTH, LAYERS, eos_token_id=END, pad_token_id=PADDING)


def common(data: Rows) -> dict[str, Any]:
    """Return the settings that all share."""
    return {"per_device_train_batch_size": len(data), **COMMON}


def our_trainer(data: Rows, vocabulary: int, folder: str, clock: Any, **settings: Any) -> Any:
    """Return our trainer on some rows."""
    import numpy as np

    from lm import RatioConfig, RatioTrainer
    from lm.examples import ExampleSet

    prompts, completions, labels = zip(*data, strict=True)
    examples = ExampleSet(
        [np.array(ids, dtype=np.int32) for ids in prompts],
        [np.array(ids, dtype=np.int32) for ids in completions],
        np.array(labels),
        np.arange(len(labels)),
    )
    args = RatioConfig(folder, method="rdro", alpha=ALPHA, weighting="pooled", **common(data), **settings)
    return RatioTrainer(model(vocabulary), args, examples, callbacks=[clock])


def peer_trainer(data: Rows, vocabulary: int, folder: str, clock: Any, **settings: Any) -> Any:
    """Return trl's KTO trainer, its loss replaced, on some rows."""
    import torch
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast
    from trl import KTOConfig, KTOTrainer

    from theory import rdro_losses

    class RelativeRatioTrainer(KTOTrainer):
        """All of trl's step, its forward passes and metrics too, but the loss that it returns."""

        def _compute_loss(self, policy: torch.nn.Module, inputs: dict[str, Any], return_outputs: bool) -> torch.Tensor:
            seen: dict[str, torch.Tensor] = {}
            models = {"policy": policy} | ({} if self.ref_model is None else {"reference": self.ref_model})
            hooks = [
                each.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output.log_probs}))
                for name, each in models.items()
            ]
            super()._compute_loss(policy, inputs, return_outputs)
            for hook in hooks:
                hook.remove()
            reference = inputs["ref_logps"] if self.precompute_ref_logps else seen["reference"].sum(dim=1)
            return rdro_losses(seen["policy"].sum(dim=1) - reference, inputs["label"], ALPHA).mean()

    words = ["<end>", "<pad>", *(f"w{i}" for i in range(2, vocabulary))]
    splitter = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    splitter.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=splitter, eos_token="<end>", pad_token="<pad>")
    columns = [
        {
            "prompt": " ".join(words[i] for i in prompt),
            "completion": " " + " ".join(words[i] for i in completion),
            "label": label,
        }
        for prompt, completion, label in data
    ]
    policy = model(vocabulary)
    policy.save_pretrained(folder)  # from where trl loads its reference
    policy.config._name_or_path = folder
    args = KTOConfig(folder, **common(data), **settings)
    trainer = RelativeRatioTrainer(
        policy, args=args, train_dataset=Dataset.from_list(columns), processing_class=tokenizer, callbacks=[clock]
    )
    for row, (prompt, completion, _) in zip(trainer.train_dataset, data, strict=True):
        if row["prompt_ids"] + row["completion_ids"] != prompt + completion:
            raise SystemExit("trl must see the same tokens")
    return trainer


def train(kind: str, steps: int, vocabulary: int, short: bool) -> dict[str, Any]:
    """Return what a run of some steps took, and its losses."""
    import accelerate  # noqa: F401 - part of both, and of the memory before
    import datasets  # noqa: F401
    import torch  # noqa: F401
    from support.clock import StepClock
    from transformers.trainer import Trainer  # noqa: F401

    clock, data = StepClock(), rows(*((8, 16) if short else (PROMPT, COMPLETION)), vocabulary)
    before = peak_mebibytes()
    with tempfile.TemporaryDirectory() as folder:
        maker, settings = (peer_trainer, PEERS[kind]) if kind in PEERS else (our_trainer, OURS[kind])
        trainer = maker(data, vocabulary, folder, clock, max_steps=steps, **settings)
        trainer.train()
    return {
        "seconds": [wall for wall, _ in clock.steps],
        "cpu_seconds": [cpu for _, cpu in clock.steps],
        "peak_mebibytes": peak_mebibytes() - before,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }


def child(kind: str, vocabulary: int, steps: int, threads: int, *flags: str) -> dict[str, Any]:
    """Return what `train` returns, from a process of its own."""
    arguments = ("--child", kind, "--vocabularies", vocabulary, "--steps", steps, *flags)
    return run_child(__file__, *arguments, threads=threads)


def compare(kinds: list[str], vocabulary: int, rounds: int, steps: int, threads: int) -> dict[str, dict[str, Any]]:
    """Return times and memory of each kind by repetition, and its losses; they take turns."""
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            runs[kind].append(child(kind, vocabulary, steps, threads))
    table = {}
    for kind, of_kind in runs.items():
        times = {name: [t for run in of_kind for t in run[name][1:]] for name in ("seconds", "cpu_seconds")}
        table[kind] = {
            **times,
            "peak_mebibytes": [run["peak_mebibytes"] for run in of_kind],
            "losses": of_kind[0]["losses"],
        }
    return table


def loss_difference(vocabulary: int, threads: int) -> tuple[float, list[float]]:
    """Return the largest difference of the losses of both trainers over a short training, and ours."""
    ours, peer = (child(kind, vocabulary, 4, threads, "--short")["losses"] for kind in ("relratio", "trl, lean"))
    return max(abs(a - b) for a, b in zip(ours, peer, strict=True)), ours


def measured(vocabulary: int, table: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is published of one vocabulary."""
    return [
        measurement(
            kind,
            "peer" if kind in PEERS else "ours",
            "vocabulary",
            vocabulary,
            *about,
            row[name],
            TARGETS.get(kind, {}).get(name),
        )
        for kind, row in table.items()
        for name, about in QUANTITIES.items()
    ]


def show(table: dict[str, dict[str, Any]], tokens: int) -> None:
    """Print the table and whether targets are met."""
    medians = {kind: {name: statistics.median(row[name]) for name in QUANTITIES} for kind, row in table.items()}
    ours = medians["relratio"]
    print(f"{'':18} {'s/step':>8} {'CPU s':>8} {'tokens/s':>9} {'peak MiB':>9}   over relratio's: time, CPU, memory")
    for kind, row in medians.items():
        print(
            f"{kind:18} {row['seconds']:8.2f} {row['cpu_seconds']:8.2f} {tokens / row['seconds']:9,.0f} "
            f"{row['peak_mebibytes']:9,.0f}   " + "  ".join(f"{row[name] / ours[name]:6.2f}" for name in QUANTITIES)
        )
    for kind, aims in TARGETS.items():
        for quantity, target in aims.items():
            if kind in medians:
                ratio = medians[kind][quantity] / ours[quantity]
                met = "met" if ratio >= target else "missed"
                print(f"{QUANTITIES[quantity][0]} of {kind} >= {target:g} of ours: {ratio:.2f}, {met}", flush=True)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--steps", type=int, help="steps of each run, the first one to warm up (default 3, but 2 beyond 32,000 tokens)"
    )
    parser.add_argument("--rounds", type=int, default=1, help="runs of each kind, in turns (default 1)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each process (default 2)")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=[*OURS, *PEERS],
        help=f"what to run (default all, but beyond 32,000 tokens {'; '.join(BOUNDS)})",
    )
    parser.add_argument(
        "--vocabularies", type=int, nargs="+", default=VOCABULARIES, help="tokens of the model (default 32000 151936)"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps is not None and arguments.steps < 2:
        parser.error(f"--steps must be at least 2, got {arguments.steps}")
    if arguments.kinds is not None and "relratio" not in arguments.kinds:
        parser.error(f"--kinds must include relratio, got {', '.join(arguments.kinds)}")
    threads = arguments.threads
    if arguments.child:
        report(train(arguments.child, arguments.steps, *arguments.vocabularies, arguments.short))
        return
    about = machine("torch", "transformers", "trl", "accelerate")
    print(f"{about['processor']}, {threads} threads, load {about['load']}, {about['versions']}")
    print(f"rows of {PROMPT + COMPLETION} tokens, width {WIDTH}, {LAYERS} layers")
    difference, losses = loss_difference(min(arguments.vocabularies), threads)
    print(f"largest difference of losses {difference:.1e}; losses {', '.join(f'{loss:.4f}' for loss in losses)}")
    if difference > 1e-5:
        raise SystemExit(f"the losses of both trainers must agree to 1e-5, got {difference:.1e}")
    measurements: list[dict[str, Any]] = []
    tokens_of, losses_of = {}, {}
    for vocabulary in arguments.vocabularies:
        small = vocabulary <= min(VOCABULARIES)
        kinds = arguments.kinds or ([*OURS, *PEERS] if small else BOUNDS)
        table = compare(kinds, vocabulary, arguments.rounds, arguments.steps or (3 if small else 2), threads)
        tokens_of[vocabulary] = rows_of_step(vocabulary) * (PROMPT + COMPLETION)
        print(f"vocabulary {vocabulary:,}, {tokens_of[vocabulary]:,} tokens a step")
        show(table, tokens_of[vocabulary])
        measurements += measured(vocabulary, table)
        losses_of[vocabulary] = {kind: row["losses"] for kind, row in table.items()}
    facts = {"tokens": tokens_of, "load_after": machine()["load"], "loss_difference": difference, "losses": losses_of}
    save(arguments.output, "lm_step", about, threads, measurements, **facts)


if __name__ == "__main__":
    main()
