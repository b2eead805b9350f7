#!/usr/bin/env python3
"""Writes log files like Docker's json-file logging driver, without Docker.

    docker_json_log.py DIRECTORY COMMAND...

Runs a command and writes each line of its output to DIRECTORY/c0ffee/c0ffee-json.log as an object with the line, the stream,
the option `tag` and the time in nanoseconds without trailing zeros. Times are rounded so that all lengths occur. SIGHUP
rotates the file, as Docker does at `max-size`.
"""

import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

FILES_MAX = 9

directory = pathlib.Path(sys.argv[1]) / "c0ffee"
directory.mkdir(parents=True)
path = directory / "c0ffee-json.log"
child = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
rotate = False


def request_rotation(*_):
    global rotate
    rotate = True


signal.signal(signal.SIGHUP, request_rotation)


def when(count):
    nanoseconds = time.time_ns()
    nanoseconds -= nanoseconds % 10 ** (count % 10)
    text = datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{nanoseconds % 10**9:09}".rstrip("0")
    return text + (f".{fraction}" if fraction else "") + "Z"


log = path.open("w")
for count, line in enumerate(child.stdout):
    if rotate:
        rotate = False
        log.close()
        for number in range(FILES_MAX - 1, 0, -1):
            old = directory / (f"{path.name}.{number - 1}" if number > 1 else path.name)
            if old.exists():
                os.rename(old, directory / f"{path.name}.{number}")
        log = path.open("w")
    entry = {"log": line, "stream": "stdout", "attrs": {"tag": "fibsrv"}, "time": when(count)}
    log.write(json.dumps(entry, separators=(",", ":")) + "\n")
    log.flush()
sys.exit(child.wait())
