"""The command line's work: train, compare, sweep, evaluate, playground."""
