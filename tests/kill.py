"""A run that is killed between two steps."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback


class Killed(Exception):
    pass


class Kill(TrainerCallback):
    """Ends a run after a step, as an error would that nothing catches."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed
