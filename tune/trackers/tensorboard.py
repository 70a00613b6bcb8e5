"""TensorBoard event files: a folder for each trial."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams

from tune.records.ledger import Record
from tune.trackers.names import SCORE, fields

_END = "_hparams_/session_end_info"


class TensorBoardTracker:
    """Writes event files below a local folder; `tensorboard --logdir FOLDER` shows them.

    Args:
        folder: gets a folder for each trial.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, record: Record) -> TensorBoardRun:
        """The run of a trial; a second event file in the same folder continues it."""
        return TensorBoardRun(self.folder / record.name)


class TensorBoardRun:
    """The event files of one trial."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tags = [(event.step, value.tag) for event in _events(folder) for value in event.summary.value]
        self.logged = max((step for step, tag in tags if tag == SCORE), default=0)
        self.ended = any(tag == _END for _, tag in tags)
        self._writer: SummaryWriter | None = None

    @property
    def writer(self) -> SummaryWriter:
        """Opened only if there is something to write: TensorBoard would show an empty file as a run."""
        if self._writer is None:
            # tensorboardX names a file by the second and overwrites one of the same name. Of what a killed process
            # wrote after the last whole epoch, TensorBoard drops the rest (purge_step).
            step = self.logged + 1
            self._writer = SummaryWriter(str(self.folder), purge_step=step, filename_suffix=f".{step:06d}")
        return self._writer

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add a point to the curve of each value, in one event: an epoch is in a file as a whole or not at all."""
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self.writer.file_writer.add_summary(Summary(value=points), epoch)
        self.writer.flush()

    def end(self, record: Record) -> None:
        """Add the recipe as text, and what was drawn and the score for TensorBoard's table of hyperparameters."""
        self.writer.add_text("recipe", f"```yaml\n{yaml.safe_dump(record.recipe, sort_keys=False)}```", self.logged)
        text = "\n".join(filter(None, [f"{record.status.lower()}, {record.origin}", record.error]))
        self.writer.add_text("status", text, self.logged)
        known = fields(record)
        drawn = {field: known.get(field, value) for field, value in record.params.items()}
        shown = {f: value if isinstance(value, bool | int | float) else str(value) for f, value in drawn.items()}
        for summary in hparams(shown, [SCORE]):
            self.writer.file_writer.add_summary(summary)
        self.pause()

    def pause(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _events(folder: Path) -> Iterator[Any]:
    """The events in the files of a folder, as far as they are whole.

    A record is its length (8 bytes, little-endian), a checksum (4), the event and a checksum (4), as TFRecord.
    """
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, start = path.read_bytes(), 0
        while start + 12 <= len(content):
            (length,) = struct.unpack_from("<Q", content, start)
            end = start + 12 + length
            if end + 4 > len(content):
                break
            yield Event.FromString(content[start + 12 : end])
            start = end + 4
