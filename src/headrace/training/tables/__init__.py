"""The tables of a recipe: one pydantic model a file."""
