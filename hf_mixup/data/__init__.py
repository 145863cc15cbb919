"""Data bundled with the package.

See :func:`hf_mixup.data.load_emoji`, and ``LICENSES.md`` in this folder for the
artists, their licences and what was changed.
"""

from __future__ import annotations

from hf_mixup.data.emoji import load_emoji

__all__ = ["load_emoji"]
