# SPDX-License-Identifier: MPL-2.0
"""Cases of a test program, as TAP."""

import sys
import traceback


class Cases:
    def __init__(self):
        self.count = self.failed = 0

    def run(self, name, function, *args):
        self.count += 1
        try:
            function(*args)
            print(f"ok {self.count} - {name}", flush=True)
        except Exception:  # whatever it is, the next case has its turn
            self.failed += 1
            for line in traceback.format_exc().splitlines():
                print(f"# {line}")
            print(f"not ok {self.count} - {name}", flush=True)

    def end(self):
        print(f"1..{self.count}")
        sys.exit(1 if self.failed else 0)
