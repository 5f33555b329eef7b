#!/usr/bin/env python3
"""Sends odd bodies through nginx and HAProxy, set up as in deploy/, and compares what arrives, byte by byte.

    byte_exact.py                     a recording server stands in for Gatepost; then something that touches what it passes
                                      on is put between, and has to be told
    byte_exact.py --gatepost BINARY   Gatepost stands behind the proxies, and the recording server is its app

A signature covers the exact bytes that the provider sent, so a proxy that tidies anything breaks verification. Needs nginx,
HAProxy, openssl and curl (tests/setup). Unprivileged ports on loopback, a temporary directory; ends only what it started.
"""

import argparse
import contextlib
import gzip
import hashlib
import hmac
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from ports import free_port  # noqa: E402

DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy")
TIMEOUT = 10
HOST = "hooks.example.com"
SENDER = "127.0.0.2"  # not the address of the proxies, which Gatepost trusts
SECRET = b"a secret for the byte-exactness test"
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"
noise = random.Random(7).randbytes

BODIES = {
    "empty": b"",
    "one byte": b"\n",
    "every byte": bytes(range(256)) * 3,
    "line ends": b"a\r\nb\nc\rd\r\n\r\n",
    "the end of a chunked body": b"0\r\n\r\nPOST / HTTP/1.1\r\n\r\n",
    "not UTF-8": b'{"name": "Zo\xeb", "x": "\xff\xfe"}',
    "BOM and odd spacing": b'\xef\xbb\xbf{ "b" :1,\t"a":2 }  \n',
    "gzip": gzip.compress(b"looks compressed" * 20, mtime=0),
    "larger than a buffer": noise(70_001),
    "over 1 MiB": noise((1 << 20) + 1),
}

# A path that proxies like to tidy. Gatepost answers only at the exact path, so that it gets one of its own.
ODD_TARGET = "/hooks//a/./%7Eb%2Fc;v=1?q=%41+b&q="


# -- the recording server ----------------------------------------------------------------------------------------


class Recorder:
    """Speaks just enough HTTP/1.1 to keep what it was sent; optionally behind a PROXY v2 header and TLS. `touch` makes of
    each body that came the one that is kept."""

    def __init__(self, tls=None, touch=lambda body: body):
        self.seen, self.tls, self.touch = [], tls, touch
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with contextlib.suppress(OSError, EOFError), connection:
            if self.tls:
                sender = proxy_header(connection)
                connection = self.tls.wrap_socket(connection, server_side=True)
            stream = connection.makefile("rb")
            while True:
                request = read_request(stream)
                if self.tls:
                    request["headers"].append(("proxy-sender", sender))
                request["body"] = self.touch(request["body"])
                self.seen.append(request)
                body = dict(request["headers"]).get("x-event-id", "ok").encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def proxy_header(connection):
    head = connection.recv(16, socket.MSG_WAITALL)
    if head[:12] != PROXY_V2 or head[12] != 0x21:
        raise OSError("no PROXY v2 header")
    rest = connection.recv(int.from_bytes(head[14:16], "big"), socket.MSG_WAITALL)
    return socket.inet_ntoa(rest[:4])


def read_request(stream):
    method, target, _ = read_line(stream).decode("latin-1").split(" ")
    headers = []
    while line := read_line(stream):
        name, _, value = line.decode("latin-1").partition(":")
        headers.append((name.lower(), value.strip()))
    fields = dict(headers)
    if fields.get("transfer-encoding") == "chunked":
        body = read_chunks(stream)
    else:
        body = stream.read(int(fields.get("content-length", "0")))
    return {"method": method, "target": target, "headers": headers, "body": body}


def read_line(stream):
    line = stream.readline()
    if not line:
        raise EOFError
    return line.rstrip(b"\r\n")


def read_chunks(stream):
    body = b""
    while size := int(read_line(stream).split(b";")[0], 16):
        body += stream.read(size)
        read_line(stream)
    while read_line(stream):
        pass
    return body


# -- the sender --------------------------------------------------------------------------------------------------


def sign(body, number):
    """Id and type are signed as well: equal bodies under other ids are events of their own, not replays."""
    signed = b"event-%d.edge-test." % number + body
    return {
        "Content-Type": "application/json; charset=utf-8",
        "X-Signature": hmac.new(SECRET, signed, hashlib.sha256).hexdigest(),
        "X-Event-Id": f"event-{number}",
        "X-Event-Type": "edge-test",
        # What a sender must not be able to say about itself.
        "X-Forwarded-For": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
    }


def chunks(body):
    """The body in chunks of irregular sizes, the first ones of a single byte."""
    sizes, rest = iter([1, 1, 2, 3, 5, 8, 13, 4096, 16384]), body
    while rest:
        size = next(sizes, 65536)
        yield b"%x\r\n%s\r\n" % (len(rest[:size]), rest[:size])
        rest = rest[size:]
    yield b"0\r\n\r\n"


def send_http1(port, target, headers, body, chunked):
    framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(body))}
    lines = [f"POST {target} HTTP/1.1", f"Host: {HOST}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in {**headers, **framing}.items()]
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.set_alpn_protocols(["http/1.1"])
    with socket.create_connection(("127.0.0.1", port), TIMEOUT, (SENDER, 0)) as plain:
        with tls.wrap_socket(plain, server_hostname=HOST) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            for part in chunks(body) if chunked else [body]:
                connection.sendall(part)
            answer = connection.makefile("rb").readline()
    return int(answer.split(b" ")[1])


def send_http2(port, target, headers, body, chunked):
    """By curl; from a pipe it does not know the length, so that there is no content-length."""
    upload = ["-X", "POST", "-T", "-"] if chunked else ["--data-binary", "@-"]
    lines = [argument for name, value in headers.items() for argument in ("-H", f"{name}: {value}")]
    url = f"https://{HOST}:{port}{target}"
    command = ["curl", "-sk", "--http2", "--path-as-is", "--globoff", "--interface", SENDER]
    command += ["--max-time", str(TIMEOUT), *upload, *lines]
    command += ["--resolve", f"{HOST}:{port}:127.0.0.1", "-o", os.devnull, "-w", "%{http_version} %{http_code}", url]
    version, status = subprocess.run(command, input=body, capture_output=True, check=True).stdout.split()
    assert version == b"2", f"curl spoke HTTP/{version.decode()}"
    return int(status)


# -- the proxies -------------------------------------------------------------------------------------------------


def swap(text, changes):
    for old, new in changes.items():
        assert old in text, f"{old!r} is no longer in the file under deploy/; adapt this test"
        text = text.replace(old, new)
    return text


def nginx_conf(directory, port, backend, mistake=None):
    site = swap(
        open(f"{DEPLOY}/nginx/gatepost.conf").read(),
        {
            **(mistake or {}),
            "    listen 443 ssl http2;\n": f"    listen 127.0.0.1:{port} ssl http2;\n",
            "    listen [::]:443 ssl http2;\n": "",
            "/etc/ssl/hooks.example.com.": f"{directory}/tls.",
            "server 127.0.0.1:8080;": f"server 127.0.0.1:{backend};",
        },
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""
    return f"{user}daemon off;\npid {directory}/nginx.pid;\nerror_log stderr warn;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n"


def haproxy_conf(directory, ports, backends):
    return swap(
        open(f"{DEPLOY}/haproxy/gatepost.cfg").read(),
        {
            "maxconn 10000": "maxconn 100",  # must fit under any limit of open files
            "bind :::443 v4v6": f"bind 127.0.0.1:{ports['passed']}",
            "bind :::8444 v4v6": f"bind 127.0.0.1:{ports['haproxy']}",
            "/etc/ssl/hooks.example.com.pem": f"{directory}/tls.pem",
            "127.0.0.1:8443 send-proxy-v2": f"127.0.0.1:{backends['tls']} send-proxy-v2",
            "server gatepost 127.0.0.1:8080": f"server gatepost 127.0.0.1:{backends['plain']}",
        },
    )


GATEPOST = """
version: 1
server: {{ host: hooks.example.com, listen: "127.0.0.1:{port}", trusted_proxies: [127.0.0.1/32], proxy_protocol: {proxy} }}
tls: {tls}
storage: {{ dir: "{directory}/state-{name}", min_free: 1MiB }}
sources:
  edge:
    provider: custom
    path: /hooks
    secret: {{ env: EDGE_TEST_SECRET }}
    max_body: 2MiB
    verify:
      signature: {{ header: X-Signature, encoding: hex }}
      signed: "{{header:X-Event-Id}}.{{header:X-Event-Type}}.{{body}}"
      mac: hmac-sha256
    event: {{ id: "{{header:X-Event-Id}}", type: "{{header:X-Event-Type}}" }}
routes:
  - {{ source: edge, to: app, reply: full }}
upstreams:
  app: http://127.0.0.1:{app}/app
dedup: {{ store: memory }}
admin: {{ listen: "127.0.0.1:{admin}" }}
"""


def start_gatepost(stack, binary, directory, name, app, tls, proxy):
    port = free_port()
    path = write(f"{directory}/{name}.yaml", GATEPOST.format(
        port=port, admin=free_port(), app=app, name=name, directory=directory, tls=tls, proxy=proxy
    ))  # fmt: skip
    start(stack, [binary, "run", "-c", path], f"{directory}/{name}.log", [port])
    return port


def start(stack, command, log, ports):
    environment = {**os.environ, "EDGE_TEST_SECRET": SECRET.decode()}
    process = subprocess.Popen(command, stdout=open(log, "w"), stderr=subprocess.STDOUT, env=environment)
    stack.callback(end, process)
    deadline = time.monotonic() + TIMEOUT
    for port in ports:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{command[0]} does not listen on {port}:\n{open(log).read()}")
            time.sleep(0.02)


def end(process):
    process.terminate()
    try:
        process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def certificate(directory):
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split()
    command += ["-keyout", f"{directory}/tls.key", "-out", f"{directory}/tls.crt", "-subj", f"/CN={HOST}"]
    subprocess.run(command + ["-addext", f"subjectAltName=DNS:{HOST}"], check=True, capture_output=True)
    write(f"{directory}/tls.pem", open(f"{directory}/tls.crt").read() + open(f"{directory}/tls.key").read())


# -- the comparison ----------------------------------------------------------------------------------------------


def differences(request, expected_target, body, headers, through_gatepost):
    """What arrived otherwise than it was sent."""
    found = {}
    for name, value in request["headers"]:
        found[name] = f"{found[name]} | {value}" if name in found else value
    wrong = [] if request["body"] == body else [f"body: {len(request['body'])} bytes came of {len(body)}, or others"]
    if request["method"] != "POST" or request["target"] != expected_target:
        wrong.append(f"request line: {request['method']} {request['target']}")
    for name in ("Content-Type", "X-Signature", "X-Event-Id"):
        if found.get(name.lower()) != headers[name]:
            wrong.append(f"{name}: {found.get(name.lower())!r}")
    if through_gatepost:
        if not found.get("gatepost-verified", "").startswith("true"):
            wrong.append(f"not verified: {found.get('gatepost-verified')!r}")
        if found.get("x-forwarded-for") != SENDER:
            wrong.append(f"another sender: {found.get('x-forwarded-for')!r}")
    elif "proxy-sender" in found:
        if found["proxy-sender"] != SENDER:
            wrong.append(f"PROXY header: {found['proxy-sender']}")
    elif found.get("x-forwarded-for") != SENDER or "forwarded" in found:
        wrong.append(f"the sender speaks for itself: {found.get('x-forwarded-for')!r} {found.get('forwarded')!r}")
    if "6.6.6.6" in found.get("forwarded", "") + found.get("x-forwarded-for", "") and "proxy-sender" not in found:
        wrong.append("a spoofed address got through")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gatepost", metavar="BINARY", help="the built gatepost, to be put behind the proxies")
    args = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin"
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="gatepost-edge-"))
        certificate(directory)
        if args.gatepost:
            app = Recorder()
            files = f"{{ mode: files, files: [{{ cert: {directory}/tls.crt, key: {directory}/tls.key }}] }}"
            backends = {
                "plain": start_gatepost(stack, args.gatepost, directory, "plain", app.port, "{ mode: none }", "none"),
                "tls": start_gatepost(stack, args.gatepost, directory, "tls", app.port, files, "v2"),
            }
            recorders, target, arriving = {"nginx": app, "haproxy": app, "passed": app}, "/hooks", "/app"
        else:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(f"{directory}/tls.crt", f"{directory}/tls.key")
            plain, wrapped = Recorder(), Recorder(tls)
            backends = {"plain": plain.port, "tls": wrapped.port}
            recorders, target, arriving = {"nginx": plain, "haproxy": plain, "passed": wrapped}, ODD_TARGET, ODD_TARGET
        ports = {name: free_port() for name in recorders}
        nginx = write(f"{directory}/nginx.conf", nginx_conf(directory, ports["nginx"], backends["plain"]))
        haproxy = write(f"{directory}/haproxy.cfg", haproxy_conf(directory, ports, backends))
        start(stack, ["nginx", "-c", nginx, "-p", directory], f"{directory}/nginx.log", [ports["nginx"]])
        log = f"{directory}/haproxy.log"
        start(stack, ["haproxy", "-db", "-f", haproxy], log, [ports["haproxy"], ports["passed"]])
        number, wrong = compare(recorders, ports, target, arriving, bool(args.gatepost))
        print("\n".join([*wrong, f"edge: {number - len(wrong)} of {number} bodies arrived byte for byte"]))
        if not args.gatepost:
            wrong += check_comparison(stack, directory)
        sys.exit(bool(wrong) or number == 0)


# What is changed on the way, and how the complaint about it begins: by an nginx that is set up otherwise than under deploy/,
# or by the server behind it.
TOUCHED = {
    "a path that is tidied": ({"proxy_pass http://gatepost;": "proxy_pass http://gatepost/;"}, None, "request line: "),
    "another method": ({"proxy_http_version 1.1;": "proxy_http_version 1.1; proxy_method PUT;"}, None, "request line: "),
    "another type": ({'Connection "";': 'Connection ""; proxy_set_header Content-Type text/plain;'}, None, "Content-Type: "),
    "a signature that is left out": ({'Connection "";': 'Connection ""; proxy_set_header X-Signature "";'}, None, "X-Signature: "),
    "a sender that speaks for itself": ({"For $remote_addr;": "For $proxy_add_x_forwarded_for;"}, None, "the sender speaks "),
    "a bit that is turned": ({}, lambda body: body[:-1] + bytes([body[-1] ^ 1]) if body else body, "body: "),
    "line ends that are translated": ({}, lambda body: body.replace(b"\r\n", b"\n"), "body: "),
    "an end that is cut off": ({}, lambda body: body[: 1 << 20], "body: "),
}


def check_comparison(stack, directory):
    """That each of these is told, and the same without any of them is not."""
    silent = []
    for n, (name, (mistake, touch, complaint)) in enumerate({"nothing": ({}, None, None), **TOUCHED}.items()):
        place = f"{directory}/touched-{n}"
        os.mkdir(place)
        certificate(place)
        recorder, port = Recorder(touch=touch or (lambda body: body)), free_port()
        conf = write(f"{place}/nginx.conf", nginx_conf(place, port, recorder.port, mistake))
        start(stack, ["nginx", "-c", conf, "-p", place], f"{place}/nginx.log", [port])
        _, wrong = compare({"nginx": recorder}, {"nginx": port}, ODD_TARGET, ODD_TARGET, False)
        told = [line for line in wrong if complaint and complaint in line]
        print(f"edge: {name}, on the way: {len(wrong)} complaints")
        if told != wrong or bool(wrong) != bool(complaint):
            silent += [f"edge: {name}: {line}" for line in wrong] or [f"edge: {name} was not told"]
    print("\n".join(silent), end="\n" if silent else "")
    return silent


def compare(recorders, ports, target, arriving, through_gatepost):
    """How many requests were sent, and what of which arrived otherwise."""
    number, complaints = 0, []
    for proxy, recorder in recorders.items():
        ways = [("HTTP/1.1", send_http1), ("HTTP/2", send_http2)]
        # The stand-in speaks HTTP/1.1 only, and what is passed through meets it without translation.
        for version, send in ways[:1] if proxy == "passed" else ways:
            for name, body in BODIES.items():
                for chunked in (False, True):
                    number += 1
                    headers = sign(body, number)
                    recorder.seen.clear()
                    status = send(ports[proxy], target, headers, body, chunked)
                    wrong = [] if status == 200 else [f"status {status}"]
                    if len(recorder.seen) != 1:
                        wrong.append(f"{len(recorder.seen)} requests arrived")
                    for request in recorder.seen[:1]:
                        wrong += differences(request, arriving, body, headers, through_gatepost)
                    if wrong:
                        length = "without length" if chunked else "with length"
                        complaints.append(f"{proxy}, {version}, {name}, {length}: {'; '.join(wrong)}")
    return number, complaints


if __name__ == "__main__":
    main()
