"""The `evaluate` module "retrieval"; load it with `hf_mixup.metrics.load("retrieval")`."""
