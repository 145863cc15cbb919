"""Images and tables of results: every image is a PNG written in one piece, every table a string.

    reliability_diagram, metric_bars    calibration and scores of several methods
    calibration_plane, training_curves  accuracy against calibration, and losses over the steps
    comparison_table                    the scores as text, best values marked
    image_grid, text_pairs, row_pairs   what mixed images, texts and rows of tables look like
    audio_grid                          waveforms and spectrograms
    path_diagram                        a model's probabilities on the way from one sample to another
    pair_grid, target_matrix            the same for images with captions, and what their targets are
    stream_pairs                        images and texts of samples that hold both
    retrieval_examples                  which images a caption finds

The images need matplotlib (extra `plots`), which is imported when the first one is drawn: without it, an ImportError
names the extra.
"""

from __future__ import annotations

from hf_mixup.metrics.results import Result as Result
from hf_mixup.metrics.results import Summary as Summary
from hf_mixup.metrics.results import aggregate as aggregate
from hf_mixup.plots.audio import audio_grid as audio_grid
from hf_mixup.plots.charts import metric_bars as metric_bars
from hf_mixup.plots.charts import reliability_diagram as reliability_diagram
from hf_mixup.plots.columns import RowPair as RowPair
from hf_mixup.plots.columns import row_pairs as row_pairs
from hf_mixup.plots.curves import calibration_plane as calibration_plane
from hf_mixup.plots.curves import training_curves as training_curves
from hf_mixup.plots.images import image_grid as image_grid
from hf_mixup.plots.linearity import path_diagram as path_diagram
from hf_mixup.plots.pairs import pair_grid as pair_grid
from hf_mixup.plots.pairs import retrieval_examples as retrieval_examples
from hf_mixup.plots.pairs import target_matrix as target_matrix
from hf_mixup.plots.streams import StreamPair as StreamPair
from hf_mixup.plots.streams import stream_pairs as stream_pairs
from hf_mixup.plots.table import comparison_table as comparison_table
from hf_mixup.plots.text import TextPair as TextPair
from hf_mixup.plots.text import text_pairs as text_pairs
