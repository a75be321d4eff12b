"""Parts of the benchmark of FuseBatch."""
