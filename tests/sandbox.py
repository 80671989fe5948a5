"""Runs a command in which named system calls fail with an errno of choice, as in sandboxes and container profiles.

As a program: `python tests/sandbox.py recvmmsg=EPERM epoll_pwait2=ENOSYS -- COMMAND …`. Method: a seccomp filter in
classic BPF, installed by prctl in the process that then becomes the command; all that it starts inherits the filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

# Numbers of system calls: x86-64, and arm64 (the generic table), which lacks some old ones.
_NUMBERS: dict[str, tuple[int, int | None]] = {
    "poll": (7, None),
    "connect": (42, 203),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "epoll_wait": (232, None),
    "accept4": (288, 242),
    "ppoll": (271, 73),
    "epoll_pwait": (281, 22),
    "bpf": (321, 280),
    "recvmmsg": (299, 243),
    "sendmmsg": (307, 269),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "epoll_pwait2": (441, 441),
}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
# struct seccomp_data begins with the call's number and the machine's.
_NUMBER_AT, _MACHINE_AT = 0, 4
_LOAD, _EQUALS, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2


class _Instruction(ctypes.Structure):
    """struct sock_filter."""

    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction)))


def unavailable() -> str | None:
    """Why calls cannot be refused on this machine; None where they can."""
    if platform.machine() not in _MACHINES:
        return f"no table of system calls for {platform.machine()}"
    if not Path("/proc/sys/kernel/seccomp").is_dir():
        return "this kernel has no seccomp filters"
    return None


def refusing(refused: Mapping[str, str]) -> list[str]:
    """The beginning of a command line: what follows runs with these calls refused, each with the errno of that name."""
    return [sys.executable, str(Path(__file__).resolve()), *(f"{call}={why}" for call, why in refused.items()), "--"]


def _program(refused: Mapping[str, str]) -> list[_Instruction]:
    column, machine = _MACHINES[platform.machine()]
    program = [
        _Instruction(_LOAD, 0, 0, _MACHINE_AT),
        _Instruction(_EQUALS, 1, 0, machine),
        _Instruction(_RETURN, 0, 0, _ALLOW),
        _Instruction(_LOAD, 0, 0, _NUMBER_AT),
    ]
    for call, why in refused.items():
        number = _NUMBERS[call][column]
        if number is not None:
            program.append(_Instruction(_EQUALS, 0, 1, number))
            program.append(_Instruction(_RETURN, 0, 0, _ERRNO | getattr(errno, why)))
    return [*program, _Instruction(_RETURN, 0, 0, _ALLOW)]


def refuse(refused: Mapping[str, str]) -> None:
    """Refuses these calls to this process from now on."""
    made = _program(refused)
    instructions = (_Instruction * len(made))(*made)
    program = _Program(len(made), instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    arguments = (
        (_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero),
        (_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(program)),
    )
    for option, first, second in arguments:
        if libc.prctl(option, first, second, zero, zero):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def main(arguments: list[str]) -> None:
    """Becomes the command behind `--`."""
    at = arguments.index("--")
    refuse(dict(argument.split("=", 1) for argument in arguments[:at]))
    command = arguments[at + 1 :]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
