"""Parquet files with page checksums, so that damage is detected; anything wrong is an `InputError`."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from pasture.errors import InputError
from pasture.files import Folder


def write_parquet(folder: Folder, name: str, table: pa.Table) -> None:
    """Write a table atomically.

    Raises:
        StorageError: the file cannot be written.
    """
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=True)
    folder.write(name, sink.getvalue())


def read_parquet(folder: Folder, name: str) -> pa.Table:
    """Read and check a table that `write_parquet` wrote.

    Raises:
        InputError: no such file, or damaged.
    """
    content = folder.read(name)
    try:
        # Not `read_table`, which makes a dataset of the file first and takes four times as long.
        table = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read()
        table.schema.names, table.schema.pandas_metadata  # noqa: B018  (decoded only when asked for)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise InputError(f"{folder / name}: damaged, not a readable Parquet file ({reason})") from None
    return table
