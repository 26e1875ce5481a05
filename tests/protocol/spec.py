#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""JSON-RPC 2.0 to the letter: the examples of the specification, in its order, and ids."""

from wire import Server, equal, failed, run

ASK = '{"jsonrpc": "2.0", "method": "vm.get", "params": %s, "id": %s}'
NULL_ERROR = {"parse_error": -32700, "invalid_request": -32600}


def talk(*lines):
    """The answers to the lines, up to that of a last request that marks the end."""
    answers = []
    with Server() as server, server.client() as client:
        for line in lines:
            client.send_line(line)
        client.send_line('{"jsonrpc": "2.0", "method": "operation.list", "id": "the end"}')
        while (answer := client.answer()) and (
                not isinstance(answer, dict) or answer.get("id") != "the end"):
            answers.append(answer)
    return answers


def refused(answer, name):
    equal(answer["id"], None)
    failed(answer, name, NULL_ERROR[name])


def spec__positional_parameters__taken_in_order():
    answers = talk('{"jsonrpc": "2.0", "method": "vm.stop", "params": ["web", 5, true], "id": 1}',
                   '{"jsonrpc": "2.0", "method": "vm.stop", "params": ["web", null, true], "id": 2}')
    equal(answers[0], {"jsonrpc": "2.0", "id": 1, "result": {
        "name": "web", "timeout": "5000ms", "force": True, "progress": False}})
    equal(answers[1]["result"]["timeout"], "30000ms")


def spec__named_parameters__in_any_order():
    answers = talk('{"jsonrpc": "2.0", "method": "vm.stop", '
                   '"params": {"force": true, "name": "web"}, "id": 3}',
                   '{"params": {"name": "web"}, "id": 4, "method": "vm.get", "jsonrpc": "2.0"}')
    equal(answers[0]["result"]["name"], "web")
    equal(answers[0]["result"]["force"], True)
    equal(answers[1]["id"], 4)


def spec__notification__not_answered():
    equal(talk('{"jsonrpc": "2.0", "method": "vm.get", "params": {"name": "web"}}',
               '{"jsonrpc": "2.0", "method": "foobar"}',
               '{"jsonrpc": "2.0", "method": "vm.get", "params": {"bad": 1}}'), [])


def spec__unknown_method__told():
    answer = talk('{"jsonrpc": "2.0", "method": "vm.strat", "id": "1"}')[0]
    equal(answer["id"], "1")
    error = failed(answer, "method_not_found", -32601)
    assert "vm.start" in error["data"]["hint"]


def spec__invalid_json__parse_error():
    for line in ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', "{", "nonsense",
                 '[{"jsonrpc": "2.0", "method": "vm.get", "id": 1}, {"jsonrpc": "2.0", "method"]',
                 '{"jsonrpc": "2.0", "method": "vm.list", "id": 1} trailing',
                 "{'jsonrpc': '2.0', 'method': 'vm.list', 'id': 1}",
                 '{"jsonrpc": "2.0", "method": "vm.list", "id": 1, "id": 2}',
                 '{"jsonrpc": "2.0", "method": "vm.list", "id": 1, "params": [NaN]}'):
        answers = talk(line)
        equal(len(answers), 1)
        refused(answers[0], "parse_error")


def spec__invalid_request__told():
    for line in ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', "1", '"text"', "null",
                 '{"method": "vm.list"}', '{"jsonrpc": "1.0", "method": "vm.list"}',
                 '{"jsonrpc": "2.0"}', '{"jsonrpc": "2.0", "method": "vm.list", "id": {}}',
                 '{"jsonrpc": "2.0", "method": "vm.list", "id": true}'):
        answers = talk(line)
        equal(len(answers), 1)
        refused(answers[0], "invalid_request")


def spec__invalid_request_with_id__echoes_it():
    answer = talk('{"jsonrpc": "2.0", "method": "vm.list", "params": 3, "id": "x"}')[0]
    equal(answer["id"], "x")
    failed(answer, "invalid_request", -32600)


def spec__empty_batch__invalid():
    answers = talk("[]")
    equal(len(answers), 1)
    refused(answers[0], "invalid_request")


def spec__batch_of_rubbish__each_refused():
    for line, count in (("[1]", 1), ("[1,2,3]", 3)):
        batch, = talk(line)
        equal(len(batch), count)
        for answer in batch:
            refused(answer, "invalid_request")


def spec__mixed_batch__each_answered():
    batch, = talk('[{"jsonrpc": "2.0", "method": "vm.get", "params": ["a"], "id": "1"},'
                  '{"jsonrpc": "2.0", "method": "vm.get", "params": ["b"]},'
                  '{"jsonrpc": "2.0", "method": "vm.get", "params": ["c"], "id": "2"},'
                  '{"foo": "boo"},'
                  '{"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "x"}, "id": "5"},'
                  '{"jsonrpc": "2.0", "method": "operation.list", "id": "9"}]')
    by_id = {answer["id"]: answer for answer in batch}
    equal(set(by_id), {"1", "2", None, "5", "9"})
    equal(len(batch), 5)
    equal(by_id["1"]["result"]["name"], "a")
    equal(by_id["2"]["result"]["name"], "c")
    refused(by_id[None], "invalid_request")
    failed(by_id["5"], "method_not_found", -32601)
    assert "result" in by_id["9"]


def spec__batch_of_notifications__nothing():
    equal(talk('[{"jsonrpc": "2.0", "method": "vm.get", "params": ["a"]},'
               '{"jsonrpc": "2.0", "method": "nothing"}]'), [])


def spec__batch_with_a_slow_one__holds_up_nobody():
    with Server() as server, server.client() as client:
        client.send_line('[{"jsonrpc": "2.0", "method": "operation.wait", "id": 1, '
                         '"params": ["x", "80ms"]},'
                         '{"jsonrpc": "2.0", "method": "vm.get", "params": ["b"], "id": 2}]')
        equal(client.call("vm.get", ["c"])["result"]["name"], "c")
        equal({answer["id"] for answer in client.answer()}, {1, 2})


def spec__ids__echoed_exactly():
    for ident in ("1", "-1", "0", "1.50", "1e3", "-0", "18446744073709551616", '"a"', '""', "null",
                  '"\\u00e9\\n\\""', '"é"', "1" * 300, "0.1" + "0" * 100):
        with Server() as server, server.client() as client:
            client.send_line(ASK % ('["a"]', ident))
            line = client.read_line()
            assert f'"id":{ident},' in line, f"{ident}: {line}"


def spec__line_ends__carriage_return_and_empty_lines_are_harmless():
    with Server() as server, server.client() as client:
        client.send("\n\r\n  \n" + ASK % ('["a"]', 1) + "\r\n\n")
        equal(client.answer()["result"]["name"], "a")


def spec__invalid_parameters__named_with_their_path():
    shell = '{"name": "web", "provision": [{"shell": "true"}, {"shell": {"inline": "x", "as": 1}}]}'
    for method, params, path in (
            ("vm.get", "{}", "name"),
            ("vm.get", "[]", "name"),
            ("vm.get", '{"name": 3}', "name"),
            ("vm.get", '{"name": "a", "nmae": "b"}', "nmae"),
            ("vm.stop", '{"name": "a", "timeout": -1}', "timeout"),
            ("vm.stop", '{"name": "a", "timeout": "1 year"}', "timeout"),
            ("vm.stop", '{"name": "a", "force": "yes"}', "force"),
            ("vm.wait", '{"name": "a", "for": "godot"}', "for"),
            ("vm.exec", '{"name": "a", "command": []}', "command"),
            ("vm.exec", '{"name": "a", "command": ["x", 1]}', "command"),
            ("vm.create", '{"name": "A"}', "name"),
            ("vm.create", '{"name": "a", "vcpus": 0}', "vcpus"),
            ("vm.create", '{"name": "a", "vcpus": 1.5}', "vcpus"),
            ("vm.create", '{"name": "a", "network": {"type": "tun"}}', "network.type"),
            ("vm.create", shell, "provision[1].shell.as"),
            ("file.up", '{"project": "/p", "vms": [{"name": "a"}, {"name": "b", "disk": "x"}]}',
             "vms[1].disk")):
        with Server() as server, server.client() as client:
            error = failed(client.ask('{"jsonrpc": "2.0", "id": 1, "method": "%s", "params": %s}'
                                      % (method, params)), "invalid_params", -32602)
            equal(error["data"]["object"], path)
            assert path in error["message"], error


def spec__too_many_positions__told():
    error = failed(talk(ASK % ('["a", true, 3]', 1))[0], "invalid_params", -32602)
    assert "at most 2" in error["message"], error


def spec__errors_of_handlers__carry_name_hint_and_object():
    answer = talk('{"jsonrpc": "2.0", "method": "image.list", "id": 1}')[0]
    equal(answer, {"jsonrpc": "2.0", "id": 1, "error": {
        "code": -32000, "message": 'the image store is "gone"',
        "data": {"name": "failed", "hint": "look for it", "object": "store"}}})


def spec__progress__comes_before_the_answer_and_only_when_asked():
    first, second = talk('{"jsonrpc": "2.0", "method": "vm.start", "id": 1, '
                         '"params": {"name": "a", "progress": true}}')
    equal(first, {"jsonrpc": "2.0", "method": "operation.progress", "params": {}})
    equal(second["result"]["progress"], True)
    equal(len(talk('{"jsonrpc": "2.0", "method": "vm.start", "id": 1, '
                   '"params": {"name": "a"}}')), 1)


run(globals())
