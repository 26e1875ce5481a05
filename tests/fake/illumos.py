# SPDX-License-Identifier: MPL-2.0
"""A host of illumos, as far as zonecfg, zoneadm, zfs, dladm, zlogin, arp and ndp tell of it.

All of it is in the folder $VMM_FAKE_DIR:
  state.json       zones, datasets, links; one tool at a time has it (the file "lock")
  calls.jsonl      every call: n, tool, argv, stdin, status (null: it hangs), stderr, pid
  faults.json      what shall fail, read at each call: a list of
                     tool    its name, or "*"
                     verb    sub-command; for zonecfg any command of its script; absent: every one
                     match   a part of the command line; absent: every one
                     nth     of the matching calls since the file was written; absent: every one
                     status  of the tool, 1 if absent
                     stderr  its words
                     effect  "before": fails without doing it (the default); "after": does it, then
                             fails; "hang": sleeps until it is killed; "stuck" (zoneadm halt): the
                             zone stays in shutting_down, with "hang": true the tool, too; "dead"
                             (zoneadm boot): all is well, but the zone's first process ends at once
  neighbours.json  {mac: [address]}: what arp and ndp show
  dev/zvol/rdsk/   a sparse file for each volume

The tools refuse what the real ones refuse: options and sub-commands that they do not have (status
2), names against the rules, and what the order of states forbids (status 1).
"""

import fcntl
import json
import os
import signal
import sys
import uuid

MODULES = {"zonecfg": "illumos_zonecfg", "zoneadm": "illumos_zones", "zlogin": "illumos_zones",
           "zfs": "illumos_zfs", "dd": "illumos_zfs", "dladm": "illumos_net",
           "arp": "illumos_net", "ndp": "illumos_net"}


class Fail(Exception):
    """The tool ends with a status and words on its standard error."""

    def __init__(self, text, status=1):
        super().__init__(text)
        self.status = status


class Usage(Fail):
    def __init__(self, text):
        super().__init__(text, 2)


def new_state():
    return {
        "calls": 0,
        "faults": {},
        "next_zone_id": 1,
        "pools": {"rpool": 1 << 40},  # bytes
        "datasets": {"rpool": {"type": "filesystem", "props": {}}},
        "zones": {},
        "brands": ["ipkg", "lipkg", "bhyve", "vmm"],
        "links": {
            "igb0": {"class": "phys", "mac": "2:8:20:0:0:1"},
            "igb1": {"class": "phys", "mac": "2:8:20:0:0:2"},
            "vmmstub0": {"class": "etherstub"},
        },
    }


class World:
    """The folder; as a context manager: the state, with nobody else at it.  It is kept when the
    block ends well."""

    def __init__(self, folder=None):
        self.dir = folder or os.environ["VMM_FAKE_DIR"]
        self.lock = None

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def __enter__(self):
        self.lock = os.open(self.path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        try:
            with open(self.path("state.json"), encoding="utf-8") as file:
                self.state = json.load(file)
        except FileNotFoundError:
            self.state = new_state()
        for zone in self.state["zones"].values():
            if zone["state"] == "running" and not alive(zone["pid"]):
                zone.update(state="installed", id=None, pid=None)  # its first process ended
        return self.state

    def __exit__(self, kind, *_):
        if kind is None:
            part = self.path("state.json.part")
            with open(part, "w", encoding="utf-8") as file:
                json.dump(self.state, file, indent=1)
            os.rename(part, self.path("state.json"))
        os.close(self.lock)

    def read(self):
        with self as state:
            return state

    def record(self, **call):
        line = json.dumps(call) + "\n"
        with open(self.path("calls.jsonl"), "a", encoding="utf-8") as file:
            file.write(line)

    def device(self, dataset):
        return self.path("dev", "zvol", "rdsk", dataset)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def options(argv, known, usage):
    """The options before the first operand, as getopt takes them: ({letter: [values]}, rest)."""
    found, rest = {}, list(argv)
    takes = {known[i] for i in range(len(known) - 1) if known[i + 1] == ":"}
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter == ":" or letter not in known:
                raise Usage(f"invalid option '{letter}'\n{usage}")
            value = True
            if letter in takes:
                value, letters = letters or (rest.pop(0) if rest else None), ""
                if value is None:
                    raise Usage(f"missing argument for '{letter}' option\n{usage}")
            found.setdefault(letter, []).append(value)
    return found, rest


def escaped(fields):
    """One line of parsable output."""
    return ":".join(str(f).replace("\\", "\\\\").replace(":", "\\:") for f in fields) + "\n"


def new_uuid():
    return str(uuid.uuid4())


# ---- faults ----

def verbs_of(tool, argv, stdin):
    if tool == "zonecfg":
        script = stdin if stdin is not None else " ".join(argv[2:])
        return {part.split()[0] for part in script.replace(";", "\n").splitlines() if part.split()}
    if tool == "zoneadm":
        argv = argv[2:] if argv[:1] in (["-z"], ["-u"]) else argv
    return {argv[0]} if argv else set()


def fault(world, state, tool, argv, verbs):
    """The rule that strikes this call, or None.  Every rule counts the calls that it matches."""
    path = world.path("faults.json")
    try:
        with open(path, encoding="utf-8") as file:
            rules, stat = json.load(file), os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    stamp = [stat.st_mtime_ns, stat.st_ino]
    if state["faults"].get("stamp") != stamp:
        state["faults"] = {"stamp": stamp, "counts": [0] * len(rules)}
    counts, struck = state["faults"]["counts"], None
    for i, rule in enumerate(rules):
        if (rule["tool"] in ("*", tool) and rule.get("verb", None) in (None, *verbs)
                and rule.get("match", "") in " ".join([tool, *argv])):
            counts[i] += 1
            if rule.get("nth", counts[i]) == counts[i] and struck is None:
                struck = rule
    return struck


def hang():
    while True:
        signal.pause()


# ---- a call ----

def script_of(tool, argv):
    """What zonecfg is told by a file or its standard input; None: nothing so."""
    if tool != "zonecfg" or "-f" not in argv[:-1]:
        return None
    path = argv[argv.index("-f") + 1]
    try:
        if path in ("-", "/dev/stdin"):
            return sys.stdin.read()
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def main(tool, argv):
    world = World()
    stdin = script_of(tool, argv)
    verbs = verbs_of(tool, argv, stdin)
    with world as state:
        state["calls"] += 1
        number = state["calls"]
        rule = fault(world, state, tool, argv, verbs)
    effect = rule.get("effect", "before") if rule else None
    call = {"n": number, "tool": tool, "argv": argv, "stdin": stdin, "pid": os.getpid()}
    if effect == "hang":
        world.record(status=None, stderr="", **call)
        hang()
    if tool == "pfexec" and effect is None:
        world.record(status=None, stderr="", **call)
        return run_privileged(argv)
    out, status, words = "", 0, ""
    try:
        if effect != "before" and tool in MODULES:
            run = getattr(__import__(MODULES[tool]), tool)
            out = run(world, argv, stdin=stdin, effect=effect) or ""
    except Fail as e:
        status, words = e.status, f"{e}\n"
    if rule and effect != "dead":
        status = status or rule.get("status", 1)
        words += rule.get("stderr", f"{tool}: made to fail by the test") + "\n"
    world.record(status=status, stderr=words, **call)
    if effect == "stuck" and rule.get("hang"):
        hang()
    sys.stdout.write(out)
    sys.stdout.flush()
    sys.stderr.write(words)
    return status


def run_privileged(argv):
    if argv[:1] == ["-P"]:
        argv = argv[2:]
    if not argv or argv[0].startswith("-"):
        sys.stderr.write("pfexec: usage: pfexec [-P privset] command [arg ...]\n")
        return 2
    try:
        os.execvp(argv[0], argv)
    except OSError as e:
        sys.stderr.write(f"pfexec: {argv[0]}: {e.strerror}\n")
        return 1
