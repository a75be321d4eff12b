"""The tuner: the cheapest settings for a wanted quality, searched over solvers, steps and techniques together."""
