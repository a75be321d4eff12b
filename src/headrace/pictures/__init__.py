"""Pictures as files and rows: where they come from, how they are decoded, and grids of them."""
