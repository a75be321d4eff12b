"""A few of many, evenly."""

import torch

from headrace.pictures.spread import spread, spread_indices


def test_indices_are_spread_from_the_first_to_the_last_and_not_repeated():
    assert spread_indices(10, 200).tolist() == list(range(10))
    assert spread_indices(1648, 200)[[0, -1]].tolist() == [0, 1647]
    assert len(set(spread_indices(1648, 200).tolist())) == 200


def test_items_are_those_of_the_indices():
    items = torch.arange(14).reshape(7, 2)
    assert spread(items, 3).tolist() == [[0, 1], [6, 7], [12, 13]]
