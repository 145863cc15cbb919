"""Prompts -> answers, by a model that predicts the next token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.bases import Written
from hf_mixup.utils.constants import IGNORE_INDEX
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_mixup.experiments.tasks.prepared import Prepared, Splits


@register
@dataclass(kw_only=True)
class CausalLM(Written):
    """The answer to a prompt, or whole texts."""

    task: str = "causal-lm"
    hub_task = "text-generation"
    source_column: str | None = setting("source", "Column with the prompts; null to learn whole texts.")
    auto_class = "AutoModelForCausalLM"
    peft_task = "CAUSAL_LM"

    def bundled(self) -> Any:
        from hf_mixup.experiments.tasks.emoji import emoji_causal

        return {"emoji": emoji_causal}

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        """Return rows of `input_ids`, `attention_mask` and `labels` [T], not yet padded.

        A row is the prompt, with the special tokens that the tokenizer gives it (as it will when the model is used),
        the answer and the token that ends a text. The labels of the prompt are -100: the answer alone is learnt. Both
        are tokenized apart and follow each other as they are. Where a row is longer than `max_length`, the prompt loses
        its begin, and then the answer its end.
        """
        from hf_mixup.experiments.tasks.text import special_tokens

        last = special_tokens(processor)["eos_token_id"]
        end = [] if last is None else [last]

        def row(prompt: list[int], answer: list[int]) -> dict[str, list[int]]:
            answer = [*answer, *end][: self.max_length]
            prompt = prompt[max(0, len(prompt) + len(answer) - self.max_length) :]
            labels = [IGNORE_INDEX] * len(prompt) + answer
            labels[0] = IGNORE_INDEX  # nothing stands before it from which it could be predicted
            return {"input_ids": prompt + answer, "attention_mask": [1] * len(labels), "labels": labels}

        def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
            answers = processor(batch[self.target_column], add_special_tokens=False)["input_ids"]
            prompts = batch[self.source_column] if self.source_column else [""] * len(answers)
            made = [row(*texts) for texts in zip(processor(prompts)["input_ids"], answers, strict=True)]
            return {name: [each[name] for each in made] for name in made[0]}

        return rows.map(tokens, batched=True, remove_columns=rows.column_names)

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.experiments.tasks.prepared import SCORES_OF_TEXTS
        from hf_mixup.metrics import next_token_scores

        return replace(super().prepared(splits), **SCORES_OF_TEXTS, preprocess_logits=next_token_scores)
