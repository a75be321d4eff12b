"""Judges, and the prompts that they judge by."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.errors import DataError, TuningError
from headrace.evaluation.extractors.colour_gradients import ColourGradients
from headrace.tuning.judges import Recall, Similarity, distances
from headrace.tuning.prompts import Pictures, read_prompts

PICTURES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)


def test_recall_is_one_where_the_own_picture_is_nearest():
    judge = Recall(Pictures(PICTURES, np.array([3, 1, 4, 5])))
    made = PICTURES[[3, 1, 0, 5]]
    assert judge(made, made, np.arange(4)).tolist() == [1.0, 1.0, 0.0, 1.0]
    assert judge(made[2:], made[2:], np.array([2, 3])).tolist() == [0.0, 1.0]


def test_similarity_is_one_for_the_plain_picture_and_falls_with_the_distance():
    judge, numbers = Similarity(ColourGradients()), np.arange(8)
    assert judge(PICTURES, PICTURES, numbers).tolist() == [1.0] * 8
    half = (0.7 * PICTURES + 0.3 * PICTURES[::-1]).astype(np.uint8)
    near, far = judge(half, PICTURES, numbers), judge(PICTURES[::-1].copy(), PICTURES, numbers)
    assert ((near >= 0) & (near <= 1)).all()
    assert near.mean() > far.mean() + 0.3
    assert distances(PICTURES, PICTURES) == {"psnr": 100.0, "ssim": pytest.approx(1.0)}
    assert distances(half, PICTURES)["psnr"] < 30


def test_half_of_the_prompts_confirm_and_none_is_in_both_halves(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(f"prompt {number}" for number in range(30)) + "\nprompt 3\n\n")
    found = read_prompts(file, 32, 20, seed=1)
    assert (len(found.texts), found.searched, len(found.confirming)) == (20, 10, 10)
    assert len(set(found.texts)) == 20
    assert read_prompts(file, 32, 20, seed=1) == found
    assert read_prompts(file, 32, 20, seed=2).texts != found.texts
    assert len(read_prompts(file, 32, 100).texts) == 30


def test_tables_of_captions_alone(tmp_path):
    file = tmp_path / "captions.parquet"
    pq.write_table(pa.table({"text": ["a", "b", "c", "d", "light skin tone", None]}), file)
    assert set(read_prompts(file, 32, 10, exclude=["skin tone"]).texts) == {"a", "b", "c", "d"}
    pq.write_table(pa.table({"words": ["a"]}), file)
    with pytest.raises(DataError, match="no column of captions; it has: words"):
        read_prompts(file, 32, 10)
    file.write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"captions\.parquet"):
        read_prompts(file, 32, 10)
    (tmp_path / "few.txt").write_text("a\nb\nc\n")
    with pytest.raises(TuningError, match="3 prompts"):
        read_prompts(tmp_path / "few.txt", 32, 10)
