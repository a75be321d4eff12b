"""The naive baseline: four images at half size as the quarters of one."""

import pytest
import torch
from torch.nn import functional

import tiny_networks
from headrace.techniques.fusebatch.patch_grid import PatchGridUNet2DModel, grid, split

HALVES = (slice(0, 8), slice(8, 16))


def patch_grid(**options):
    torch.manual_seed(0)
    with torch.no_grad():
        vanilla = tiny_networks.pixel_unet(**options)
        network = PatchGridUNet2DModel(unet=dict(vanilla.config))
        network.initialise_from(vanilla)
    return network.eval(), vanilla.eval()


def test_images_stand_in_the_grid_in_the_order_of_reading():
    images = torch.randn(8, 3, 4, 4)
    grids = grid(images)
    assert grids.shape == (2, 3, 8, 8)
    assert torch.equal(grids[0, :, :4, 4:], images[1])
    assert torch.equal(grids[1, :, 4:, :4], images[6])
    assert torch.equal(split(grids), images)


@torch.no_grad()
def test_one_call_of_the_plain_network_serves_four_images():
    """Written out: means of 2 x 2 pixels, the grid through the plain network, quarters enlarged, and what was lost."""
    network, vanilla = patch_grid()
    images, times = torch.randn(8, 3, 16, 16), torch.tensor([900] * 4 + [20] * 4)
    small = images.unflatten(3, (8, 2)).unflatten(2, (8, 2)).mean(dim=(3, 5))
    rows = [torch.cat([*pair], dim=-1) for pair in small.split(2)]
    shown = torch.stack([torch.cat(rows[:2], dim=-2), torch.cat(rows[2:], dim=-2)])
    answer = vanilla(shown, times[::4]).sample
    quarters = [one[:, rows, columns] for one in answer for rows in HALVES for columns in HALVES]
    large = functional.interpolate(torch.stack(quarters), size=(16, 16), mode="bilinear")
    lost = images - functional.interpolate(small, size=(16, 16), mode="bilinear")
    found = network(images, times, fusion=4).sample
    assert torch.allclose(found, large + lost, atol=1e-5)  # the gain is 1 before anything was learnt


@torch.no_grad()
def test_each_place_has_its_own_class_embeddings():
    network, vanilla = patch_grid(num_class_embeds=3)
    images = torch.randn(4, 3, 16, 16)
    small = grid(functional.avg_pool2d(images, 2))
    one, other = (network(images, 5, torch.tensor([label] * 4)).sample for label in (1, 0))
    plain = [split(vanilla(small, 5, torch.tensor([label])).sample) for label in (1, 0)]
    enlarged = functional.interpolate(plain[0] - plain[1], scale_factor=2, mode="bilinear")
    assert torch.allclose(one - other, enlarged, atol=1e-5)  # four of one class are told what one was
    network.network.class_embedding.tables.weight.normal_()
    one, other = (network(images, 5, torch.tensor(labels)).sample for labels in ([0, 1, 2, 0], [1, 0, 2, 0]))
    assert not torch.allclose(one, other, atol=1e-4)


@torch.no_grad()
def test_a_saved_network_is_the_same_one(tmp_path):
    network, _ = patch_grid(num_class_embeds=3)
    network.gain.weight.normal_()
    network.save_pretrained(tmp_path)
    loaded = PatchGridUNet2DModel.from_pretrained(tmp_path).eval()
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 2, 1, 1])
    assert torch.allclose(loaded(images, 7, labels).sample, network(images, 7, labels).sample, atol=1e-5)
    assert loaded.factors == (4,)
    assert loaded.config.in_channels == 3


@pytest.mark.parametrize(("rows", "fusion", "words"), [(6, None, "6 images are not a multiple"), (8, 2, "factor of 2")])
def test_other_groups_are_refused(rows, fusion, words):
    network, _ = patch_grid()
    with pytest.raises(ValueError, match=words):
        network(torch.randn(rows, 3, 16, 16), 5, fusion=fusion)
