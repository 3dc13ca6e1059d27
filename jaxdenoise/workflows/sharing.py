"""The training that the files of a batch share. Host side."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from jaxdenoise.io import images
from jaxdenoise.io.images import ImageFile
from jaxdenoise.system.errors import ImageError, JaxdenoiseError, RequestError
from jaxdenoise.workflows.denoising import check_tiles
from jaxdenoise.workflows.inputs import expand
from jaxdenoise.workflows.making import Maker
from jaxdenoise.workflows.movies import axis_of, for_movies
from jaxdenoise.workflows.partition import channel_count, check_sizes, parts_by_model
from jaxdenoise.workflows.psfs import mixes_planes
from jaxdenoise.workflows.reporter import Reporter
from jaxdenoise.workflows.requests import DenoiseRequest
from jaxdenoise.workflows.resuming import check_run_folder
from jaxdenoise.workflows.settings import file_names
from jaxdenoise.workflows.stacks import check_data


class Shared(NamedTuple):
    """A training that several files share: nothing is trained before the first file needs it.

    Attributes:
        request: with the settings that were decided, for each file.
        makers: what makes the models, by name: "", or "channel-0", ...
    """

    request: DenoiseRequest
    makers: dict[str, Maker]


def prepare_shared(
    request: DenoiseRequest, inputs: Sequence[str], *, one_axis: bool, reporter: Reporter
) -> Shared:
    """Return what the files of a batch share, after all checks that need no training.

    Args:
        request: its ``train_on`` is not "each".
        inputs: the images of the batch.
        one_axis: whether all of them are movies, or all volumes: else each of their frames is seen
            alone.
        reporter: hears of the training, and which files train nothing.

    Raises:
        JaxdenoiseError, ValueError: as `denoising.denoise_file`.
    """
    paths, files = _training_files(request, inputs, reporter)
    training = request.training
    if one_axis:
        training = for_movies(training, files, request.along)
    elif training.neighbours is training.guided is training.planes is None:
        training = replace(training, neighbours=0)
    whole = replace(request, inputs=paths, training=training)
    makers = _makers(whole, paths, files, reporter)
    channels = "together" if "" in makers else "separate"
    each = replace(request, training=training, channels=channels, save_model=None, train_on="all")
    return Shared(each, makers)


def _makers(request, paths, files, reporter):
    training, network = request.training, request.training.config().network
    counts = [channel_count(file) for file in files]
    if request.channels != "together" and len(set(counts)) > 1:
        other = next(i for i, count in enumerate(counts) if count != counts[0])
        raise RequestError(
            f"{paths[0]} has {counts[0]} channel(s), {paths[other]} {counts[other]}: files that "
            'train together need equally many; train_on="each" trains on each file by itself'
        )
    parts = parts_by_model(
        paths,
        files,
        channels=request.channels,
        reach=network.neighbours,
        along=axis_of(network, request.along),
        line_noise=request.line_noise,
        planes=mixes_planes(training, files),
    )
    if request.tile_size is not None:
        check_tiles(request, files)
    if request.save_model:
        for name in parts:
            check_run_folder(Path(request.save_model) / name, overwrite=request.overwrite)
    for own in parts.values():
        check_data(own)
    if len(files) > 1:
        reporter.say(
            f'training on {len(files)} files together; train_on="each" trains on each by itself'
        )
    if len(parts) > 1 and request.channels == "auto":
        reporter.say(f"channels: {len(parts)}, a network of its own for each")
    return {name: Maker(request, name, own, reporter) for name, own in parts.items()}


def _training_files(
    request: DenoiseRequest, inputs: Sequence[str], reporter: Reporter
) -> tuple[list[str], list[ImageFile]]:
    """The files that are trained on. Of a batch, one that cannot be read trains nothing."""
    named = request.train_on not in ("all", "first")
    if named:
        found = expand(
            file_names(request.train_on),
            Path(request.output),
            recursive=request.recursive,
            kinds=(),
            reporter=reporter,
        )
        inputs = [one.path for one in found.inputs]
    paths, files = list[str](), list[ImageFile]()
    reason: JaxdenoiseError = ImageError("no input files were given; give at least one image")
    for path in inputs:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they come again when the file's turn comes
                file = images.open_image(path, axes=request.axes)
            check_sizes([path], [file])
        except JaxdenoiseError as error:
            if named:
                raise
            reason = error
            continue
        paths.append(path)
        files.append(file)
        if request.train_on == "first":
            reporter.say(f"training on {path} alone")
            break
    if not files:
        raise reason
    left = len(inputs) - len(files)
    if left and request.train_on == "all":
        reporter.say(f"{left} of {len(inputs)} files cannot be read, and train nothing")
    return paths, files
