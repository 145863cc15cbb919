"""Images and captions, for dual encoders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_mixup.data import load_emoji
from hf_mixup.experiments.tasks.arguments import PAIRS, register
from hf_mixup.experiments.tasks.shared import WithCaptions
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_mixup.experiments.tasks.prepared import Prepared, Splits

_ENCODERS = {"image": "vision_model", "text": "text_model"}


@register
@dataclass(kw_only=True)
class ImageText(WithCaptions):
    """An image and a caption a sample, both embedded so that pairs that belong together are near.

    Args:
        caption_column: holds a caption a sample, or a list of them: training picks one each time, evaluation the first.
        id_column: samples with the same value are relevant to each other.
        class_column, class_templates: name the classes and sentences of zero-shot classification, which is then
            scored on every split.
        caption_noise, image_blank: corrupt the training samples, the same in every run; `eval_caption_noise` and
            `eval_image_blank` add a corrupted copy of each test split, `<split>_noisy` and `<split>_blank`.
    """

    task: str = PAIRS
    hub_task = "zero-shot-image-classification"
    class_templates: list[str] | None = setting(None, "Captions of classes, e.g. 'a photo of a {}' (default: names).")
    caption_noise: float = setting(0.0, "Share of training rows whose captions are exchanged.", at_least=0, at_most=1)
    image_blank: float = setting(0.0, "Share of training rows whose images are blanked.", at_least=0, at_most=1)
    eval_caption_noise: float = setting(0.0, "Also test with this share of captions exchanged.", at_least=0, at_most=1)
    eval_image_blank: float = setting(0.0, "Also test with this share of the images blanked.", at_least=0, at_most=1)

    preview_kind = "pairs"
    preview_rows = 6  # one batch, whose targets are a matrix

    def __post_init__(self) -> None:
        super().__post_init__()
        for template in self.class_templates or ():
            if template.count("{}") != 1:
                raise ValueError(f"class_templates has {template!r}: expected one {{}} where the class name goes")

    def bundled(self) -> Any:
        return {"emoji": lambda: load_emoji("image-text")}

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        from hf_mixup.experiments.tasks.columns import check_captions, read_images

        check_captions(rows, split, self.dataset, self.caption_column)
        return read_images(rows, split, self.dataset, self.image_column)

    def load_processor(self, train: Dataset) -> Any:
        """Return the checkpoint's processor; a new model gets a plain one with the tokenizer of the packaged MiniLM.

        Raises:
            ValueError: if the task names no model, or one that does not take images and texts.
            OSError: for a checkpoint that has none.
        """
        from transformers import AutoProcessor
        from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

        from hf_mixup.experiments.tasks.image import load_image_processor
        from hf_mixup.experiments.tasks.models import new_config
        from hf_mixup.experiments.tasks.text import load_tokenizer

        if self.model is not None:
            if self.image_size is not None:
                raise ValueError(f"image_size is for a new model: {self.model} has a size of its own")
            processor = AutoProcessor.from_pretrained(self.model)
            if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
                raise ValueError(f"model={self.model!r} is no dual encoder: its processor takes one modality only")
            return processor
        image_processor = load_image_processor(self)  # refuses a task without a model
        kind: Any = PROCESSOR_MAPPING.get(type(new_config(replace(self, config_overrides=None))), None)
        if kind is None:
            raise ValueError(f"model_type={self.model_type!r} is no dual encoder: clip and siglip are")
        return kind(image_processor, load_tokenizer(self))

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.pairs import PairRows

        return PairRows(rows, processor, self, train=train)

    def collator(self, processor: Any) -> Any:
        """Return the collator of pairs; captions are cut to what the text encoder has positions for."""
        from transformers import AutoConfig

        from hf_mixup.data.pair_collator import PAIR_IDS, PairCollator
        from hf_mixup.experiments.tasks.pairs import CAPTION

        lengths = [self.max_length, processor.tokenizer.model_max_length]
        if self.model is not None:
            lengths.append(AutoConfig.from_pretrained(self.model).text_config.max_position_embeddings)
        return PairCollator(processor, caption=CAPTION, ids=PAIR_IDS, max_length=min(lengths))

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        """Return the dual encoder, with LoRA adapters and a frozen encoder if the settings say so.

        Raises:
            ValueError: for a model that is no dual encoder, and as `TaskArguments.load_model`.
        """
        from transformers import AutoModel

        from hf_mixup.experiments.tasks.models import with_adapters
        from hf_mixup.experiments.tasks.pairs import new_pair_config

        if self.model is None:
            model = AutoModel.from_config(new_pair_config(self, processor.tokenizer))
        else:
            model = AutoModel.from_pretrained(self.model)
        if not hasattr(model, "get_text_features"):
            raise ValueError(f"{self.model or self.model_type} is no dual encoder, found {type(model).__name__}")
        model = with_adapters(model, self)
        if self.freeze is not None:
            encoder = getattr(model, _ENCODERS[self.freeze], None)
            if encoder is None:
                raise ValueError(f"freeze={self.freeze!r}: {type(model).__name__} has no {_ENCODERS[self.freeze]}")
            encoder.requires_grad_(False)
        return model

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.experiments.tasks.pairs import class_embeds, class_names, class_numbers, id_logits
        from hf_mixup.metrics import pair_compute_metrics, zero_shot_accuracy
        from hf_mixup.metrics.results import PAIR_METRICS

        made = super().prepared(splits)
        classes = class_names(splits, self)
        if classes is not None:
            for split, rows in splits.evaluated.items():
                made.evaluated[split].classes = class_numbers(rows, self, classes)

        def zero_shot(model: Any, rows: Any, predictions: Any) -> dict[str, float]:
            if not classes:
                return {}
            embeds = class_embeds(model, made.collator, classes, self.class_templates or ["{}"])
            return {"zero_shot_accuracy": zero_shot_accuracy(predictions[0], rows.classes, embeds)}

        return replace(
            made,
            train=made.train.corrupted(self.caption_noise, self.image_blank),
            evaluated={**made.evaluated, **self._corrupted(splits, made.evaluated)},
            paired=True,
            compute_metrics=pair_compute_metrics,
            more_metrics=zero_shot,
            metrics=(*PAIR_METRICS, "zero_shot_accuracy") if classes else PAIR_METRICS,
            classified=id_logits,
            rows=None,
        )

    def _corrupted(self, splits: Splits, evaluated: dict[str, Any]) -> dict[str, Any]:
        """Return the corrupted copies of the test splits."""
        made = {}
        for split in splits.tests or ["validation"]:
            if self.eval_caption_noise:
                made[f"{split}_noisy"] = evaluated[split].corrupted(caption_noise=self.eval_caption_noise)
            if self.eval_image_blank:
                made[f"{split}_blank"] = evaluated[split].corrupted(image_blank=self.eval_image_blank)
        return made

    def with_noise(self, share: float) -> ImageText:
        return replace(self, caption_noise=share)
