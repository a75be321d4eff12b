"""Fewer denoising steps or cheaper ones: the question of PostDiff's title, asked of one model on one machine."""
