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
    "image-text-to-text",
    "multimodal-lm",
    "visual-question-answering",
    "document-question-answering",
    "table-question-answering",
    "speech-seq2seq",
    "ctc",
    "rnnt",
    "tdt",
    "audio-frame-classification",
    "audio-xvector",
    "text-to-spectrogram",
    "text-to-waveform",
    "depth-estimation",
    "normal-estimation",
    "pointmap-estimation",
    "image-matting",
    "image-to-image",
    "masked-image-modeling",
    "causal-image-modeling",
    "semantic-segmentation",
    "instance-segmentation",
    "universal-segmentation",
    "image-segmentation",
    "mask-generation",
    "object-detection",
    "zero-shot-object-detection",
    "keypoint-detection",
    "keypoint-matching",
    "pose-estimation",
    "text-recognition",
    "table-recognition",
    "zero-shot-image-classification",
    "retrieval",
    "next-sentence-prediction",
    "decision",
    "pretraining",
]
FAMILIES: tuple[Family, ...] = get_args(Family)
SCORED = FAMILIES[: FAMILIES.index("image-text-to-text")]
"""Families whose heads score each sample or token: these are checked by their scores too."""
COMPARE: tuple[Family, ...] = ("zero-shot-image-classification", "retrieval")
"""Families whose loss compares the samples of a batch with each other."""
_MAPPINGS = {"seq2seq": "FOR_SEQ_TO_SEQ_CAUSAL_LM", "speech-seq2seq": "FOR_SPEECH_SEQ_2_SEQ"}


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
    mapping = _MAPPINGS.get(family, f"FOR_{family.upper().replace('-', '_')}")
    names = getattr(modeling_auto, f"MODEL_{mapping}_MAPPING_NAMES", {})
    return {kind: name if isinstance(name, str) else name[0] for kind, name in names.items()}


def architectures(family: Family) -> list[str]:
    """Return the model types of a family, sorted.

    >>> "gpt2" in architectures("causal-lm")
    True
    """
    return sorted(classes(family))
