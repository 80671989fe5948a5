"""Gives up what a server needs only to begin: root, other directories, new privileges."""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
from typing import NamedTuple

from flatout.errors import UsageError

_PR_SET_NO_NEW_PRIVS = 38


class Identity(NamedTuple):
    """A user and a group, as numbers."""

    uid: int
    gid: int


def identity(text: str) -> Identity:
    """`USER` or `USER:GROUP`, names or numbers. Errors: UsageError."""
    user, _, group = text.partition(":")
    try:
        of_user = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError as error:
        raise UsageError(f"user '{user}' is not known") from error
    if not group:
        return Identity(of_user.pw_uid, of_user.pw_gid)
    try:
        return Identity(of_user.pw_uid, int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid)
    except KeyError as error:
        raise UsageError(f"group '{group}' is not known") from error


def no_new_privileges() -> None:
    """Nothing that this process starts gains privileges (no_new_privs); for threads that begin later, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise UsageError(f"no_new_privs is refused: {os.strerror(ctypes.get_errno())}")


def drop(to: Identity | None, root: str | None) -> None:
    """Makes `root` the root directory and `to` the user and group of all threads. Errors: UsageError."""
    try:
        if root is not None:
            os.chroot(root)
            os.chdir("/")
        if to is not None:
            os.setgroups([])
            os.setgid(to.gid)
            os.setuid(to.uid)
    except OSError as error:
        raise UsageError(
            f"privileges cannot be given up: {error.strerror}; start it as root, or without these"
        ) from error
