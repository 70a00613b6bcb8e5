"""One fold over several devices: the processes that train it together, by torch.distributed.

It does what DistributedDataParallel does (Li et al. 2020, section 3.2), without its hooks: our loss does not go through
one `forward`, stages change what is trained, and a batch that did not fit into memory is begun anew in smaller parts,
which hooks in the middle of a backward pass do not survive.
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
    """Another process of the fold has gone: none of them can go on."""


class Ranks:
    """This process among those that train a fold. All of them must call its methods in the same order.

    Without arguments: it is alone, and nothing is exchanged.

    Args:
        rank: 0-based number of this process.
        size: number of processes.
        device: where this one computes.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.size, self.device = rank, size, device

    def part(self, length: int) -> slice:
        """This process's share of a batch; sizes differ by one at most."""
        return slice(length * self.rank // self.size, length * (self.rank + 1) // self.size)

    def any(self, flag: bool) -> bool:
        """Whether it is so for any of them."""
        if self.size == 1:
            return flag
        told = torch.tensor([flag], dtype=torch.uint8, device=self.device)
        with _together():
            dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told)

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all of them, in place."""
        if self.size > 1:
            with _together():
                dist.all_reduce(value)
        return value

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of parameters that are the same for all of them."""
        if self.size == 1:
            return
        trained = list(parameters)
        has = torch.tensor([p.grad is not None for p in trained], dtype=torch.uint8, device=self.device)
        with _together():  # the smallest batch may have no image for this process
            dist.all_reduce(has, dist.ReduceOp.MAX)
        for parameter, somewhere in zip(trained, has.tolist(), strict=True):
            if somewhere and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in trained if p.grad is not None]
        whole = self.sum(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, part in zip(gradients, torch.split(whole, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def copy_buffers(self, net: nn.Module) -> None:
        """Give all of them the buffers of the first: the running statistics of batch norms, which each has made of its
        own images."""
        if self.size == 1:
            return
        for buffer in net.buffers():
            content = buffer.contiguous()
            with _together():
                dist.broadcast(content, 0)
            buffer.copy_(content)


ALONE: Final = Ranks()


class Rendezvous(NamedTuple):
    """Where a process finds the others of its fold.

    Attributes:
        rank: its 0-based number.
        size: how many they are.
        host, port: of the store that the first has opened.
    """

    rank: int
    size: int
    host: str
    port: int


def open_store(host: str) -> tuple[Any, int]:
    """A store, where the processes of a fold meet, and its port; it ends when it is let go of."""
    store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=_TIMEOUT)  # type: ignore[attr-defined]
    return store, store.port


def join(rendezvous: Rendezvous, device: torch.device) -> Ranks:
    """Meet the others; those of a rendezvous before are left.

    Raises:
        RankLostError: they do not come.
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
