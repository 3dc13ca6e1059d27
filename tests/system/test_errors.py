import pytest

from jaxdenoise.system.errors import (
    CheckpointError,
    ConfigError,
    ImageError,
    JaxdenoiseError,
    RequestError,
    WeightsError,
    is_lost_connection,
    is_out_of_memory,
    one_line,
    translated,
)


@pytest.mark.parametrize(
    "kind", [ConfigError, RequestError, ImageError, CheckpointError, WeightsError]
)
def test_all_kinds_are_value_errors_of_one_base_in_one_line(kind):
    error = kind("a\nb")
    assert isinstance(error, JaxdenoiseError)
    assert isinstance(error, ValueError)
    assert str(error) == "a b"


def test_messages_of_others_are_one_short_line():
    assert one_line(ValueError("a\n  b\tc")) == "a b c"
    assert len(one_line(ValueError("x" * 9999))) == 500
    assert one_line(KeyError()) == "KeyError"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("shape"), "a.tif: cannot be read (KeyError: 'shape'); copy it"),
        (
            OSError(28, "No space\nleft"),
            "a.tif: cannot be read ([Errno 28] No space left); copy it",
        ),
        (MemoryError(), "a.tif: cannot be read (MemoryError); copy it"),
        (
            ValueError("NOT_FOUND: no array [tensorstore_spec='{}'] [source locations='a.cc']"),
            "a.tif: cannot be read (ValueError: NOT_FOUND: no array); copy it",
        ),
    ],
)
def test_errors_of_others_are_translated(error, message):
    with (
        pytest.raises(ImageError) as caught,
        translated(ImageError, "a.tif: cannot be read", advice="copy it"),
    ):
        raise error
    assert str(caught.value) == message
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ConfigError("ours"), KeyError("other"), KeyboardInterrupt()])
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as caught, translated(ImageError, "a.tif", caught=OSError):
        raise error
    assert caught.value is error


def test_errors_of_jax_are_told_apart():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory"))
    assert not is_out_of_memory(ValueError("RESOURCE_EXHAUSTED"))
    assert is_lost_connection(RuntimeError("UNAVAILABLE: socket closed"))
    assert not is_lost_connection(RuntimeError("INTERNAL"))
    assert not is_lost_connection(ValueError("UNAVAILABLE"))
