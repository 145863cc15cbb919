"""Mixing in a LightningModule: `Mixup` inside `training_step`, nothing elsewhere.

python recipes/lightning_loop.py recipes/configs/emoji_image.yaml --method cutmix

Reads a few of the TrainingArguments (`max_steps`, `num_train_epochs`, `learning_rate`, batch sizes, `seed`).
"""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainingArguments, default_data_collator

from hf_mixup import Mixup, MixupConfig
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.metrics import calibration_metrics


class MixedClassifier(L.LightningModule):
    """A transformers classifier that trains on mixed batches and is tested on its own."""

    def __init__(self, model: PreTrainedModel, config: MixupConfig, learning_rate: float) -> None:
        super().__init__()
        self.model, self.config, self.learning_rate = model.train(), config, learning_rate  # from_pretrained evaluates
        self.found: list[tuple[Tensor, Tensor]] = []

    def setup(self, stage: str) -> None:
        # The draws follow from (seed, process, step); a schedule, e.g. --disable_last_ratio 0.1, needs the length of
        # the run.
        if stage == "fit":
            self.mixup = Mixup(self.config, total_steps=int(self.trainer.estimated_stepping_batches))
            self.mixup.prepare(self.model)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.mixup.clock.step != self.global_step:  # not at each micro-batch: each is to draw anew
            self.mixup.set_step(self.global_step)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        with self.mixup(self.model, batch) as mixed:  # inside, the model blends
            outputs = self.model(**mixed.inputs)
        loss = mixed.loss(outputs)
        self.log("train_loss", loss)
        return loss

    def on_train_end(self) -> None:
        self.mixup.refresh_batch_norm(self.model, self.trainer.train_dataloader)  # statistics of clean samples

    def on_test_epoch_start(self) -> None:
        self.found.clear()

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        labels = batch.pop("labels")
        self.found.append((self.model(**batch).logits.cpu(), labels.cpu()))

    def on_test_epoch_end(self) -> None:
        logits, labels = (torch.cat(each).numpy() for each in zip(*self.found))
        metrics = calibration_metrics(logits, labels)
        self.log_dict({name: metrics[name] for name in ("accuracy", "ece", "nll")})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=self.learning_rate)


def main() -> None:
    task, config, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments])
    checkpoint_to_resume(args, task.overwrite_output_dir)  # refuses to overwrite another run
    L.seed_everything(args.seed)

    splits = load_splits(task)
    processor = task.load_processor(splits.train)
    model = task.load_model(splits.label_names, processor)
    module = MixedClassifier(model, config.replace(draw_seed=args.seed), args.learning_rate)
    rows = task.samples(splits.train, processor, train=True)
    loader = DataLoader(rows, args.per_device_train_batch_size, shuffle=True, collate_fn=default_data_collator)

    trainer = L.Trainer(
        max_steps=args.max_steps,
        max_epochs=None if args.max_steps > 0 else int(args.num_train_epochs),
        accelerator="cpu" if args.use_cpu else "auto",
        devices=1,
        accumulate_grad_batches=args.gradient_accumulation_steps,
        gradient_clip_val=args.max_grad_norm,
        default_root_dir=args.output_dir,
        logger=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, loader)
    for split, test_rows in splits.tests.items():
        test = DataLoader(
            task.samples(test_rows, processor), args.per_device_eval_batch_size, collate_fn=default_data_collator
        )
        print(split, trainer.test(module, test, verbose=False)[0])

    model.save_pretrained(args.output_dir)
    processor.save_pretrained(args.output_dir)
    config.save_pretrained(args.output_dir)


if __name__ == "__main__":
    main()
