"""Fine-tunes a student with PyTorch: `torch_train.py BASE ROWS METHOD VARIANT STEPS BATCH THREADS`.

METHOD is `lora` (rank 16 beside all seven matrices) or `full`. VARIANT: `autocast` (weights f32, products bf16), `bf16`
(everything), `compile` (the same through torch.compile), `trl` (SFTTrainer with its defaults, on messages). Rows are those of
`divvy export --rows ids`, or `prompt-completion` for TRL. The last line printed is JSON: tokens of the rows of each step, without
padding, and its seconds, from reading the rows to the optimiser's update.
"""
import json
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

base, rows, method, variant = sys.argv[1:5]
steps, batch, threads = map(int, sys.argv[5:8])
PART = 8  # rows side by side in one pass, sorted by length first, so that there is little padding
MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=MATRICES, task_type="CAUSAL_LM")
RATE = 1e-4 if method == "lora" else 1e-5
tokens, seconds = [], []


def padded(part):
    width = max(len(row["input_ids"]) for row in part)
    fill = lambda key, filler: torch.tensor([row[key] + [filler] * (width - len(row[key])) for row in part])
    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in part])
    return {"input_ids": fill("input_ids", 0), "labels": fill("labels", -100), "attention_mask": mask}


def loop():
    torch.set_num_threads(threads)
    dtype = torch.float32 if variant == "autocast" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, use_cache=False)
    if method == "lora":
        model = get_peft_model(model, LORA, autocast_adapter_dtype=variant == "autocast")
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0, fused=True)
    forward = torch.compile(model, dynamic=True) if variant == "compile" else model
    data = (json.loads(line) for line in open(rows, encoding="utf-8"))
    for _ in range(steps):
        began = time.perf_counter()
        chosen = sorted((next(data) for _ in range(batch)), key=lambda row: len(row["input_ids"]))
        targets = sum(label != -100 for row in chosen for label in row["labels"])
        for first in range(0, batch, PART):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=variant == "autocast"):
                loss = forward(**padded(chosen[first : first + PART]), num_items_in_batch=targets).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - began)
        tokens.append(sum(len(row["input_ids"]) for row in chosen))
    return loss.item()


def trl():
    from datasets import load_dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(threads)

    class Watch(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.began = time.perf_counter()

        def on_step_end(self, *_, **__):
            seconds.append(time.perf_counter() - self.began)

    config = SFTConfig(
        output_dir="trl", max_steps=steps, per_device_train_batch_size=batch, learning_rate=RATE, use_cpu=True, bf16=True,
        report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True,
    )
    data = load_dataset("json", data_files=rows, split="train").select_columns(["prompt", "completion"])
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), args=config, train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(base), peft_config=LORA if method == "lora" else None, callbacks=[Watch()],
    )
    collate = trainer.data_collator

    def counted(examples):
        both = collate(examples)
        tokens.append(int(both["attention_mask"].sum()))
        return both

    trainer.data_collator = counted
    return trainer.train().training_loss


loss = trl() if variant == "trl" else loop()
print(json.dumps({"tokens": tokens[: len(seconds)], "seconds": seconds, "loss": loss}))
