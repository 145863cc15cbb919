"""A griffe extension (mkdocstrings reads code with griffe): the reference shows examples in docstrings as code."""

from __future__ import annotations

from typing import Any

import griffe

from hf_mixup.docs.site.examples import with_examples


class Examples(griffe.Extension):
    """Puts what begins with `>>>` under a heading that the Google style knows."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = with_examples(obj.docstring.value)
