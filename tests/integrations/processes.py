"""Train on sequences, or score pairs of sentences, in one process or in several."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from hf_mixup import MixupCallback, MixupConfig, MixupTrainer
from tests.entry_points import ENTRY_POINTS
from tests.integrations.test_others import sequences, t5
from tests.recordings import recogniser, recordings


def score(folder: str, rows: int) -> list[torch.Tensor]:
    """Score the rows of this process against those of all, as a loss that gathers does."""
    from hf_mixup.integrations.sentence_transformers import MixedNegativesRankingLoss
    from tests.integrations.test_sentences import BOTH_WAYS, embeddings

    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    parts = [each.detach()[rank * rows : (rank + 1) * rows].requires_grad_() for each in embeddings(rows * world)]
    # The second process tosses a coin that mixes nothing, and has to take part all the same.
    config = MixupConfig("mixup", lam=0.3 if rank == 0 else 1 - 1e-7)
    loss = MixedNegativesRankingLoss(torch.nn.Identity(), config, gather_across_devices=True, **BOTH_WAYS)
    found = loss.compute_loss_from_embeddings(parts, None)
    found.backward()
    made = [found.detach()[None], *(each.grad for each in parts)]
    every = [[torch.empty_like(each) for _ in range(world)] for each in made]
    for each, gathered in zip(made, every):
        torch.distributed.all_gather(gathered, each)
    return [torch.cat(each) / world for each in every]  # as DDP takes the mean


def train_sequences(folder: str, entry_point: str, rows: int) -> dict[str, Any] | None:
    args = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=2,
        max_steps=3,
        learning_rate=1e-2,
        optim="sgd",
        use_cpu=True,
        report_to=[],
        logging_steps=1,
        disable_tqdm=True,
        average_tokens_across_devices=True,
    )
    config, data = MixupConfig("embedding", lam=0.3), sequences(24)
    if entry_point == "mixin":
        trainer: Trainer = MixupTrainer(t5(), args, mixup=config, train_dataset=data)
    else:
        trainer = Trainer(t5(), args, callbacks=[MixupCallback(config)], train_dataset=data)
    trainer.train()
    if not trainer.is_world_process_zero():
        return None
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"weights": trainer.accelerator.unwrap_model(trainer.model).state_dict(), "losses": losses}


def train_transcripts(folder: str, entry_point: str, reduction: str, rows: int) -> dict[str, Any] | None:
    args = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=2,
        max_steps=3,
        learning_rate=1e-3,
        optim="sgd",
        max_grad_norm=0.0,
        use_cpu=True,
        report_to=[],
        logging_steps=1,
        disable_tqdm=True,
    )
    model, config = recogniser(ctc_loss_reduction=reduction), MixupConfig("mixup", lam=0.3)
    trainer = ENTRY_POINTS[entry_point](model, args, config, train_dataset=recordings(24))
    trainer.train()
    if not trainer.is_world_process_zero():
        return None
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"weights": trainer.accelerator.unwrap_model(trainer.model).state_dict(), "losses": losses}
