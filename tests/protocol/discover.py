#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Every method that rpc.discover lists, called with good parameters and with bad ones.

What a method answers is checked against its schema, and what its schema does not take it must
refuse, by the name of the parameter, and without having done anything.
"""

import base64
import json
import os
import time

from harness import Failure, Host, RpcError, check, equal, run
from schema import Schemas

host = Host().start()
shared = host.rpc()  # for calls that are refused
document = shared.call("rpc.discover")
schemas = Schemas(document)
methods = {method["name"]: method for method in document["methods"]}

PROJECT = "/no/such/VMFile.yaml"
VM = {"name": "web", "backend": "noop"}
LEGACY = {"data": base64.b64encode(b'{"vms":{}}').decode()}

# Good calls in an order that makes sense; a name: the error that this backend or state gives.
GOOD = [
    ("system.hello", {"protocol": 1, "client": "a test"}),
    ("system.info", {}),
    ("rpc.discover", {}),
    ("image.list", {}),
    ("image.catalogue", {}),
    ("image.prune", {"dry_run": True}),
    ("image.inspect", {"image": "none"}, "not_found"),
    ("image.pull", {"image": "none"}, "not_found"),
    ("image.import", {"image": {"data": base64.b64encode(bytes(1 << 16)).decode()}, "name": "zeros"}),
    ("image.verify", {"image": "none"}, "not_found"),
    ("image.tag", {"image": "none", "name": "golden"}, "not_found"),
    ("image.export", {"image": "none", "file": {"fd": 0}}, "invalid_params"),
    ("image.commit", {"vm": "none", "name": "golden"}, "not_found"),
    ("image.push", {"image": "none", "reference": "oci://localhost:1/x:y"}, "not_found"),
    ("image.rm", {"image": "none"}, "not_found"),
    ("vm.create", {"name": "good", "backend": "noop", "vcpus": 2, "memory": "64MiB", "network": "none",
                   "provision": [{"shell": "true"}], "ssh": {"user": "me"}, "progress": True}),
    ("vm.list", {}),
    ("vm.get", {"name": "good"}),
    ("vm.wait", {"name": "good", "for": "stopped", "timeout": 5}),
    ("vm.start", {"name": "good"}),
    ("vm.wait", {"name": "good", "for": "running", "timeout": "5s"}),
    ("vm.suspend", {"name": "good"}),
    ("vm.resume", {"name": "good"}),
    ("vm.provision", {"name": "good", "force": True}),
    ("vm.port_list", {"name": "good"}),
    ("vm.port_add", {"name": "good", "ports": ["8080:80"]}, "invalid_params"),  # it has no network
    ("vm.port_remove", {"name": "good", "ports": ["8080:80"]}, "not_found"),
    ("vm.create", {"name": "open", "backend": "noop", "ports": ["18080:80", "5353:53/udp", "443"]}),
    ("vm.start", {"name": "open"}),
    ("vm.port_add", {"name": "open", "ports": ["127.0.0.1:18443:443"]}),
    ("vm.port_remove", {"name": "open", "ports": ["18080:80"]}),
    ("vm.port_list", {"name": "open"}),
    ("vm.destroy", {"name": "open", "force": True}),
    ("vm.log", {"name": "good", "source": "provision", "tail": 10}),
    ("vm.ssh_info", {"name": "good"}, "wrong_state"),
    ("vm.console", {"name": "good"}, "unsupported"),
    ("vm.screenshot", {"name": "good"}, "unsupported"),
    ("vm.exec", {"name": "good", "command": ["true"]}, "wrong_state"),
    ("vm.stop", {"name": "good", "timeout": 1}),
    ("vm.destroy", {"name": "good", "force": True}),
    ("vm.destroy", {"name": "good"}, "not_found"),
    ("file.plan", {"project": PROJECT, "vms": [VM]}),
    ("file.up", {"project": PROJECT, "vms": [VM], "timeout": 60}),
    ("file.reload", {"project": PROJECT, "vms": [VM], "timeout": 60}),
    ("file.down", {"project": PROJECT, "vms": [VM], "destroy": True}),
    ("event.subscribe", {"since": 0, "replay": True}),
    ("operation.list", {"all": True}),
    ("system.import_legacy", {"store": LEGACY}),
]


def call_on(connection, method, params):
    """The result, or the error."""
    connection.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\n")
    try:
        return connection.answer(1), None
    except RpcError as e:
        return None, e.error


def call(method, params):
    """The same on a connection of its own: it may become another thing than a place for calls."""
    connection = host.rpc()
    try:
        return call_on(connection, method, params)
    finally:
        connection.close()


def fits(schema, value, what):
    problems = schemas.problems(schema, value, what)
    check(not problems, "; ".join(problems))
    equal(schemas.undescribed(schema, value, what), [], "not described")


def check_result(method, result):
    fits(methods[method]["result"]["schema"], result, method)


def good_call(method, params, wanted=None):
    problems = []
    for param in methods[method]["params"]:
        if param["name"] in params:
            problems += schemas.problems(param["schema"], params[param["name"]], param["name"])
    check(not problems, f"{method}: {problems}")
    before = time.monotonic()
    result, error = call(method, params)
    seconds = time.monotonic() - before
    equal(error["data"]["name"] if error else None, wanted, f"{method} {error}")
    # Where nothing runs there is nothing to wait for, and no deadline may pass unseen.
    check(seconds < 4, f"{method} took {seconds:.1f} s")
    if result is not None:
        check_result(method, result)
    return result


def refused(method, params, param):
    """The call must be refused because of that parameter."""
    result, error = call_on(shared, method, params)
    shown = f"{method} {json.dumps(params):.300}"
    check(error is not None, f"{shown} was taken: {result}")
    equal(error["code"], -32602, f"{shown}: {error['message']}")
    where = error["data"].get("object", "")
    check(where.split(".")[0].split("[")[0] == param, f"{shown}: tells of '{where}'")
    check(error["message"].startswith(where), error["message"])


def world():
    """What a refused call must not have changed."""
    return (host.call("vm.list"), host.call("operation.list", all=True),
            host.call("system.info")["last_event"], sorted(os.listdir(os.path.join(host.data, "vms"))))


def needed(method):
    """Good values of what can not be left out."""
    return {p["name"]: schemas.good(p["schema"]) for p in methods[method]["params"] if p["required"]}


def test_every_method_with_good_parameters():
    for row in GOOD:
        good_call(*row)
    operations = host.call("operation.list", all=True)["operations"]
    check(operations, "no operation is listed")
    id = operations[-1]["id"]
    good_call("operation.get", {"id": id})
    good_call("operation.wait", {"id": id, "timeout": 5})
    good_call("operation.cancel", {"id": id}, "wrong_state")
    good_call("operation.get", {"id": "none"}, "not_found")
    equal(host.names(), [])
    called = {row[0] for row in GOOD} | {"operation.get", "operation.wait", "operation.cancel",
                                         "system.shutdown"}  # which has a daemon of its own below
    equal(called, set(methods))


def test_every_method_by_position():
    until = [row[0] for row in GOOD].index("vm.start")
    for method, params, *wanted in GOOD[:until]:
        rows = [param["name"] for param in methods[method]["params"]]
        values = [params.get(name) for name in rows]
        while values and values[-1] is None:
            values.pop()
        result, error = call(method, values)
        equal(error["data"]["name"] if error else None, wanted[0] if wanted else None,
              f"{method} {values}")
        if result is not None:
            check_result(method, result)
        result, error = call(method, [None] * (len(rows) + 1))
        equal(error["code"], -32602, f"{method} with too many")
    host.call("vm.destroy", name="good")


def test_every_parameter_with_bad_values():
    before = world()
    tried = 0
    for method, row in methods.items():
        for param in row["params"]:
            for value in schemas.bad(param["schema"]):
                refused(method, dict(needed(method), **{param["name"]: value}), param["name"])
                tried += 1
    print(f"# {tried} bad values")
    check(tried > 1000, tried)
    equal(world(), before)


def test_every_required_parameter_missing_or_null():
    for method in methods:
        for name in needed(method):
            params = needed(method)
            params[name] = None
            refused(method, params, name)
            del params[name]
            refused(method, params, name)


def test_every_method_with_an_unknown_parameter():
    before = world()
    for method, row in methods.items():
        for name in ["no_such_parameter", "", "Name", "na\u0301me", "x" * 3000]:
            params = dict(needed(method), **{name: 1})
            result, error = call(method, params)
            check(error is not None and error["code"] == -32602, f"{method} took '{name:.40}'")
            check(error["data"].get("hint"), f"{method} '{name:.40}' without a hint")
        known = [param["name"] for param in row["params"]]
        for name in known:
            wrong = name[:-1]
            if len(name) > 3 and wrong not in known:
                result, error = call(method, dict(needed(method), **{wrong: 1}))
                check(error is not None and error["code"] == -32602, f"{method} took '{wrong}'")
                check("did you mean" in error["data"]["hint"], error)
    equal(world(), before)


def test_methods_that_are_nearly_there():
    for method in methods:
        result, error = call(method[:-1], {})
        equal(error["code"], -32601)
        check("did you mean" in error["data"]["hint"], error)
    for method in ["", ".", "vm", "vm.", "VM.LIST", "rpc.", "rpc.x", "vm.list\n", "x" * 100000]:
        equal(call(method, {})[1]["code"], -32601)


def test_errors_that_are_promised():
    rows = document["components"]["errors"]
    for method in methods.values():
        for error in method["errors"]:
            check(error["$ref"].rsplit("/", 1)[1] in rows, error)
    result, error = call("vm.get", {"name": "nobody"})
    equal(rows[error["data"]["name"]]["code"], error["code"])


def test_notifications_fit_their_schema():
    shapes = {row["name"]: row["params"] for row in document["x-notifications"]}
    seen = set()
    watcher, worker = host.rpc(), host.rpc()
    watcher.call("event.subscribe")
    worker.call("vm.create", name="seen", backend="noop", start=True, progress=True)
    worker.call("vm.destroy", name="seen", progress=True)
    watcher.call("system.hello", protocol=1)
    for message in watcher.notifications + worker.notifications:
        fits(shapes[message["method"]], message["params"], message["method"])
        seen.add(message["method"])
    watcher.close()
    worker.close()
    equal(seen, set(shapes))


def test_shutdown():
    other = Host().start()
    try:
        result = other.call("system.shutdown")
        check_result("system.shutdown", result)
        equal(result["pid"], other.process.pid)
        equal(other.process.wait(30), 0)
        check(not os.path.exists(other.socket), "the socket is still there")
    finally:
        other.close()


def test_vmmd_ends_well():
    """Also to a sanitizer, which tells at the end what was never freed."""
    equal(host.stop(), 0)


run(globals(), [host])
