"""Data bundled with the package.

See :func:`hf_mixup.data.load_emoji` and :func:`hf_mixup.data.load_instruments`, and ``LICENSES.md`` in this folder for
the artists and players, their licences and what was changed.
"""

from __future__ import annotations

from hf_mixup.data.emoji import load_emoji
from hf_mixup.data.instruments import load_instruments

__all__ = ["load_emoji", "load_instruments"]
