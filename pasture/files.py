"""A folder on any pyarrow filesystem (local, NFS, s3://, gs://), with atomic writes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs as pafs

from pasture.atomic import atomic_file
from pasture.errors import InputError, StorageError, read_error, reason


class Folder:
    """A folder whose files are read and written as a whole.

    A write either leaves the whole new file or what was there before: on a local disk by writing a temporary file,
    flushing it to the disk and renaming it, on an object store because an upload becomes visible only when complete.

    Args:
        filesystem: the filesystem that holds it.
        path: path on that filesystem.
        options: query of the URI that it was opened with, such as `endpoint_override=...`, without the question mark.
    """

    def __init__(self, filesystem: pafs.FileSystem, path: str, options: str = "") -> None:
        self.filesystem = filesystem
        self.path = path.rstrip("/")
        self.options = options

    @classmethod
    def at(cls, location: str | os.PathLike[str]) -> Folder:
        """Folder at a local path or a URI that pyarrow knows. It need not exist yet.

        Raises:
            InputError: pyarrow cannot open it, or the URI contains a key.
        """
        text = os.fspath(location)
        if "://" not in text:
            return cls(pafs.LocalFileSystem(), Path(text).expanduser().absolute().as_posix())
        if "@" in text.split("://")[1].partition("?")[0].partition("/")[0]:
            raise InputError(
                "a URI must not contain a key, since it is written to files; set AWS_ACCESS_KEY_ID and such instead"
            )
        try:
            filesystem, path = pafs.FileSystem.from_uri(text)
        except (ValueError, OSError) as error:
            raise InputError(
                f"cannot open {text!r}: {reason(error)}; give a local path or a URI (s3://bucket/runs)"
            ) from None
        return cls(filesystem, path, text.partition("?")[2])

    @property
    def is_local(self) -> bool:
        """True for a path of this machine (a network mount included)."""
        return bool(self.filesystem.type_name == "local")

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    def __truediv__(self, part: str) -> Folder:
        return Folder(self.filesystem, f"{self.path}/{part}", self.options)

    def __str__(self) -> str:
        if self.is_local:
            return self.path
        options = f"?{self.options}" if self.options else ""
        return f"{self.filesystem.type_name}://{self.path}{options}"

    def file(self, name: str) -> str:
        """Path of a file in this folder on its filesystem."""
        return f"{self.path}/{name}"

    def exists(self, name: str = "") -> bool:
        """Whether the folder, or a file in it, exists."""
        target = self / name if name else self
        with _reachable(target):
            return bool(self.filesystem.get_file_info(target.path).type != pafs.FileType.NotFound)

    def names(self, suffix: str = "") -> list[str]:
        """Sorted names of the files directly in this folder that end in `suffix`; empty if there is no folder."""
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        with _reachable(self):
            infos = self.filesystem.get_file_info(selector)
        return sorted(i.base_name for i in infos if i.type == pafs.FileType.File and i.base_name.endswith(suffix))

    def sizes(self) -> dict[str, int]:
        """Size in bytes of every file in this folder and its subfolders, by relative path."""
        selector = pafs.FileSelector(self.path, allow_not_found=True, recursive=True)
        with _reachable(self):
            infos = self.filesystem.get_file_info(selector)
        return {i.path[len(self.path) + 1 :]: int(i.size) for i in infos if i.type == pafs.FileType.File}

    def age(self, name: str) -> float | None:
        """Seconds since a file was written, by the clock of this machine; None if there is no such file."""
        with _reachable(self / name):
            info = self.filesystem.get_file_info(self.file(name))
        return None if info.mtime is None else time.time() - info.mtime.timestamp()

    def read(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            InputError: the file does not exist, is a folder or may not be read.
            StorageError: the disk or the store fails.
        """
        try:
            with self.filesystem.open_input_stream(self.file(name)) as stream:
                return bytes(stream.read())
        except OSError as error:
            raise read_error(self / name, error) from None

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically, making folders as needed.

        Raises:
            StorageError: the disk is full, read-only or out of reach; what was there before is untouched.
        """
        target = self.file(name)
        try:
            self.filesystem.create_dir(target.rsplit("/", 1)[0], recursive=True)
            if self.is_local:
                with atomic_file(Path(target)) as temporary:
                    temporary.write_bytes(content)
            else:
                with self.filesystem.open_output_stream(target) as stream:
                    stream.write(content)
        except OSError as error:
            raise StorageError(
                f"cannot write {self / name}: {reason(error)}; make space or choose another folder"
            ) from None

    def clear(self) -> None:
        """Delete the folder and its content; no error if it does not exist."""
        if self.exists():
            with _reachable(self):
                self.filesystem.delete_dir(self.path)

    def delete(self, name: str) -> None:
        """Delete a file; no error if it does not exist."""
        if self.exists(name):
            with _reachable(self / name):
                self.filesystem.delete_file(self.file(name))


@contextmanager
def _reachable(target: Folder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot reach {target}: {reason(error)}") from None
