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
    """To whom root gives a new state directory: the first of SERVICE_USERS who can read the code and reach it."""
    for name in SERVICE_USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if _can_use(user, state_dir):
            return user
    return None


def _can_use(user: pwd.struct_passwd, state_dir: str) -> bool:
    """Tried, not computed: the real access check knows of ACLs and mounts. A file in a zipapp has no path of its own:
    what counts there is the nearest path that exists for root."""
    found, groups = [_existing(path) for path in (os.__file__, penny.__file__)], os.getgroups()
    os.setgroups([])
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        return (all(os.access(path, os.R_OK, effective_ids=True) for path in found)
                and os.access(os.path.dirname(state_dir), os.X_OK, effective_ids=True))
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def make_state_dir(state_dir: str) -> None:
    """Make the directory of all stores; when root makes it, it belongs to the user who will serve. Raises PennyError.

    It appears with its owner, so that of two who make it at once neither finds a directory that is still root's. The
    threads of one process must find it made: the check of what a user can reach changes the user of them all."""
    try:
        if not os.path.isdir(state_dir):
            _make_for_service(state_dir)
        if not os.access(state_dir, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise PennyError("cannot write in %s: %s (--home DIR puts everything elsewhere)"
                         % (state_dir, one_line(error))) from error


def _make_for_service(state_dir: str) -> None:
    os.makedirs(os.path.dirname(state_dir), exist_ok=True)
    making = "%s.%d" % (state_dir, os.getpid())
    os.mkdir(making, 0o750)
    try:
        user = service_user(state_dir) if os.geteuid() == 0 else None
        if user:
            os.chown(making, user.pw_uid, user.pw_gid)
        os.rename(making, state_dir)
    except OSError as error:
        os.rmdir(making)
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # else somebody made it at this moment, and uses it already
            raise


def drop_privileges(state_dir: str, log: Log) -> None:
    """Stop being root, for good, and be the owner of the state directory. Nothing after this can bind a low port or
    read another user's files. Where that cannot be, the log says why, and it goes on as root."""
    if os.geteuid() != 0:
        return
    owner = os.stat(state_dir).st_uid
    try:
        user = pwd.getpwuid(owner)
    except KeyError:
        user = None
    if owner == 0 or user is None:
        log.warning("runs as root, since %s belongs to %s; to change that: useradd --system penny; chown -R penny %s",
                    state_dir, "root" if owner == 0 else "no user", state_dir)
    elif not _can_use(user, state_dir):
        log.warning("runs as root, since %s cannot read %s and %s", user.pw_name, os.path.dirname(os.__file__),
                    os.path.dirname(penny.__file__))
    else:
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
