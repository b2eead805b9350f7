"""Runs rsyslog on machines of netns.py with the files of deploy/rsyslog at their installed paths."""

import collections
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "deploy/rsyslog"

# Debian's own configuration also reads the kernel log, which is shared with the host.
MAIN = """
global(workDirectory="/var/spool/rsyslog")
include(file="/etc/rsyslog.d/*.conf")
"""


def prepare(machine):
    """Mounts directories for rsyslog, its inputs and its outputs."""
    for directory in ("/etc/rsyslog.d", "/var/spool/rsyslog", "/var/log", "/var/lib", "/usr/local/sbin"):
        machine.mount_tmpfs(directory)


def configure(machine, *files):
    """Installs exactly these files of deploy/rsyslog."""
    for old in machine.path("/etc/rsyslog.d").glob("*.conf"):
        old.unlink()
    loaded = ""
    for file in sorted(files):
        number = 40 if file.startswith(("shipper", "receiver")) else 41
        text = (SHIPPED / file).read_text()
        # See README.md: a module can be loaded only once.
        loads = re.findall(r'^module\(load="imfile"\).*\n', text, re.MULTILINE)
        if loads and 'load="imfile"' in loaded:
            text = text.replace(loads[0], "")
        loaded += text
        # The only change: a shorter statistics interval.
        text = text.replace('interval="30"', 'interval="1"')
        machine.write(f"/etc/rsyslog.d/{number}-fibsrv-{file}", text)


def start(machine):
    machine.write("/run/main.conf", MAIN)
    return machine.start("rsyslogd", "-n", "-f", "/run/main.conf", "-i", "/run/rsyslogd.pid")


def arrived(lines):
    """Returns the request numbers in order of arrival by client."""
    found = collections.defaultdict(list)
    for line in lines:
        if match := re.search(r"source=([-\w]+)&line=(\d+)", line):
            found[match[1]].append(int(match[2]))
    return found
