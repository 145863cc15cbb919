"""Files, values of settings, suggestions, versions."""
