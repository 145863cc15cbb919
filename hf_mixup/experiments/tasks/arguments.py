"""What to train and on what: the settings that neither mixing nor the Trainer knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hf_mixup.experiments.tasks.augmentation import check_augmentations
from hf_mixup.utils.files import parse_text
from hf_mixup.utils.suggest import did_you_mean
from hf_mixup.utils.values import check_above, check_whole, convert_fields, setting

IMAGE, TEXT, PAIRS, TOKENS, REGRESSION, CAUSAL, SEQ2SEQ, AUDIO, VIDEO, TABULAR, TABULAR_REGRESSION = TASKS = (
    *("image-classification", "text-classification", "image-text"),
    *("token-classification", "text-regression", "causal-lm", "seq2seq"),
    *("audio-classification", "video-classification", "tabular-classification", "tabular-regression"),
)
NUMBERS = (REGRESSION, TABULAR_REGRESSION)  # tasks without classes
BUNDLED, INSTRUMENTS = "emoji", "instruments"
TABLES = {TABULAR: ("wine", "breast_cancer", "digits"), TABULAR_REGRESSION: ("diabetes",)}  # scikit-learn ships them
# Bundled data for tasks that emoji are not for.
_BUNDLED_FOR = {AUDIO: INSTRUMENTS, **{task: names[0] for task, names in TABLES.items()}}
# Settings that would be ignored elsewhere, and the tasks that know them.
_ONLY_FOR = {
    "augment": (IMAGE,),
    "few_shot": (IMAGE, TEXT, AUDIO, VIDEO, TABULAR),
    "label_noise": (IMAGE, TEXT, TOKENS, AUDIO, VIDEO, TABULAR),
    "lora_rank": (TEXT, PAIRS, TOKENS, REGRESSION, CAUSAL, SEQ2SEQ),
    "audio_rate": (AUDIO,),
    "numerical_columns": (TABULAR, TABULAR_REGRESSION),
    "categorical_columns": (TABULAR, TABULAR_REGRESSION),
}
_FREEZES = {"image": (PAIRS,), "text": (PAIRS,), "embeddings": (TEXT, TOKENS, REGRESSION, CAUSAL, SEQ2SEQ)}


@dataclass
class TaskArguments:
    """Data set, columns and model of a run.

    Args:
        config_overrides: settings of a new model's configuration, a mapping or its JSON text; those of a tower of a
            dual encoder under `vision_config` and `text_config`.
        caption_column: holds a caption a row, or a list of them: training picks one each time, evaluation the first.
        id_column: rows with the same value are relevant to each other.
        class_column, class_templates: name the classes and sentences of zero-shot classification, which is then
            scored on every split.
        caption_noise, image_blank: spoil the training rows; `eval_caption_noise` and `eval_image_blank` add a spoilt
            copy of each test split, `<split>_noisy` and `<split>_blank`. The same rows are spoilt in every run.
        augment: what is done to single training images ahead of mixing, see `tasks.augmentation.AUGMENTATIONS`.
        few_shot: rows of each class that are kept for training. They depend on `few_shot_seed` alone, so that every
            method and every seed of the training gets the same; another draw is another data set.
        label_noise: share of the training labels that become another class, each of the others alike: of the rows,
            or of the words for token-classification. The same labels are spoilt in every run; evaluation is clean.

    Raises:
        ValueError: for an unknown task, or settings that exclude each other or that the task does not know.

    >>> TaskArguments(task="image-clasification")
    Traceback (most recent call last):
    ...
    ValueError: task='image-clasification' is not known: did you mean 'image-classification'? Valid: ...
    """

    task: str = setting("image-classification", f"What to train: {', '.join(TASKS[:-1])} or {TASKS[-1]}.")
    dataset: str = setting(
        BUNDLED,
        "Data set: a Hub name, a folder, a CSV, JSON or Parquet file, or a bundled one: emoji; for audio instruments; "
        "for tables wine, breast_cancer, digits, diabetes.",
    )
    dataset_config: str | None = setting(None, "Configuration of a Hub data set that has several.")
    train_split: str = setting("train", "Split to train on.")
    validation_split: str | None = setting(None, "Split to validate on (default: validation, or a part of train).")
    validation_share: float = setting(0.1, "Part of the training rows to validate on where no split is there for it.")
    test_splits: list[str] | None = field(
        default=None, metadata={"help": "Splits to test on (default: those whose name begins with test)."}
    )
    image_column: str = setting("image", "Column with the images.")
    audio_column: str = setting("audio", "Column with the audio clips.")
    video_column: str = setting("video", "Column with the clips: a list of images a row.")
    numerical_columns: list[str] | None = field(
        default=None, metadata={"help": "Tables: columns of numbers (default: all that hold numbers)."}
    )
    categorical_columns: list[str] | None = field(
        default=None, metadata={"help": "Tables: columns of categories (default: all that hold texts or classes)."}
    )
    text_column: str = setting("text", "Column with the texts; token-classification: with lists of words.")
    source_column: str | None = setting(
        "source", "causal-lm, seq2seq: column with the prompts or sources (causal-lm: null to learn whole texts)."
    )
    target_column: str = setting("target", "causal-lm, seq2seq: column with the texts to write.")
    caption_column: str = setting("caption", "image-text: column with the captions, a text or a list of texts a row.")
    id_column: str | None = setting(
        None, "image-text: column that is equal where image and caption of two rows fit (default: the caption)."
    )
    class_column: str | None = setting(None, "image-text: column with class names, to score zero-shot classification.")
    class_templates: list[str] | None = field(
        default=None,
        metadata={"help": "image-text: captions to make of class names, e.g. 'a photo of a {}' (default: the names)."},
    )
    label_column: str = setting(
        "label", "Column with the classes, as names or numbers; token-classification: lists of tags; else numbers."
    )
    model: str | None = setting(None, "Checkpoint: a Hub name or a folder (default for text: the packaged MiniLM).")
    model_type: str | None = setting(None, "Architecture of a new model, e.g. resnet, instead of a checkpoint.")
    config_overrides: dict | str | None = field(
        default=None, metadata={"help": "Settings of the new model's configuration, as JSON."}
    )
    image_size: int | None = setting(None, "Side of the square images (default: that of the checkpoint).")
    audio_rate: int | None = setting(
        None, "Samples a second for a new model of audio clips (default: that of its feature extractor)."
    )
    frames: int = setting(8, "Video-classification: images of a clip that a model sees, spread evenly.")
    max_seconds: float = setting(10.0, "Longer audio clips are cut to this.")
    max_length: int = setting(128, "Longer texts are cut to this number of tokens.")
    max_train_samples: int | None = setting(None, "Train on this many rows, drawn once, the same for every seed.")
    max_eval_samples: int | None = setting(None, "Evaluate on at most this many rows of each split.")
    few_shot: int | None = setting(
        None, "Classification: train on this many rows of each class, the same for every seed."
    )
    few_shot_seed: int = setting(0, "Seed of the draw of few_shot.")
    label_noise: float = setting(
        0.0, "Classification: share of the training labels replaced by another class, in [0, 1)."
    )
    flip: bool = setting(False, "Flip half of the training images from left to right.")
    augment: list[str] | None = field(
        default=None,
        metadata={"help": "Image-classification: change training images by randaugment, trivialaugment, erasing, ..."},
    )
    cache_images: bool = setting(
        True, "Keep processed images, audio clips or clips in memory where they take at most 2 GB."
    )
    caption_noise: float = setting(0.0, "image-text: share of training rows whose captions change places.")
    image_blank: float = setting(0.0, "image-text: share of training rows whose images are blanked.")
    eval_caption_noise: float = setting(0.0, "image-text: also test with this share of the captions changing places.")
    eval_image_blank: float = setting(0.0, "image-text: also test with this share of the images blanked.")
    freeze: Literal["image", "text", "embeddings"] | None = setting(
        None, "image-text: keep this tower's weights (LiT: image); texts: keep the embeddings of the tokens."
    )
    lora_rank: int | None = setting(None, "Texts, image-text: train LoRA adapters of this rank instead of all weights.")
    overwrite_output_dir: bool = setting(False, "Train into an output folder that is not empty.")

    def __post_init__(self) -> None:
        convert_fields(self)
        if self.task not in TASKS:
            raise ValueError(f"task={self.task!r} is not known: {did_you_mean(str(self.task), TASKS)}")
        if self.dataset == BUNDLED:
            self.dataset = _BUNDLED_FOR.get(self.task, BUNDLED)
        self.config_overrides = _mapping(self.config_overrides)
        if self.model and self.model_type:
            raise ValueError("model names a checkpoint and model_type a new model: give one of them")
        if self.config_overrides and not self.model_type:
            raise ValueError("config_overrides are for a new model: name its model_type")
        if not 0 < self.validation_share < 1:
            raise ValueError(f"validation_share={self.validation_share!r}: expected a number in (0, 1)")
        for name in ("image_size", "max_length", "max_train_samples", "max_eval_samples"):
            check_whole(name, getattr(self, name))
        for name in ("few_shot", "lora_rank", "audio_rate", "frames"):
            check_whole(name, getattr(self, name))
        check_above("max_seconds", self.max_seconds)
        for name in ("caption_noise", "image_blank", "eval_caption_noise", "eval_image_blank"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected a share in [0, 1]")
        if not 0 <= self.label_noise < 1:
            raise ValueError(f"label_noise={self.label_noise!r}: expected a share in [0, 1)")
        for name, tasks in _ONLY_FOR.items():
            if getattr(self, name) and self.task not in tasks:
                raise ValueError(f"{name}={getattr(self, name)!r} is not for {self.task}, but for {', '.join(tasks)}")
        if self.source_column is None and self.task == SEQ2SEQ:
            raise ValueError("source_column=None: seq2seq reads one text and writes another; name the column it reads")
        if self.freeze and self.task not in (known := _FREEZES[self.freeze]):
            raise ValueError(f"freeze={self.freeze!r} is not for {self.task}, but for {', '.join(known)}")
        check_augmentations(self.augment or ())
        for template in self.class_templates or ():
            if template.count("{}") != 1:
                raise ValueError(f"class_templates has {template!r}: expected one {{}} where the class name goes")

    @property
    def overrides(self) -> dict[str, Any]:
        """Settings of a new model's configuration."""
        return self.config_overrides if isinstance(self.config_overrides, dict) else {}

    @property
    def columns(self) -> dict[str, str]:
        """Columns that the data set must have, by what errors call them."""
        if self.task == PAIRS:
            named = {"image": self.image_column, "caption": self.caption_column}
            optional = {"id": self.id_column, "class": self.class_column}
        elif self.task in TABLES:
            named, optional = {"label": self.label_column}, {}
        elif self.task in (CAUSAL, SEQ2SEQ):
            named, optional = {"target": self.target_column}, {"source": self.source_column}
        else:
            inputs = {IMAGE: self.image_column, AUDIO: self.audio_column, VIDEO: self.video_column}
            named, optional = {"input": inputs.get(self.task, self.text_column), "label": self.label_column}, {}
        return named | {name: column for name, column in optional.items() if column}


def _mapping(given: Any) -> dict[str, Any] | None:
    """Return a mapping as it is, or read it from its JSON text; None where none is given."""
    value = given
    if isinstance(given, str):
        try:
            value = parse_text(given, "JSON")
        except ValueError as error:
            raise ValueError(f"config_overrides={given[:80]!r} is {error}") from error
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"config_overrides={given!r}: expected a JSON mapping")
    return value
