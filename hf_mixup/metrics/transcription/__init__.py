"""The `evaluate` module "transcription"; load it with `hf_mixup.metrics.load("transcription")`."""
