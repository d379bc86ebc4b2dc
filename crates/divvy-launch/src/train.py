# /// script
# requires-python = ">=3.11,<3.15"
# dependencies = [
#     "torch==2.15.0",
#     "transformers==5.23.0",
#     "trl==1.16.0",
#     "peft==0.21.2",
#     "accelerate==1.15.0",
#     "bitsandbytes==0.50.2; sys_platform == 'linux' and platform_machine == 'x86_64'",
# ]
# [tool.uv]
# exclude-newer = "2026-11-25T00:00:00Z"
# ///
"""Trains one student of divvy with PyTorch, TRL and PEFT: `train.py FOLDER`.

The folder is written by divvy and holds all that decides the result:

    job.json       settings
    rows.jsonl     {"input_ids": [...], "labels": [...]}, labels -100 where there is no loss
    dev.jsonl      the same, to watch the loss on; may be empty
    steps.jsonl    {"rows": [...], "learning_rate": x}, one line an optimiser step
    start/         for LoRA: the adapter before the first step

and is written into:

    metrics.jsonl  a line a step
    checkpoint/    to resume from
    result/        the adapter, or all weights; there is one if, and only if, training came to its end

Neither a text nor a template is read here: which tokens are trained on was decided where the student will be asked.
A process stops at the end of its step, with a checkpoint, on SIGTERM, SIGINT, or when its standard input ends while
DIVVY_WATCH_STDIN is set: then whoever started it is gone.
"""

import argparse
import fcntl
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

stop = threading.Event()
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def refuse(message):
    print(f"train.py: {message}", file=sys.stderr, flush=True)
    sys.exit(1)


def watch_stdin():
    while os.read(0, 4096):
        pass
    stop.set()


def listen():
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if os.environ.get("DIVVY_WATCH_STDIN"):
        threading.Thread(target=watch_stdin, daemon=True).start()


# Before PyTorch, which takes its time to come.
listen()

try:
    import torch
    import torch.distributed
    from accelerate.state import DistributedType, PartialState
    from datasets import Dataset
    from peft import PeftModel
    from peft.optimizers import create_loraplus_optimizer
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer
except ImportError as error:
    refuse(f"{error}: this Python lacks what is listed on top of {__file__}")


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def inputs(row):
    """Tokens that the model reads: the last one is only ever a target."""
    return len(row["input_ids"]) - 1


class MicroBatches:
    """All steps in order, each as the same number of lists of rows, so that a step is what divvy says whatever the
    processes and their memory. The longest row goes to the emptiest list; some lists may stay empty."""

    def __init__(self, rows, steps, limit):
        self.rows, self.limit = rows, limit
        need = max(sum(inputs(rows[at]) for at in step["rows"]) for step in steps)
        self.accumulate = max(1, -(-need // (limit * WORLD)))
        while not all(self.fits(self.spread(step["rows"])) for step in steps):
            self.accumulate += 1
        self.lists = [part for step in steps for part in self.spread(step["rows"])]

    def spread(self, chosen):
        lists = [(0, []) for _ in range(self.accumulate * WORLD)]
        for at in sorted(chosen, key=lambda at: -inputs(self.rows[at])):
            emptiest = min(range(len(lists)), key=lambda list: lists[list][0])
            used, part = lists[emptiest]
            lists[emptiest] = (used + inputs(self.rows[at]), part + [at])
        return [part for _, part in lists]

    def fits(self, parts):
        return all(len(part) <= 1 or sum(inputs(self.rows[at]) for at in part) <= self.limit for part in parts)


def without_loss(rows):
    """What a process computes that has no row left while others have one."""
    return [{"input_ids": rows[0]["input_ids"][:2], "labels": [-100, -100]}]


def packed(rows):
    """Rows end to end, each attending to itself alone: positions restart with each."""
    join = lambda key: torch.tensor([[value for row in rows for value in row[key]]])
    positions = torch.tensor([[at for row in rows for at in range(len(row["input_ids"]))]])
    return {"input_ids": join("input_ids"), "labels": join("labels"), "position_ids": positions}


def padded(rows):
    width = max(len(row["input_ids"]) for row in rows)
    fill = lambda values, filler: torch.tensor([value + [filler] * (width - len(value)) for value in values])
    ids = [row["input_ids"] for row in rows]
    labels = fill([row["labels"] for row in rows], -100)
    mask = fill([[1] * len(row) for row in ids], 0)
    return {"input_ids": fill(ids, 0), "labels": labels, "attention_mask": mask}


class Trainer(SFTTrainer):
    """SFTTrainer on steps that are given, with a log that divvy reads."""

    def __init__(self, *, data, steps, dev, lay, metrics, b_rate, **others):
        nothing = without_loss(data.rows)
        super().__init__(
            # Rows by their place; TRL wants a data set of this kind.
            train_dataset=Dataset.from_dict({"rows": data.lists}),
            eval_dataset=Dataset.from_dict({"rows": [[at] for at in range(len(dev))]}) if dev else None,
            data_collator=lambda lists: lay([data.rows[at] for at in lists[0]["rows"]] or nothing),
            **others,
        )
        self.data, self.steps, self.dev, self.lay, self.metrics = data, steps, dev, lay, metrics
        self.b_rate = b_rate
        self.pending, self.began = None, time.monotonic()

    def _get_train_sampler(self, dataset=None):
        return SequentialSampler(dataset if dataset is not None else self.train_dataset)

    def create_optimizer(self, model=None):
        """LoRA+ gives the factors B a rate of their own, so many times that of A."""
        if self.optimizer is None and self.b_rate != 1:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            options |= {"loraplus_lr_ratio": self.b_rate, "loraplus_weight_decay": self.args.weight_decay}
            self.optimizer = create_loraplus_optimizer(self.model, kind, **options)
            # Groups of nothing cannot be resumed where weights are dealt out.
            self.optimizer.param_groups = [group for group in self.optimizer.param_groups if group["params"]]
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps, optimizer=None):
        if self.lr_scheduler is None:
            peak, last = self.args.learning_rate, len(self.steps) - 1
            factor = lambda step: self.steps[min(step, last)]["learning_rate"] / peak
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factor)
        return self.lr_scheduler

    def compute_loss_context_manager(self):
        if self.is_fsdp_enabled and self.args.bf16:
            return torch.autocast(self.args.device.type, torch.bfloat16)
        return super().compute_loss_context_manager()

    def evaluate(self, *_, **__):
        """Mean loss over all completion tokens of the dev rows, each process with its share of them."""
        was_training = self.model.training
        self.model.eval()
        total = torch.zeros(2, dtype=torch.float64)
        for part in share(self.dev, self.data.limit):
            batch = self._prepare_inputs(self.lay(part))
            tokens = sum(label != -100 for row in part for label in row["labels"])
            with torch.no_grad(), self.compute_loss_context_manager():
                loss = self.compute_loss(self.model, batch)
            total += torch.tensor([loss.item() * tokens, tokens], dtype=torch.float64)
        self._metrics["eval"].clear()
        self.model.train(was_training)
        if torch.distributed.is_initialized():
            total = total.to(self.args.device)
            torch.distributed.all_reduce(total)
        loss = (total[0] / total[1]).item()
        if self.pending:
            self.pending["dev_loss"] = loss
        return {"eval_loss": loss}

    def log(self, logs, start_time=None):
        super().log(logs, start_time)
        if "loss" not in logs or "learning_rate" not in logs:
            return
        step, now = self.state.global_step, time.monotonic()
        tokens = sum(len(self.data.rows[row]["input_ids"]) for row in self.steps[step - 1]["rows"])
        self.pending = {
            "step": step,
            "total": len(self.steps),
            "loss": logs["loss"],
            "learning_rate": logs["learning_rate"],
            "grad_norm": logs["grad_norm"],
            "tokens": tokens,
            "tokens_per_second": tokens / (now - self.began),
            "dev_loss": None,
        }
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["grad_norm"])):
            refuse(
                f"training diverged at step {step}: loss {logs['loss']}, gradient norm {logs['grad_norm']}; lower the "
                "learning rate or lengthen the warm-up"
            )

    def tell(self):
        """The last step is on record once its dev loss is known."""
        if self.pending and RANK == 0:
            self.metrics.write(json.dumps(self.pending) + "\n")
            self.metrics.flush()
        self.pending = None
        self.began = time.monotonic()


def share(rows, limit):
    """This process's dev rows, in lists of at most so many tokens. Every process gets as many lists: all compute at
    once, also where weights lie on several."""
    lists, part = [], []
    for row in rows:
        if part and sum(map(inputs, part)) + inputs(row) > limit:
            lists.append(part)
            part = []
        part.append(row)
    lists.append(part)
    lists += [without_loss(rows)] * (-len(lists) % WORLD)
    return lists[RANK::WORLD]


class Course(TrainerCallback):
    """Stops on demand, tells of steps, and marks the checkpoints that are whole."""

    trainer = None

    def on_step_begin(self, args, state, control, **_):
        self.trainer.tell()

    def on_train_end(self, args, state, control, **_):
        self.trainer.tell()

    def on_save(self, args, state, control, **_):
        self.trainer.tell()
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        if RANK == 0:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / "whole").touch()

    def on_step_end(self, args, state, control, **_):
        wanted = torch.tensor(int(stop.is_set()))
        if torch.distributed.is_initialized():
            # Asked of one, done by all, at the same step.
            wanted = wanted.to(args.device)
            torch.distributed.all_reduce(wanted, torch.distributed.ReduceOp.MAX)
        if wanted.item():
            stop.set()
            control.should_save, control.should_training_stop = True, True


def resume_from(folder):
    """The newest whole checkpoint; one that was cut off is of no use."""
    whole = [mark.parent for mark in folder.glob("checkpoint-*/whole")]
    return max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def load(folder, job):
    cuda = torch.cuda.is_available()
    adapts, bf16 = (folder / "start").is_dir(), job["precision"] == "bf16"
    settings = {"attn_implementation": "sdpa", "dtype": torch.bfloat16 if bf16 and adapts else torch.float32}
    if job["quantised"]:
        if not cuda:
            refuse(f"quantised = \"{job['quantised']}\" needs a CUDA device, and there is none; leave the line out")
        settings["dtype"] = torch.bfloat16
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    model = AutoModelForCausalLM.from_pretrained(folder / job["base"], **settings)
    if not adapts:
        return model
    model = PeftModel.from_pretrained(model, folder / "start", is_trainable=True)
    # Else PEFT asks a hub for a model of the base's name at every checkpoint.
    model.peft_config["default"].base_model_name_or_path = str(folder / job["base"])
    return model


def settings(folder, job, data, steps, dev):
    peak = max(step["learning_rate"] for step in steps)
    return SFTConfig(
        output_dir=str(folder / "checkpoint"),
        max_steps=len(steps),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=data.accumulate,
        learning_rate=peak,
        weight_decay=job["weight_decay"],
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        max_grad_norm=job["max_grad_norm"],
        bf16=job["precision"] == "bf16",
        # Not FSDP's own, which gives the factors of LoRA other names.
        activation_checkpointing=job["gradient_checkpointing"],
        fsdp=job["fsdp"] or None,
        use_cpu=not torch.cuda.is_available(),
        ddp_backend="gloo" if WORLD > 1 and not torch.cuda.is_available() else None,
        ddp_find_unused_parameters=False,
        average_tokens_across_devices=True,
        seed=job["seed"] % 2**32,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if dev else "no",
        eval_steps=job["eval_every"] or len(steps),
        save_strategy="steps",
        save_steps=job["checkpoint_every"] or len(steps),
        save_total_limit=2,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        report_to="none",
        disable_tqdm=True,
    )


def shard_on_cpu():
    """accelerate deals weights out among accelerators alone. CPUs can do what it does there, too, so that it can be tried
    without a GPU."""
    if not torch.cuda.is_available():
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def deal_out(trainer):
    """What is computed in bf16 is autocast's to say, as in one process: FSDP would round the loss, too."""
    if not trainer.is_fsdp_enabled:
        refuse("fsdp = true: this accelerate does not deal the weights out; take the one that is listed on top")
    trainer.accelerator.state.fsdp_plugin.mixed_precision_policy = None


def only_one(folder):
    """One job in a folder at a time: one that was left behind first comes to the end of its step."""
    file = open(folder / "lock", "w")
    if RANK == 0:
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def save(trainer, folder):
    """Beside, then renamed: there is a result if, and only if, it is whole."""
    beside = folder / "result.partial"
    trainer.save_model(str(beside))
    if RANK == 0:
        shutil.rmtree(folder / "result", ignore_errors=True)
        beside.rename(folder / "result")


def main(folder):
    job = json.loads((folder / "job.json").read_text())
    rows, dev, steps = lines(folder / "rows.jsonl"), lines(folder / "dev.jsonl"), lines(folder / "steps.jsonl")
    lock = only_one(folder)
    data = MicroBatches(rows, steps, job["micro_tokens"])
    course = Course()
    begun = resume_from(folder / "checkpoint")
    args = settings(folder, job, data, steps, dev)
    if job["fsdp"]:
        shard_on_cpu()
    with open(folder / "metrics.jsonl", "a" if begun else "w", encoding="utf-8") as metrics:
        trainer = course.trainer = Trainer(
            data=data,
            steps=steps,
            dev=dev,
            lay=packed if job["packing"] else padded,
            metrics=metrics,
            b_rate=job["b_rate"],
            model=load(folder, job),
            args=args,
            processing_class=AutoTokenizer.from_pretrained(folder / job["base"]),
            callbacks=[course],
        )
        if job["fsdp"]:
            deal_out(trainer)
        if not stop.is_set():
            trainer.train(resume_from_checkpoint=str(begun) if begun else None)
    if trainer.state.global_step == len(steps):
        save(trainer, folder)
    if torch.distributed.is_initialized():
        # Whoever left while another still saves would have it stopped, and gloo's threads end with their group alone.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    lock.close()


def several(options):
    """This program in several processes, with the Python that runs it."""
    from torch.distributed.run import main as torchrun

    where = ["--standalone"]
    if options.nodes > 1:
        where = [f"--nnodes={options.nodes}", f"--node-rank={options.node}", f"--rdzv-endpoint={options.meet}"]
        where += ["--rdzv-backend=static", f"--master-addr={options.meet.rpartition(':')[0]}"]
        where += [f"--master-port={options.meet.rpartition(':')[2]}"]
    torchrun([*where, f"--nproc-per-node={options.processes}", __file__, str(options.folder)])


def read_options():
    parser = argparse.ArgumentParser(prog="train.py", description="Trains a student that divvy hands over.")
    parser.add_argument("folder", type=Path, help="the job, as divvy wrote it")
    parser.add_argument("--processes", type=int, default=1, help="on this machine, one a GPU")
    parser.add_argument("--nodes", type=int, default=1, help="machines, each of which runs this command")
    parser.add_argument("--node", type=int, default=0, help="number of this machine, from 0")
    parser.add_argument("--meet", metavar="HOST:PORT", help="a free port of machine 0")
    options = parser.parse_args()
    if options.nodes > 1 and ":" not in (options.meet or ""):
        parser.error("several --nodes need --meet HOST:PORT, a free port of machine 0")
    return options


if __name__ == "__main__":
    options = read_options()
    if options.processes * options.nodes > 1 and "RANK" not in os.environ:
        several(options)
    else:
        main(options.folder)
