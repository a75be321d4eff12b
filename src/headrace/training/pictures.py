"""Grids of pictures stand in `headrace.pictures.grid`."""

from headrace.pictures.grid import image_grid

__all__ = ["image_grid"]
