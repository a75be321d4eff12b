"""Fixtures that the tests of several rooms share."""

from functools import cache

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Kind (see `tiny_models.KINDS`) -> folder of a tiny random model, built once. Copy it before changing it."""
    import tiny_models

    root = tmp_path_factory.mktemp("tiny-models")

    @cache
    def folder(kind):
        return tiny_models.build(kind, root / kind)

    return folder
