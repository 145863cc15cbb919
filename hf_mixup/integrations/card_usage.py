"""The lines of a model card that load the model and predict with it."""

from __future__ import annotations

from typing import Any

PIPELINES = {
    "audio-classification": '"audio.wav"',
    "automatic-speech-recognition": '"audio.wav"',
    "depth-estimation": '"image.png"',
    "fill-mask": '"A text with a <mask>."',
    "image-classification": '"image.png"',
    "image-segmentation": '"image.png"',
    "object-detection": '"image.png"',
    "text-classification": '"A text."',
    "text-generation": '"A text"',
    "token-classification": '"A text."',
    "video-classification": '"video.mp4"',
    "zero-shot-image-classification": '"image.png", candidate_labels=["a cat", "a dog"]',
}
"""Pipelines of transformers, and what each is called with."""


def usage(model: Any, processor: Any, name: str, pipeline: str | None) -> str:
    """Return Python that loads a model and predicts: by its pipeline, else by its class; empty for an unknown class.

    Args:
        model, processor: the model (not the wrapper of a launcher), and the processing class of the Trainer.
        name: of the model on the Hub.
        pipeline: the task of the pipeline that takes this model, None if there is none.

    >>> from hf_mixup.testing.build import build
    >>> print(usage(build("image-classification", "vit"), None, "me/flowers", "image-classification"))
    from transformers import pipeline
    <BLANKLINE>
    predict = pipeline("image-classification", model="me/flowers")
    predict("image.png")
    """
    if pipeline in PIPELINES:
        call = f'predict = pipeline("{pipeline}", model="{name}")\npredict({PIPELINES[pipeline]})'
        return f"from transformers import pipeline\n\n{call}"
    modules = {"transformers": "transformers", "hf_mixup": "hf_mixup.tabular"}
    names: dict[str, list[str]] = {}
    lines = []
    for variable, each in (("processor", processor), ("model", model)):
        module = modules.get(type(each).__module__.partition(".")[0])
        if module is not None and hasattr(type(each), "from_pretrained"):
            names.setdefault(module, []).append(type(each).__name__)
            lines.append(f'{variable} = {type(each).__name__}.from_pretrained("{name}")')
    imports = [f"from {module} import {', '.join(sorted(found))}" for module, found in names.items()]
    return "\n".join([*imports, "", *lines]) if lines else ""
