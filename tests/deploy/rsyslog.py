"""rsyslog on machines of the laboratory, with the files of deploy/rsyslog at the places where they belong."""

import collections
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "deploy/rsyslog"

# Debian's own file beside what is included also reads the kernel's log, of which there is only one.
MAIN = """
global(workDirectory="/var/spool/rsyslog")
include(file="/etc/rsyslog.d/*.conf")
"""


def prepare(machine):
    """Gives a machine folders of its own for rsyslog and what it reads and writes."""
    for folder in ("/etc/rsyslog.d", "/var/spool/rsyslog", "/var/log", "/var/lib", "/usr/local/sbin"):
        machine.own(folder)


def configure(machine, *files):
    """Has just these files of deploy/rsyslog/ where rsyslog looks for them."""
    for old in machine.path("/etc/rsyslog.d").glob("*.conf"):
        old.unlink()
    loaded = ""
    for file in sorted(files):
        number = 40 if file.startswith(("shipper", "receiver")) else 41
        text = (SHIPPED / file).read_text()
        # As README.md says: what one has loaded, a second cannot load again.
        loads = re.findall(r'^module\(load="imfile"\).*\n', text, re.MULTILINE)
        if loads and 'load="imfile"' in loaded:
            text = text.replace(loads[0], "")
        loaded += text
        # The one thing that is changed: a test has no time to wait for statistics.
        text = text.replace('interval="30"', 'interval="1"')
        machine.write(f"/etc/rsyslog.d/{number}-fibsrv-{file}", text)


def start(machine):
    machine.write("/run/main.conf", MAIN)
    return machine.start("rsyslogd", "-n", "-f", "/run/main.conf", "-i", "/run/rsyslogd.pid")


def arrived(lines):
    """The numbers that clients have given to their requests, in the order in which their lines came, by client."""
    found = collections.defaultdict(list)
    for line in lines:
        if match := re.search(r"source=([-\w]+)&line=(\d+)", line):
            found[match[1]].append(int(match[2]))
    return found
