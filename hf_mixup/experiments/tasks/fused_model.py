"""What tasks share whose model reads an image and a text as one sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.tasks.shared import Fused, Labelled
from hf_mixup.utils.suggest import refuse_unknown
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_mixup.experiments.tasks.prepared import Prepared, Splits

CHANGES = ("no_text", "no_image", "noisy_text", "noisy_image")
"""What a test split can be changed by, see `tasks.fusion`."""


@dataclass(kw_only=True)
class FusedModel(Fused, Labelled):
    """Tasks whose model is a ViLT: a checkpoint, or a new one."""

    test_changes: list[str] | None = setting(
        None, "Also test on copies of the test splits: no_text, no_image, noisy_text, noisy_image."
    )

    preview_kind = "streams"

    def __post_init__(self) -> None:
        if self.model is None and self.model_type is None:
            self.model_type = "vilt"
        super().__post_init__()
        refuse_unknown("test_changes", self.test_changes or (), CHANGES)
        if self.model_type not in (None, "vilt"):
            raise ValueError(f"model_type={self.model_type!r} does not read images with texts here: vilt does")

    @property
    def columns(self) -> dict[str, str]:
        return {"image": self.image_column, "text": self.text_column, **super().columns}

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        from hf_mixup.experiments.tasks.columns import read_images, read_texts

        rows = read_texts(rows, split, self.dataset, "text", self.text_column)
        return read_images(rows, split, self.dataset, self.image_column)

    def load_processor(self, train: Dataset) -> Any:
        from hf_mixup.experiments.tasks.fusion import load_fusion_processor

        return load_fusion_processor(self)

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.fusion import FusionRows

        return FusionRows(rows, processor, self, train)

    def collator(self, processor: Any) -> Any:
        from hf_mixup.experiments.tasks.fusion import fusion_collator

        return fusion_collator(processor.tokenizer)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.models import auto_class, new_config, numbered, with_adapters

        settings = {**numbered(label_names), "num_images": 1}
        if self.model is not None:
            model = auto_class(self).from_pretrained(self.model, ignore_mismatched_sizes=True, **settings)
            return with_adapters(model, self)
        tokens = {"vocab_size": len(processor.tokenizer), "max_position_embeddings": self.max_length}
        config = new_config(self, **settings, **tokens, **self.model_settings)
        return with_adapters(auto_class(self)(config), self)

    def prepared(self, splits: Splits) -> Prepared:
        made = super().prepared(splits)
        copies = {
            f"{split}_{change}": made.evaluated[split].changed(change)
            for split in splits.tests or ["validation"]
            for change in self.test_changes or ()
        }
        return replace(made, evaluated={**made.evaluated, **copies})
