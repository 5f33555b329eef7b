"""The SDKs in processes of their own, a gateway, and an app behind it that keeps what it is sent."""

import base64
import http.client
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from providers import PROVIDERS

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from ports import free_port  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, "..", "..")
BINARY = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(TOP, "target")), "debug", "gatepost")
PUBLIC = "https://hooks.example.com"
EXAMPLES_MIN = 300
TIMEOUT = 20

CONFIGURATION = """
version: 1
server: {{ host: localhost, listen: "127.0.0.1:{port}", public_url: "{public}" }}
tls: {{ mode: none }}
storage: {{ dir: "{directory}", min_free: 1MiB }}
admin: {{ listen: "127.0.0.1:{admin}" }}
dedup: {{ store: memory }}
upstreams:
{upstreams}
sources:
{sources}
routes:
{routes}
"""


# -- the SDKs ----------------------------------------------------------------------------------------------------


class Sdks:
    """All SDKs, in a process for each language."""

    def __init__(self, stack):
        def serve(language):
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            process = subprocess.Popen([os.path.join(HERE, "run"), "serve", language], text=True, **pipes)
            stack.callback(process.wait)
            stack.callback(process.stdin.close)
            return process

        self.processes = {True: serve("javascript"), False: serve("python")}
        self.keys = {}

    def ask(self, name, do, javascript=None, **line):
        process = self.processes[PROVIDERS[name].javascript if javascript is None else javascript]
        process.stdin.write(json.dumps({"do": do, "provider": name, **line}) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, f"{name}: the SDK's process ended"
        return json.loads(answer)

    def key(self, name):
        """The secret on both sides, or a pair of keys."""
        if name not in self.keys:
            secret = PROVIDERS[name].secret
            self.keys[name] = self.ask(name, "key") if secret is None else {"secret": secret, "public": secret}
        return self.keys[name]

    def sign(self, name, body, id, key=None, **line):
        """A request that the provider would send."""
        body = base64.b64encode(body).decode()
        key = key or self.key(name)
        signed = self.ask(name, "sign", body_base64=body, id=id, url=f"{PUBLIC}/{name}", **key, **line)
        assert "error" not in signed, (name, signed)
        return {**signed, **key, "headers": {**PROVIDERS[name].headers, **signed["headers"]}}

    def judge(self, name, sent, **options):
        return self.ask(name, "verify", **sent, **options)

    def must_believe(self, name, sent, **options):
        answer = self.judge(name, sent, **options)
        assert answer["valid"], (name, answer, sent)

    def must_doubt(self, name, sent, what, **options):
        assert not self.judge(name, sent, **options)["valid"], (name, what, sent)


def examples():
    done = subprocess.run([os.path.join(HERE, "run"), "examples"], capture_output=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) >= EXAMPLES_MIN, len(answers)
    return answers


def body_of(name):
    """What a provider of that name sends."""
    provider = PROVIDERS[name]
    if provider.body is not None:
        return provider.body.replace("{millis}", str(int(time.time() * 1000))).encode()
    with open(f"{TOP}/src/cli/samples.jsonl", "rb") as file:
        samples = {preset: body for preset, _, body in map(json.loads, file)}
    body = samples.get(provider.preset or name, samples["*"])
    if isinstance(body, str):
        return body.encode()
    # Providers that sign a time of theirs within the body say when it was.
    if "webhookTimestamp" in body:
        body["webhookTimestamp"] = int(time.time() * 1000)
    return json.dumps(body).encode()


def changed(name, sent):
    """The same request with a change that its signature covers; none where it covers nothing of the body."""
    change = PROVIDERS[name].change
    if change is None:
        return None
    body = base64.b64decode(sent["body_base64"]).decode()
    other = body.replace(*change, 1) if change[0] else body + change[1]
    assert other != body, f"{name}: {change} changes nothing"
    return {**sent, "body_base64": base64.b64encode(other.encode()).decode()}


def other_key(sdks, name):
    """A key of the same kind that is not the provider's."""
    secret = PROVIDERS[name].secret
    if secret is None:
        return sdks.ask(name, "key")
    # In the middle: the last digits of base64 may mean nothing.
    at = len(secret) // 2
    other = secret[:at] + ("1" if secret[at] != "1" else "2") + secret[at + 1 :]
    return {"secret": other, "public": other}


# -- the gateway, and the app behind it --------------------------------------------------------------------------


class App(http.server.ThreadingHTTPServer):
    """Keeps what it is sent: path, headers, body."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), AppRequest)
        self.received = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class AppRequest(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, dict(self.headers), body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Gateway:
    """A gateway with a source for each name; `signs` says how its upstream is signed for, by name."""

    def __init__(self, stack, binary, sdks, names, signs=None):
        self.app, self.binary, self.port = App(), binary, free_port()
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="gatepost-sdk-"))
        self.file = f"{directory}/gatepost.yaml"
        signs = signs or {}
        app = f"http://127.0.0.1:{self.app.server_port}"
        upstream = lambda name: f'  {name}: {{ url: "{app}/{name}"' + (f", sign: {signs[name]}" if name in signs else "") + " }"
        text = CONFIGURATION.format(
            port=self.port,
            public=PUBLIC,
            directory=directory,
            admin=free_port(),
            upstreams="\n".join(map(upstream, names)),
            sources="\n".join(source(name, sdks.key(name)["public"], name in signs, directory) for name in names),
            routes="\n".join(f"  - {{ source: {name}, to: {name}, timeout: 800ms }}" for name in names),
        )
        with open(os.open(self.file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(text)
        log = open(f"{directory}/log", "w+")
        process = subprocess.Popen([binary, "run", "-c", self.file], stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        self.wait(process, log)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)

    def wait(self, process, log):
        deadline = time.monotonic() + TIMEOUT
        while socket.socket().connect_ex(("127.0.0.1", self.port)) != 0:
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                sys.exit(f"gatepost does not listen:\n{log.read()}")
            time.sleep(0.02)

    def post(self, sent):
        headers = {"Content-Type": "application/json", **sent["headers"]}
        target = sent["url"].removeprefix(PUBLIC)
        self.connection.request("POST", target, base64.b64decode(sent["body_base64"]), headers)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("Webhook-Outcome")

    def must_pass(self, name, sent):
        """Gives the request as the app got it."""
        answer = self.post(sent)
        assert answer[0] in (200, 202, 204) and answer[1] == "accepted", (name, answer, sent)
        path, headers, body = self.app.received.pop()
        assert path == f"/{name}" and body == base64.b64decode(sent["body_base64"]), f"{name}: other bytes arrived"
        return {**sent, "headers": headers}

    def must_refuse(self, name, sent, what):
        status, outcome = self.post(sent)
        assert outcome != "accepted" and 400 <= status < 500 and not self.app.received, (name, what, status)

    def send(self, sdks, name, *options):
        """What `gatepost send` would send, as a request for an SDK to judge."""
        own = [option.replace("{millis}", str(int(time.time() * 1000))) for option in PROVIDERS[name].options]
        command = [self.binary, "-c", self.file, "send", name, "--show-request", *own, *options]
        done = subprocess.run(command, capture_output=True)
        assert done.returncode == 0, (name, done.stderr)
        head, _, body = done.stdout.partition(b"\n\n")
        first, *lines = head.decode().splitlines()
        headers = dict(line.split(": ", 1) for line in lines)
        body = body[: int(headers["content-length"])]
        url = urllib.parse.urlsplit(first.removeprefix("POST "))
        target = url.path + (f"?{url.query}" if url.query else "")
        return {
            **self.signed_with(sdks, name, done.stderr.decode()), "headers": headers, "url": PUBLIC + target, "body_base64": base64.b64encode(body).decode()
        }  # fmt: skip

    def signed_with(self, sdks, name, said):
        """The source's secret; or, where only the provider has the private key, the test key that `send` says it made."""
        begin, end = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----\n"
        if begin not in said:
            return sdks.key(name)
        pem = said[said.index(begin) : said.index(end) + len(end)]
        return {"secret": "", **sdks.ask(name, "public", key=pem)}


def source(name, secret, late, directory):
    provider = PROVIDERS[name]
    written = json.dumps(secret)
    if provider.id:
        with open(os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secret)
        written = f'{{ file: "{directory}/{name}", id: {provider.id} }}'
    settings = [f"provider: {provider.preset or name}", f"secret: {written}", "max_body: 2MiB"]
    settings += [provider.source] if provider.source else []
    settings += ["tolerance: 1d"] if late and provider.timed else []
    return f"  {name}: {{ {', '.join(settings)} }}"


