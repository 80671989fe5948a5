"""The kernel's own clock state (adjtimex, readable without privilege): for clocks that something else disciplines.

The kernel knows whether its clock is synchronised, its error and a coming leap second, but no stratum and no reference:
those are the operator's.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os

from flatout.protocols.ntp import state
from flatout.protocols.ntp.state import TimeState, Unusable
from flatout.protocols.ntp.upstream import Upstream

STA_INS, STA_DEL, STA_UNSYNC = 0x10, 0x20, 0x40
TIME_OK, TIME_INS, TIME_DEL, TIME_OOP, TIME_WAIT, TIME_ERROR = range(6)
# The kernel lets its maximum error grow with this, ns/s (kernel/time/ntp.c, MAXFREQ).
_ERROR_PPB = 500_000


class Timex(ctypes.Structure):
    """struct timex of <sys/timex.h>."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_s", ctypes.c_long),
        ("time_us", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


def checked(stated: TimeState, clock_state: int, status: int, maxerror_us: int) -> TimeState:
    """The stated state, as far as the kernel bears it out. Errors: Unusable."""
    if status & STA_UNSYNC or clock_state == TIME_ERROR:
        raise Unusable("the kernel's clock is not synchronised")
    if clock_state == TIME_OOP:
        raise Unusable("a leap second is in progress")
    leap = (
        1 if status & STA_INS and clock_state == TIME_INS else 2 if status & STA_DEL and clock_state == TIME_DEL else 0
    )
    return dataclasses.replace(
        stated,
        leap=leap,
        root_dispersion_ns=stated.root_dispersion_ns + max(maxerror_us, 0) * 1000,
        dispersion_ppb=_ERROR_PPB,
    )


class Kernel(Upstream):
    """The kernel of this host; `stated` has what it does not know."""

    name = "kernel"

    def __init__(self, stated: TimeState) -> None:
        self._stated = dataclasses.replace(stated, precision=min(stated.precision, state.measured_precision()))
        self._libc = ctypes.CDLL(None, use_errno=True)

    def ask(self) -> TimeState:
        """One reading."""
        timex = Timex()
        clock_state = self._libc.adjtimex(ctypes.byref(timex))
        if clock_state < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return checked(self._stated, clock_state, timex.status, timex.maxerror)
