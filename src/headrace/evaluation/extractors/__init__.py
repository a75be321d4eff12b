"""Networks, and one thing without weights, that turn pictures into features."""
