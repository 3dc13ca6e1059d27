"""What errors say. Needs no JAX."""


def one_line(error):
    """Its message without line breaks, at most 500 characters; its type where it says nothing."""
    return " ".join(str(error).split())[:500] or type(error).__name__


def is_out_of_memory(error):
    """Whether an error is how JAX says that a device has no memory left, or Python that the machine has none."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error))


def is_lost_connection(error):
    """Whether an error is how JAX says that another process, with which this one computes, has gone."""
    signs = ("gloo", "NCCL", "Connection reset", "Connection closed", "UNAVAILABLE")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


class UsageError(ValueError):
    """Flags that do not go together."""


class ImageError(ValueError):
    """An error that a user can cause: one line with what was given, what was expected and what to do."""

    def __init__(self, message):
        super().__init__(" ".join(str(message).splitlines()))


class CheckpointError(ValueError):
    """A run folder that cannot be read or written."""
