"""Block caching (Wimbauer et al. 2024, "Cache Me if You Can"): what a block adds is reused while it changes little."""
