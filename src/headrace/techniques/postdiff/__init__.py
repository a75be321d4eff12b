"""PostDiff: mixed-resolution denoising and hybrid module caching."""
