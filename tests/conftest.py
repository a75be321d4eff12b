"""Fixtures that the tests of several rooms share."""

import os
from functools import cache

import pytest

# The networks here are tiny: a second thread costs more than it brings, and on busy cores a hundred times more. Set
# before torch is imported, so that every test and every process that a test starts has it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Kind (see `tiny_models.KINDS`) -> folder of a tiny random model, built once. Copy it before changing it."""
    import tiny_models

    root = tmp_path_factory.mktemp("tiny-models")

    @cache
    def folder(kind):
        return tiny_models.build(kind, root / kind)

    return folder


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_model):
    """Kind -> the loaded pipeline of that tiny model, shared (it holds no state of a request). Never change one."""
    from headrace.models.pipelines.loading import load

    return cache(lambda kind: load(tiny_model(kind)))
