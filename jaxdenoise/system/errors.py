"""The kinds of errors that a user can cause, and what other errors say. Needs no JAX."""


class JaxdenoiseError(ValueError):
    """Base of all errors that a user can cause: one line on what was given and expected, and what to do.

    Options are named in the words of the Python API, such as ``overwrite=True``; the command line
    turns them into its flags.
    """

    def __init__(self, message):
        super().__init__(" ".join(str(message).split("\n")))


class ConfigError(JaxdenoiseError):
    """A setting that is unknown or outside its range."""


class RequestError(JaxdenoiseError):
    """Options that do not go together, or that do not fit the images."""


class ImageError(JaxdenoiseError):
    """A file that cannot be read or written as an image."""


class CheckpointError(JaxdenoiseError):
    """A run folder that cannot be read or written."""


class WeightsError(JaxdenoiseError):
    """Weights that are not those of the published network."""


def one_line(error):
    """Its message without line breaks, at most 500 characters; its type where it says nothing."""
    return " ".join(str(error).split())[:500] or type(error).__name__


def is_out_of_memory(error):
    """Whether an error is how JAX says that a device has no memory left, or Python that the machine has none."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    )


def is_lost_connection(error):
    """Whether an error is how JAX says that another process, with which this one computes, has gone."""
    signs = ("gloo", "NCCL", "Connection reset", "Connection closed", "UNAVAILABLE")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
