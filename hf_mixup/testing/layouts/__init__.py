"""Batches of models that read several streams, or whose targets are no classes: found by trying likely layouts.

recipe      what is known of a model: its arguments and sizes, and where numbers come from
images      images in one tensor a batch, in tiles, or as patches
audio       waves and spectrograms
texts       ids with placeholders for the features of images and audio
targets     the labels of each family
fitting     the first layout with which a model runs and has a loss
"""
