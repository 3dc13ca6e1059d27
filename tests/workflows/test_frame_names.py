"""What frames are called, and which of them follow each other in time."""

import numpy as np
import pytest

from jaxdenoise.io import images
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.workflows.frame_names import FrameNames, in_time, of_one_plane
from jaxdenoise.workflows.partition import channels_of, in_rows


@pytest.fixture
def opened(tmp_path):
    def make(axes, shape):
        frames = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
        path = tmp_path / f"{axes}.tif"
        info = ImageInfo(axes, shape, frames.dtype, "imagej")
        images.write(path, frames.reshape(-1, *shape[-2:]).astype(np.float32), info)
        return path, images.open_image(path)

    return make


def test_frames_of_a_movie_planes_of_a_stack(opened):
    assert FrameNames(opened("TYX", (4, 8, 8))[1])[2] == "frame 3"
    assert FrameNames(opened("ZYX", (4, 8, 8))[1])[2] == "plane 3"
    assert FrameNames(opened("TZYX", (3, 2, 8, 8))[1])[3] == "frame 2, plane 2"


def test_a_channel_says_nothing_of_itself(opened):
    path, file = opened("ZCYX", (4, 2, 8, 8))
    second = channels_of(path, file)[1]
    assert [FrameNames(second)[n] for n in range(4)] == [f"plane {n}" for n in (1, 2, 3, 4)]
    assert FrameNames(file)[5] == "frame 6"  # channels and planes in one stack


def test_frames_in_rows_keep_their_names_and_are_in_time(opened):
    path, file = opened("TZYX", (5, 2, 8, 8))
    assert list(in_time(file)) == []
    rows = in_rows(path, file, "T")
    assert [FrameNames(rows)[n] for n in (0, 1, 5)] == [
        *("frame 1, plane 1", "frame 2, plane 1", "frame 1, plane 2")
    ]
    assert list(in_time(rows)) == [0, 1, 2, 3, 4]
    assert of_one_plane(rows) == [5, 6, 7, 8, 9]
    assert of_one_plane(file) == [1, 3, 5, 7, 9]
    assert list(in_time(opened("ZYX", (5, 8, 8))[1])) == []
