"""NumPy files that grow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.pictures.array_file import ArrayFile


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 12), max_size=6),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from(["u1", "<f4"]),
)
def test_rows_are_found_again(tmp_path_factory, lengths, shape, dtype):
    path = tmp_path_factory.mktemp("array") / "rows.npy"
    rows = np.arange(sum(lengths) * np.prod(shape)).reshape(-1, *shape).astype(dtype)
    with ArrayFile(path, np.dtype(dtype), tuple(shape)) as file:
        for part in np.split(rows, np.cumsum(lengths)):
            file.append(part)
        assert file.count == len(rows)
    found = np.load(path)
    assert found.dtype == rows.dtype
    np.testing.assert_array_equal(found, rows)


def test_rows_of_another_shape_are_refused(tmp_path):
    with ArrayFile(tmp_path / "rows.npy", np.dtype("u1"), (2,)) as file:
        with pytest.raises(ValueError, match=r"\(3,\)"):
            file.append(np.zeros((1, 3), np.uint8))
        with pytest.raises(ValueError, match="float64"):
            file.append(np.zeros((1, 2)))
    assert np.load(tmp_path / "rows.npy").shape == (0, 2)
