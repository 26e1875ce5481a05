# SPDX-License-Identifier: MPL-2.0
"""Servers of any name, for tests on loopback: a certificate, and a proxy that leads there.

    certificate = make_certificate(folder, "registry.test")
    server = web.Server(certificate=certificate)
    proxy = Proxy({"registry.test:443": server.port})
"""

import os
import socket
import subprocess
import threading


def make_certificate(folder, *names):
    """(certificate, key), which also is the authority to trust."""
    path, key = os.path.join(folder, "tls.pem"), os.path.join(folder, "tls.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
                    "-subj", "/CN=" + names[0], "-keyout", key, "-out", path, "-addext",
                    "subjectAltName=" + ",".join("DNS:" + name for name in names)],
                   check=True, stderr=subprocess.DEVNULL)
    return path, key


def pump(source, target):
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:
        pass
    finally:
        try:
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Proxy:
    """Takes CONNECT for the places that it knows, and notes all that it was asked."""

    def __init__(self, places):
        self.places, self.asked = places, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += connection.recv(1) or b"\r\n\r\n"
            method, place, *_ = head.decode("latin-1").split(" ", 2)
            self.asked.append((method, place))
            if method != "CONNECT" or place not in self.places:
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", self.places[place])) as server:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=pump, args=(server, connection), daemon=True)
                back.start()
                pump(connection, server)
                back.join()

    def close(self):
        self.listener.close()
