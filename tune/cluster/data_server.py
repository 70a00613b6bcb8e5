"""Serves the data to nodes of a cluster that do not have them, so that photographs need no shared disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pasture.verification import VerifiedDataset


class DataServer:
    """An actor on the driver's node that reads files of the dataset for other nodes.

    Args:
        root: the data folder.
        names: paths in it of the files that may be read.
    """

    def __init__(self, root: str, names: list[str]) -> None:
        self.root, self.files = Path(root), names

    def names(self) -> list[str]:
        """Paths of all files of the dataset."""
        return self.files

    def read(self, name: str) -> bytes:
        """Content of one of them.

        Raises:
            ValueError: it is no file of the dataset.
        """
        if name not in self.files:
            raise ValueError(f"{name} is no file of the dataset")
        return (self.root / name).read_bytes()


@contextmanager
def serve_data(dataset: VerifiedDataset, local: bool) -> Iterator[str | None]:
    """Serve a dataset to all nodes by an actor named `forage-data-<content>`.

    Args:
        dataset: the labelled data.
        local: whether all of Ray runs on this machine; there is no actor then.

    Yields:
        The driver's node, which has the data; None if all of Ray runs on this machine.
    """
    if local:
        yield None
        return
    here = ray.get_runtime_context().get_node_id()
    # With imported features there may be no pictures.
    names = ["train.csv", *(str(p) for p in dataset.images["image_path"] if (dataset.root / p).exists())]
    actor = ray.remote(num_cpus=0, max_concurrency=4)(DataServer).options(
        name=f"forage-data-{dataset.content}", scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)
    )
    server = actor.remote(str(dataset.root), names)
    try:
        yield here
    finally:
        ray.kill(server)
