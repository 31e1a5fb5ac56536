"""`penny up`: every service of this box, in one small parent and at most two children.

The parent imports little. It binds every socket that the manifests name, while it may still be root, forks a child for
each kind of process, and hands it the sockets; it keeps them, so a child that died takes up where it was. *quick* (time
and names) never imports the web server: beside busy threads an answer would wait for the interpreter's lock. *work* is
all the rest, a thread for each service.

A service that dies is started again, at first soon, then later; five times in ten minutes and it is parked: said, and
tried again every ten minutes, while the others go on. The same holds for a child as a whole. `up` itself ends with 1
only when every service is parked.
"""
from __future__ import annotations

import argparse
from types import SimpleNamespace

from penny.core import manifest as manifests
from penny.core.errors import UsageError
from penny.core.manifest import Manifest
from penny.core.run import Context, option
from penny.core.settings import nearest, words

OPTIONS = (option("--only", metavar="NAME,NAME", help="run these services alone"),)


def once(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    """Run until told to stop."""
    from penny.up.parent import Parent
    home = " --home " + options.home if "home" in options else ""
    return Parent(choose(options.only), settings, context, "penny rss add URL" + home).run()


def choose(only: str | None) -> list[Manifest]:
    """The manifests of the services that are to run. Raises UsageError."""
    found = [manifest for manifest in map(manifests.load, manifests.names()) if manifest.runs.kind != "once"]
    if only is None:
        return found
    if not words(only):
        raise UsageError("--only: expected names of services, such as rss,digest")
    names = [manifest.name for manifest in found]
    for name in words(only):
        if name not in names:
            raise UsageError("--only %s: there is no service %s%s" % (only, name, nearest(name, names)))
    return [manifest for manifest in found if manifest.name in words(only)]
