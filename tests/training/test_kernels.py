"""How many kernels oneDNN keeps while a network learns."""

import os

import pytest

from headrace.training.kernels import keep_kernels

NAME = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


@pytest.mark.parametrize(("before", "after"), [(None, "8192"), ("77", "77")])
def test_what_the_environment_says_goes_before(monkeypatch, before, after):
    monkeypatch.delenv(NAME, raising=False)
    if before is not None:
        monkeypatch.setenv(NAME, before)
    keep_kernels()
    assert os.environ[NAME] == after
