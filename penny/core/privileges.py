"""Whom penny runs as, and to whom its state belongs.

Started by root, a service binds its sockets and then becomes another user, for good. State that root's commands make
belongs to that same user from the start, so that `sudo penny rss add` and the service get along.
"""
from __future__ import annotations

import errno
import os
import pwd

import penny
from penny.core.errors import PennyError, one_line
from penny.core.log import Log

SERVICE_USERS = ("penny", "nobody")


def service_user(state_dir: str) -> pwd.struct_passwd | None:
    """Whom a service that root started runs as: the first of SERVICE_USERS who can read the code and reach the state.

    None when no such user can (a checkout or a Python below /root, say): the service then stays root, and says so.
    """
    for name in SERVICE_USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if _can_use(user, (os.__file__, penny.__file__), os.path.dirname(state_dir)):
            return user
    return None


def _can_use(user: pwd.struct_passwd, code: tuple[str, ...], above_state: str) -> bool:
    """Tried, not computed: the real access check knows of groups, ACLs and mounts. A file in a zipapp has no path of
    its own: what counts there is the nearest path that exists for root."""
    found = [_existing(path) for path in code]
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        return (all(os.access(path, os.R_OK, effective_ids=True) for path in found)
                and os.access(above_state, os.X_OK, effective_ids=True))
    finally:
        os.seteuid(0)
        os.setegid(0)


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def make_state_dir(state_dir: str) -> None:
    """Make the directory of all stores; when root makes it, it belongs to the user who will serve. Raises PennyError."""
    try:
        if not os.path.isdir(state_dir):
            os.makedirs(os.path.dirname(state_dir), exist_ok=True)
            os.mkdir(state_dir, 0o750)
            user = service_user(state_dir) if os.geteuid() == 0 else None
            if user:
                os.chown(state_dir, user.pw_uid, user.pw_gid)
        if not os.access(state_dir, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise PennyError("cannot write in %s: %s (--home DIR puts everything elsewhere)"
                         % (state_dir, one_line(error))) from error


def drop_privileges(state_dir: str, log: Log) -> None:
    """Stop being root, for good. Nothing after this can bind a low port or read another user's files."""
    if os.geteuid() != 0:
        return
    owner = os.stat(state_dir)
    user = service_user(state_dir)
    if user is None or owner.st_uid != user.pw_uid:
        log.warning("runs as root: neither %s can read %s and %s and write in %s", " nor ".join(SERVICE_USERS),
                    os.path.dirname(os.__file__), os.path.dirname(penny.__file__), state_dir)
        return
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
