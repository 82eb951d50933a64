"""Training runs whose outcome must not depend on the number of processes, and the program that makes them in two.

``python distributed_worker.py FOLDER`` leaves one file per run in the folder. The same functions called from elsewhere
make the runs in one process.
"""

import gc
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from peft import LoraConfig, get_peft_model
from torch import distributed
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from lm.config import RatioConfig
from lm.tiny_models import tiny_qwen2
from lm.trainer import RatioTrainer
from tests.lm.toy_examples import VOCABULARY, toy_examples

ROOT = Path(__file__).parents[2]
WINDOW = 8  # examples of an optimiser step, all processes together
STEPS_BEFORE = 2  # steps before an interruption
LEARNING_RATE = 0.05
EPSILON = 0.01  # of Adam: about the size of gradients, so that a step is no sign of a rounding


@dataclass(frozen=True)
class Case:
    """A run of training. `order` puts the examples of a window in this order of classes; None shuffles them."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    examples: int = 24
    held_out: int = 0
    order: tuple[bool, ...] | None = None
    tie: bool = True
    lora: bool = False
    fsdp: bool = False
    accumulate: int = 1
    resumed: bool = False  # interrupted after two steps, and trained on by another trainer


# With two processes the first takes the first half of a window in order: it sees preferred examples alone.
APART = (True,) * (WINDOW // 2) + (False,) * (WINDOW // 2)

CASES = (
    Case("opposite classes", order=APART),
    Case("opposite classes, padding-free", {"padding_free": True}, order=APART),
    Case("uneven tail", {"num_train_epochs": 2}, examples=22, held_out=11, resumed=True),
    Case("uneven tail, accumulated", {"num_train_epochs": 2}, examples=21, accumulate=2, tie=False),
    Case("kto", {"method": "kto"}, examples=18, held_out=7),
    Case("dpo, frozen reference", {"method": "dpo", "reference": "frozen", "padding_free": True}, examples=17),
    Case("adapter", {"reference": "adapter_off"}, lora=True),
    Case("fsdp, opposite classes", order=APART, fsdp=True),
    Case("fsdp, tied", {"num_train_epochs": 2}, examples=22, held_out=11, fsdp=True, resumed=True),
    Case("fsdp, untied", {"num_train_epochs": 2}, examples=21, accumulate=2, tie=False, fsdp=True),
    Case("fsdp, frozen reference", {"method": "dpo", "reference": "frozen"}, fsdp=True),
    Case("fsdp, bfloat16", {"bf16": True, "max_steps": 1}, fsdp=True),
    Case("fsdp, bfloat16, frozen reference", {"bf16": True, "max_steps": 1, "reference": "frozen"}, fsdp=True),
)


class Recorder(TrainerCallback):
    """Keeps the gradients that each optimiser step takes."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Copy them, whole where processes hold parts."""
        trained = {plain(name): p.grad for name, p in model.named_parameters() if p.requires_grad}
        self.gradients.append({name: whole(gradient).clone() for name, gradient in trained.items()})


class RecordingTrainer(RatioTrainer):
    """Keeps the classes of the batches of its process."""

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
        """Note the classes, and go on."""
        vars(self).setdefault("classes", []).append(inputs["preferred"].tolist())
        return super().compute_loss(model, inputs, *arguments, **named)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of which every process may hold a part; all processes must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def plain(name: str) -> str:
    """Return a weight's name without what checkpointing of activations put into it."""
    return name.replace("_checkpoint_wrapped_module.", "")


def run(case: Case, folder: Path) -> dict[str, Any]:
    """Train, and return gradients, weights, reports and what the processes saw."""
    recorder = Recorder()
    trainer = trainer_of(case, folder / case.name, recorder)
    trainer.train()
    if case.resumed and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        trainer = trainer_of(case, folder / case.name, recorder)
        del recorder.gradients[STEPS_BEFORE:]
        trainer.train(resume_from_checkpoint=str(folder / case.name / f"checkpoint-{STEPS_BEFORE}"))
    outcome = {
        "gradients": recorder.gradients,
        "weights": {plain(name): whole(p.detach()).clone() for name, p in trainer.model.named_parameters()},
        "reports": trainer.state.log_history,
        "evaluation": trainer.evaluate() if case.held_out else {},
        "classes": gathered(trainer.classes),
        "kind": f"{trainer.accelerator.distributed_type.value}, {type(trainer.model_wrapped).__name__}",
    }
    trainer.save_model(str(folder / case.name))
    AcceleratorState._reset_state(reset_partial_state=True)
    return outcome


def trainer_of(case: Case, folder: Path, recorder: Recorder) -> RecordingTrainer:
    """Return the trainer of a run."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    fsdp = case.fsdp and processes > 1
    args = RatioConfig(
        output_dir=str(folder),
        use_cpu=True,
        learning_rate=LEARNING_RATE,
        adam_epsilon=EPSILON,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="steps" if case.resumed else "no",
        save_steps=STEPS_BEFORE,
        disable_tqdm=True,
        per_device_train_batch_size=WINDOW // processes // case.accumulate,
        per_device_eval_batch_size=4,
        gradient_accumulation_steps=case.accumulate,
        train_sampling_strategy="random" if case.order is None else "sequential",
        **{"num_train_epochs": 1, **case.settings, **(sharded() if fsdp else {})},
    )
    if fsdp:
        # accelerate offers FSDP for every kind of device but the CPU, where it would quietly use DDP instead.
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    examples = examples_of(case, args.resolved.pairs)
    return RecordingTrainer(model_of(case), args, examples, held_out_of(case), callbacks=[recorder])


def sharded() -> dict[str, Any]:
    """Return the settings of FSDP2 of the shipped configuration, checkpointing of activations among them."""
    settings = yaml.safe_load((ROOT / "lm" / "configs" / "qwen2.5-7b-fsdp2.yaml").read_text())
    return {name: settings[name] for name in ("fsdp", "fsdp_config")}


def model_of(case: Case) -> Any:
    """Return the model before training."""
    model = tiny_qwen2(VOCABULARY, hidden_size=16, layers=2, tie=case.tie)
    if not case.lora:
        return model
    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))


def examples_of(case: Case, pairs: bool) -> Any:
    """Return the training examples."""
    examples = toy_examples(4 * case.examples, pairs=pairs)
    if case.order is None:
        return examples.select(np.arange(case.examples))
    of_class = {label: iter(np.nonzero(examples.preferred == label)[0]) for label in (True, False)}
    order = case.order * (case.examples // len(case.order))
    return examples.select([next(of_class[label]) for label in order])


def held_out_of(case: Case) -> Any:
    """Return the held-out examples, or None."""
    return toy_examples(case.held_out, seed=1) if case.held_out else None


def gathered(value: Any) -> list[Any]:
    """Return the values of all processes."""
    if not distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def make_runs(rank: int, folder: Path) -> None:
    """Make all runs as one of two processes, told of its place as torchrun tells it, and end."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for case in CASES:
        result = run(case, folder)
        if rank == 0:
            torch.save(result, folder / f"{case.name}.pt")
    # Both have all their results. Threads of gloo can abort an orderly shutdown in which one process is ahead of the
    # other ("terminate called without an active exception" was seen), so there is none.
    distributed.barrier()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    gc.freeze()  # Trainer collects garbage again and again, 0.4 s each if it looks at all that was imported
    # Forks share what is imported here, which takes longer than the runs.
    torch.multiprocessing.start_processes(make_runs, (Path(sys.argv[1]),), nprocs=2, start_method="fork")
