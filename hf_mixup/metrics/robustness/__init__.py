"""The `evaluate` module "robustness"; load it with `hf_mixup.metrics.load("robustness")`."""
