"""The entry points for the libraries around: Trainer, data collator, callback, TRL, sentence-transformers."""
