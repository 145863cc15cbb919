"""The families of tasks, and the architectures transformers has for each."""

from __future__ import annotations

from typing import Literal, get_args

Family = Literal[
    "sequence-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
    "masked-lm",
    "causal-lm",
    "seq2seq",
    "image-classification",
    "video-classification",
    "audio-classification",
    "time-series-classification",
    "time-series-regression",
    "time-series-prediction",
]
FAMILIES: tuple[Family, ...] = get_args(Family)
_MAPPINGS = {"seq2seq": "SEQ_TO_SEQ_CAUSAL_LM"}


def classes(family: Family) -> dict[str, str]:
    """Return the class that transformers trains for each model type of a family; of several the first.

    Raises:
        ValueError: for an unknown family.

    >>> classes("sequence-classification")["bert"]
    'BertForSequenceClassification'
    """
    from transformers.models.auto import modeling_auto

    if family not in FAMILIES:
        raise ValueError(f"family={family!r} is none of {', '.join(FAMILIES)}")
    mapping = _MAPPINGS.get(family, family.upper().replace("-", "_"))
    names = getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES", {})
    return {kind: name if isinstance(name, str) else name[0] for kind, name in names.items()}


def architectures(family: Family) -> list[str]:
    """Return the model types of a family, sorted.

    >>> "gpt2" in architectures("causal-lm")
    True
    """
    return sorted(classes(family))
