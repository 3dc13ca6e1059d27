"""Keep results as JSON with what they were measured with: command, commit, machine and date."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

KEYS = ("group", "title", "command", "commit", "machine", "date", "note", "tables")


def write(path, *, group, title, tables, command=None, note=""):
    """Write the results of an experiment; an existing file is replaced.

    Args:
        path: the JSON file.
        group: the page of the documentation that shows them, such as "quality" or "speed".
        title: one line.
        tables: `common.tables.Table`s.
        command: the command that measured them; None for that of this process.
        note: Markdown that says how to read them.
    """
    record = {"group": group, "title": title, "command": command or command_line()}
    record |= {"commit": commit(), "machine": machine(), "date": f"{datetime.date.today()}"}
    record |= {"note": note, "tables": [dataclasses.asdict(table) for table in tables]}
    check(record)
    text = json.dumps(record, indent=1, ensure_ascii=False)
    Path(path).write_text(f"{text}\n", encoding="utf-8")


def read(path):
    """Return the results of a file, checked."""
    record = json.loads(Path(path).read_text(encoding="utf-8"))
    check(record)
    return record


def check(record):
    """Raise ValueError unless the record has all keys, no empty provenance and regular tables."""
    if tuple(record) != KEYS:
        raise ValueError(f"keys {tuple(record)} instead of {KEYS}")
    empty = [key for key in KEYS if key not in ("note", "tables") and not record[key].strip()]
    if empty:
        raise ValueError(f"empty: {', '.join(empty)}")
    datetime.date.fromisoformat(record["date"])
    for table in record["tables"]:
        if set(table) != {"title", "columns", "rows"}:
            raise ValueError(f"a table with the keys {', '.join(table)}")
        uneven = [row for row in table["rows"] if len(row) != len(table["columns"])]
        if uneven:
            raise ValueError(f"{table['title']}: not as long as the columns: {uneven[0]}")


def command_line():
    """Return the command of this process as it is typed at the top of the repository."""
    return shlex.join(["python", f"experiments/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def commit():
    """Return the commit of this checkout ("-dirty" if files differ), else the package's version."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        told = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return f"jaxdenoise {importlib.metadata.version('jaxdenoise')}"
    return told.stdout.strip()


def machine():
    """Return CPU model, cores, accelerator, Python and jax in one line."""
    import jax  # late: some experiments first say how many devices JAX is to simulate

    devices = jax.devices()
    accelerator = f"{len(devices)} x {devices[0].device_kind}"
    if devices[0].platform == "cpu":
        accelerator = "no accelerator"
    versions = f"Python {platform.python_version()}, jax {jax.__version__}"
    return f"{_cpu_model()}, {os.cpu_count()} cores, {accelerator}, {versions}"


def _cpu_model():
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
