"""Training one fold in several processes, one per device, with torch.distributed.

Gradients are summed as in DistributedDataParallel (Li et al., VLDB 2020, section 3.2), but without its hooks: the loss
does not go through a single `forward`, stages change which parameters are trained, and a batch that runs out of memory
is repeated in smaller parts, which breaks hooks in the middle of a backward pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

_TIMEOUT: Final = timedelta(minutes=30)


class RankLostError(Exception):
    """Another process that trains this fold has died, so this one cannot continue."""


class Ranks:
    """The group of processes that train one fold. All of them must call its methods in the same order.

    The default is a single process, which communicates with no other.

    Args:
        rank: 0-based number of this process.
        size: number of processes.
        device: device of this process.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.size, self.device = rank, size, device

    def part(self, length: int) -> slice:
        """This process's share of a batch; sizes differ by one at most."""
        return slice(length * self.rank // self.size, length * (self.rank + 1) // self.size)

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any of the processes."""
        if self.size == 1:
            return flag
        told = torch.tensor([flag], dtype=torch.uint8, device=self.device)
        with _together():
            dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told)

    def sum(self, value: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place."""
        if self.size > 1:
            with _together():
                dist.all_reduce(value)
        return value

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of parameters over all processes."""
        if self.size == 1:
            return
        trained = list(parameters)
        has = torch.tensor([p.grad is not None for p in trained], dtype=torch.uint8, device=self.device)
        with _together():  # this process may have no image of a small batch, and so no gradient
            dist.all_reduce(has, dist.ReduceOp.MAX)
        for parameter, somewhere in zip(trained, has.tolist(), strict=True):
            if somewhere and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in trained if p.grad is not None]
        whole = self.sum(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, part in zip(gradients, torch.split(whole, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def copy_buffers(self, net: nn.Module) -> None:
        """Copy the buffers of rank 0 to all processes: each has computed the running statistics of its batch norms from
        its own images."""
        if self.size == 1:
            return
        for buffer in net.buffers():
            content = buffer.contiguous()
            with _together():
                dist.broadcast(content, 0)
            buffer.copy_(content)


ALONE: Final = Ranks()


class Rendezvous(NamedTuple):
    """Everything that a process needs to join the group that trains its fold.

    Attributes:
        rank: its 0-based number in the group.
        size: number of processes in the group.
        host, port: of the store that rank 0 has opened.
    """

    rank: int
    size: int
    host: str
    port: int


def open_store(host: str) -> tuple[Any, int]:
    """Open a TCP store for a rendezvous; returns it with its port. It closes when it is garbage-collected."""
    store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=_TIMEOUT)  # type: ignore[attr-defined]
    return store, store.port


def join(rendezvous: Rendezvous, device: torch.device) -> Ranks:
    """Join the process group of a rendezvous, after leaving any earlier one.

    Raises:
        RankLostError: another process of the group does not join in time.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    backend = "nccl" if device.type == "cuda" else "gloo"
    with _together():
        store = dist.TCPStore(rendezvous.host, rendezvous.port, timeout=_TIMEOUT)  # type: ignore[attr-defined]
        dist.init_process_group(
            backend, store=store, rank=rendezvous.rank, world_size=rendezvous.size, timeout=_TIMEOUT
        )
    return Ranks(rendezvous.rank, rendezvous.size, device)


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # what torch.distributed raises for a closed connection, and for one that times out
        raise RankLostError(str(error)) from None
