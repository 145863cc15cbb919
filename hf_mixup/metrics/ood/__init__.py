"""The `evaluate` module "ood"; load it with `hf_mixup.metrics.load("ood")`."""
