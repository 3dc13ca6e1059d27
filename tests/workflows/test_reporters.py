"""Reporters for trainings that take long: several at once, and TensorBoard's event files."""

import struct

import pytest

from jaxdenoise.config import TrainConfig
from jaxdenoise.workflows import EventFiles, Reporter, Several, event_files

ROW = {"epoch": 3.0, "train_loss": 0.5, "validation_loss": 0.25}


def test_the_checksum_is_that_of_the_standard():
    """CRC-32C of "123456789" is E3069283; the mask is TensorFlow's."""
    (masked,) = struct.unpack("<I", event_files._checksum(b"123456789"))
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    assert ((rotated << 15) | (rotated >> 17)) & 0xFFFFFFFF == 0xE3069283


def test_losses_become_scalars(tmp_path):
    files = EventFiles(tmp_path)
    assert isinstance(files, Reporter)
    for _ in range(2):
        with files.training(TrainConfig()) as on_epoch:
            on_epoch(ROW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training-1", "training-2"]
    (path,) = (tmp_path / "training-2").glob("events.out.tfevents.*")
    content, records = path.read_bytes(), []
    while content:
        length = struct.unpack("<Q", content[:8])[0]
        assert content[8:12] == event_files._checksum(content[:8])
        record = content[12 : 12 + length]
        assert content[12 + length : 16 + length] == event_files._checksum(record)
        records.append(record)
        content = content[16 + length :]
    version, scalars = records
    assert version.endswith(b"brain.Event:2")
    assert scalars[9:11] == b"\x10\x03"  # the step
    for name in ("train_loss", "validation_loss"):
        assert name.encode() + b"\x15" + struct.pack("<f", ROW[name]) in scalars
    assert b"epoch" not in scalars


def test_tensorboard_reads_them(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with EventFiles(tmp_path).training(TrainConfig()) as on_epoch:
        on_epoch(ROW)
    found = accumulator.EventAccumulator(str(tmp_path / "training-1")).Reload()
    assert [(one.step, one.value) for one in found.Scalars("train_loss")] == [(3, 0.5)]


def test_several_reporters_hear_the_same(recorder):
    one, other = recorder(), recorder(cancel_after=1)
    both = Several(one, other)
    assert isinstance(both, Reporter)
    with both.training(TrainConfig(), done=2) as on_epoch:
        assert not both.cancelled()
        on_epoch(ROW)
        assert both.cancelled()
    both.predicting("a.tif")(1, 2)
    both.say("wrote a.tif")
    both.insist("verdict: use with care")
    assert (one.said, one.rows, one.tiles) == (other.said, other.rows, other.tiles)
    assert one.tiles == [("a.tif", 1, 2)]
