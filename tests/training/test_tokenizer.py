import subprocess
import sys

import pytest
from transformers import CLIPTokenizer

from headrace.training.tokenizer import train_tokenizer

CAPTIONS = ["red apple", "green apple", "red heart", "Red Circle", "six o'clock"] * 3
PROGRAM = """
import sys
from pathlib import Path
from headrace.training.tokenizer import train_tokenizer
words = [a + b + c for a in "bdfgk" for b in "aeiou" for c in "lmnrs"]
train_tokenizer([f"{one} {two}" for one, two in zip(words, reversed(words))] * 2, 700, 12, Path(sys.argv[1]))
"""


@pytest.fixture
def tokenizer(tmp_path):
    return train_tokenizer(CAPTIONS, 560, 12, tmp_path / "tokenizer")


def test_frequent_words_are_single_tokens_and_case_is_ignored(tokenizer):
    assert tokenizer.tokenize("Red APPLE") == ["red</w>", "apple</w>"]


def test_every_text_has_tokens(tokenizer):
    ids = tokenizer("☂ 7 žluťoučký").input_ids
    assert tokenizer.eos_token_id not in ids[:-1]
    assert tokenizer.decode(ids[1:-1]) == "☂ 7 žluťoučký"


def test_the_files_load_as_clip_does_with_padding_to_the_length(tokenizer, tmp_path):
    loaded = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert len(loaded) <= 560
    ids = loaded("red heart", padding="max_length", truncation=True).input_ids
    assert len(ids) == 12
    assert ids == tokenizer("red heart", padding="max_length", truncation=True).input_ids
    assert ids[0] == loaded.bos_token_id
    assert set(ids[3:]) == {loaded.eos_token_id}
    assert len(loaded("red " * 40, truncation=True).input_ids) == 12


def test_the_same_captions_give_the_same_files(tokenizer, tmp_path):
    train_tokenizer(CAPTIONS, 560, 12, tmp_path / "again")
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "tokenizer" / name).read_bytes()


def test_equally_frequent_pairs_merge_in_one_order_in_every_process(tmp_path):
    """A resumed run, or another process, would give words other numbers than the networks have learnt."""
    contents = set()
    for number in range(3):
        folder = tmp_path / str(number)
        subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], check=True, capture_output=True)
        contents.add((folder / "vocab.json").read_bytes() + (folder / "merges.txt").read_bytes())
    assert len(contents) == 1
