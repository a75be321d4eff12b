"""A small tokenizer in CLIP's format, trained on the captions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from headrace.files import write_folder

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"


def train_tokenizer(captions: Iterable[str], vocabulary: int, max_tokens: int, folder: Path) -> CLIPTokenizer:
    """Train byte-pair merges on lower-case captions, write `folder` in CLIP's format and load it.

    As in CLIP (arXiv:2103.00020) the vocabulary is the 256 bytes, the 256 bytes that end a word, the merges in order,
    and the two special tokens; so every text has tokens. At most `vocabulary` entries; `max_tokens` counts both
    special ones.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*alphabet, *(letter + _WORD_END for letter in alphabet)]
    merges = []
    for left, right in _learn_merges(captions, vocabulary)[: max(0, vocabulary - len(entries) - 2)]:
        merges.append(f"{left} {right}")
        entries.append(left + right)
    vocabulary_table = {entry: number for number, entry in enumerate(dict.fromkeys([*entries, START, END]))}
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": max_tokens,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
    }

    def write(path: Path) -> None:
        (path / "vocab.json").write_text(json.dumps(vocabulary_table, ensure_ascii=False), encoding="utf-8")
        (path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
        (path / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    write_folder(folder, write)
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _learn_merges(captions: Iterable[str], vocabulary: int) -> list[tuple[str, str]]:
    """Pairs in the order they are merged, most frequent first; pairs that occur once are not worth an entry.

    Equally frequent pairs are ordered by the numbers of their parts. The learner would number the letters that end a
    word as it meets them, in the order of a hash table that differs from run to run; as special tokens they come
    first, sorted.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rules = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END))
    learner.normalizer, learner.pre_tokenizer = rules.normalizer, rules.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        initial_alphabet=alphabet,
        special_tokens=[letter + _WORD_END for letter in alphabet],
        end_of_word_suffix=_WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    return [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
