"""Holding back what libraries print again and again where one progress bar shows it all."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
from transformers.utils import logging


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Hold back warnings and progress bars of transformers and datasets."""
    verbosity, bars = logging.get_verbosity(), datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*pin_memory.*")  # each data loader on a CPU gives it
            yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
        if not bars:
            datasets.enable_progress_bars()
