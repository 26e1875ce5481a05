# SPDX-License-Identifier: MPL-2.0
"""zonecfg of the host in illumos.py."""

import copy
import re

from illumos import Fail, Usage, new_uuid, options
from illumos_net import valid_link

USAGE = "usage:\tzonecfg -z <zone> [-f <command-file> | <command> ...]"
ZONE = re.compile(r"(?!global$|SUNW)[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
TOKEN = re.compile(r'\s*(?:"([^"\n]*)"|([=;\[\]()])|([^\s";=\[\]()]+))')
PROPERTIES = ["zonename", "zonepath", "brand", "autoboot", "bootargs", "pool", "limitpriv",
              "scheduling-class", "ip-type", "hostid", "fs-allowed"]
# Of each resource: its properties, those that must be there, the one that no two have alike.
RESOURCES = {
    "fs": (["dir", "special", "raw", "type", "options"], ["dir", "special", "type"], "dir"),
    "net": (["address", "allowed-address", "defrouter", "global-nic", "mac-addr", "physical",
             "vlan-id"], ["physical"], "physical"),
    "device": (["match", "allow-partition", "allow-raw-io"], ["match"], "match"),
    "attr": (["name", "type", "value"], ["name", "type", "value"], "name"),
    "dataset": (["name"], ["name"], "name"),
}
ABSOLUTE = {("fs", "dir"), ("fs", "special"), ("device", "match")}
ATTR_TYPES = ("string", "int", "uint", "boolean")
ATTR_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")


def statements(text):
    """(line, tokens): a token is a word, or one of = [ ] ( ) as a 1-tuple."""
    for number, line in enumerate(text.split("\n"), 1):
        tokens, at = [], 0
        line = line.rstrip()
        while at < len(line):
            if line[at:].lstrip().startswith("#") and not tokens:
                break
            match = TOKEN.match(line, at)
            if match is None:
                raise Fail(f"On line {number}: syntax error at '{line[at:]}'")
            at = match.end()
            if match[2] == ";":
                if tokens:
                    yield number, tokens
                tokens = []
            elif match[2]:
                tokens.append((match[2],))
            else:
                tokens.append(match[1] if match[1] is not None else match[3])
        if tokens:
            yield number, tokens


class Session:
    def __init__(self, world, state, name):
        self.world, self.state, self.name = world, state, name
        self.out, self.changed, self.deleted = [], False, False
        self.config = copy.deepcopy(state["zones"].get(name, {}).get("config"))
        self.resource, self.selected = None, None  # in the scope of a resource

    def fail(self, text):
        raise Fail(f"{self.name}: {text}")

    def syntax(self, tokens):
        raise Fail("syntax error at '" + " ".join(t if isinstance(t, str) else t[0]
                                                  for t in tokens) + "'\n" + USAGE)

    def need(self):
        if self.config is None:
            self.fail("No such zone configured\nUse 'create' to begin configuring a new zone.")

    def assignment(self, tokens):
        """name = value | name = [ value ] -> (name, value)"""
        if len(tokens) < 3 or tokens[1] != ("=",) or not isinstance(tokens[0], str):
            self.syntax(tokens)
        return tokens[0], self.value(tokens[2:])

    def value(self, tokens):
        if len(tokens) == 1 and isinstance(tokens[0], str):
            return tokens[0]
        if len(tokens) > 1 and tokens[0] == ("[",) and tokens[-1] == ("]",):
            words = tokens[1:-1]
            if all(isinstance(w, str) for w in words):
                return [w for word in words for w in word.split(",") if w]
        return self.syntax(tokens)

    # -- commands --

    def create(self, args):
        found, rest = options(args, "Fba:t:", USAGE)
        if rest:
            self.syntax(rest)
        if self.name in self.state["zones"] and "F" not in found:
            self.fail("Zone already exists; use -F to overwrite it")
        self.config = {"props": {"autoboot": "false", "ip-type": "shared"}, "resources": []}
        if "b" not in found:
            self.config["props"]["brand"] = "ipkg"
        self.changed = True

    def delete(self, args):
        found, rest = options(args, "F", USAGE)
        if rest:
            self.syntax(rest)
        self.need()
        if "F" not in found:
            self.fail("Input not from terminal and -F not specified: delete command ignored")
        state = self.state["zones"][self.name]["state"]
        if state not in ("configured", "incomplete", "installed"):
            self.fail(f"Zone is {state}; delete not allowed")
        del self.state["zones"][self.name]
        self.config, self.changed, self.deleted = None, False, True

    def set(self, args):
        self.need()
        name, value = self.assignment(args)
        if self.resource is not None:
            return self.set_in_resource(name, value)
        if name not in PROPERTIES:
            self.syntax(args)
        if isinstance(value, list):
            self.fail(f"A list value was provided for {name}, but a simple value was expected.")
        state = self.state["zones"].get(self.name, {}).get("state", "configured")
        if name in ("zonepath", "brand", "zonename") and state not in ("configured", "incomplete"):
            self.fail(f"Zone {self.name} already installed; set {name} not allowed.")
        if name == "zonepath" and not re.fullmatch("/.*[^/]", value):
            self.fail(f"{value} is not an absolute path.")
        if name == "brand" and value not in self.state["brands"]:
            self.fail(f"brand '{value}': invalid brand")
        if name in ("autoboot",) and value not in ("true", "false"):
            self.fail(f"{name} value must be 'true' or 'false'.")
        if name == "ip-type" and value not in ("shared", "exclusive"):
            self.fail("ip-type value must be 'shared' or 'exclusive'.")
        self.config["props"][name] = value
        self.changed = True

    def set_in_resource(self, name, value):
        kind = self.resource["type"]
        if name not in RESOURCES[kind][0]:
            self.fail(f"syntax error: '{name}' is not a property of {kind}")
        if isinstance(value, list) != (name == "options"):
            self.fail(f"A value of another kind was expected for {name}.")
        if (kind, name) in ABSOLUTE and not value.startswith("/"):
            self.fail(f"{value} is not an absolute path.")
        if (kind, name) == ("net", "physical") and not valid_link(value):
            self.fail(f"{value} is not a valid data link name.")
        if (kind, name) == ("attr", "type") and value not in ATTR_TYPES:
            self.fail(f"{value} is not a valid attr type.")
        if (kind, name) == ("attr", "name") and not ATTR_NAME.fullmatch(value):
            self.fail(f"{value} is not a valid attr name.")
        self.resource["props"][name] = value

    def add(self, args):
        self.need()
        if self.resource is not None:
            if self.resource["type"] != "fs" or args[:1] != ["options"]:
                self.syntax(args)
            value = self.value(args[1:])
            self.resource["props"].setdefault("options", []).extend(
                value if isinstance(value, list) else [value])
            return
        if len(args) != 1 or args[0] not in RESOURCES:
            self.syntax(args)
        self.resource, self.selected = {"type": args[0], "props": {}}, None

    def find(self, args):
        if not args or args[0] not in RESOURCES:
            self.syntax(args)
        wanted, rest = {}, args[1:]
        while rest:
            name, value = self.assignment(rest[:3])
            wanted[name] = value
            rest = rest[3:]
        return [r for r in self.config["resources"]
                if r["type"] == args[0] and wanted.items() <= r["props"].items()]

    def select(self, args):
        self.need()
        found = self.find(args)
        if len(found) != 1 or self.resource is not None:
            self.fail(f"{args[0]}: no such resource, or several" if self.resource is None else
                      "select is not a command of this scope")
        self.selected, self.resource = found[0], copy.deepcopy(found[0])

    def remove(self, args):
        self.need()
        found = self.find([a for a in args if a != "-F"])
        if not found or (len(found) > 1 and "-F" not in args):
            self.fail(f"{args[0]}: no such resource, or several")
        self.config["resources"] = [r for r in self.config["resources"] if r not in found]
        self.changed = True

    def end(self, args):
        if args or self.resource is None:
            self.fail("The end command only makes sense in the resource scope.")
        kind, props = self.resource["type"], self.resource["props"]
        for name in RESOURCES[kind][1]:
            if name not in props:
                self.fail(f"Required property '{name}' of {kind} is not specified")
        key = RESOURCES[kind][2]
        for other in self.config["resources"]:
            if other is not self.selected and other["type"] == kind \
                    and other["props"].get(key) == props[key]:
                self.fail(f"A {kind} resource with the {key} '{props[key]}' already exists.")
        if self.selected is not None:
            self.selected["props"] = props
        else:
            self.config["resources"].append(self.resource)
        self.resource, self.selected, self.changed = None, None, True

    def cancel(self, args):
        if args or self.resource is None:
            self.fail("The cancel command only makes sense in the resource scope.")
        self.resource, self.selected = None, None

    def verify(self, args):
        if args or self.resource is not None:
            self.syntax(["verify", *args])
        self.need()
        props = self.config["props"]
        for name in ("zonepath", "brand"):
            if name not in props:
                self.fail(f"{name} cannot be blank: required property not specified")
        for resource in self.config["resources"]:
            if resource["type"] == "net" and props["ip-type"] == "exclusive" \
                    and "address" in resource["props"]:
                self.fail("address cannot be specified for an exclusive IP type zone")
        for name, zone in self.state["zones"].items():
            if name != self.name and zone["config"]["props"].get("zonepath") == props["zonepath"]:
                self.fail(f"zonepath {props['zonepath']} is already in use by zone {name}")

    def commit(self, args):
        self.verify(args)
        zone = self.state["zones"].setdefault(self.name, {
            "state": "configured", "id": None, "pid": None, "uuid": new_uuid()})
        zone["config"] = copy.deepcopy(self.config)
        zone["links"] = [r["props"]["physical"] for r in self.config["resources"]
                         if r["type"] == "net"]
        self.changed = False

    def info(self, args):
        self.need()
        if args and args[0] in PROPERTIES and len(args) == 1:
            self.out.append(f"{args[0]}: {self.property(args[0])}\n")
            return
        if args:
            found = self.find(args)
            self.out += [self.shown(r) for r in found]
            if not found and len(args) > 1:
                self.out.append(f"No such {args[0]} resource.\n")
            return
        self.out += [f"{name}: {self.property(name)}\n" for name in PROPERTIES]
        self.out += [self.shown(r) for r in self.config["resources"]]

    def property(self, name):
        return self.name if name == "zonename" else self.config["props"].get(name, "")

    def shown(self, resource):
        lines = [f"{resource['type']}:\n"]
        for name in RESOURCES[resource["type"]][0]:
            value = resource["props"].get(name)
            if isinstance(value, list):
                value = "[" + ",".join(value) + "]"
            lines.append(f"\t{name} not specified\n" if value is None else f"\t{name}: {value}\n")
        return "".join(lines)

    def export(self, args):
        self.need()
        if args:
            self.syntax(args)
        quoted = lambda v: f'"{v}"' if re.search(r'[\s;=\[\]()]', v) or not v else v  # noqa: E731
        self.out.append("create -b\n")
        self.out += [f"set {n}={quoted(v)}\n" for n, v in self.config["props"].items()]
        for resource in self.config["resources"]:
            self.out.append(f"add {resource['type']}\n")
            for name, value in resource["props"].items():
                self.out.append(f"add {name} [{','.join(value)}]\n" if isinstance(value, list) else
                                f"set {name}={quoted(value)}\n")
            self.out.append("end\n")

    def exit(self, args):
        pass

    COMMANDS = ("create", "delete", "set", "add", "select", "remove", "end", "cancel", "verify",
                "commit", "info", "export", "exit")

    def run(self, tokens):
        if self.deleted or tokens[0] not in self.COMMANDS:
            self.syntax(tokens)
        getattr(self, tokens[0])(tokens[1:])

    def finish(self):
        if self.resource is not None:
            self.fail("Resource incomplete: the scope was not ended; not saved")
        if self.changed:
            self.commit([])
        return "".join(self.out)


def zonecfg(world, argv, stdin=None, **_):
    found, rest = options(argv, "z:u:f:S", USAGE)
    if "z" not in found or ("f" in found) == bool(rest):
        raise Usage(USAGE)
    name = found["z"][0]
    if not ZONE.fullmatch(name):
        raise Fail(f"{name}: Invalid zone name")
    if "f" in found and stdin is None:
        raise Fail(f"could not open file {found['f'][0]}: No such file or directory")
    with world as state:
        session = Session(world, state, name)
        for number, tokens in statements(stdin if "f" in found else " ".join(rest)):
            try:
                session.run(tokens)
            except Fail as e:
                where = f"On line {number} of {found['f'][0]}:\n" if "f" in found else ""
                raise Fail(f"{where}{e}", e.status) from e
        return session.finish()
