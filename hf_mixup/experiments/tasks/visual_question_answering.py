"""Images, each with a question -> answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.fused_model import FusedModel
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_mixup.experiments.tasks.prepared import Prepared, Splits


@register
@dataclass(kw_only=True)
class VisualQuestionAnswering(FusedModel):
    """Answers to a question about an image, of which several may be right, by a ViLT: a checkpoint, or a new one.

    The answers to choose from are those of the training rows; others, of an evaluated row, cannot be found. Each right
    answer has a score of 1, and a mixed sample the scores of both samples by lam, of which the model takes its own
    loss.

    Args:
        leave_out: a control, which tells what the other modality alone is worth.
        test_changes: as for `image-text-classification`.
    """

    task: str = "visual-question-answering"
    text_column: str = setting("question", "Column with the questions.")
    label_column: str = setting("answers", "Column with lists of the right answers.")
    auto_class = "ViltForQuestionAnswering"
    label_kind = "answers"

    def bundled(self) -> Any:
        from hf_mixup.experiments.tasks.emoji_questions import emoji_questions

        return {"emoji": emoji_questions}

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.labels import scores_of

        made = super().samples(rows, processor, train)
        made.labels = scores_of(rows, self.label_column)
        return made

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.experiments.tasks.prepared import SCORES_OF_ANSWERS

        return replace(super().prepared(splits), **SCORES_OF_ANSWERS)
