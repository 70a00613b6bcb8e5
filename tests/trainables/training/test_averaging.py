from __future__ import annotations

import torch
from torch import nn

from trainables.training.averaging import WeightAverage, fresh_statistics, trained_norms


def test_floats_are_averaged_and_counts_are_the_last() -> None:
    average = WeightAverage()
    for value in (1.0, 2.0, 6.0):
        average.add({"weight": torch.full((2,), value), "count": torch.tensor(int(value))})
    assert average.epochs == 3
    torch.testing.assert_close(average.mean["weight"], torch.tensor([3.0, 3.0]))
    assert int(average.mean["count"]) == 6
    continued = WeightAverage(average.mean, average.epochs)
    continued.add({"weight": torch.full((2,), 7.0), "count": torch.tensor(7)})
    torch.testing.assert_close(continued.mean["weight"], torch.tensor([4.0, 4.0]))


def test_fresh_statistics_are_the_mean_over_batches_of_trained_norms_only() -> None:
    net = nn.Sequential(nn.BatchNorm1d(1), nn.BatchNorm1d(1), nn.Dropout(0.5))
    net.train()
    norms = trained_norms(net, {"0.running_mean", "0.running_var"})
    assert norms == [net[0]]
    batches = [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [9.0]])]
    with fresh_statistics(net, norms):
        for batch in batches:
            net(batch)
        assert not net[2].training
    torch.testing.assert_close(net[0].running_mean, torch.tensor([4.5]))  # of 2 and 7
    torch.testing.assert_close(net[0].running_var, torch.tensor([5.0]))  # of the unbiased 2 and 8
    assert net[1].running_mean.tolist() == [0.0]
    assert (net[0].momentum, net[0].training) == (0.1, False)
