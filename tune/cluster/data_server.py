"""Hands the data out to nodes of a cluster that do not have them: no shared disk is needed for the photographs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pasture.verification import VerifiedDataset


class DataServer:
    """An actor beside the driver that reads files of the dataset for those who ask.

    Args:
        root: the data folder.
        names: paths in it of the files to hand out; no others are.
    """

    def __init__(self, root: str, names: list[str]) -> None:
        self.root, self.files = Path(root), names

    def names(self) -> list[str]:
        """Paths of all files in the data folder."""
        return self.files

    def read(self, name: str) -> bytes:
        """Content of one of them."""
        if name not in self.files:
            raise ValueError(f"{name} is no file of the dataset")
        return (self.root / name).read_bytes()


@contextmanager
def serve_data(dataset: VerifiedDataset, address: str) -> Iterator[str | None]:
    """Hand a dataset out to all nodes, by an actor named `forage-data-<fingerprint>`.

    Yields:
        The node that has the data: the driver's; None where all of Ray is on this machine.
    """
    if address == "local":
        yield None
        return
    here = ray.get_runtime_context().get_node_id()
    # Where features were made elsewhere there may be no pictures.
    names = ["train.csv", *(str(p) for p in dataset.images["image_path"] if (dataset.root / p).exists())]
    actor = ray.remote(num_cpus=0, max_concurrency=4)(DataServer).options(
        name=f"forage-data-{dataset.content}", scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)
    )
    server = actor.remote(str(dataset.root), names)
    try:
        yield here
    finally:
        ray.kill(server)
