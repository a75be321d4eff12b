"""A pipeline without a network worth the name: fast, deterministic, and it can be told to fail."""

from functools import partial
from types import SimpleNamespace

import torch
from diffusers import DDIMScheduler

from headrace.models.conditioning import Conditioning
from headrace.models.pipelines.base import Pipeline, require_prompt, to_pixels


class FakePipeline(Pipeline):
    """A text-to-image family whose network is `tanh` of the latents, the timestep and the prompt's length.

    Prompts with "nan" make the network's output NaN; "boom" makes it raise; "mute" makes the text encoder raise.
    `undecodable(latents)` says which calls of the decoder raise, in their last chunk. Other chunks leave the latents
    as they are; `chunk_calls` lists calls of chunks as (position, batch), and `before_chunk(position)` is called first.
    `before_encoding(requests)` is called before prompts are encoded.
    """

    max_chunks = 6

    family = "fake"
    default_guidance = 4.0

    def __init__(self, size=16):
        scheduler = DDIMScheduler(clip_sample=False, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
        super().__init__(SimpleNamespace(scheduler=scheduler), "fake")
        self._module = torch.nn.Linear(1, 1)
        self._size = size
        self.calls = []
        self.undecodable = None
        self.chunk_calls = []
        self.before_chunk = lambda position: None
        self.before_encoding = lambda requests: None

    @property
    def network(self):
        return self._module

    @property
    def default_size(self):
        return self._size, self._size

    @property
    def size_multiple(self):
        return 8

    def latent_shape(self, height, width):
        return 3, height // 2, width // 2

    def check_conditioning(self, request):
        require_prompt(request, self.name)

    def encode(self, requests):
        self.before_encoding(requests)
        if any("mute" in request.prompt for request in requests):
            raise RuntimeError("no words")
        return [
            Conditioning(
                {"length": torch.tensor(float(len(request.prompt))), "fault": torch.tensor(_fault(request.prompt))},
                {"length": torch.tensor(0.0), "fault": torch.tensor(0)},
            )
            for request in requests
        ]

    def evaluate(self, rows):
        self.calls.append(len(rows))
        fault = rows.conditioning["fault"]
        if (fault == 2).any():
            raise RuntimeError("boom")
        column = (slice(None), None, None, None)
        output = torch.tanh(rows.sample + rows.conditioning["length"][column] / 20 + rows.timestep[column] / 1000)
        return torch.where((fault == 1)[column], torch.full_like(output, torch.nan), output)

    def decoder_chunks(self, shape, chunks):
        count = min(chunks, self.max_chunks)

        def chunk(position, state):
            self.before_chunk(position)
            self.chunk_calls.append((position, len(state)))
            return self.decode(state) if position == count - 1 else state.clone()

        return [partial(chunk, position) for position in range(count)]

    def decode(self, latents):
        if self.undecodable is not None and self.undecodable(latents):
            raise RuntimeError("smash")
        return to_pixels(torch.nn.functional.interpolate(latents, scale_factor=2))


def _fault(prompt):
    return 1 if "nan" in prompt else 2 if "boom" in prompt else 0
