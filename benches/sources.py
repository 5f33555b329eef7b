#!/usr/bin/env python3
"""How long a gateway with many sources takes from exec to its first answer.

    benches/sources.py [--binary target/release/gatepost] [--runs 9] [COUNT ...]

Writes a configuration with so many sources, of every preset that needs nothing but a secret, in turn, each with a secret of its own; starts
the gateway with it, and asks until one of the sources answers. Prints a row for each count: the fastest, the middle and the slowest of
the runs, and the memory of the process after its first answer.
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import tempfile
import time

SECRET = re.compile(r"signed with the test secret (.*?)(?:, whose id is (.*))?\n")
KEY = re.compile(r"(-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----)", re.S)


def out(binary, *args):
    run = subprocess.run([binary, *args], capture_output=True, text=True, cwd="/", env={})
    return run.returncode, run.stdout, run.stderr


def secret_of(binary, preset):
    """A new secret of that preset, as a value in YAML; the public key, where its provider has the other one."""
    _, _, said = out(binary, "send", preset)
    found = SECRET.search(said)
    if found and not found[2]:
        return '"' + found[1] + '"'
    key = KEY.search(said)
    return '"' + key[1].replace("\n", "\\n") + '"' if key else None


def whole(dir, port, sources):
    lines = [
        "version: 1",
        f'server: {{ listen: "127.0.0.1:{port}", public_url: "https://hooks.example.com" }}',
        "tls: { mode: none }",
        f'storage: {{ dir: "{dir}/data" }}',
        'admin: { listen: "127.0.0.1:0" }',
        "sources:",
    ]
    lines += [f"  s{n}: {{ provider: {preset}, secret: {secret} }}" for n, (preset, secret) in enumerate(sources)]
    lines.append("routes:")
    lines += [f"  - {{ source: s{n}, to: app }}" for n in range(len(sources))]
    lines.append('upstreams: { app: "http://127.0.0.1:9" }')
    return "\n".join(lines) + "\n"


def checked(binary, dir, sources):
    file = pathlib.Path(dir) / "check.yaml"
    file.write_text(whole(dir, 1, sources))
    file.chmod(0o600)
    return out(binary, "-c", str(file), "check")[0] in (0, 2)


def answers(port, path):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("POST", path, body=b"{}")
        status = connection.getresponse().status
        connection.close()
        return status
    except OSError:
        return None


def first_answer(binary, sources):
    """Seconds until a source answers, and the memory of the process then, in MiB."""
    with tempfile.TemporaryDirectory() as dir:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        file = pathlib.Path(dir) / "gatepost.yaml"
        file.write_text(whole(dir, port, sources))
        file.chmod(0o600)
        begun = time.monotonic()
        with open(os.devnull, "w") as null:
            gateway = subprocess.Popen([binary, "-c", str(file), "run"], stdout=null, stderr=null, env={})
        try:
            while (status := answers(port, f"/s{len(sources) - 1}")) is None:
                if gateway.poll() is not None or time.monotonic() - begun > 60:
                    raise SystemExit(f"the gateway did not start: {gateway.poll()}")
                time.sleep(0.001)
            took = time.monotonic() - begun
            if status != 401:
                raise SystemExit(f"a request without a signature was answered {status}")
            resident = re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{gateway.pid}/status").read_text())
            return took, int(resident[1]) / 1024
        finally:
            gateway.terminate()
            gateway.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default="target/release/gatepost")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("counts", nargs="*", type=int, default=[1, 10, 100, 500])
    args = parser.parse_args()
    binary = str(pathlib.Path(args.binary).resolve())
    with tempfile.TemporaryDirectory() as dir:
        names = [preset["name"] for preset in json.loads(out(binary, "providers", "list", "--json")[1])]
        plain = []
        for name in names:
            secret = secret_of(binary, name)
            if secret and checked(binary, dir, [(name, secret)]):
                plain.append(name)
        print(f"{len(plain)} of {len(names)} presets need nothing but a secret")
        most = [(name, secret_of(binary, name)) for name in (plain[n % len(plain)] for n in range(max(args.counts)))]
    print(f"{'sources':>8} {'fastest':>9} {'middle':>9} {'slowest':>9} {'memory':>9}")
    for count in args.counts:
        runs = [first_answer(binary, most[:count]) for _ in range(args.runs)]
        times = sorted(took * 1000 for took, _ in runs)
        memory = statistics.median(memory for _, memory in runs)
        middle = statistics.median(times)
        print(f"{count:>8} {times[0]:>6.0f} ms {middle:>6.0f} ms {times[-1]:>6.0f} ms {memory:>5.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
