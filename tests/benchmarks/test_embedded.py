import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from headrace.benchmarks.embedded import labelled_grid, recalls, run
from headrace.benchmarks.registry import BenchOptions
from headrace.errors import DataError

CAPTIONS = ("red circle", "blue square", "green apple", "robot", "robot: medium skin tone")


@pytest.fixture
def parquet(tmp_path):
    random = np.random.default_rng(0)
    images = []
    for _ in CAPTIONS:
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, format="PNG")
        images.append(buffer.getvalue())
    path = tmp_path / "noise.parquet"
    pq.write_table(pa.table({"image": images, "caption": list(CAPTIONS)}), path)
    return path


def test_it_asks_for_the_data_set(tmp_path):
    with pytest.raises(DataError, match="--data"):
        run(BenchOptions(), Console(quiet=True))
    with pytest.raises(DataError, match="no pictures at"):
        run(BenchOptions(data=tmp_path / "none.parquet"), Console(quiet=True))


def test_it_measures_and_draws_every_caption(parquet, tmp_path):
    figures = run(BenchOptions(data=parquet, out=tmp_path / "out"), Console(quiet=True))
    assert json.loads(json.dumps(figures)) == figures
    assert (figures["captions"], figures["emoji"]) == (4, 4)
    assert 0 <= figures["top1"] <= figures["top5"] == 1.0
    assert figures["self_top1"] == 1.0
    assert 0 < figures["autoencoder_psnr"] < 25, "noise is not what the autoencoder has learnt"
    assert json.loads((tmp_path / "out" / "embedded.json").read_text()) == figures
    assert Image.open(tmp_path / "out" / "embedded.png").width > 500


def test_recall_counts_the_truth_among_the_nearest():
    order = np.array([[3, 1, 2, 0, 4, 5], [0, 1, 2, 3, 4, 5]])
    assert recalls(order, np.array([3, 5])) == {"top1": 0.5, "top5": 0.5}
    assert recalls(order, np.array([4, 0])) == {"top1": 0.5, "top5": 1.0}


def test_the_label_tells_how_near():
    pictures = np.full((6, 64, 64, 3), 255, np.uint8)
    for place, colour in ((0, (0, 128, 0)), (3, (255, 140, 0)), (5, (255, 0, 0))):
        order = np.roll(np.arange(6), place)[None]
        grid = labelled_grid(pictures, pictures[:1], order, np.array([0]), ["robot"] * 6)
        pixels = np.asarray(grid).reshape(-1, 3).astype(int)
        assert np.abs(pixels - colour).max(axis=1).min() < 8, "letters are antialiased"
