"""Multistage: one shared encoder, a decoder for each interval of noise levels."""
