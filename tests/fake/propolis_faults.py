# SPDX-License-Identifier: MPL-2.0
"""What tests tell the fake servers by files in $VMM_FAKE_DIR, and what these write down there.

    server-faults.json          rules and settings, read at each request
    server-commands/ZONE.jsonl  things that happen to the guest, read while the server runs
    exchanges.jsonl             every request with its answer
    server-events.jsonl         everything else: states, clients of the console, pongs, violations

A rule has "method", "path" (a prefix), "zone" and "nth" (all may be missing) and what shall happen:
"status" with "body", "delay", "cut", "close", "garbage", "chunked", "slow".  What has none of these
is settings: "max_version", "skip_states", "fail_ensure", "fail_run", "hold", "silent_upgrade",
"zone" (for one server only).  Without the folder there are none, and nothing is written.
"""

import fcntl
import fnmatch
import json
import os
import threading

EFFECTS = ("status", "delay", "cut", "close", "garbage", "chunked", "slow")
COMMANDS_EVERY = 0.02
IN_ZONE = {"net": "physical", "device": "match"}


class Folder:
    def __init__(self, path, zone):
        self.path, self.zone = path, zone
        self.lock = threading.Lock()
        self.version, self.rules, self.seen = None, [], {}

    def load(self):
        """The file's list; a new file starts counting anew."""
        name = self.path and os.path.join(self.path, "server-faults.json")
        try:
            with open(name or "", encoding="utf-8") as file:
                info = os.fstat(file.fileno())
                version = (info.st_ino, info.st_mtime_ns, info.st_size)
                if version == self.version:
                    return
                rules = json.load(file)
        except FileNotFoundError:
            version, rules = None, []
        except ValueError:
            return  # being written: what held before holds a little longer
        if isinstance(rules, dict):
            rules = rules.pop("rules", []) + [rules]
        self.version, self.rules, self.seen = version, rules, {}

    def settings(self):
        with self.lock:
            self.load()
            out = {}
            for rule in self.rules:
                if not any(effect in rule for effect in EFFECTS) and self.is_mine(rule):
                    out.update(rule)
            return out

    def is_mine(self, rule):
        return rule.get("zone", self.zone) == self.zone

    def fault(self, method, path):
        """What shall go wrong with this request: the first rule, or an empty one.  All that match
        count it."""
        found = {}
        with self.lock:
            self.load()
            for n, rule in enumerate(self.rules):
                if (not any(effect in rule for effect in EFFECTS) or not self.is_mine(rule)
                        or rule.get("method", method) != method
                        or not path.startswith(rule.get("path", ""))):
                    continue
                self.seen[n] = self.seen.get(n, 0) + 1
                if rule.get("nth", self.seen[n]) == self.seen[n]:
                    found = found or rule
        return found

    def append(self, name, row):
        if not self.path:
            return
        line = json.dumps(row) + "\n"
        with open(os.path.join(self.path, name), "a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(line)

    def exchange(self, **row):
        self.append("exchanges.jsonl", {"zone": self.zone, **row})

    def event(self, event, **details):
        self.append("server-events.jsonl", {"zone": self.zone, "event": event, **details})
        if event == "failure":
            print(details["text"], flush=True)

    def commands(self, do, end):
        """Calls do(row) for each row that is appended from now on, until end is set."""
        name = self.path and os.path.join(self.path, "server-commands", self.zone + ".jsonl")
        at = os.path.getsize(name) if name and os.path.exists(name) else 0

        def follow(at):
            rest = b""
            while not end.wait(COMMANDS_EVERY):
                try:
                    with open(name, "rb") as file:
                        file.seek(at)
                        data = file.read()
                except FileNotFoundError:
                    continue
                at += len(data)
                *lines, rest = (rest + data).split(b"\n")
                for line in filter(None, lines):
                    do(json.loads(line))
        if name:
            threading.Thread(target=follow, args=(at,), daemon=True).start()

    def in_zone(self, kind, what):
        """Whether the zone has the link ("net") or the device, as far as the fake host of this
        folder (illumos.py) knows the zone."""
        try:
            with open(os.path.join(self.path or "", "state.json"), encoding="utf-8") as file:
                state = json.load(file)
        except FileNotFoundError:
            return True
        if self.zone not in state["zones"]:
            return True
        if kind == "net" and what not in state["links"]:
            return False
        return any(fnmatch.fnmatchcase(what, resource["props"].get(IN_ZONE[kind], ""))
                   for resource in state["zones"][self.zone]["config"]["resources"]
                   if resource["type"] == kind)
