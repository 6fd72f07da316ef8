"""First module that a fork server of ours loads: it ends with what started it, also while it is loading the rest.

A fork server notices by itself that nobody needs it any more, but only once it has loaded everything: on a busy machine
that takes longer than what a killed command may leave behind.
"""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1

ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
