"""What a killed command leaves running."""

from pathlib import Path


def processes_with(variable):
    """Ids of the processes whose environment holds `NAME=value`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found
