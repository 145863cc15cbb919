"""Images and tables of results: every image is a PNG written in one piece, every table a string.

    reliability_diagram, metric_bars    calibration and scores of several methods
    calibration_plane, training_curves  accuracy against calibration, and losses over the steps
    comparison_table                    the scores as text, best values marked
    image_grid, text_pairs              what mixed images and texts look like
    audio_grid                          waveforms and spectrograms
    path_diagram                        a model's probabilities on the way from one row to another
    pair_grid, target_matrix            the same for images with captions, and what their targets are
    stream_pairs                        images and texts of samples that hold both
    retrieval_examples                  which images a caption finds

The images need matplotlib (extra `plots`), which is imported when the first one is drawn.
"""

from __future__ import annotations

from hf_mixup.metrics.results import Result, Summary, aggregate
from hf_mixup.plots.audio import audio_grid
from hf_mixup.plots.charts import metric_bars, reliability_diagram
from hf_mixup.plots.curves import calibration_plane, training_curves
from hf_mixup.plots.images import image_grid
from hf_mixup.plots.linearity import path_diagram
from hf_mixup.plots.pairs import pair_grid, retrieval_examples, target_matrix
from hf_mixup.plots.streams import StreamPair, stream_pairs
from hf_mixup.plots.table import comparison_table
from hf_mixup.plots.text import TextPair, text_pairs

__all__ = [
    "Result",
    "StreamPair",
    "Summary",
    "TextPair",
    "aggregate",
    "audio_grid",
    "calibration_plane",
    "comparison_table",
    "image_grid",
    "metric_bars",
    "pair_grid",
    "path_diagram",
    "reliability_diagram",
    "retrieval_examples",
    "stream_pairs",
    "target_matrix",
    "text_pairs",
    "training_curves",
]
