"""Where blending happens in a model: raw inputs, token embeddings, hidden layers.

The only place that knows about architectures.
"""
