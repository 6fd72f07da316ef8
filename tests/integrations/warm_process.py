"""What makes the second run in a process cheap."""

import gc
from functools import cache


@cache
def freeze_imports() -> None:
    """Keep what the frameworks' imports made out of later collections; each of their runs collects several times."""
    gc.collect()
    gc.freeze()
