"""Any data set -> splits with encoded labels, of images and captions, or of texts to write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset, DatasetDict, Image, List, Value, load_dataset, load_from_disk
from datasets.exceptions import DatasetsError

from hf_mixup.data import load_emoji, load_instruments
from hf_mixup.data.pair_collator import check_caption
from hf_mixup.experiments.tasks import emoji
from hf_mixup.experiments.tasks.arguments import (
    AUDIO,
    BUNDLED,
    CAUSAL,
    IMAGE,
    INSTRUMENTS,
    PAIRS,
    REGRESSION,
    SEQ2SEQ,
    TABLES,
    TABULAR,
    TABULAR_REGRESSION,
    TEXT,
    TOKENS,
    VIDEO,
    TaskArguments,
)
from hf_mixup.experiments.tasks.checks import check_labels, check_media, check_texts
from hf_mixup.experiments.tasks.dividing import divided
from hf_mixup.experiments.tasks.faults import check_utf8, data_files, first_fault, source_of
from hf_mixup.experiments.tasks.labels import (
    checked_numbers,
    encoded_classes,
    encoded_tags,
    few_per_class,
    with_label_noise,
)
from hf_mixup.experiments.tasks.paths import BUILDERS, check_dataset
from hf_mixup.utils.files import NoSpaceError, is_disk_full
from hf_mixup.utils.suggest import did_you_mean


@cache  # two seconds to make, and a comparison asks for it at every setting
def _emoji_video() -> DatasetDict:
    from hf_mixup.experiments.tasks.video import emoji_video

    return emoji_video()


def _table(name: str) -> DatasetDict:
    from hf_mixup.experiments.tasks.tables import load_table

    return load_table(name)


_BUNDLED_AS: dict[tuple[str, str], Callable[[], DatasetDict]] = {
    (BUNDLED, IMAGE): lambda: load_emoji("image"),
    (BUNDLED, TEXT): lambda: load_emoji("text"),
    (BUNDLED, PAIRS): lambda: load_emoji("image-text"),
    (BUNDLED, TOKENS): emoji.emoji_tokens,
    (BUNDLED, REGRESSION): emoji.emoji_regression,
    (BUNDLED, CAUSAL): emoji.emoji_causal,
    (BUNDLED, SEQ2SEQ): emoji.emoji_seq2seq,
    (INSTRUMENTS, AUDIO): load_instruments,
    (BUNDLED, VIDEO): _emoji_video,
    **{(name, task): partial(_table, name) for task, names in TABLES.items() for name in names},
}
_AUDIOS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au")  # soundfile reads them
_STRINGS = ("string", "large_string")
_UNREADABLE = (DatasetsError, ValueError, OSError, StopIteration)  # what datasets raises over a broken file
_SUBSET_SEED = 0  # which rows a subset holds must not depend on the seed of the training


@dataclass(frozen=True)
class Splits:
    """The rows of a task; the label column of each split is a `ClassLabel` (or a list of them) with the same names.

    Pairs and texts to write have neither a label column nor `label_names`; numbers to predict have no names.
    """

    train: Dataset
    validation: Dataset
    tests: dict[str, Dataset]
    label_names: list[str]

    @property
    def evaluated(self) -> dict[str, Dataset]:
        """Validation and test rows by name."""
        return {"validation": self.validation, **self.tests}


def load_splits(task: TaskArguments) -> Splits:
    """Load the data set of a task, pick its splits and encode its labels.

    Raises:
        ValueError: for a split or column that is not there, labels that do not fit the task, a row without caption or
            text, or more rows of a class asked for than there are.
        FileNotFoundError: for a file or folder that is not there.

    >>> splits = load_splits(TaskArguments(max_train_samples=8))
    >>> splits.train.num_rows, sorted(splits.tests)
    (8, ['test', 'test_shifted'])
    """
    data = load_raw(task)
    for rows in data.values():
        _check_columns(rows, task)
    validation, tests = _split_names(data, task)
    used = dict.fromkeys(name for name in (task.train_split, validation, *tests) if name is not None)
    for split in used:
        _check_rows(data[split], split, task)
    # Before any rows are drawn, so that errors count rows as the user does.
    parts = {split: _INPUTS[task.task](data[split], split, task) for split in used}
    names: list[str] = []
    if task.task in _LABELS:
        parts, names = _LABELS[task.task](parts, task)
    train = parts[task.train_split]
    train, drawn = divided(train, task) if validation is None else (train, parts[validation])
    parts = {"validation": drawn, **{test: parts[test] for test in tests}}
    train = _at_most(train, task.max_train_samples)
    if task.few_shot:
        train = few_per_class(train, task.few_shot, task.few_shot_seed, task, names)
    if task.label_noise:
        train = with_label_noise(train, task, names)
    parts = {split: _at_most(rows, task.max_eval_samples) for split, rows in parts.items()}
    return Splits(train, parts.pop("validation"), parts, names)


def _check_rows(rows: Dataset, split: str, task: TaskArguments) -> None:
    if not len(rows):
        raise ValueError(f"{source_of(task.dataset, split)} has no rows: fill it, or name other splits")
    if task.task in _LABELS:
        check_labels(rows, split, task)


def load_raw(task: TaskArguments) -> DatasetDict:
    """Load the data set as it is.

    Raises:
        FileNotFoundError: for a file or folder that is not there.
        ValueError: for a file of a format that is not read, or that is broken, naming the place in it.
        NoSpaceError: if there is no room to prepare it.
    """
    bundled = _BUNDLED_AS.get((task.dataset, task.task))
    if bundled is not None:
        return bundled()
    check_dataset(task.dataset)
    files = data_files(Path(task.dataset))
    for file in files:
        if file.suffix != ".parquet":
            check_utf8(file)
    try:
        data = _load(task)
    except _UNREADABLE as error:
        root = error.__cause__ or error
        if isinstance(root, Exception) and is_disk_full(root):
            raise NoSpaceError(f"no space to prepare the data set {task.dataset}: {root}") from error
        fault = first_fault(files)
        if fault is None and (
            isinstance(error, FileNotFoundError) or not (files or isinstance(error, (DatasetsError, StopIteration)))
        ):
            raise
        raise ValueError(fault or f"the data set {task.dataset} cannot be read: {root}") from error
    return data if isinstance(data, DatasetDict) else DatasetDict({task.train_split: data})


def _load(task: TaskArguments) -> Any:
    path = Path(task.dataset)
    if path.is_dir():
        return _from_folder(path, task)
    if path.is_file():
        return load_dataset(BUILDERS[path.suffix], data_files=str(path))
    return load_dataset(task.dataset, task.dataset_config)


def _from_folder(path: Path, task: TaskArguments) -> Any:
    if any((path / name).exists() for name in ("dataset_dict.json", "state.json")):
        return load_from_disk(str(path))
    classes = _audio_folders(path) if task.task == AUDIO else {}
    if not classes:
        return load_dataset(str(path), task.dataset_config)
    # datasets has this, too, but writes no audio without torchcodec, which needs FFmpeg's libraries.
    return DatasetDict(
        {
            split: Dataset.from_dict(
                {
                    task.audio_column: [str(file.relative_to(path)) for file, _ in files],
                    task.label_column: [name for _, name in files],
                }
            )
            for split, files in classes.items()
        }
    )


def _audio_folders(path: Path) -> dict[str, list[tuple[Path, str]]]:
    """Return the audio files and classes of each split of a folder `[split/]class/file`; nothing for other folders."""
    folders = [each for each in sorted(path.iterdir()) if each.is_dir()]
    if not any(each.name == "train" for each in folders):
        return {"train": files} if (files := _by_class(path)) else {}
    return {split.name: files for split in folders if (files := _by_class(split))}


def _by_class(path: Path) -> list[tuple[Path, str]]:
    files = sorted(file for file in path.glob("*/*") if file.suffix.lower() in _AUDIOS)
    return [(file, file.parent.name) for file in files]


def _check_columns(rows: Dataset, task: TaskArguments) -> None:
    for setting, column in task.columns.items():
        if column not in rows.column_names:
            raise ValueError(
                f"the data set has no {setting} column {column!r}: {did_you_mean(column, rows.column_names)}"
            )


def _split_names(data: DatasetDict, task: TaskArguments) -> tuple[str | None, list[str]]:
    """Return the names of the validation split, if there is one, and of the test splits."""
    tests = task.test_splits
    if tests is None:
        tests = [name for name in data if name.startswith("test")]
    for name in (task.train_split, task.validation_split, *tests):
        if name is not None and name not in data:
            raise ValueError(f"the data set has no split {name!r}: {did_you_mean(name, data)}")
    return task.validation_split or ("validation" if "validation" in data else None), tests


def _images(rows: Dataset, split: str, task: TaskArguments) -> Dataset:
    """Return the rows with images decoded as such."""
    column = task.image_column
    rows = _with_files(rows, split, task, column, "image")
    if isinstance(rows.features[column], Image):
        check_media(rows, split, task, "image", column)
    return rows.cast_column(column, Image(mode="RGB"))


def _audios(rows: Dataset, split: str, task: TaskArguments) -> Dataset:
    """Return the rows with audio clips as files, which are decoded where their features are extracted."""
    column = task.audio_column
    rows = _with_files(rows, split, task, column, "audio")
    feature: Any = rows.features[column]
    if not isinstance(feature, Audio) and getattr(feature, "dtype", None) not in _STRINGS:
        raise ValueError(f"audio column {column!r} holds {feature}, expected audio clips, or texts that name files")
    if isinstance(feature, Audio):
        check_media(rows, split, task, "audio", column)
    return rows.cast_column(column, Audio(decode=False))


def _with_files(rows: Dataset, split: str, task: TaskArguments, column: str, setting: str) -> Dataset:
    """Return the rows; where texts name files, their paths count from the folder of the file that names them."""
    folder, feature = Path(task.dataset), rows.features[column]
    if getattr(feature, "dtype", None) not in _STRINGS:
        return rows
    folder = folder.parent if folder.is_file() else folder
    paths = [value and str(folder / value) for value in rows[column]]
    for row, path in enumerate(paths):
        if not path or not Path(path).is_file():
            found = f"no such file: {path}" if path else "it names no file"
            source = source_of(task.dataset, split)
            raise ValueError(f"{source}, row {row}: {found}: mend {setting} column {column!r} or drop the row")
    return rows.remove_columns(column).add_column(column, paths, feature=Value("string"))


def _texts(rows: Dataset, split: str, task: TaskArguments) -> Dataset:
    _check_texts(rows, split, task, "text", task.text_column)
    return rows


def _words(rows: Dataset, split: str, task: TaskArguments) -> Dataset:
    feature: Any = rows.features[task.text_column]
    if not isinstance(feature, List) or getattr(feature.feature, "dtype", None) not in _STRINGS:
        raise ValueError(f"text column {task.text_column!r} holds {feature}, expected a list of words a row")
    check_texts(rows, split, task, "text", task.text_column)
    return rows


def _written(rows: Dataset, split: str, task: TaskArguments) -> Dataset:
    for setting, column in task.columns.items():
        _check_texts(rows, split, task, setting, column)
    return rows


def _check_texts(rows: Dataset, split: str, task: TaskArguments, setting: str, column: str) -> None:
    feature: Any = rows.features[column]
    if not isinstance(feature, Value) or feature.dtype in _STRINGS:
        check_texts(rows, split, task, setting, column)
    if getattr(feature, "dtype", None) not in _STRINGS:
        raise ValueError(f"{setting} column {column!r} holds {feature}, expected texts")


def _pairs(rows: Dataset, split: str, task: TaskArguments) -> Dataset:
    source = source_of(task.dataset, split)
    for row, caption in enumerate(rows[task.caption_column]):
        check_caption(caption, f"{source}, row {row}", task.caption_column)
    return _images(rows, split, task)


def _clips(rows: Dataset, split: str, task: TaskArguments) -> Dataset:
    feature: Any = rows.features[task.video_column]
    if not isinstance(feature, List) or not isinstance(feature.feature, Image):
        raise ValueError(
            f"video column {task.video_column!r} holds {feature}, expected a list of images a row: decode the videos "
            "to frames first"
        )
    return rows.cast_column(task.video_column, List(Image(mode="RGB")))


def _as_they_are(rows: Dataset, split: str, task: TaskArguments) -> Dataset:
    return rows


_INPUTS: dict[str, Callable[[Dataset, str, TaskArguments], Dataset]] = {
    IMAGE: _images,
    TEXT: _texts,
    PAIRS: _pairs,
    TOKENS: _words,
    REGRESSION: _texts,
    CAUSAL: _written,
    SEQ2SEQ: _written,
    AUDIO: _audios,
    VIDEO: _clips,
    TABULAR: _as_they_are,
    TABULAR_REGRESSION: _as_they_are,
}
_LABELS: dict[str, Callable[[dict[str, Dataset], TaskArguments], tuple[dict[str, Dataset], list[str]]]] = {
    IMAGE: encoded_classes,
    TEXT: encoded_classes,
    TOKENS: encoded_tags,
    REGRESSION: checked_numbers,
    AUDIO: encoded_classes,
    VIDEO: encoded_classes,
    TABULAR: encoded_classes,
    TABULAR_REGRESSION: checked_numbers,
}


def of_modality(rows: Dataset, split: str, task: TaskArguments) -> Dataset:
    """Return at most `max_eval_samples` rows with their inputs as the task takes them; labels are left as they are.

    Raises:
        ValueError: for a column that holds something else.
    """
    return _at_most(_INPUTS[task.task](rows, split, task), task.max_eval_samples)


def _at_most(rows: Dataset, count: int | None) -> Dataset:
    if count is None or count >= len(rows):
        return rows
    # Rows often come sorted by class.
    return rows.shuffle(seed=_SUBSET_SEED).select(range(count))
