"""Classifier-free guidance in some rows only: dropped late, kept within an interval, skipped in single rows."""
