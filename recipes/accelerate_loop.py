"""Mixing in a training loop of your own: no Trainer, just Accelerate and the `Mixup` context.

python recipes/accelerate_loop.py recipes/configs/emoji_image.yaml --method cutmix
accelerate launch --num_processes 2 recipes/accelerate_loop.py recipes/configs/emoji_image.yaml

The loop reads a few of the TrainingArguments and leaves the others alone; change it at will.
"""

from __future__ import annotations

import math

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import TrainingArguments, default_data_collator, get_scheduler

from hf_mixup import Mixup, MixupConfig
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.metrics import calibration_metrics


def main() -> None:
    task, config, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments])
    checkpoint_to_resume(args, task.overwrite_output_dir)  # refuses to overwrite another run
    accelerator = Accelerator(cpu=args.use_cpu, gradient_accumulation_steps=args.gradient_accumulation_steps)
    set_seed(args.seed)

    splits = load_splits(task)
    processor = task.load_processor(splits.train)
    model = task.load_model(splits.label_names, processor)
    rows = task.samples(splits.train, processor, train=True)
    loader = DataLoader(rows, args.per_device_train_batch_size, shuffle=True, collate_fn=default_data_collator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    steps_per_epoch = math.ceil(len(loader) / args.gradient_accumulation_steps)
    total = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * steps_per_epoch)
    scheduler = get_scheduler(args.lr_scheduler_type, optimizer, args.get_warmup_steps(total), total)

    # The draws follow from (seed, process, step): each process mixes its own batches in its own way.
    mixup = Mixup(config.replace(draw_seed=args.seed), total_steps=total)
    accelerator.register_for_checkpointing(mixup)  # accelerator.save_state() keeps its place, too

    step, epoch = 0, 0
    while step < total:
        model.train()
        for batch in loader:
            with accelerator.accumulate(model):
                with mixup(model, batch) as mixed:  # inside, the model blends
                    outputs = model(**mixed.inputs)
                loss = mixed.loss(outputs)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                step += 1
                scheduler.step()
                mixup.set_step(step)  # for a schedule, e.g. --disable_last_ratio 0.1
                if step == total:
                    break
        epoch += 1
        accelerator.print(f"epoch {epoch}, step {step} of {total}: loss {loss.item():.3f}")

    mixup.refresh_batch_norm(model, loader)  # running statistics of clean samples, if the model has any
    for split, test_rows in splits.tests.items():  # outside the context nothing is mixed
        test_loader = DataLoader(
            task.samples(test_rows, processor), args.per_device_eval_batch_size, collate_fn=default_data_collator
        )
        metrics = evaluate(model, accelerator.prepare(test_loader), accelerator)
        accelerator.print(split, {name: round(metrics[name], 3) for name in ("accuracy", "ece", "nll")})

    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        accelerator.unwrap_model(model).save_pretrained(args.output_dir)
        processor.save_pretrained(args.output_dir)
        config.save_pretrained(args.output_dir)
    accelerator.end_training()


@torch.no_grad()
def evaluate(model: torch.nn.Module, loader: DataLoader, accelerator: Accelerator) -> dict[str, float]:
    """Return accuracy and calibration over the rows of all processes."""
    model.eval()
    logits, labels = [], []
    for batch in loader:
        batch_labels = batch.pop("labels")
        # Drops the rows that fill up the last batch where the processes cannot share it evenly.
        gathered = accelerator.gather_for_metrics((model(**batch).logits, batch_labels))
        logits.append(gathered[0].cpu())
        labels.append(gathered[1].cpu())
    return calibration_metrics(torch.cat(logits).numpy(), torch.cat(labels).numpy())


if __name__ == "__main__":
    main()
