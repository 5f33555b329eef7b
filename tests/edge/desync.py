#!/usr/bin/env python3
"""Sends what two readers could read differently, straight and through nginx and HAProxy, and looks whose answer comes to whom.

    desync.py BINARY              the built gatepost: the whole table (tests/server/http1.json), and requests inside requests
    desync.py BINARY --only WAY   straight, nginx, haproxy or passed (TLS through HAProxy)

Each input comes with a signed request behind it on the same connection, and a signed one of somebody else follows on another.
The proxies keep their connections to Gatepost and give them to whoever comes next. Every answer must be that of the request
it comes for, and the app must have seen exactly the requests that were answered 2xx to whoever sent them.

A checker that finds nothing may be blind, so it is tried on servers with a mistake, too; each must be found. Needs what
byte_exact.py needs.
"""

import argparse
import contextlib
import json
import os
import re
import socket
import ssl
import sys
import tempfile
import threading

import byte_exact as edge
from ports import free_port

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "server", "http1.json")
PATIENCE = 1.5  # for an answer that does not come because more bytes are waited for
WAYS = ("straight", "nginx", "haproxy", "passed")
# What follows it on its connection is nobody's: a body was there where none belongs.
CLOSES = "a body where none belongs: GET with a request as its body"


# -- what is sent ------------------------------------------------------------------------------------------------


class Numbers:
    """Each request has an id of its own."""

    def __init__(self, start):
        self.start = self.next = start

    def has(self, event_id):
        """Whether it is one of these."""
        number = re.search(r"\d+$", event_id)
        return number is not None and self.start < int(number[0]) <= self.next

    def signed(self, close=True):
        """An id, and the bytes of a whole request under it."""
        self.next += 1
        body = b'{"n": %d}' % self.next
        headers = edge.sign(body, self.next)
        lines = ["POST /hooks HTTP/1.1", f"Host: {edge.HOST}", f"Content-Length: {len(body)}"]
        lines += ["Connection: close"] * close + [f"{name}: {value}" for name, value in headers.items()]
        return headers["X-Event-Id"], "\r\n".join([*lines, "", ""]).encode() + body


def table():
    """Name, bytes, and the status of each row; any where the connection is closed with or without one."""
    for case in json.load(open(TABLE)):
        lines, body = case.get("lines", ""), case.get("body", "")
        text = case.get("send", f"POST PATH HTTP/1.1\r\nHost: HOST\r\n{lines}\r\n{body}")
        times, what = case.get("repeat", (0, ""))
        text = text.replace("PATH", "/hooks").replace("HOST", edge.HOST).replace("REPEAT", what * times)
        status = case.get("gate", case["want"])
        status = {200: 401, "closed": "any"}.get(status, status)  # nothing in it is signed
        yield f"{case['row']}: {case['name']}", text.encode("latin-1"), status


def nested(numbers):
    """Requests with a signed one inside, each with the id of that."""

    def post(lines, body, method="POST", start=None):
        head = start or f"{method} /hooks HTTP/1.1\r\nHost: {edge.HOST}\r\n"
        return (head + lines + "\r\n").encode() + body

    chunked, zero = "Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"
    shapes = {
        "in the body of a GET": lambda r: post(f"Content-Length: {len(r)}\r\n", r, "GET"),
        "in the body of a DELETE": lambda r: post(f"Content-Length: {len(r)}\r\n", r, "DELETE"),
        "in a body": lambda r: post(f"Content-Length: {len(r)}\r\n", r),
        "in a chunk": lambda r: post(chunked, b"%x\r\n%s\r\n%s" % (len(r), r, zero)),
        "in a chunk of a GET": lambda r: post(chunked, b"%x\r\n%s\r\n%s" % (len(r), r, zero), "GET"),
        "behind the last chunk, within the length": lambda r: post(f"Content-Length: {len(zero + r)}\r\n{chunked}", zero + r),
        "behind the length, in a chunk": lambda r: post(f"{chunked}Content-Length: 6\r\n", b"%04x\r\n%s\r\n%s" % (len(r), r, zero)),
        "behind a length of none, with an underscore": lambda r: post(f"Content-Length: {len(r)}\r\nContent_Length: 0\r\n", r),
        "behind the first of two lengths": lambda r: post(f"Content-Length: 0\r\nContent-Length: {len(r)}\r\n", r),
        "behind the last of two lengths": lambda r: post(f"Content-Length: {len(r)}\r\nContent-Length: 0\r\n", r),
        "behind a length that a bare LF reveals": lambda r: post(f"X: y\nContent-Length: {len(r)}\r\n", r),
        "behind two bare LF": lambda r: post("X: y\n\n", r),
        "behind a coding of two": lambda r: post(f"Content-Length: {len(zero + r)}\r\nTransfer-Encoding: cow, chunked\r\n", zero + r),
        "behind a coding after a bare LF": lambda r: post(f"Content-Length: {len(zero + r)}\r\nX: y\n{chunked}", zero + r),
        "in an extension": lambda r: post(chunked, b"1;" + b"\n" + r + b"\r\na\r\n" + zero),
        "in a trailer": lambda r: post(chunked, b"0\r\nX: y\n\n" + r),
        "after leave was asked for": lambda r: post(f"Expect: 100-continue\r\nContent-Length: {len(r)}\r\n", r, "GET"),
        "after leave was asked for, at no path": lambda r: post(f"Expect: 100-continue\r\nContent-Length: {len(r)}\r\n", r, start=f"POST /nothing HTTP/1.1\r\nHost: {edge.HOST}\r\n"),
        "after an upgrade": lambda r: post(f"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: {len(r)}\r\n", r, "GET"),
        "on HTTP/1.0 with chunks": lambda r: post(f"Connection: keep-alive\r\n{chunked}", zero + r, start=f"POST /hooks HTTP/1.0\r\nHost: {edge.HOST}\r\n"),
    }  # fmt: skip
    for name, shape in shapes.items():
        inner, request = numbers.signed(close=False)
        yield f"a request {name}", shape(request), inner


# -- who is answered what ----------------------------------------------------------------------------------------


TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE
TLS.set_alpn_protocols(["http/1.1"])


def talk(port, secure, data):
    """Sends at once; all answers until the end, or until nothing more comes."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), edge.TIMEOUT))
        if secure:
            connection = stack.enter_context(TLS.wrap_socket(connection, server_hostname=edge.HOST))
        said = b""
        with contextlib.suppress(OSError):  # refused, it may be closed already
            connection.sendall(data)
        connection.settimeout(PATIENCE)
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                said += part
    return list(answers(said))


def answers(said):
    """Status, headers and body of each answer."""
    while said:
        head, separator, said = said.partition(b"\r\n\r\n")
        match = re.match(rb"HTTP/1\.[01] (\d{3})", head)
        if not separator or not match:
            yield "no answer", {}, head + said
            return
        headers = [line.lower().split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:]]
        fields = {name: value for name, value in headers}
        if match[1] == b"100":
            continue
        length = int(fields.get("content-length", len(said)))
        fields["receipts"] = sum(name == "webhook-receipt" for name, _ in headers)
        yield int(match[1]), fields, said[:length]
        said = said[length:]


class Check:
    """Sends inputs one way and says what is wrong with what came of them."""

    def __init__(self, way, port, seen, numbers):
        self.way, self.port, self.seen, self.numbers = way, port, seen, numbers
        self.wrong, self.inputs = [], 0

    def send(self, name, data, status="any", inner=None):
        """The input, with a request behind it; and then somebody else's."""
        self.inputs += 1
        behind, request = self.numbers.signed()
        # Without a proxy nobody may take the inner one for a request; a proxy may have made one of it, and has its answer.
        own = [i for i in (inner if self.way in ("nginx", "haproxy") else None, behind) if i]
        got = talk(self.port, self.way != "straight", data + request)
        mine = [body.decode("latin-1") for code, _, body in got if code == 200]
        if [i for i in own if i in mine] != mine:
            self.complain(name, f"answered {mine} to who sent {own}")
        if status != "any":
            first = got[0][0] if got else None
            if first != status:
                self.complain(name, f"{first} instead of {status}")
            if name == CLOSES and [fields.get("connection") for _, fields, _ in got] != ["close"]:
                self.complain(name, f"not closed behind the answer: {got}")
            if any(fields["receipts"] != 1 for _, fields, _ in got):
                self.complain(name, "an answer without a receipt of its own")
        other, request = self.numbers.signed()
        theirs = [(code, body.decode("latin-1")) for code, _, body in talk(self.port, self.way != "straight", request)]
        if theirs != [(200, other)]:
            self.complain(name, f"somebody else got {theirs} for {other}")
        seen = [i for i in self.seen() if i in (inner, behind, other)]
        if sorted(seen) != sorted([*mine, other]):
            self.complain(name, f"the app saw {seen}, of which {mine} and {other} were answered")

    def complain(self, name, what):
        self.wrong.append(f"{self.way}: {name}: {what}")


def run_ways(ways):
    """Each way in a thread of its own; what is wrong."""
    threads = [threading.Thread(target=work) for _, work in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [wrong for check, _ in ways for wrong in check.wrong]


# -- servers with a mistake --------------------------------------------------------------------------------------


class Toy(edge.Recorder):
    """Gatepost and its app in thirty lines: strict, but for one mistake."""

    MISTAKES = (
        "a GET has no body",
        "chunks are not known",
        "the length counts beside chunks",
        "an underscore is a dash",
        "a line may end in LF",
        "the last of two lengths counts",
    )

    def __init__(self, mistake=None):
        self.mistake = mistake
        self.kept = []  # the ids that came on each connection
        super().__init__()

    def serve(self, connection):
        with contextlib.suppress(OSError, EOFError, ValueError), connection:
            stream = connection.makefile("rb")
            self.kept.append(ids := [])
            while True:
                try:
                    request = self.read(stream)
                except ValueError:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                    raise
                self.seen.append(request)
                body = dict(request["headers"]).get("x-event-id", "").encode()
                ids.append(body.decode())
                close = b"Connection: close\r\n" * (("connection", "close") in request["headers"])
                status = b"200 OK" if body else b"401 Unauthorized"
                connection.sendall(b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, close, len(body), body))
                if close:
                    return

    def line(self, stream):
        line = stream.readline()
        if not line:
            raise EOFError
        if not line.endswith(b"\r\n") and self.mistake != "a line may end in LF":
            raise ValueError("bare LF")
        return line.rstrip(b"\r\n").decode("latin-1")

    def read(self, stream):
        first, headers = "", []
        while not first:
            first = self.line(stream)
        while line := self.line(stream):
            name, _, value = line.partition(":")
            if self.mistake == "an underscore is a dash":
                headers = [h for h in headers if h[0] != name.replace("_", "-").lower()]
                name = name.replace("_", "-")
            headers.append((name.lower(), value.strip()))
        lengths = [value for name, value in headers if name == "content-length"]
        codings = [value for name, value in headers if name == "transfer-encoding"]
        if self.mistake == "the last of two lengths counts":
            lengths = lengths[-1:]
        if self.mistake == "the length counts beside chunks" and lengths:
            codings = []
        if self.mistake == "chunks are not known":
            codings = []
        if len(lengths + codings) > 1 or codings not in ([], ["chunked"]) or (codings and "HTTP/1.0" in first):
            raise ValueError("two lengths")
        if first.startswith("GET ") and self.mistake == "a GET has no body":
            return {"headers": headers, "body": b""}
        if codings:
            return {"headers": headers, "body": self.chunks(stream)}
        length = int(lengths[0]) if lengths else 0
        return {"headers": headers, "body": stream.read(length)}

    def chunks(self, stream):
        body = b""
        while size := int(self.line(stream).split(";")[0], 16):
            body += stream.read(size)
            if self.line(stream):
                raise ValueError("no end of a chunk")
        while self.line(stream):
            pass
        return body


# -- all of it ---------------------------------------------------------------------------------------------------


def start_proxies(stack, directory, backends):
    """nginx and HAProxy as in deploy/, but that HAProxy shares a kept connection with everybody."""
    os.makedirs(directory)
    for name in ("tls.crt", "tls.key", "tls.pem"):
        os.symlink(f"../{name}", f"{directory}/{name}")
    ports = {name: free_port() for name in WAYS[1:]}
    nginx = edge.write(f"{directory}/nginx.conf", edge.nginx_conf(directory, ports["nginx"], backends["plain"]))
    text = edge.swap(edge.haproxy_conf(directory, ports, backends), {"http-reuse safe": "http-reuse always"})
    haproxy = edge.write(f"{directory}/haproxy.cfg", text)
    edge.start(stack, ["nginx", "-c", nginx, "-p", directory], f"{directory}/nginx.log", [ports["nginx"]])
    listening = [ports["haproxy"], ports["passed"]]
    edge.start(stack, ["haproxy", "-db", "-f", haproxy], f"{directory}/haproxy.log", listening)
    return {"straight": backends["plain"], **ports}


def event_ids(recorder):
    return [dict(request["headers"]).get("x-event-id") for request in list(recorder.seen)]


def check_gatepost(stack, directory, binary, only):
    edge.GATEPOST += "limits: {{ headers: 64, header_size: 16KiB }}\n"  # as the table has them
    app = edge.Recorder()
    files = f"{{ mode: files, files: [{{ cert: {directory}/tls.crt, key: {directory}/tls.key }}] }}"
    backends = {
        "plain": edge.start_gatepost(stack, binary, directory, "plain", app.port, "{ mode: none }", "none"),
        "tls": edge.start_gatepost(stack, binary, directory, "tls", app.port, files, "v2"),
    }
    ports = start_proxies(stack, f"{directory}/gatepost", backends)

    def run(check):
        for name, data, status in table():
            # A proxy answers some of it by itself, as it likes.
            check.send(name, data, status if check.way in ("straight", "passed") else "any")
        for name, data, inner in nested(check.numbers):
            check.send(name, data, inner=inner)

    ways = [
        (check, lambda check=check: run(check))
        for n, way in enumerate(WAYS)
        if way == (only or way)
        for check in [Check(way, ports[way], lambda: event_ids(app), Numbers(n * 100_000))]
    ]
    wrong = run_ways(ways)
    inputs = sum(check.inputs for check, _ in ways)
    print("\n".join([*wrong, f"desync: {inputs} inputs, {len(event_ids(app))} requests reached the app, {len(wrong)} complaints"]))
    return bool(wrong) or inputs == 0


def check_checker(stack, directory):
    """The same on servers that are strict, and strict but for one mistake; all of them side by side."""
    trials = []
    for n, mistake in enumerate((None, *Toy.MISTAKES)):
        toy = Toy(mistake)
        ports = start_proxies(stack, f"{directory}/toy-{n}", {"plain": toy.port, "tls": toy.port})
        for m, way in enumerate(WAYS[:3]):
            numbers = Numbers((n * 10 + m + 100) * 100_000)
            check = Check(way, ports[way], lambda toy=toy: event_ids(toy), numbers)
            check.toy = toy
            trials.append((mistake, check, lambda c=check: [c.send(name, data, inner=i) for name, data, i in nested(c.numbers)]))
    run_ways([(check, work) for _, check, work in trials])
    failed = False
    blind = set(WAYS[:3])
    for mistake in (None, *Toy.MISTAKES):
        wrong = [line for known, check, _ in trials if known == mistake for line in check.wrong]
        found = sorted({line.split(":")[0] for line in wrong})
        blind -= set(found)
        if bool(wrong) != bool(mistake):
            failed = True
            print("\n".join([*wrong, f"desync: a server where {mistake or 'all is well'}: this was not told"]))
        else:
            print(f"desync: a server where {mistake or 'all is well'}: found {', '.join(found) or 'nothing'}")
    if blind:
        failed = True
        print(f"desync: nothing was found by way of {', '.join(sorted(blind))}")
    for _, check, _ in trials[1:3]:  # the proxies in front of the strict one
        own = [sum(check.numbers.has(i) for i in ids) for ids in check.toy.kept]
        own = [count for count in own if count]
        print(f"desync: {check.way} sent {sum(own)} requests over {len(own)} connections")
        if sum(own) < 2 * len(own):
            failed = True
            print(f"desync: {check.way} kept no connection, so nobody could have got what is another's")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="the built gatepost")
    parser.add_argument("--only", choices=WAYS, help="one way, without the servers with a mistake")
    args = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin"
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="gatepost-desync-"))
        edge.certificate(directory)
        failed = check_gatepost(stack, directory, args.binary, args.only)
        if not args.only:
            failed |= check_checker(stack, directory)
    sys.exit(failed)


if __name__ == "__main__":
    main()
