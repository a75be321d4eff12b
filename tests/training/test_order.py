import numpy as np
import torch

from headrace.training.order import batch_indices, part_seed, step_generator


def test_each_pass_visits_every_item_once_in_its_own_order():
    steps = np.concatenate([batch_indices(0, step, 4, 10) for step in range(5)])
    first, second = steps[:10], steps[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()


def test_a_batch_may_be_larger_than_the_data():
    indices = batch_indices(0, 0, 25, 10)
    assert set(np.bincount(indices)) == {2, 3}


def test_the_order_follows_from_the_seed_and_a_batch_may_cross_passes():
    assert batch_indices(1, 7, 4, 10).tolist() == batch_indices(1, 7, 4, 10).tolist()
    assert batch_indices(1, 7, 8, 100).tolist() != batch_indices(2, 7, 8, 100).tolist()
    singles = np.concatenate([batch_indices(3, step, 1, 7) for step in range(24)])
    assert np.concatenate([batch_indices(3, step, 8, 7) for step in range(3)]).tolist() == singles.tolist()


def test_the_noise_follows_from_seed_and_step():
    cpu = torch.device("cpu")
    draws = [torch.rand(4, generator=step_generator(*where, cpu)) for where in ((0, 5), (0, 5), (0, 6), (1, 5))]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])
    assert len({part_seed(0, 5, 0), part_seed(0, 5, 1), part_seed(0, 6, 0), part_seed(1, 5, 0)}) == 4
