"""An exponential moving average of the weights, as a callback."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_mixup.functional.blending import at_least_float32
from hf_mixup.integrations.batch_norm import batch_norm_of
from hf_mixup.integrations.running import running_trainer

EMA_NAME = "ema.safetensors"


class EMACallback(TrainerCallback):
    """Keep an exponential moving average of the weights, in any Trainer, mixing or not.

    Args:
        decay: what the average keeps of itself at each optimizer step, in [0, 1]; it begins with the weights after the
            first step.
        resume_from: folder of the `ema.safetensors` to go on from; by default that of the checkpoint which training is
            resumed from, in `output_dir`.

    Averages what is trained, and the floating-point buffers (the statistics of batch normalisation), in float32 at
    least. The evaluations of the training loop see the average, training goes on from the raw weights, and checkpoints
    hold the raw weights with the average beside them. When training ends the model is left with the average: that of
    the best checkpoint, with `load_best_model_at_end`. Put it behind callbacks that ask for evaluations themselves.
    Where a Trainer mixes, the average is evaluated, stored and left with statistics of batch normalisation that are
    estimated under its own weights (`refresh_batch_norm` in `MixupConfig`).

    Raises:
        ValueError: for a decay out of range, or weights that are spread over processes (FSDP, DeepSpeed).
        FileNotFoundError: when a run is resumed whose average cannot be found.

    Source: Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging", SIAM Journal on Control
    and Optimization 30(4); the averaging is `torch.optim.swa_utils`.

    >>> EMACallback(decay=0.99).decay
    0.99
    """

    def __init__(self, decay: float = 0.999, resume_from: str | os.PathLike[str] | None = None) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay={decay!r}: expected a number in [0, 1]")
        self.decay, self.resume_from = decay, resume_from
        self._average: AveragedModel | None = None
        self._model: nn.Module | None = None
        self._raw: list[Tensor] | None = None  # the weights in training, while the model holds the average
        self._clean: dict[str, Tensor] | None = None  # the average's buffers as they were evaluated in this step
        self._handle: Any = None

    @property
    def average(self) -> dict[str, Tensor]:
        """The averaged tensors by their names in the model, which `load_state_dict(..., strict=False)` takes."""
        if self._average is None or self._model is None:
            raise RuntimeError("there is no average before training")
        return dict(zip(_averaged(self._model), self._average.module.parameters()))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.fsdp or args.deepspeed:
            raise ValueError("EMACallback averages whole weights, which FSDP and DeepSpeed spread: leave it out")
        self._model, self._raw = kwargs["model"], None
        self._average = AveragedModel(_holder(self._model), multi_avg_fn=get_ema_multi_avg_fn(self.decay))
        if state.global_step:
            self._load(self._folder(args, state))
        self._unhook()
        self._handle = self._model.register_state_dict_pre_hook(lambda *_: self.put_back())

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.put_back()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._clean = None
        if self._average is not None and self._model is not None:
            self._average.update_parameters(_holder(self._model))
        self._swap_in(control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._swap_in(control)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        statistics = batch_norm_of(running_trainer())
        if self._raw is not None and statistics is not None and statistics.wanted:
            self._clean = self._buffers()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        statistics = batch_norm_of(running_trainer())
        if self._clean is None and statistics is not None and statistics.wanted:
            self._hold()
            with statistics.clean():
                self._clean = self._buffers()
            self.put_back()
        if state.is_world_process_zero and self._average is not None:
            folder = os.path.join(str(args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
            values = {**self.average, **(self._clean or {})}
            held = {name: value.detach().contiguous() for name, value in values.items()}
            save_file(held, os.path.join(folder, EMA_NAME), {"n_averaged": str(int(self._average.n_averaged))})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._load(Path(state.best_model_checkpoint))
        self._copy_in(list(self.average.values()))
        self._raw = None
        self._unhook()
        statistics = batch_norm_of(running_trainer())
        if statistics is not None and statistics.leave():
            for name, value in self._buffers().items():
                self.average[name].data.copy_(value)

    def _swap_in(self, control: TrainerControl) -> None:
        if control.should_evaluate and self._raw is None:
            self._hold()

    def _hold(self) -> None:
        if self._model is not None:
            self._raw = [value.detach().clone() for value in _averaged(self._model).values()]
            self._copy_in(list(self.average.values()))

    def _buffers(self) -> dict[str, Tensor]:
        """Return a copy of the buffers that the model holds now."""
        buffers = {} if self._model is None else dict(self._model.named_buffers())
        return {name: at_least_float32(buffers[name].detach().clone()) for name in self.average if name in buffers}

    def put_back(self) -> None:
        """Give the model its weights in training back: at the next step, or when somebody saves it."""
        if self._raw is not None:
            self._copy_in(self._raw)
            self._raw = None

    @torch.no_grad()
    def _copy_in(self, values: list[Tensor]) -> None:
        if self._model is not None:
            for held, value in zip(_averaged(self._model).values(), values):
                held.copy_(value)

    def _folder(self, args: TrainingArguments, state: TrainerState) -> Path:
        name = f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        places = [self.resume_from, os.path.join(str(args.output_dir), name), args.resume_from_checkpoint]
        for place in places:
            if isinstance(place, (str, os.PathLike)) and (Path(place) / EMA_NAME).is_file():
                return Path(place)
        raise FileNotFoundError(
            f"training is resumed at step {state.global_step}, and there is no {EMA_NAME} in {places[1]}: name its "
            "folder in EMACallback(resume_from=...)"
        )

    def _load(self, folder: Path) -> None:
        with torch.no_grad(), safe_open(folder / EMA_NAME, "pt") as file:
            for name, value in self.average.items():
                value.copy_(file.get_tensor(name))
            if self._average is not None:
                self._average.n_averaged.fill_(int(file.metadata()["n_averaged"]))

    def _unhook(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = None


def _averaged(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's own tensors that are averaged, by name: what is trained, and floating-point buffers."""
    trained: dict[str, Tensor] = {name: value for name, value in model.named_parameters() if value.requires_grad}
    return {**trained, **{name: value for name, value in model.named_buffers() if value.is_floating_point()}}


def _holder(model: nn.Module) -> nn.Module:
    """Return a module that has the averaged tensors and nothing else: no hooks that a copy would take along."""
    holder = nn.Module()
    for number, value in enumerate(_averaged(model).values()):
        value = at_least_float32(value.detach())
        holder.register_parameter(str(number), nn.Parameter(value, requires_grad=False))
    return holder
