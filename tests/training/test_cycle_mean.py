import pytest
import torch
from torch import nn

from headrace.training.cycle_mean import CycleMean


def test_every_end_counts_the_same():
    ends = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    mean = CycleMean()
    for number, end in enumerate(ends, start=1):
        mean.add([end, end.sum(1)])
        assert mean.ends == number
        torch.testing.assert_close(mean.tensors[0], ends[:number].mean(0))
        torch.testing.assert_close(mean.tensors[1], ends[:number].mean(0).sum(1))


def test_weights_that_go_on_changing_do_not_change_it():
    weights = torch.ones(3)
    mean = CycleMean()
    mean.add([weights])
    weights.zero_()
    assert mean.tensors[0].tolist() == [1.0] * 3


def test_it_goes_on_from_where_it_was():
    ends = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    whole, first, second = CycleMean(), CycleMean(), CycleMean()
    for end in ends:
        whole.add([end])
    for end in ends[:2]:
        first.add([end])
    second.restore(first.tensors, first.ends)
    second.add([ends[2]])
    assert torch.equal(second.tensors[0], whole.tensors[0])
    assert not torch.equal(first.tensors[0], whole.tensors[0])


def test_it_is_put_into_parameters_of_any_layout():
    parameter = nn.Parameter(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))
    mean = CycleMean()
    mean.add([torch.ones(2, 3, 4, 4)])
    mean.copy_to([parameter])
    assert parameter.eq(1).all()
    assert parameter.is_contiguous(memory_format=torch.channels_last)
    assert parameter.requires_grad
    with pytest.raises(ValueError, match="shorter"):
        mean.copy_to([parameter, parameter])
