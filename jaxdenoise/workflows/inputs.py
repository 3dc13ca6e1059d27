"""Which images a batch is about: files, folders and patterns in, one entry an image. Host side.

Each entry says where its results go, so that no two images write one file.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxdenoise.io import images, omezarr
from jaxdenoise.system.errors import ImageError, RequestError
from jaxdenoise.workflows.reporter import Reporter
from jaxdenoise.workflows.requests import SweepRequest, TrainRequest


class Input(NamedTuple):
    """An image of a batch.

    Attributes:
        path: of the file, or of the folder of an OME-Zarr.
        folder: where its results go, below the folder of all results.
        stem: with which the names of its results begin.
    """

    path: str
    folder: Path
    stem: str


class Batch(NamedTuple):
    """The images that inputs stand for.

    Attributes:
        inputs: one an image, in the order of the inputs, those of a folder by name.
        found: whether folders or patterns were among the inputs.
    """

    inputs: list[Input]
    found: bool


def expand(
    names: Sequence[str | Path],
    output: Path,
    *,
    recursive: bool,
    kinds: Sequence[str],
    reporter: Reporter,
) -> Batch:
    """Return the images that files, folders and patterns stand for.

    Args:
        names: files; folders, whose images count; and patterns such as ``data/*.tif``, or
            ``data/**/*.tif`` for all below.
        output: the folder of the results. What lies in it is no input, but where it is named.
        recursive: whether images further below a folder count, too.
        kinds: what is added to the names of results: results of other inputs are no inputs.
        reporter: hears which files were left out.

    Raises:
        ImageError: a folder or pattern holds no image.
        RequestError: an input is an address in the web, or no input was given.
    """
    if not names:
        raise ImageError("no input files were given; give at least one image")
    several = sum(_is_folder(str(name)) for name in names) > 1
    entries: dict[str, tuple[str, Path]] = {}  # by real path: a file that is named twice is one
    named: set[str] = set()
    left: Counter[str] = Counter()
    for name in map(str, names):
        _check_name(name)
        if _is_folder(name):
            base = Path(Path(name).resolve().name) if several else Path()
            own = list(_images_in(name, base, output, recursive, left))
        elif not os.path.lexists(name) and glob.has_magic(name):
            own = list(_matching(name, output, left))
        else:
            own = [(name, Path())]
            named.add(os.path.realpath(name))
        if not own:
            raise ImageError(f"{name}: {_nothing(name, recursive)}")
        for path, folder in own:
            entries.setdefault(os.path.realpath(path), (path, folder))
    made = _results(entries, output, kinds)
    left["a result"] = sum(real in made and real not in named for real in entries)
    kept = [own for real, own in entries.items() if real in named or real not in made]
    _tell(left, reporter)
    return Batch(_with_stems(kept), len(named) < len(entries) or several)


def images_of(request: TrainRequest | SweepRequest, reporter: Reporter) -> list[str]:
    """Return the files that the inputs of a training stand for; errors as of `expand`."""
    found = expand(
        request.inputs,
        Path(request.output),
        recursive=request.recursive,
        kinds=(),
        reporter=reporter,
    )
    return [one.path for one in found.inputs]


def _is_folder(name):
    return os.path.isdir(name) and not omezarr.is_omezarr(name)


def _check_name(name):
    if "://" in name:
        raise RequestError(
            f"{name}: is an address in the web; download the file and give its name on this disk"
        )


def _nothing(name, recursive):
    if not _is_folder(name):
        return "no file has such a name; check the pattern"
    deeper = "" if recursive else "; recursive=True looks into the folders in it, too"
    return f"holds no image of a known kind ({', '.join(images.SUFFIXES)}, .zarr){deeper}"


def _images_in(
    name: str, base: Path, output: Path, recursive: bool, left: Counter[str]
) -> Iterator[tuple[str, Path]]:
    """The images in a folder and, if wanted, below it, each with its folder of results."""
    real = os.path.realpath(output)
    for entry in sorted(os.scandir(name), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if _is_folder(entry.path):
            if recursive and os.path.realpath(entry.path) != real:
                yield from _images_in(entry.path, base / entry.name, output, recursive, left)
        elif _is_image(entry.path):
            yield entry.path, base
        else:
            left[os.path.splitext(entry.name)[1] or entry.name] += 1


def _matching(pattern: str, output: Path, left: Counter[str]) -> Iterator[tuple[str, Path]]:
    """The images that a pattern stands for; "**" mirrors the tree from there on."""
    fixed = Path(*_before_wildcards(Path(pattern).parts))
    real = os.path.realpath(output) + os.sep
    for path in sorted(glob.glob(pattern, recursive=True)):
        if _is_folder(path) or (os.path.realpath(path) + os.sep).startswith(real):
            continue
        if not _is_image(path):
            left[os.path.splitext(path)[1] or os.path.basename(path)] += 1
            continue
        inside = any(omezarr.is_omezarr(parent) for parent in Path(path).parents)
        if not inside:
            yield path, Path(path).parent.relative_to(fixed) if "**" in pattern else Path()


def _before_wildcards(parts):
    for part in parts:
        if glob.has_magic(part):
            return
        yield part


def _is_image(path):
    return omezarr.is_omezarr(path) or path.lower().endswith(images.SUFFIXES)


def _results(entries, output, kinds):
    """Where the results of all entries would be: what an earlier run wrote is no input."""
    return {
        os.path.realpath(output / folder / f"{images.stem_of(path)}_{kind}{ending}")
        for path, folder in entries.values()
        for kind in kinds
        for ending in images.ENDINGS
    }


def _tell(left, reporter):
    kinds = [f"{count} of {kind}" for kind, count in sorted(left.items()) if count]
    if kinds:
        reporter.say(f"left out, as no images to denoise: {', '.join(kinds)}")


def _with_stems(entries: Sequence[tuple[str, Path]]) -> list[Input]:
    """Name the results of each entry: those that would share a name get their file's suffix.

    Raises:
        ImageError: even so two of them would write one file.
    """
    stems = [images.stem_of(path) for path, _ in entries]
    counts = Counter(
        (folder, stem.casefold()) for (_, folder), stem in zip(entries, stems, strict=True)
    )
    found: dict[tuple[Path, str], Input] = {}
    for (path, folder), stem in zip(entries, stems, strict=True):
        if counts[folder, stem.casefold()] > 1:
            stem += Path(path).name[len(stem) :].replace(".", "_")
        key = folder, stem.casefold()
        if key in found:
            raise ImageError(
                f"{found[key].path} and {path} would both become {folder / stem}_...; give the "
                "folder above them with recursive=True, or use two output directories"
            )
        found[key] = Input(path, folder, stem)
    return list(found.values())
