"""The shared pipeline behind every entry point: draw, apply, forward, loss."""
