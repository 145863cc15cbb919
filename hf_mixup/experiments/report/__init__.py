"""Tables, verdicts and pages of results."""
