"""Train in one or several processes, or score sentence pairs across them; the first writes what came out.

Rows 2i and 2i + 1 are blended with a fixed lam, so that the same rows are mixed however the batch is split.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments

import hf_mixup.methods.base
from hf_mixup import MixupCallback, MixupConfig, MixupTrainer
from tests.scripts import leave
from tests.trainers.test_others import sequences, t5


def score(rows: int, folder: str) -> None:
    """Score the rows of this process against those of all, as a loss that gathers does."""
    from hf_mixup.contrastive.sentences import MixedNegativesRankingLoss
    from tests.trainers.test_sentences import BOTH_WAYS, embeddings

    torch.distributed.init_process_group("gloo")
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
    if rank == 0:
        torch.save([torch.cat(each) / world for each in every], Path(folder) / "end.pt")  # as DDP takes the mean


def train(door: str, rows: int, folder: str) -> None:
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
    if door == "mixin":
        trainer: Trainer = MixupTrainer(t5(), args, mixup=config, train_dataset=data)
    else:
        trainer = Trainer(t5(), args, callbacks=[MixupCallback(config)], train_dataset=data)
    trainer.train()
    if trainer.is_world_process_zero():
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        weights = trainer.accelerator.unwrap_model(trainer.model).state_dict()
        torch.save({"weights": weights, "losses": losses}, Path(folder) / "end.pt")


if __name__ == "__main__":
    hf_mixup.methods.base.pair = lambda n, **kwargs: torch.arange(n) ^ 1
    what, rows, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if what == "score":
        score(rows, folder)
    else:
        train(what, rows, folder)
    leave()
