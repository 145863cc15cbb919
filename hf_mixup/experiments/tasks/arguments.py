"""What every task shares: the settings of data, model and run, and what a task says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from hf_mixup.experiments.tasks.streaming import Streaming, is_pattern, shown
from hf_mixup.utils.files import parse_text
from hf_mixup.utils.suggest import did_you_mean
from hf_mixup.utils.values import convert_fields, setting

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from hf_mixup.experiments.tasks.prepared import Prepared, Splits

# Names of tasks that other rooms ask for.
IMAGE, TEXT, TOKENS, AUDIO, PAIRS = (
    *("image-classification", "text-classification", "token-classification", "audio-classification", "image-text"),
)
TASKS: dict[str, type[TaskArguments]] = {}
"""Every task by its name; `register` adds one."""


@dataclass(init=False, kw_only=True)
class TaskArguments(Streaming):
    """Data, model and run of a task: the base of all tasks, each of which adds settings of its own.

    Called itself, it builds the class of `task`, so that settings from one flat file are one flat call.

    Args:
        config_overrides: settings of a new model's configuration, a mapping or its JSON text; those of one side of a
            dual encoder under `vision_config` and `text_config`.

    Raises:
        ValueError: for an unknown task, a setting that the task does not have (naming the tasks that do), or settings
            that exclude each other.

    >>> TaskArguments(task="text-classification", max_length=32).max_length
    32
    >>> TaskArguments(task="image-clasification")
    Traceback (most recent call last):
    ...
    ValueError: task='image-clasification' is not known: did you mean 'image-classification'? Valid: ...
    >>> TaskArguments(task="seq2seq", frames=4)
    Traceback (most recent call last):
    ...
    ValueError: frames=4 is not for seq2seq, but for video-classification
    """

    task: str = setting(IMAGE, "What to train.")
    dataset: str = setting("emoji", "Dataset: a Hub name, a folder, a CSV, JSON or Parquet file, or a bundled one.")
    dataset_config: str | None = setting(None, "Configuration of a Hub dataset that has several.")
    train_split: str = setting("train", "Split to train on.")
    validation_split: str | None = setting(None, "Split to validate on (default: validation, or a part of train).")
    validation_share: float = setting(
        0.1, "Part of the training rows to validate on, without a split.", above=0, below=1
    )
    test_splits: list[str] | None = setting(None, "Splits to test on (default: those whose name begins with test).")
    max_train_samples: int | None = setting(None, "Train on this many rows, the same for every seed.", at_least=1)
    max_eval_samples: int | None = setting(None, "Evaluate on at most this many rows of each split.", at_least=1)
    model: str | None = setting(None, "Checkpoint: a Hub name or a folder (default for texts: the packaged MiniLM).")
    model_type: str | None = setting(None, "Architecture of a new model, e.g. resnet, instead of a checkpoint.")
    config_overrides: dict | str | None = setting(None, "Settings of the new model's configuration, as JSON.")
    overwrite_output_dir: bool = setting(False, "Train into an output folder that is not empty.")
    language: list[str] | None = setting(None, "Model card: languages of the data, as codes such as en, de.")
    license: str | None = setting(None, "Model card: what the model may be used for, as an id such as apache-2.0.")

    label_kind: ClassVar[Literal["class", "tags", "answers", "number"] | None] = None
    """What the column `columns["label"]` holds: one class a row, a list of tags or answers, or a number."""
    auto_class: ClassVar[str] = ""
    """The class of transformers that builds the model, such as "AutoModelForImageClassification"."""
    input_setting: ClassVar[str | None] = None
    """The setting that names the column of the one input; None where there are several."""
    hub_task: ClassVar[str | None] = None
    """What the Hub calls the task, where that is another name."""
    peft_task: ClassVar[str | None] = None
    """What PEFT calls the task."""
    preview_kind: ClassVar[Literal["images", "audio", "texts", "tables", "pairs", "streams", "speech"] | None] = None
    """How `tasks.drawings` draws a preview; None for a task that has none."""
    preview_rows: ClassVar[int | None] = None
    """Rows of a preview's batch, where the batch size of the training is too large for it."""

    def __new__(cls, *args: Any, **settings: Any) -> Any:
        kind = task_class(settings.get("task", cls.task)) if cls is TaskArguments else cls
        refuse_unread(kind, settings)
        return super().__new__(kind)

    def __post_init__(self) -> None:
        convert_fields(self)
        if self.task != type(self).task:
            raise ValueError(f"task={self.task!r}: {type(self).__name__} is {type(self).task}")
        self.config_overrides = _mapping(self.config_overrides)
        if self.model and self.model_type:
            raise ValueError("model names a checkpoint and model_type a new model: give one of them")
        if self.config_overrides and not self.model_type:
            raise ValueError("config_overrides are for a new model: name its model_type")
        self.check_streaming()

    @property
    def overrides(self) -> dict[str, Any]:
        """Settings of a new model's configuration."""
        return self.config_overrides if isinstance(self.config_overrides, dict) else {}

    @property
    def smooths(self) -> bool:
        """Whether labels can be smoothed: numbers, scores of several answers and transcripts learnt by CTC cannot."""
        return self.label_kind not in ("number", "answers")

    # Data

    @property
    def on_the_hub(self) -> bool:
        """Whether the dataset is one of the Hub, neither a path nor bundled."""
        return "/" in self.dataset and not Path(self.dataset).exists() and not is_pattern(self.dataset)

    @property
    def dataset_name(self) -> str:
        """The name of the dataset on cards; of a path or an address its last part."""
        local = Path(self.dataset).exists() or is_pattern(self.dataset)
        return Path(shown(self.dataset)).name if local else self.dataset

    @property
    def columns(self) -> dict[str, str]:
        """Columns that the dataset must have, by what errors call them; "label" for that of the labels."""
        return {}

    def column_setting(self, name: str) -> str:
        """Return the setting that names one of `columns`.

        >>> TaskArguments().column_setting("input"), TaskArguments().column_setting("label")
        ('image_column', 'label_column')
        """
        return f"{name}_column" if hasattr(self, f"{name}_column") and name != "input" else str(self.input_setting)

    @property
    def input_column(self) -> str:
        """The column of the one input: images, clips or texts."""
        if self.input_setting is None:
            raise ValueError(f"{self.task} has several columns of inputs")
        return getattr(self, self.input_setting)

    def bundled(self) -> Mapping[str, Callable[[], DatasetDict]]:
        """Return the datasets that come with the package, by name."""
        return {}

    def read_folder(self, path: Path) -> DatasetDict | None:
        """Return the data of a folder that `datasets` cannot read alone; None for any other folder."""
        return None

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        """Check the columns of inputs and return the rows as `samples` takes them."""
        return rows

    def alter_training_rows(self, rows: Dataset, label_names: list[str]) -> Dataset:
        """Return the training rows as the task's settings want them: fewer, or with wrong labels."""
        return rows

    # Model

    def load_processor(self, train: Dataset) -> Any:
        """Return the checkpoint's processor (tokenizer, image processor, ...) or that of a new model."""
        raise NotImplementedError

    @property
    def model_settings(self) -> dict[str, Any]:
        """Settings of a new model's configuration that follow from the task's."""
        return {}

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        """Return the model; seed before calling, as a new head or model (or its adapters) is drawn at random.

        Raises:
            ValueError: for an architecture or configuration setting that does not exist.
            OSError: for a checkpoint that cannot be loaded.
            ImportError: if PEFT is not installed and `lora_rank` is given.
        """
        raise NotImplementedError

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        """Return what the model takes: rows of numbers, augmented for training."""
        raise NotImplementedError

    def collator(self, processor: Any) -> Callable[..., Any]:
        """Return what makes a batch of samples."""
        from transformers import default_data_collator

        return default_data_collator

    def prepared(self, splits: Splits) -> Prepared:
        """Return data, model and scores, ready to train."""
        return self.prepared_with(self.load_processor(splits.train), splits)

    def prepared_with(self, processor: Any, splits: Splits) -> Prepared:
        """Return the same with a processor that is loaded."""
        from hf_mixup.experiments.tasks.prepared import Prepared

        return Prepared(
            splits=splits,
            train=self.samples(splits.train, processor, train=True),
            evaluated={split: self.samples(rows, processor) for split, rows in splits.evaluated.items()},
            processing_class=processor,
            collator=self.collator(processor),
            build_model=lambda: self.load_model(splits.label_names, processor),
        )

    # Results

    def drawing(self) -> Callable[..., Path] | None:
        """Return the function that draws a preview; None for a task that has none."""
        from hf_mixup.experiments.tasks.drawings import DRAWINGS

        return DRAWINGS[self.preview_kind] if self.preview_kind else None

    # Other runs of the same task

    def for_checkpoint(self, checkpoint: str, **unset: Any) -> Any:
        """Return the task with a saved model in place of the one that it was trained from."""
        return replace(self, model=checkpoint, model_type=None, config_overrides=None, **unset)

    def with_noise(self, share: float) -> Any:
        """Return the task with this share of wrong training labels.

        Raises:
            ValueError: for a task that has no such setting, naming those that do.
        """
        settings: dict[str, Any] = {"label_noise": share}
        return replace(self, **settings)


Kind = TypeVar("Kind", bound=type[TaskArguments])


def register(kind: Kind) -> Kind:
    """Add a task to the registry, under the default of its field `task`; use it as a decorator.

    Raises:
        ValueError: for a name that is taken.

    >>> from hf_mixup.experiments.tasks.tabular_classification import TabularClassification
    >>> @register
    ... @dataclass(kw_only=True)
    ... class Flowers(TabularClassification):
    ...     task: str = "flowers"
    ...     tables = ("iris",)
    >>> TaskArguments(task="flowers", dataset="iris").columns
    {'label': 'label'}
    >>> del TASKS["flowers"]
    """
    if TASKS.setdefault(kind.task, kind) is not kind:
        raise ValueError(f"task={kind.task!r} is taken by {TASKS[kind.task].__name__}: choose another name")
    return kind


def task_class(name: Any) -> type[TaskArguments]:
    """Return the class of a task; refuse an unknown name."""
    if not isinstance(name, str) or name not in TASKS:
        raise ValueError(f"task={name!r} is not known: {did_you_mean(str(name), TASKS)}")
    return TASKS[name]


def tasks_with(setting: str) -> list[str]:
    """Return the names of the tasks that have a setting.

    >>> tasks_with("frames")
    ['video-classification']
    """
    return [name for name, kind in TASKS.items() if setting in {each.name for each in fields(kind)}]


def refuse_unread(kind: type[TaskArguments], settings: Mapping[str, Any]) -> None:
    """Refuse settings that a task does not have, naming the tasks that have them, or the nearest setting."""
    own = [each.name for each in fields(kind)]
    for name, value in settings.items():
        if name in own:
            continue
        if others := tasks_with(name):
            raise ValueError(f"{name}={value!r} is not for {kind.task}, but for {', '.join(others)}")
        raise ValueError(f"{name!r} is no setting of {kind.task}: {did_you_mean(name, own)}")


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
