"""Helpers of the benchmark `multistage`."""
