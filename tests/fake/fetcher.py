# SPDX-License-Identifier: MPL-2.0
"""Runs the real vmm-fetch with an order, as vmmd would.

    got = fetch(work="http", url=…)
    got.events, got.last, got.image                   # the lines, the last of them, the bytes
"""

import json
import os
import subprocess
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("VMM_BUILD", os.path.join(TOP, "build"))
VMM_FETCH = os.path.join(BUILD, "lib", "image", "fetcher", "vmm-fetch")


class Fetched:
    def __init__(self, events, status, image, spool):
        self.events, self.status, self.image, self.spool = events, status, image, spool
        self.last = events[-1] if events else {}

    def named(self, name):
        return [e for e in self.events if e["event"] == name]


def fetch(image=b"", spool=b"", timeout=120, env=None, **order):
    """image, spool: what is in the two files before; env: more of the environment."""
    with tempfile.TemporaryFile() as sink, tempfile.TemporaryFile() as spooled:
        sink.write(image)
        sink.flush()
        spooled.write(spool)
        spooled.flush()
        order = {"parent": os.getpid(), "max_bytes": 1 << 40, "stall_ms": 20000,
                 "connect_ms": 5000, "attempts": 3, **order}
        # Copies first: 3 and 4 may be what is to become something else.
        copies = [os.dup(sink.fileno()), os.dup(spooled.fileno())]
        high = [os.dup2(fd, 100 + fd, inheritable=False) for fd in copies]

        def place():
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        try:
            done = subprocess.run([VMM_FETCH], input=json.dumps(order).encode(), check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                                  close_fds=False, preexec_fn=place,
                                  env={**os.environ, **(env or {})})
        finally:
            for fd in copies + high:
                os.close(fd)
        if done.stderr:
            raise AssertionError(done.stderr.decode(errors="replace"))
        sink.seek(0)
        spooled.seek(0)
        events = [json.loads(line) for line in done.stdout.decode().splitlines()]
        return Fetched(events, done.returncode, sink.read(), spooled.read())
