# SPDX-License-Identifier: MPL-2.0
"""A web server for tests that can do everything wrong, and remembers what it was asked.

    server = Server()
    page = server.put("/disk.qcow2", data)          # served well: ETag, ranges, 304
    page.then(cut=1000, reset=True)                 # the next answer is broken off
    page.always(status=404)                         # all that follow
    server.url("/disk.qcow2"), page.hits            # what came, and how many bytes went out

As a program it is told what to do by lines of JSON on its standard input, and answers each:

    web.py [CERTIFICATE KEY]                        -> {"url": "http://127.0.0.1:33333"}
    {"do": "put", "path": "/a", "file": "/tmp/a", "etag": "\"one\""}
    {"do": "then", "path": "/a", "cut": 1000}       also always, replace, redirect, release, hits

An answer is made as a good server would make it and then changed by what the plan says, each key
an attribute of Answer or one of REQUEST_FAULTS.  A page may be a function of the request instead.
"""

import base64
import collections
import dataclasses
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time

REASONS = {200: "OK", 201: "Created", 202: "Accepted", 206: "Partial Content", 302: "Found",
           304: "Not Modified", 401: "Unauthorized", 404: "Not Found",
           416: "Range Not Satisfiable", 503: "Service Unavailable"}
# What changes how a request is understood: `whole` answers a range with 200; `etag` and
# `last_modified` are told in place of the page's; `content_range` in place of the right one.
REQUEST_FAULTS = ("whole", "etag", "last_modified", "content_range")
PIECE = 1 << 16


@dataclasses.dataclass
class Answer:
    status: int = 200
    headers: list = dataclasses.field(default_factory=list)
    body: object = b""       # bytes, or a File
    length: object = None    # Content-Length: None: the right one; "": none at all
    chunked: bool = False
    cut: object = None       # the connection ends after so many bytes of body
    reset: bool = False      # and by RST
    hold: object = None      # after so many bytes, waits for page.release()
    drip: object = None      # (bytes, seconds): so slow
    endless: bool = False    # the body again and again
    raw: object = None       # the whole answer, instead of everything above


class File:
    """A part of a file as a body."""

    def __init__(self, path, start=0, end=None):
        self.path, self.start = path, start
        self.end = os.path.getsize(path) if end is None else end

    def __len__(self):
        return self.end - self.start

    def __getitem__(self, part):
        return File(self.path, self.start + (part.start or 0),
                    self.end if part.stop is None else self.start + part.stop)

    def pieces(self):
        with open(self.path, "rb") as file:
            file.seek(self.start)
            left = len(self)
            while left > 0:
                data = file.read(min(left, PIECE))
                left -= len(data)
                yield data


def pieces_of(body, drip):
    if drip:
        body = body if isinstance(body, bytes) else b"".join(body.pieces())
        for at in range(0, len(body), drip[0]):
            time.sleep(drip[1])  # this is the slowness, nothing waits for it
            yield body[at:at + drip[0]]
    elif isinstance(body, bytes):
        for at in range(0, len(body), PIECE):
            yield body[at:at + PIECE]
    else:
        yield from body.pieces()


class Request:
    """What came; `sent` grows while the body goes out."""

    def __init__(self, server, method, target, headers, body):
        self.server, self.method, self.target, self.body = server, method, target, body
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.status, self.sent, self.ended = 0, 0, False

    def __getitem__(self, name):
        return self.headers.get(name.lower())

    def basic(self):
        """(user, password) of the Authorization header, or None."""
        kind, _, value = (self["authorization"] or "").partition(" ")
        if kind.lower() != "basic":
            return None
        return tuple(base64.b64decode(value).decode().split(":", 1))

    def __repr__(self):
        return f"<{self.method} {self.target} -> {self.status}, {self.sent} bytes>"


class Page:
    def __init__(self, server, path, data=b"", etag='"one"', last_modified=None, ranges=True,
                 login=None, content_type="application/octet-stream"):
        self.server, self.path = server, path
        self.login, self.ranges, self.content_type = login, ranges, content_type
        self.replace(data, etag, last_modified)
        self.plan = collections.deque()
        self.standing = {}
        self.held = threading.Event()   # an answer has come to where it holds
        self.gate = threading.Event()

    def replace(self, data, etag='"two"', last_modified=None):
        self.data, self.etag, self.last_modified = data, etag, last_modified

    def then(self, times=1, **faults):
        self.plan.extend([faults] * times)
        return self

    def always(self, **faults):
        self.standing = faults
        return self

    def release(self):
        self.gate.set()

    @property
    def hits(self):
        return [r for r in self.server.requests if r.path == self.path]

    @property
    def bodies(self):
        """What was asked for and got bytes of a body with 200 or 206."""
        return [r for r in self.hits if r.sent and r.status in (200, 206)]

    @property
    def url(self):
        return self.server.url(self.path)

    def answer(self, request):
        faults = dict(self.plan.popleft() if self.plan else self.standing)
        ways = {name: faults.pop(name) for name in REQUEST_FAULTS if name in faults}
        answer = self.good(request, ways)
        for name, value in faults.items():
            if name == "headers":
                answer.headers = answer.headers + list(value)
            else:
                setattr(answer, name, value)
        if "status" in faults and "body" not in faults and faults["status"] >= 300:
            answer.body = b"<html>no image here</html>"
        return answer

    def good(self, request, ways):
        etag = ways.get("etag", self.etag)
        modified = ways.get("last_modified", self.last_modified)
        validators = [(n, v) for n, v in (("ETag", etag), ("Last-Modified", modified)) if v]
        if self.login and request.basic() != tuple(self.login):
            return Answer(401, [("WWW-Authenticate", 'Basic realm="test"')], b"who are you?\n")
        known = request["if-none-match"]
        if known and etag and known.removeprefix("W/") == etag.removeprefix("W/"):
            return Answer(304, validators)
        if not known and modified and request["if-modified-since"] == modified:
            return Answer(304, validators)
        headers = validators + [("Content-Type", self.content_type)]
        if self.ranges:
            headers.append(("Accept-Ranges", "bytes"))
        start = self.range_start(request, etag, modified)
        if start is None or ways.get("whole"):
            return Answer(200, headers, self.data)
        total = len(self.data)
        if start >= total:
            return Answer(416, headers + [("Content-Range", f"bytes */{total}")])
        told = ways.get("content_range", f"bytes {start}-{total - 1}/{total}")
        return Answer(206, headers + [("Content-Range", told)], self.data[start:])

    def range_start(self, request, etag, modified):
        wanted = request["range"]
        if not wanted or not self.ranges:
            return None
        condition = request["if-range"]
        weak = etag and etag.startswith("W/")
        if condition and (weak or condition != etag) and (not modified or condition != modified):
            return None
        return int(wanted.removeprefix("bytes=").split("-")[0])


class Server:
    def __init__(self, address="127.0.0.1", certificate=None):
        """certificate: of make_certificate(), for TLS."""
        self.tls = None
        if certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*certificate)
        self.pages, self.requests = {}, []
        self.connections = 0
        self.closing = False
        self.listener = socket.create_server((address, 0), backlog=128)
        self.address, self.port = self.listener.getsockname()[:2]
        self.sockets = set()
        threading.Thread(target=self.listen, daemon=True).start()

    def url(self, path="/"):
        return f"{'https' if self.tls else 'http'}://{self.address}:{self.port}{path}"

    def put(self, path, data=b"", **kwargs):
        self.pages[path] = page = Page(self, path, data, **kwargs)
        return page

    def on(self, path, answer):
        """answer: an Answer, or a function of the request that makes one; a path that ends with *
        covers what begins so."""
        self.pages[path] = answer

    def redirect(self, path, to, status=302):
        self.on(path, Answer(status, [("Location", to)]))

    def hits(self, path):
        return [r for r in self.requests if r.path == path]

    def close(self):
        self.closing = True
        self.listener.close()
        for page in self.pages.values():
            if isinstance(page, Page):
                page.release()
        for connection in list(self.sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    # -- a thread for each connection --

    def listen(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        self.sockets.add(connection)
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
                self.sockets.add(connection)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection.makefile("rb") as reader:
                while not self.closing and self.serve_one(connection, reader):
                    pass
        except OSError:
            pass
        finally:
            self.sockets.discard(connection)
            connection.close()

    def serve_one(self, connection, reader):
        """True: the connection goes on."""
        line = reader.readline().decode("latin-1").split()
        if len(line) != 3:
            return False
        headers = {}
        while (header := reader.readline().decode("latin-1").strip()):
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = reader.read(int(headers.get("content-length", 0)))
        target = line[1] if line[1].startswith("/") else "/" + line[1].split("/", 3)[-1]
        request = Request(self, line[0], target, headers, body)
        request.full_target = line[1]
        self.requests.append(request)
        page, answer = self.find(request)
        try:
            return self.send(connection, request, page, answer)
        finally:
            request.ended = True

    def find(self, request):
        page = self.pages.get(request.path)
        if page is None:
            prefixes = [p for p in self.pages if p.endswith("*") and
                        request.path.startswith(p[:-1])]
            page = self.pages[max(prefixes, key=len)] if prefixes else None
        if page is None:
            return None, Answer(404, [("Content-Type", "text/html")], b"<html>not found</html>")
        if isinstance(page, Page):
            return page, page.answer(request)
        return None, page(request) if callable(page) else page

    def send(self, connection, request, page, answer):
        request.status = answer.status
        if answer.raw is not None:
            connection.sendall(answer.raw)
            return False
        connection.sendall(self.head(request, answer))
        if request.method == "HEAD" or answer.status == 304:
            return True
        count = 0
        while True:
            for piece in pieces_of(answer.body, answer.drip):
                for stop in (answer.hold, answer.cut):
                    if stop is not None and count <= stop < count + len(piece):
                        self.put_out(connection, request, answer, piece[:stop - count])
                        piece, count = piece[stop - count:], stop
                        if stop == answer.cut:
                            self.end(connection, answer.reset)
                            return False
                        page.held.set()
                        page.gate.wait()
                self.put_out(connection, request, answer, piece)
                count += len(piece)
            if not answer.endless or self.closing:
                break
        if answer.chunked:
            connection.sendall(b"0\r\n\r\n")
        return answer.length is None

    def head(self, request, answer):
        lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Odd')}"]
        if answer.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif answer.length != "" and not answer.endless and answer.status != 304:
            length = len(answer.body) if answer.length is None else answer.length
            lines.append(f"Content-Length: {length}")
        lines += [f"{name}: {value}" for name, value in answer.headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    @staticmethod
    def put_out(connection, request, answer, piece):
        if not piece:
            return
        if answer.chunked:
            connection.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
        else:
            connection.sendall(piece)
        request.sent += len(piece)

    @staticmethod
    def end(connection, reset):
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        else:
            connection.shutdown(socket.SHUT_WR)


def told(request):
    return {"method": request.method, "target": request.full_target, "status": request.status,
            "headers": request.headers, "sent": request.sent}


def obey(server, do, path, **given):
    """One line of the control: what comes back is what it asked for."""
    page = server.pages.get(path)
    if "file" in given:
        given["data"] = File(given.pop("file"))
    if do == "put":
        server.put(path, **given)
    elif do == "redirect":
        server.redirect(path, **given)
    elif do == "hits":
        # What a client has in full is counted a moment later.
        while not all(r.ended for r in server.hits(path)):
            time.sleep(0.001)
        return [told(r) for r in server.hits(path)]
    elif do == "held":
        return page.held.wait(20)
    elif do in ("then", "always", "replace", "release"):
        getattr(page, do)(**given)
    else:
        raise ValueError(do)
    return True


def main():
    server = Server(certificate=sys.argv[1:3] or None)
    print(json.dumps({"url": server.url("")}), flush=True)
    for line in sys.stdin:
        print(json.dumps(obey(server, **json.loads(line))), flush=True)
    server.close()


if __name__ == "__main__":
    main()
