"""Headrace: the throughput-first stack for diffusion image models."""
