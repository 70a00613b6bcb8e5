"""Averages of weights, by hand."""

from __future__ import annotations

import torch
from torch import nn

from trainables.training.averaging import MovingAverage, WeightAverage, fresh_statistics, trained_norms


class Counter(nn.Module):
    """One weight, one running statistic, one integer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("running", torch.zeros(1))
        self.register_buffer("count", torch.tensor(0))

    def set(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)
            self.running.fill_(-value)
            self.count.fill_(int(value))


def follow(decay: float, values: list[float]) -> list[tuple[float, float, int]]:
    net = Counter()
    average = MovingAverage(net, decay, net.state_dict())
    seen = []
    for value in values:
        net.set(value)
        average.update()
        module = average.module
        seen.append((float(module.weight.detach()), float(module.running), int(module.count)))
    return seen


def test_the_decay_rises_to_its_value() -> None:
    # The first update takes over 11; then decays 2/11, 3/12 and .26 (not 4/13).
    one = 11.0 * 2 / 11 + 22.0 * 9 / 11
    two = one * 3 / 12 + 30.0 * 9 / 12
    three = two * 0.26 + 40.0 * 0.74
    seen = follow(0.26, [11.0, 22.0, 30.0, 40.0])
    torch.testing.assert_close([s[0] for s in seen], [11.0, one, two, three], rtol=1e-5, atol=1e-5)
    assert [s[1] for s in seen] == [-s[0] for s in seen]  # running statistics with it
    assert [s[2] for s in seen] == [11, 22, 30, 40]  # a number of batches has no average


def test_frozen_tensors_are_shared_instead_of_copied() -> None:
    net = nn.Sequential(Counter(), Counter())
    net[0].requires_grad_(False)
    average = MovingAverage(net, 0.9, {"1.weight", "1.running", "1.count"})
    assert average.module[0].weight is net[0].weight  # type: ignore[index]
    assert average.module[0].running is net[0].running  # type: ignore[index]
    net[1].set(5.0)  # type: ignore[operator]
    average.update()
    assert average.module[1].weight is not net[1].weight  # type: ignore[index]
    assert average.module[1].weight.tolist() == [5.0]  # type: ignore[index]


def test_the_average_is_a_copy() -> None:
    net = Counter()
    average = MovingAverage(net, 0.9, net.state_dict())
    net.set(5.0)
    assert average.module.weight.tolist() == [0.0]
    average.update()
    average.module.set(1.0)
    assert net.weight.tolist() == [5.0]


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
