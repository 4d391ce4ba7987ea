"""What a Debian is taken through: imported, run, changed, committed and run again."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.homes import layers
from tests.support.daemon import Daemon

MADE, CHANGED = "debian:made", "debian:changed"

CHANGE = r"""
set -e
cd /
rm -r /usr/share/doc
rm -r /opt && ln -s usr/local /opt
printf 'made in the container\n' > /srv/made
chown 1234:4321 /srv/made
chmod 6751 /srv/made
ln /srv/made /srv/made-too
cp /usr/bin/perl /usr/bin/able
setcap cap_net_bind_service=ep /usr/bin/able
mkfifo -m 600 /srv/fifo
dpkg --purge attr
"""

STAT = "stat --format '%n %a %u:%g %h %F %t:%T'"

SHOW = rf"""
set -e
cd /
test ! -e /usr/share/doc
readlink /opt
cat /srv/made-too
{STAT} /srv/made /srv/fifo
getcap /usr/bin/able
/usr/bin/able -e 'print "perl runs\n"'
dpkg-query --show --showformat '${{db:Status-Abbrev}}\n' attr 2>/dev/null || echo attr is gone
dpkg --verify | grep --invert-match ' /usr/share/doc' || true
"""

SHOWN = """\
usr/local
made in the container
/srv/made 6751 1234:4321 2 regular file 0:0
/srv/fifo 600 0:0 1 fifo 0:0
/usr/bin/able cap_net_bind_service=ep
perl runs
attr is gone
"""


def change(daemon: Daemon, tar: Path, more: str) -> None:
    """Import a Debian, and commit what `CHANGE` and more commands make of it; see what is there."""
    assert tar.stat().st_size > 100_000_000
    daemon.docker("import", str(tar), MADE)
    size = int(daemon.docker("inspect", "--format", "{{.Size}}", MADE))
    assert size > 100_000_000

    # dpkg knows the digest of every file of every package, and tells of those that differ.
    assert daemon.run(MADE, "dpkg", "--verify") == ""
    assert re.match(r"12\.\d+\n", daemon.run(MADE, "cat", "/etc/debian_version"))

    run = ["run", "--name=changed", "--network=none", MADE]
    daemon.docker(*run, "sh", "-c", CHANGE + more)
    changes = daemon.docker("diff", "changed").splitlines()
    assert {"A /srv/made", "C /opt", "D /usr/share/doc", "D /usr/bin/getfattr"} <= {*changes}
    daemon.docker("commit", "changed", CHANGED)
    daemon.docker("rm", "changed")
    assert daemon.run(CHANGED, "sh", "-c", SHOW) == SHOWN
    assert daemon.run(MADE, "dpkg", "--verify") == "", "its parent changed"


def forget(daemon: Daemon) -> None:
    """Remove what `change` made, of which nothing is left."""
    daemon.docker("rmi", CHANGED, MADE)
    assert layers(daemon) == []
