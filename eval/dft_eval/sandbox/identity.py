"""User ids lent to sandboxes, so that limits and signals of one never reach another."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

_FIRST_USER_ID = 100_000_000  # above every id of people, services and containers' usual ranges
_SLOTS_PER_PROCESS = 16

_free_slots = list(range(_SLOTS_PER_PROCESS))
_slot_returned = threading.Condition()


@contextlib.contextmanager
def borrowed_user_id() -> Iterator[int | None]:
    """A user id no other sandbox of this machine uses meanwhile; None where this process is not root.

    It is made from the process id, so that no registry is needed; at most 16 sandboxes run in one process at once.
    """
    if os.geteuid() != 0:
        yield None
        return
    with _slot_returned:
        while not _free_slots:
            _slot_returned.wait()
        slot = _free_slots.pop()
    try:
        yield _FIRST_USER_ID + os.getpid() * _SLOTS_PER_PROCESS + slot
    finally:
        with _slot_returned:
            _free_slots.append(slot)
            _slot_returned.notify()


def user_ids_of(process: int) -> tuple[int, int]:
    """The first and the last user id that a process of root lends."""
    first = _FIRST_USER_ID + process * _SLOTS_PER_PROCESS
    return first, first + _SLOTS_PER_PROCESS - 1
