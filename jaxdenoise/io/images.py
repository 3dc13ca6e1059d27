"""Image files in and out, whatever their format, as frames ``(N, H, W)`` in float32. Host side.

They are read at once or piece by piece, and written back. `tiff`, `omezarr` and `vendors` know
formats, `frames` how axes fold, `info` what files say about their pixels. JAX is never imported
here.
"""

import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Real

from jaxdenoise.io import omezarr, tiff, vendors
from jaxdenoise.io.axes import checked_axes, checked_letters
from jaxdenoise.io.frames import Frames, Target, check_shape
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.io.readers import quiet_readers, reading
from jaxdenoise.system.crew import ALONE, Crew
from jaxdenoise.system.errors import ImageError

SUFFIXES = (*tiff.SUFFIXES, ".png", ".jpg", ".jpeg", *vendors.SUFFIXES)
ENDINGS = (".tif", ".ome.tif", ".ome.zarr")  # of results


class Image(NamedTuple):
    """The pixels of a file in memory, `frames` in the file's grey levels, and its `info`."""

    frames: Real[np.ndarray, "N H W"]
    info: ImageInfo


class ImageFile(NamedTuple):
    """An open file, whose `frames` are read piece by piece in its grey levels, and its `info`."""

    frames: Frames
    info: ImageInfo


def read(path: str | Path, *, axes: str | None = None, gaps: bool = True) -> Image:
    """Read a TIFF, OME-Zarr, PNG or JPEG file; with the extra `vendors` a CZI, LIF or ND2 file.

    All axes other than Y and X fold into N, in the file's order. Of several series the first is
    read, with a warning.

    Args:
        path: The file.
        axes: Letters of STCZYX, one an axis, such as "TZYX"; overrules what the file says.
        gaps: Whether pixels may be NaN, which marks those without data.

    Returns:
        `frames` (N, H, W) float32 in grey levels, and `info`.

    Raises:
        ImageError: The file is missing, damaged, cut short, empty, of an unknown format, RGB
            (without `axes`), not numeric, or holds infinity; or `axes` does not fit.
    """
    frames, info = open_image(path, axes=axes)
    return Image(np.asarray(frames.with_gaps() if gaps else frames), info)


def open_image(path: str | Path, *, axes: str | None = None) -> ImageFile:
    """Open a file as `read` does, but leave the pixels there: `frames` is a `frames.Frames`.

    Pixels are read and checked when they are indexed.
    """
    path = Path(path)
    axes = None if axes is None else checked_letters(path, axes)
    with reading(path):
        array, info = _opener(path)(path, axes=axes)
    check_shape(path, array.shape, info.shape)
    return ImageFile(Frames(path, array, info.axes), info)


def open_many(paths: Iterable[str | Path], *, axes: str | None = None) -> list[ImageFile]:
    """Open several files as `open_image` does.

    Args:
        paths: The files.
        axes: As in `read`, the same for all.

    Raises:
        ImageError: As `read`, or there are no paths.
    """
    paths = list(paths)
    if not paths:
        raise ImageError("no input files were given; give at least one image")
    return [open_image(path, axes=axes) for path in paths]


def write(
    path: str | Path,
    frames: npt.ArrayLike,
    info: ImageInfo,
    *,
    dtype: npt.DTypeLike | None = None,
    overwrite: bool = False,
    gaps: Bool[np.ndarray, "N H W"] | None = None,
) -> None:
    """Write frames as a TIFF or an OME-Zarr like the file that `info` describes.

    ImageJ and OME files stay such where the format can hold the result; else a plain TIFF keeps
    axes and calibration. Integers are rounded half to even; values out of range saturate, with one
    warning that counts them. The file appears by rename.

    Args:
        path: The output, named .tif (or .tiff, .btf, .tf8), or .zarr; missing parent directories
            are made.
        frames: (N, H, W) real, in grey levels; N, H and W as `read` gave them.
        info: What `read` returned with the original.
        dtype: The dtype to store, such as "float32"; None means the original's.
        overwrite: Whether an existing file may be replaced.
        gaps: Pixels that may be NaN, because there is no data.

    Raises:
        ImageError: The file exists, cannot be written or is of another name; or `frames` has
            another shape or holds NaN elsewhere, or infinity; or `dtype` is not numeric.
    """
    frames = np.asarray(frames)
    with create(path, info, dtype=dtype, overwrite=overwrite) as target:
        if frames.shape != target.shape:
            raise ImageError(
                f"{path}: frames are {frames.shape}, expected the original's {target.shape}; "
                "give one a frame"
            )
        everywhere = slice(None), slice(None)
        for n, frame in enumerate(frames):
            target.store((n, *everywhere), frame, gaps=None if gaps is None else gaps[n])


@contextmanager
def create(
    path: str | Path,
    info: ImageInfo,
    *,
    dtype: npt.DTypeLike | None = None,
    overwrite: bool = False,
    crew: Crew = ALONE,
) -> Iterator[Target]:
    """Write as `write` does, but piece by piece; the file appears when the block ends well.

    Several processes may write an OME-Zarr together, see `omezarr.create`.

    Args:
        path: As of `write`.
        info: As of `write`.
        dtype: As of `write`.
        overwrite: As of `write`.
        crew: The processes that write it together.

    Yields:
        What takes parts of frames.
    """
    path, dtype = Path(path), np.dtype(info.dtype if dtype is None else dtype)
    zarr = path.suffix.lower() == ".zarr"
    if not zarr:
        _check_output(path, overwrite)
    if not zarr and path.suffix.lower() not in tiff.SUFFIXES:
        raise ImageError(f"{path}: results are TIFF or OME-Zarr files; name it {path.stem}.tif")
    if dtype.kind not in "iuf":
        raise ImageError(
            f"{path}: cannot be stored as {dtype}; use an integer or float dtype, such as float32"
        )
    made = not path.parent.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written: AbstractContextManager[Any] = (
            omezarr.create(path, info, info.shape, dtype, overwrite=overwrite, crew=crew)
            if zarr
            else tiff.create(path, info, dtype)
        )
        with written as array:
            target = Target(path, array, info.axes, info.shape)
            yield target
    except OSError as error:
        reason = error.strerror or error
        raise ImageError(
            f"{path}: cannot be written ({reason}); check free space and permissions"
        ) from error
    finally:
        if made:
            with suppress(OSError):  # it holds the result
                path.parent.rmdir()
    outside = int(crew.all_gather(np.array(target.outside, np.int64)).sum())
    if outside:
        message = f"{outside} of {np.prod(info.shape)} pixels were outside the range of {dtype}"
        warnings.warn(f"{path}: {message} and saturated", stacklevel=3)


def output_paths(
    inputs: Iterable[str | Path],
    directory: str | Path,
    suffix: str,
    *,
    form: str = "same",
    overwrite: bool = False,
    stems: Iterable[str] | None = None,
) -> list[Path]:
    """Name one output an input, and check all of them before the work starts.

    Args:
        inputs: The input files.
        directory: Where the outputs go; it need not exist.
        suffix: What is added to the name.
        form: "tiff", "zarr", or "same": OME-Zarr for such inputs, else TIFF.
        overwrite: Whether existing files may be replaced; an input never is.
        stems: With which the names begin; default: `stem_of` each input.

    Returns:
        ``<directory>/<stem>_<suffix>.tif``, ``.ome.tif`` for such inputs, or ``.ome.zarr``.

    Raises:
        ImageError: Two inputs share an output, an output exists or is one of the inputs, or as
            `check_directory`.
    """
    inputs, directory = list(inputs), Path(directory)
    check_directory(directory)
    sources = {os.path.realpath(path) for path in inputs}
    owners: dict[Path, str | Path] = {}
    for source, stem in zip(inputs, stems or map(stem_of, inputs), strict=True):
        zarr = form == "zarr" or (form == "same" and omezarr.is_omezarr(source))
        path = directory / f"{stem}_{suffix}{'.ome.zarr' if zarr else _tiff_ending(source)}"
        if path in owners:
            raise ImageError(
                f"{owners[path]} and {source} would both become {path}; use two output directories"
            )
        if os.path.realpath(path) in sources:
            raise ImageError(
                f"{path}: this output is itself an input; give another output directory"
            )
        if not (zarr and overwrite and omezarr.is_omezarr(path)):
            _check_output(path, overwrite)
        owners[path] = source
    return list(owners)


def stem_of(path: str | Path) -> str:
    """Return a file's name without its suffix, such as ".tif" or ".ome.tif"."""
    stem = Path(path).stem
    return stem[:-4] if stem.lower().endswith(".ome") else stem


def _tiff_ending(source):
    """Of an OME-TIFF, by its name, such a one."""
    name = Path(source).name.lower()
    return ".ome.tif" if name.endswith(tuple(f".ome{end}" for end in tiff.SUFFIXES)) else ".tif"


def check_directory(directory: str | Path) -> None:
    """Raise an ImageError unless files can be written into a directory, which need not exist.

    Better now than after a training.
    """
    whole = Path(directory).absolute()
    for nearest in (whole, *whole.parents):
        try:
            nearest.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ImageError(
                f"{directory}: cannot be written ({error.strerror}); name another directory"
            ) from error
        break
    named = directory if nearest == whole else nearest
    if not nearest.is_dir():
        raise ImageError(
            f"{named}: is a file or a broken link, expected a directory for the results; "
            "name another one"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ImageError(
            f"{named}: nothing may be written there; "
            "check its permissions or name another directory"
        )


def check_space(directory: str | Path, size: int | float) -> None:
    """Raise an ImageError unless the disk of a directory has room for `size` bytes.

    The directory need not exist. Better now than after hours of work.
    """
    directory = Path(directory).absolute()
    existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < size:
        raise ImageError(
            f"{directory}: the results take {size / 1e9:.3g} GB, the disk has {free / 1e9:.3g} GB "
            "left; make room for them"
        )


def _opener(path):
    """The function that opens a file of this name."""
    if os.path.lexists(path) and omezarr.is_omezarr(path):
        return omezarr.open_image
    if os.path.isdir(path):
        raise ImageError(f"{path}: is a directory; give image files, such as {path}/*.tif")
    if not os.path.exists(path):
        web = ":/" in str(path)[1:]  # of an address the Path keeps one slash
        advice = "download it first and give its name on this disk" if web else "check the name"
        raise ImageError(f"{path}: no such file; {advice}")
    if path.suffix.lower() not in SUFFIXES:
        raise ImageError(
            f"{path}: unknown extension {path.suffix!r}; convert it to one of {', '.join(SUFFIXES)}"
        )
    if path.stat().st_size == 0:
        raise ImageError(f"{path}: the file is empty (0 bytes); copy or export it again")
    if path.suffix.lower() in vendors.SUFFIXES:
        return vendors.open_image
    return tiff.open_image if path.suffix.lower() in tiff.SUFFIXES else _open_picture


def _open_picture(path, *, axes):
    content = path.read_bytes()
    if content.startswith(b"\x89PNG"):
        with quiet_readers():  # libpng warns of interlaced files, which are in order
            data = imagecodecs.png_decode(content)
    elif content.startswith(b"\xff\xd8"):
        # JPEG decoders make up what a file cut short lacks, so look for the end marker (FFD9) after
        # the last start of scan (FFDA): an embedded thumbnail has an end marker of its own, but
        # before it.
        if content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
            raise ImageError(f"{path}: the file is cut short; copy or export it again")
        data = imagecodecs.jpeg_decode(content)
    else:
        raise ImageError(f"{path}: the content is neither PNG nor JPEG; export it again")
    axes = checked_axes(path, "YXS"[: data.ndim], data.shape, axes)
    return data, ImageInfo(axes, data.shape, data.dtype)


def _check_output(path, overwrite):
    if os.path.isdir(path):
        raise ImageError(f"{path}: is a directory, expected a file name; name another file")
    if os.path.exists(path) and not overwrite:
        raise ImageError(
            f"{path}: the file exists; overwrite=True replaces it, or name another one"
        )
