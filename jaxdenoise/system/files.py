"""Files that appear whole or not at all. Host side."""

import os

from jaxdenoise.system import errors
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import CheckpointError


def replace_text(file, text):
    """Write a text file so that it appears whole, by rename. Of several processes the first one writes."""
    if not current_crew().is_primary:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.unfinished")
        try:
            with temporary.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(
                    stream.fileno()
                )  # else a power cut could leave the new name with nothing in it
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be written ({errors.one_line(error)})") from error
