"""A fake family with networks for several fusion factors K, which sees to it that groups are what they should be."""

import torch
from fake_pipeline import FakePipeline


class FusedPipeline(FakePipeline):
    """Its network treats each image of a group by itself; with `mixing`, it adds so much of the group's mean as well.

    `groups` lists the calls as (K, rows); a call whose rows are no groups of one timestep and one branch raises.
    """

    def __init__(self, factors=(1, 2, 4), mixing=0.0, pictures=1, size=16):
        super().__init__(size)
        self._factors = factors
        self._pictures = pictures
        self.mixing = mixing
        self.groups = []
        self.timesteps = []

    columns = frozenset({"fusion"})

    @property
    def fusion_factors(self):
        return self._factors

    @property
    def pictures(self):
        return self._pictures

    def own_decisions(self, plan):
        return plan if 1 in self._factors else plan.with_columns(fusion=max(self._factors))

    def evaluate(self, rows):
        k = rows.fusion
        assert k in self._factors
        assert (rows.columns["fusion"] == k).all()
        assert len(rows) % k == 0
        assert len(rows.branches) == len(rows.caches) == len(rows.conditioning["length"]) == len(rows)
        grouped = rows.timestep.reshape(-1, k)
        assert (grouped == grouped[:, :1]).all()
        assert (rows.branches.reshape(-1, k) == rows.branches.reshape(-1, k)[:, :1]).all()
        self.groups.append((k, len(rows)))
        self.timesteps.append(rows.timestep.tolist())
        output = super().evaluate(rows)
        of_groups = output.reshape(-1, k, *output.shape[1:])
        return (of_groups + self.mixing * of_groups.mean(1, keepdim=True)).reshape(output.shape)

    def decode(self, latents):
        pixels = super().decode(latents)
        shifted = [pixels.roll(shift, dims=2) for shift in range(self._pictures)]
        return torch.stack(shifted, 1).flatten(0, 1)
