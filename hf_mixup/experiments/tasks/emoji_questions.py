"""Questions about the bundled emoji, made of their annotations."""

from __future__ import annotations

from collections import Counter

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, List

from hf_mixup.data import load_emoji
from hf_mixup.data.emoji import GROUPS

_ROWS_OF_A_KEYWORD = 36  # in the training split: rarer ones are neither asked for nor answers
_QUESTIONS = 2  # an image
YES, NO = "yes", "no"
_ASKED = (("which group is it in?", "is it in {}?"), ("what describes it?", "does {} describe it?"))
Words = tuple[str, str]
Asked = tuple[str, list[str]]
"""A question and its right answers."""


def emoji_questions() -> DatasetDict:
    """Rows of an `image`, a `question` about it and `answers`, the numbers of those that are right.

    Two questions an image, drawn from four kinds, the same at every call: which group it is in, whether it is in a
    certain one, which keyword it has, and whether it has a certain one. The image alone does not tell what is asked
    for, and groups and keywords that are asked about are those of other images as often as its own.

    >>> rows = emoji_questions()["train"]
    >>> names = rows.features["answers"].feature.names
    >>> rows[1]["question"], [names[answer] for answer in rows[1]["answers"]]
    ('does animal describe it?', ['no'])
    """
    data = load_emoji("image-text")
    counts = Counter(keyword for keywords in data["train"]["keywords"] for keyword in {*keywords} - {YES, NO})
    common = [keyword for keyword, count in counts.most_common() if count >= _ROWS_OF_A_KEYWORD]
    answers = List(ClassLabel(names=[YES, NO, *GROUPS, *common]))
    made = {}
    for number, (split, rows) in enumerate(data.items()):
        asked = _asked(rows, set(common), np.random.default_rng(number))
        which = [row for row, questions in enumerate(asked) for _ in questions]
        questions, right = zip(*(each for own in asked for each in own), strict=True)
        table = rows.select_columns(["image", "emoji"]).with_format("arrow")[which]  # no selection: it has a bar
        table = table.combine_chunks()  # one a row: each would be pickled with all images, for a worker not forked
        rows = Dataset(table).add_column("question", list(questions))
        made[split] = rows.add_column("answers", [answers.feature.str2int(each) for each in right], feature=answers)
    return DatasetDict(made)


def _asked(rows: Dataset, common: set[str], generator: np.random.Generator) -> list[list[Asked]]:
    """Return the questions of each row."""
    groups = [[group] for group in rows["group"]]
    keywords = [sorted(common & set(own)) for own in rows["keywords"]]
    made = []
    for own in zip(groups, keywords, strict=True):
        sides = [each for each in zip(_ASKED, own, (groups, keywords), strict=True) if each[1]]
        kinds = [(ask, side) for side in sides for ask in (_which, _whether)]
        chosen = generator.choice(len(kinds), _QUESTIONS, replace=False)
        made.append([kinds[kind][0](*kinds[kind][1], generator) for kind in chosen])
    return made


def _which(asked: Words, own: list[str], of_all: list[list[str]], generator: np.random.Generator) -> Asked:
    return asked[0], own


def _whether(asked: Words, own: list[str], of_all: list[list[str]], generator: np.random.Generator) -> Asked:
    """Ask about what a row has, or about what another has and it has not, each as often."""
    right = bool(generator.integers(2))
    told = own if right else []
    while not told:
        told = [each for each in of_all[generator.integers(len(of_all))] if each not in own]
    return asked[1].format(generator.choice(told)), [YES if right else NO]
