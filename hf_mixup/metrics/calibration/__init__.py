"""The `evaluate` module "calibration"; load it with `hf_mixup.metrics.load("calibration")`."""
