"""Table I of SynerDiff, as the paper gives it."""

from __future__ import annotations

# Stages of six tasks -> milliseconds until the rows are done, and of decodings on average.
TABLE_I = {
    (6,): (237.9, 204.2),
    (1, 5): (250.2, 188.6),
    (3, 3): (249.0, 173.3),
    (1, 1, 4): (252.7, 161.6),
    (1, 2, 3): (256.2, 145.3),
    (1, 1, 1, 1, 1, 1): (277.8, 124.8),
}
