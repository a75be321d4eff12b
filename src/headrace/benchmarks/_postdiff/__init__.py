"""The parts of `headrace bench postdiff`."""
