"""Files and folders that appear whole or not at all. Host side.

New content is written under a hidden name beside its target, ``.NAME.unfinished``, and takes the
target's name when it is complete. An error removes it; what a killed process left is removed by the
next one that writes the same target. A folder that is replaced waits as ``.NAME.old`` until the new
one stands. What the operating system refuses is an OSError, which callers turn into an error kind.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxdenoise.system.crew import ALONE, Crew

_ATTEMPTS, _PAUSE = 100, 0.05  # seconds; how long a folder may be filled while it is removed


def aside(path: Path) -> Path:
    """Return where a folder waits while it is replaced."""
    return path.with_name(f".{path.name}.old")


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.unfinished")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield the name under which to write a file, and rename it when the block ends well.

    An existing file is replaced. The folder must exist.
    """
    temporary = _unfinished(path)
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())  # else a power cut could leave the name with nothing in it
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, in place of an existing one. Missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files below a folder in the order of their names."""
    digest = hashlib.sha256()
    inside = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    for one in inside:
        if one is not path:
            digest.update(one.relative_to(path).as_posix().encode() + b"\0")
        with one.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def new_files(folder: Path) -> Iterator[Path]:
    """Yield a folder for some files, and move them into `folder` when the block ends well.

    There they replace files of the same names, and nothing else. Missing folders are made.
    """
    temporary = _unfinished(folder)
    remove_folder(temporary)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(temporary.iterdir()):
            os.replace(file, folder / file.name)
    finally:
        remove_folder(temporary)


@contextmanager
def new_folder(path: Path, *, replace: bool = False, crew: Crew = ALONE) -> Iterator[Path]:
    """Yield the name under which to make a folder, and rename it when the block ends well.

    Args:
        path: The folder, whose parent folder must exist when the block ends.
        replace: Whether it replaces an existing folder.
        crew: The processes that write it together. All enter the block; the folder is renamed
            when all have left it.
    """
    temporary = _unfinished(path)
    if crew.is_primary:
        remove_folder(temporary)
    crew.barrier()
    try:
        yield temporary
        crew.barrier()
        if crew.is_primary:
            _exchange(temporary, path, replace)
        crew.barrier()
    finally:
        if crew.is_primary:
            remove_folder(temporary)


def _exchange(temporary: Path, path: Path, replace: bool) -> None:
    old = aside(path)
    try:
        if replace and os.path.isdir(path):
            remove_folder(old)
            os.rename(path, old)
        os.rename(temporary, path)
    except BaseException:
        if os.path.isdir(old) and not os.path.lexists(path):
            os.rename(old, path)
        raise
    remove_folder(old)


def remove_folder(folder: Path) -> None:
    """Remove a folder, if it exists, even while threads of this process still write into it."""
    for _ in range(_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):  # nor can a name that is too long
            return
        time.sleep(_PAUSE)


def recover(parent: Path) -> None:
    """Remove the unfinished folders in a folder, and put back those that were moved aside.

    This is for a folder in which no other process is writing.
    """
    for old in parent.glob(".*.old"):
        path = parent / old.name[1 : -len(".old")]
        if path.exists():
            remove_folder(old)
        else:
            old.rename(path)
    for unfinished in parent.glob(".*.unfinished*"):  # orbax appends to the name
        if unfinished.is_dir():
            remove_folder(unfinished)
