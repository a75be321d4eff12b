"""The parts of the benchmark of block caching."""
