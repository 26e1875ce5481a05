#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The web server of web.py for tests that are not Python: a JSON array a line on standard input is
a call, its answer is a line of JSON on standard output.  The first line says where the server is.

    ["put", "/a.img", FILE, {…}]    serves what is in FILE now (again: replaces it)
    ["login", "/a.img", USER, PASSWORD]
    ["then", "/a.img", {"cut": 5}]  the next answer    ["always", …]  all that follow
    ["held", "/a.img"]              waits until an answer holds      ["release", "/a.img"]
    ["hits", "/a.img"]              [[status, bytes sent], …]        ["auth", …]  who they were
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import web  # noqa: E402


def main():
    server = web.Server()
    print(json.dumps(server.url("")), flush=True)
    for line in sys.stdin:
        verb, path, *rest = json.loads(line)
        page, result = server.pages.get(path), True
        if verb == "put":
            with open(rest[0], "rb") as file:
                data = file.read()
            if page:
                page.replace(data, **{k: v for k, v in rest[1].items() if k != "content_type"})
            else:
                server.put(path, data, **rest[1])
        elif verb == "login":
            page.login = tuple(rest)
        elif verb in ("then", "always"):
            getattr(page, verb)(**rest[0])
        elif verb == "held":
            result = page.held.wait(30)
            page.held.clear()
        elif verb == "release":
            page.release()
        elif verb == "hits":
            result = [[r.status, r.sent] for r in server.hits(path)]
        elif verb == "auth":
            result = [r["authorization"] for r in server.hits(path)]
        print(json.dumps(result), flush=True)
    server.close()


main()
