"""Text encoder results, kept by prompt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock

import torch

Encoded = Mapping[str, torch.Tensor]
EncodeBatch = Callable[[Sequence[str]], Mapping[str, torch.Tensor]]


class PromptCache:
    """Least recently used prompts first out, bounded in bytes.

    `encode_batch` maps N prompts to name -> [N, ...] tensors; it is called with prompts that are not cached, at most
    `batch` at a time.
    """

    def __init__(self, encode_batch: EncodeBatch, max_bytes: int = 256 << 20, batch: int = 32) -> None:
        self._encode_batch = encode_batch
        self._max_bytes = max_bytes
        self._batch = batch
        self._bytes = 0
        self._lock = Lock()
        self._entries: OrderedDict[str, Encoded] = OrderedDict()

    def encode(self, prompts: Iterable[str]) -> dict[str, Encoded]:
        """Prompt -> name -> tensor without a batch dimension, for every distinct prompt given. For any thread."""
        with self._lock:
            return self._encode(prompts)

    def _encode(self, prompts: Iterable[str]) -> dict[str, Encoded]:
        wanted = list(dict.fromkeys(prompts))
        found = {prompt: self._entries[prompt] for prompt in wanted if prompt in self._entries}
        missing = [prompt for prompt in wanted if prompt not in found]
        for start in range(0, len(missing), self._batch):
            chunk = missing[start : start + self._batch]
            tensors = self._encode_batch(chunk)
            for index, prompt in enumerate(chunk):
                found[prompt] = {name: tensor[index].clone() for name, tensor in tensors.items()}
        for prompt in wanted:
            self._keep(prompt, found[prompt])
        return found

    def _keep(self, prompt: str, entry: Encoded) -> None:
        if prompt not in self._entries:
            self._bytes += _size(entry)
            self._entries[prompt] = entry
        self._entries.move_to_end(prompt)
        while self._bytes > self._max_bytes and len(self._entries) > 1:
            _, dropped = self._entries.popitem(last=False)
            self._bytes -= _size(dropped)


def _size(entry: Encoded) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in entry.values())
