#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""JSON-RPC 2.0 to the letter, spoken to a real vmmd.

The examples of the specification's section 7 stand in its order; where they call methods of an
imagined server, methods of ours stand in for them.
"""

import json
import socket

from harness import Failure, Host, check, equal, run, wait_until

host = Host().start()


def exchange(*lines):
    """Sends the lines and returns the answers, as text, that come before that of a last call."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(host.socket)
        last = '{"jsonrpc":"2.0","method":"system.hello","params":[1],"id":"the last"}'
        data = [line if isinstance(line, bytes) else line.encode() for line in lines]
        sock.sendall(b"\n".join(data + [last.encode()]) + b"\n")
        answers = []
        with sock.makefile("rb") as file:
            for line in file:
                if b'"the last"' in line:
                    return answers
                answers.append(line.decode().rstrip("\n"))
    raise Failure(f"the connection ended after {answers}")


def answer(line):
    answers = exchange(line)
    equal(len(answers), 1, line)
    return json.loads(answers[0])


def check_error(message, code, id=None):
    equal(set(message), {"jsonrpc", "id", "error"})
    equal(message["jsonrpc"], "2.0")
    equal(message["error"]["code"], code, message)
    equal(message["id"], id, message)
    check(message["error"]["message"] and message["error"]["data"]["name"], message)


def check_hello(message, id):
    equal(set(message), {"jsonrpc", "id", "result"})
    equal(message["jsonrpc"], "2.0")
    equal(message["result"]["protocol"], 1)
    equal(message["id"], id)


def test_call_with_positional_parameters():
    check_hello(answer('{"jsonrpc": "2.0", "method": "system.hello", "params": [1], "id": 1}'), 1)
    check_hello(answer('{"jsonrpc": "2.0", "method": "system.hello", "params": [1, "me"], "id": 2}'),
                2)


def test_call_with_named_parameters():
    check_hello(answer('{"jsonrpc": "2.0", "method": "system.hello", "params": {"protocol": 1, '
                       '"client": "me"}, "id": 3}'), 3)
    check_hello(answer('{"jsonrpc": "2.0", "method": "system.hello", "params": {"client": "me", '
                       '"protocol": 1}, "id": 4}'), 4)


def test_notification():
    equal(exchange('{"jsonrpc": "2.0", "method": "system.hello", "params": [1]}'), [])
    equal(exchange('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}'), [])
    equal(exchange('{"jsonrpc": "2.0", "method": "foobar"}'), [])
    equal(exchange('{"jsonrpc": "2.0", "method": "vm.get", "params": {"nmae": 1}}'), [])


def test_notification_is_carried_out():
    equal(exchange('{"jsonrpc":"2.0","method":"vm.create","params":{"name":"told","backend":"noop"}}'),
          [])
    wait_until("the machine to be made", lambda: "operation" not in host.vm("told"))
    host.call("vm.destroy", name="told")


def test_call_of_a_method_that_is_not_there():
    check_error(answer('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}'), -32601, "1")


def test_call_with_invalid_json():
    check_error(answer('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]'), -32700)


def test_call_with_an_invalid_request():
    check_error(answer('{"jsonrpc": "2.0", "method": 1, "params": "bar"}'), -32600)


def test_batch_with_invalid_json():
    check_error(answer('[ {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, '
                       '{"jsonrpc": "2.0", "method" ]'), -32700)


def test_empty_batch():
    check_error(answer("[]"), -32600)


def test_invalid_batch_of_one():
    answers = answer("[1]")
    equal(len(answers), 1)
    check_error(answers[0], -32600)


def test_invalid_batch():
    answers = answer("[1,2,3]")
    equal(len(answers), 3)
    for message in answers:
        check_error(message, -32600)


def test_batch():
    answers = answer('[{"jsonrpc": "2.0", "method": "system.hello", "params": [1], "id": "1"},'
                     '{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},'
                     '{"jsonrpc": "2.0", "method": "system.hello", "params": [1,"x"], "id": "2"},'
                     '{"foo": "boo"},'
                     '{"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},'
                     '{"jsonrpc": "2.0", "method": "vm.list", "id": "9"}]')
    equal(len(answers), 5)
    by_id = {message["id"]: message for message in answers}
    check_hello(by_id["1"], "1")
    check_hello(by_id["2"], "2")
    check_error(by_id[None], -32600)
    check_error(by_id["5"], -32601, "5")
    equal(by_id["9"], {"jsonrpc": "2.0", "id": "9", "result": {"vms": []}})


def test_batch_of_notifications():
    equal(exchange('[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},'
                   '{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]'), [])


def test_ids_come_back_to_the_byte():
    for text in ["0", "-7", "1.0", "1e2", "-0", "18446744073709551616", "1e400", "null", '""',
                 '"\\u00e9\\/\\ud83d\\ude00"', '"é"', "0.10", '"' + "x" * 100000 + '"']:
        line = '{"id": %s, "jsonrpc": "2.0", "method": "system.hello", "params": [1]}' % text
        got = exchange(line)
        equal(len(got), 1, text[:80])
        check('"id":%s,' % text in got[0], f"{text[:80]} came back as {got[0][:200]}")
        got = exchange(line.replace("system.hello", "foobar"))
        check('"id":%s,' % text in got[0], f"{text[:80]} came back as {got[0][:200]}")


def test_ids_of_other_kinds_are_refused():
    for text in ["true", "[1]", "{}"]:
        check_error(answer('{"jsonrpc":"2.0","method":"system.hello","params":[1],"id":%s}' % text),
                    -32600)


def test_what_is_no_request_is_refused_with_its_id():
    check_error(answer('{"jsonrpc":"1.0","method":"system.hello","id":7}'), -32600, 7)
    check_error(answer('{"method":"system.hello","id":7}'), -32600, 7)
    check_error(answer('{"jsonrpc":"2.0","id":7}'), -32600, 7)
    check_error(answer('{"jsonrpc":"2.0","method":"system.hello","params":"x","id":7}'), -32600, 7)
    check_error(answer('{"jsonrpc":"2.0","method":"system.hello","params":null,"id":7}'), -32600, 7)
    check_error(answer('{"jsonrpc":"2.0","method":"rpc.nothing","id":7}'), -32601, 7)
    for text in ["1", '"x"', "null", "true", "{}"]:
        check_error(answer(text), -32600)


def test_what_is_not_json_is_refused_with_the_place():
    for line in ['{"a":NaN}', "{'a':1}", '{"a":1,"a":2}', '{"a":1,"\\u0061":2}', '{"a\\u0000b":1}',
                 '"\\ud800"', b'"\xff"', b'"\x01"', b'"a\x00"', "[1,]", "[01]", "[1e400]", "{} {}",
                 "/* */ {}", "[-Infinity]", "tru", '"a\tb"', b"\xef\xbb\xbf{}", b"\x00", b"\xff" * 64,
                 "GET / HTTP/1.1", "[" * 10000 + "]" * 10000, '{"a":' * 40 + "1" + "}" * 40]:
        message = answer(line)
        check_error(message, -32700)
        check("at byte " in message["error"]["message"], message)


def test_line_ends_and_blank_lines():
    hello = '{"jsonrpc":"2.0","method":"system.hello","params":[1],"id":7}'
    check_hello(answer(" \t" + hello + " \r"), 7)
    equal(exchange("", " ", "\r", "\t\r"), [])
    spread = hello.replace(",", ", \t").replace(":", " : ")
    check_hello(answer(spread), 7)


def test_unknown_members_of_a_request_are_ignored():
    check_hello(answer('{"jsonrpc":"2.0","method":"system.hello","params":[1],"id":7,"more":[{}]}'), 7)


def test_batch_of_too_many():
    one = '{"jsonrpc":"2.0","method":"system.hello","params":[1],"id":1}'
    check_error(answer("[" + ",".join([one] * 257) + "]"), -32600)
    check_error(answer("[" + ",".join(["1"] * 100000) + "]"), -32600)


def test_last_line_needs_no_newline():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(host.socket)
        sock.sendall(b'{"jsonrpc":"2.0","method":"system.hello","params":[1],"id":7}')
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile() as file:
            check_hello(json.loads(file.read()), 7)


def test_vmmd_ends_well():
    """Also to a sanitizer, which tells at the end what was never freed."""
    equal(host.stop(), 0)


run(globals(), [host])
