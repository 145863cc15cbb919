"""Data bundled with the package.

See :func:`hf_mixup.data.load_emoji`, :func:`hf_mixup.data.load_instruments` and
:func:`hf_mixup.data.load_spoken_numbers`, and ``LICENSES.md`` in this folder for the artists, players and speakers,
their licences and what was changed.
"""

from __future__ import annotations

from hf_mixup.data.emoji import load_emoji
from hf_mixup.data.instruments import load_instruments
from hf_mixup.data.spoken_numbers import load_spoken_numbers

__all__ = ["load_emoji", "load_instruments", "load_spoken_numbers"]
