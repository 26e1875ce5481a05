# SPDX-License-Identifier: MPL-2.0
"""zfs of the host in illumos.py, and the dd that writes to its volumes."""

import os
import re

from illumos import Fail, Usage, options

USAGE = "usage: zfs command args ..."
COMPONENT = re.compile(r"[a-zA-Z0-9_.: -]+")
USER_PROPERTY = re.compile(r"[a-z0-9._-]*:[a-z0-9:._-]*")
READ_ONLY = {"name", "type", "used", "available", "avail", "referenced", "refer", "origin",
             "creation", "clones", "volblocksize", "written"}
SETTABLE = {"volsize", "refreservation", "reservation", "quota", "compression", "mountpoint",
            "canmount", "zoned", "sync", "checksum"}


def check_name(name, words, snapshot=False):
    """What the rules of names forbid, in zfs's words."""
    if len(name) >= 256:
        raise Fail(f"{words} '{name}': name is too long")
    dataset, at, snap = name.partition("@")
    if snapshot != bool(at) or (at and not snap):
        raise Fail(f"{words} '{name}': " + ("missing '@' delimiter in snapshot name" if snapshot
                                            else "snapshot delimiter '@' is not expected here"))
    for part in dataset.split("/") + ([snap] if at else []):
        if not part:
            raise Fail(f"{words} '{name}': " + ("leading slash in name" if name[:1] == "/" else
                                                "empty component or trailing slash in name"))
        if not COMPONENT.fullmatch(part):
            bad = next(c for c in part if not COMPONENT.fullmatch(c))
            raise Fail(f"{words} '{name}': invalid character '{bad}' in name")
    if not dataset[0].isalpha():
        raise Fail(f"{words} '{name}': pool doesn't begin with a letter")


def size(text):
    match = re.fullmatch(r"([0-9]+)([KMGTP]?)B?", text, re.I)
    if not match:
        raise Fail(f"bad volume size '{text}'")
    return int(match[1]) << (10 * ("KMGTP".find(match[2].upper()) + 1 if match[2] else 0))


class Pools:
    """The datasets of a state."""

    def __init__(self, world, state):
        self.world, self.state, self.all = world, state, state["datasets"]

    def need(self, name, words="cannot open"):
        check_name(name, words, "@" in name)
        if name not in self.all:
            raise Fail(f"{words} '{name}': dataset does not exist")
        return self.all[name]

    def free(self, name):
        pool = name.split("/")[0]
        return self.state["pools"][pool] - self.used(pool)

    def used(self, name):
        """Of plain volumes their whole size is reserved, of clones nothing."""
        return sum(int(d["props"]["volsize"]) for n, d in self.all.items()
                   if d["type"] == "volume" and "origin" not in d and not d.get("sparse")
                   and (n == name or n.startswith(name + "/")))

    def parent(self, name, make, words="cannot create"):
        parent = name.rpartition("/")[0]
        if not parent:
            raise Fail(f"{words} '{name}': missing dataset name")
        if parent not in self.all:
            if not make or parent.split("/")[0] not in self.state["pools"]:
                raise Fail(f"{words} '{name}': parent does not exist")
            self.parent(parent, True)
            self.all[parent] = {"type": "filesystem", "props": {}}
        if self.all[parent]["type"] != "filesystem":
            raise Fail(f"{words} '{name}': parent is not a filesystem")

    def children(self, name):
        return [n for n in self.all if n.startswith((name + "/", name + "@"))]

    def clones(self, snapshot):
        return [n for n, d in self.all.items() if d.get("origin") == snapshot]

    def busy(self, name):
        """A running zone has it open."""
        device = self.world.device(name)
        return any(zone["state"] in ("running", "shutting_down") and r["type"] == "device"
                   and r["props"].get("match") in (device, "/dev/zvol/rdsk/" + name)
                   for zone in self.state["zones"].values() for r in zone["config"]["resources"])

    def make_device(self, name):
        device = self.world.device(name)
        os.makedirs(os.path.dirname(device), exist_ok=True)
        with open(device, "wb") as file:
            file.truncate(int(self.all[name]["props"]["volsize"]))
        return device

    def remove(self, name):
        if self.all.pop(name)["type"] == "volume":
            try:
                os.unlink(self.world.device(name))
            except FileNotFoundError:
                pass

    def value(self, name, prop):
        """(value, source); user properties come down from parents and to snapshots."""
        dataset = self.all[name]
        if ":" in prop:
            at = name
            while at:
                if prop in self.all[at]["props"]:
                    return self.all[at]["props"][prop], \
                        "local" if at == name else f"inherited from {at}"
                at = at.rpartition("@" if "@" in at else "/")[0]
            return "-", "-"
        plain = {
            "name": name, "type": dataset["type"], "used": str(self.used(name)),
            "available": str(max(self.free(name), 0)), "origin": dataset.get("origin", "-"),
            "referenced": dataset["props"].get("volsize", "0"), "creation": "1700000000",
            "written": "0", "clones": ",".join(self.clones(name)) or "-",
        }
        plain["avail"], plain["refer"] = plain["available"], plain["referenced"]
        if prop in plain:
            return plain[prop], "-"
        if prop in dataset["props"]:
            return dataset["props"][prop], "local"
        return "-", "-"


def check_property(prop):
    if not USER_PROPERTY.fullmatch(prop) and prop not in READ_ONLY | SETTABLE:
        raise Usage(f"bad property list: invalid property '{prop}'\n{USAGE}")


def assigned(words, values):
    """-o property=value"""
    props = {}
    for text in values:
        prop, equals, value = text.partition("=")
        if not equals:
            raise Usage(f"missing '=' for property=value argument\n{USAGE}")
        check_property(prop)
        if prop in READ_ONLY - {"volblocksize"}:
            raise Fail(f"{words}: '{prop}' is readonly")
        if prop in props:
            raise Usage(f"property '{prop}' specified multiple times")
        props[prop] = value
    return props


def operands(verb, rest, least, most):
    if len(rest) < least:
        raise Usage(f"missing argument(s) of '{verb}'\n{USAGE}")
    if len(rest) > most:
        raise Usage(f"too many arguments\n{USAGE}")
    return rest


def create(pools, argv):
    found, rest = options(argv, "V:b:so:puvn", USAGE)
    name, = operands("create", rest, 1, 1)
    words = f"cannot create '{name}'"
    check_name(name, "cannot create")
    props = assigned(words, found.get("o", []))
    kind = "volume" if "V" in found else "filesystem"
    if "p" in found and pools.all.get(name, {}).get("type") == kind:
        return
    if name in pools.all:
        raise Fail(words + ": dataset already exists")
    if kind == "volume":
        bytes_ = size(found["V"][0])
        block = size(found.get("b", ["8K"])[0])
        if bytes_ == 0 or bytes_ % block:
            raise Fail(words + ": volume size must be a multiple of volume block size")
        if name.split("/")[0] in pools.state["pools"] and "s" not in found \
                and bytes_ > pools.free(name):
            raise Fail(words + ": out of space")
        props.update(volsize=str(bytes_), volblocksize=str(block))
    pools.parent(name, "p" in found)
    pools.all[name] = {"type": kind, "props": props, "sparse": "s" in found}
    if kind == "volume":
        pools.make_device(name)


def snapshot(pools, argv):
    found, rest = options(argv, "ro:", USAGE)
    name, = operands("snapshot", rest, 1, 1)
    check_name(name, "cannot create snapshot", True)
    props = assigned(f"cannot create snapshot '{name}'", found.get("o", []))
    source = pools.need(name.partition("@")[0])
    if name in pools.all:
        raise Fail(f"cannot create snapshot '{name}': dataset already exists")
    if pools.free(name) < 0:
        raise Fail(f"cannot create snapshot '{name}': out of space")
    pools.all[name] = {"type": "snapshot", "props": {**{
        k: v for k, v in source["props"].items() if k in ("volsize", "volblocksize")}, **props}}


def clone(pools, argv):
    found, rest = options(argv, "po:", USAGE)
    source, name = operands("clone", rest, 2, 2)
    check_name(name, "cannot create")
    check_name(source, "cannot open", True)
    origin = pools.need(source)
    props = assigned(f"cannot create '{name}'", found.get("o", []))
    if name in pools.all:
        if "p" in found:
            return
        raise Fail(f"cannot create '{name}': dataset already exists")
    pools.parent(name, "p" in found)
    if name.split("/")[0] != source.split("/")[0]:
        raise Fail(f"cannot create '{name}': source and target pools differ")
    if pools.free(name) <= 0:
        raise Fail(f"cannot create '{name}': out of space")
    base = source.partition("@")[0]
    sizes = {k: v for k, v in origin["props"].items() if k in ("volsize", "volblocksize")}
    pools.all[name] = {"type": pools.all[base]["type"], "origin": source,
                       "props": {**sizes, **props}}
    if pools.all[name]["type"] == "volume":
        copy(pools.world.device(base), pools.make_device(name))


def copy(source, target):
    """What is written of a sparse file, to a file of the same size."""
    with open(source, "rb") as a, open(target, "r+b") as b:
        at = 0
        while True:
            try:
                start = os.lseek(a.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            at = os.lseek(a.fileno(), start, os.SEEK_HOLE)
            os.lseek(b.fileno(), start, os.SEEK_SET)
            while start < at:
                start += os.sendfile(b.fileno(), a.fileno(), start, min(at - start, 1 << 24))


def rename(pools, argv):
    found, rest = options(argv, "fpr", USAGE)
    old, new = operands("rename", rest, 2, 2)
    check_name(new, "cannot create", "@" in old)
    pools.need(old)
    words = f"cannot rename '{old}'"
    if new in pools.all:
        raise Fail(words + ": dataset already exists")
    if old.split("/")[0] != new.split("/")[0]:
        raise Fail(words + ": datasets must be within same pool")
    if "@" not in old:
        pools.parent(new, "p" in found)
    if pools.busy(old):
        raise Fail(words + ": dataset is busy")
    for name in [old, *pools.children(old)]:
        moved = new + name[len(old):]
        pools.all[moved] = pools.all.pop(name)
        for dataset in pools.all.values():
            if dataset.get("origin") == name:
                dataset["origin"] = moved
        if pools.all[moved]["type"] == "volume":
            device = pools.world.device(moved)
            os.makedirs(os.path.dirname(device), exist_ok=True)
            os.rename(pools.world.device(name), device)


def set_(pools, argv):
    _, rest = options(argv, "", USAGE)
    if len(rest) < 2:
        raise Usage(f"missing dataset name or property=value\n{USAGE}")
    name = rest.pop()
    dataset = pools.need(name)
    words = f"cannot set property for '{name}'"
    for prop, value in assigned(words, rest).items():
        if prop == "volblocksize":
            raise Fail(words + ": 'volblocksize' is readonly")
        if prop == "volsize":
            if dataset["type"] != "volume":
                raise Fail(words + ": 'volsize' does not apply to datasets of this type")
            bytes_ = size(value)
            if bytes_ == 0 or bytes_ % int(dataset["props"]["volblocksize"]):
                raise Fail(words + ": 'volsize' must be a multiple of volume block size (8K)")
            grown = bytes_ - int(dataset["props"]["volsize"])
            if "origin" not in dataset and grown > pools.free(name):
                raise Fail(words + ": size is greater than available space")
            value = str(bytes_)
            os.truncate(pools.world.device(name), bytes_)
        dataset["props"][prop] = value


def get(pools, argv):
    found, rest = options(argv, "rd:Hpo:s:t:", USAGE)
    if len(rest) < 2:
        raise Usage(f"missing property or dataset argument\n{USAGE}")
    props = rest[0].split(",")
    columns = found.get("o", ["name,property,value,source"])[0].split(",")
    for prop in props:
        check_property(prop)
    for column in columns:
        if column not in ("name", "property", "value", "source", "received"):
            raise Usage(f"invalid column name '{column}'\n{USAGE}")
    lines = []
    for name in rest[1:]:
        pools.need(name)
        for at in [name] + (pools.children(name) if "r" in found else []):
            for prop in props:
                value, source = pools.value(at, prop)
                row = {"name": at, "property": prop, "value": value, "source": source}
                lines.append([row[c] for c in columns])
    return table(lines, columns, "H" in found)


def table(lines, columns, scripted):
    if scripted:
        return "".join("\t".join(line) + "\n" for line in lines)
    return "".join("".join(f"{c:<30}" for c in line).rstrip() + "\n"
                   for line in [[c.upper() for c in columns], *lines])


def list_(pools, argv):
    found, rest = options(argv, "HpSrd:t:o:s:", USAGE)
    columns = found.get("o", ["name,used,available,referenced,mountpoint"])[0].split(",")
    for column in columns:
        check_property(column)
    kinds = set(found.get("t", ["filesystem,volume"])[0].split(","))
    if not kinds <= {"filesystem", "volume", "snapshot", "snap", "all"}:
        raise Usage(f"invalid type '{found['t'][0]}'\n{USAGE}")
    if "snap" in kinds:
        kinds.add("snapshot")
    names = []
    for name in rest:
        kind = pools.need(name)["type"]
        if kind not in kinds and "all" not in kinds and "t" in found and "r" not in found:
            raise Fail(f"cannot open '{name}': operation not applicable to datasets of this type")
        depth = int(found["d"][0]) if "d" in found else (1 << 30 if "r" in found else 0)
        names += [n for n in [name, *pools.children(name)]
                  if n[len(name):].count("/") + n[len(name):].count("@") <= depth
                  and (kinds & {pools.all[n]["type"], "all"} or (n == name and "t" not in found))]
    if not rest:
        names = [n for n, d in pools.all.items() if kinds & {d["type"], "all"}]
    return table([[pools.value(n, c)[0] for c in columns] for n in sorted(names)], columns,
                 "H" in found)


def destroy(pools, argv):
    found, rest = options(argv, "fnprRvd", USAGE)
    name, = operands("destroy", rest, 1, 1)
    kind = pools.need(name)["type"]
    if "/" not in name:
        raise Fail(f"cannot destroy '{name}': operation does not apply to pools")
    doomed = [name, *pools.children(name)]
    if len(doomed) > 1 and not {"r", "R"} & set(found):
        raise Fail(f"cannot destroy '{name}': {kind} has children\nuse '-r' to destroy the "
                   "following datasets:\n" + "\n".join(doomed[1:]))
    for at in doomed:
        clones = [c for c in pools.clones(at) if c not in doomed]
        if clones and "R" not in found:
            raise Fail(f"cannot destroy '{name}': {kind} has dependent clones\nuse '-R' to destroy "
                       "the following datasets:\n" + "\n".join(clones))
        doomed += clones
    for at in doomed:
        if pools.busy(at):
            raise Fail(f"cannot destroy '{at}': dataset is busy")
    if "n" not in found:
        for at in doomed:
            pools.remove(at)


VERBS = {"create": create, "snapshot": snapshot, "clone": clone, "rename": rename, "set": set_,
         "get": get, "list": list_, "destroy": destroy}


def zfs(world, argv, **_):
    if not argv:
        raise Usage(f"missing command\n{USAGE}")
    if argv[0] not in VERBS:
        raise Usage(f"unrecognized command '{argv[0]}'\n{USAGE}")
    with world as state:
        return VERBS[argv[0]](Pools(world, state), argv[1:])


# ---- dd ----

DD = {"if", "of", "bs", "ibs", "obs", "cbs", "count", "skip", "iseek", "seek", "oseek", "conv"}
CONV = {"sync", "notrunc", "noerror", "swab", "lcase", "ucase"}


def dd(world, argv, **_):
    """The system's own; but a volume, unlike a file, keeps its size."""
    words = dict(arg.partition("=")[::2] for arg in argv)
    if not set(words) <= DD or not set(words.get("conv", "sync").split(",")) <= CONV:
        raise Usage("dd: bad argument: " + " ".join(argv))
    here = os.path.dirname(os.path.realpath(__file__))
    others = [p for p in os.environ.get("PATH", "/usr/bin").split(":")
              if os.path.realpath(p) != os.path.join(here, "bin")]
    real = next(p for p in (os.path.join(o, "dd") for o in others + ["/usr/bin", "/bin"])
                if os.path.exists(p))
    prefix, target = world.device(""), words.get("of", "")
    volume = target[len(prefix):] if target.startswith(prefix) else None
    if volume is not None and volume not in world.read()["datasets"]:
        raise Fail(f"dd: open({target}): No such file or directory")
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(real, ["dd", *argv])
        finally:
            os._exit(127)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if volume is not None:
        limit = int(world.read()["datasets"][volume]["props"]["volsize"])
        written = os.path.getsize(target)
        os.truncate(target, limit)
        if written > limit:
            raise Fail("dd: write: No space left on device")
    if status:
        raise Fail("dd: it failed", abs(status))
