#!/usr/bin/env python3
"""Interleaved side-by-side runs of webhook gateways (see README.md). Loopback only; ends only what it started.

    measure.py [PEER...] [-w ka4k,hs4k] [-r ROUNDS] [-s SECONDS] [--pin] [--table]
"""
import argparse
import base64
import fcntl
import glob
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
PERF = os.environ.get("PERF", os.path.dirname(HERE))
RUN = PERF + "/run"
LOAD = HERE + "/hookload/target/release/hookload"
SECRET = "whsec_perfharness0123456789abcdefgh"
REDIS_PORT = 6399
UPSTREAMS = {"0": (9101, 9102, 9103), "5": (9111, 9112, 9113)}  # by delay in ms
TICKS = os.sysconf("SC_CLK_TCK")
EVENTS_FRESH_SECS = 150  # the signed time must stay inside the five minutes that gateways tolerate

started = []
generated = {}


# -- processes ---------------------------------------------------------------------------------------------------


def tree(pid):
    """The process and all its descendants."""
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = open(f"/proc/{entry}/stat").read()
        except OSError:
            continue
        children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu(pid):
    """Seconds of user and of kernel time of the tree, reaped children included."""
    user = kernel = 0
    for member in tree(pid):
        try:
            fields = open(f"/proc/{member}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        user += int(fields[11]) + int(fields[13])
        kernel += int(fields[12]) + int(fields[14])
    return user / TICKS, kernel / TICKS


def pss(pid):
    """Proportional set size of the tree, in MB."""
    total = 0
    for member in tree(pid):
        try:
            lines = open(f"/proc/{member}/smaps_rollup").readlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def machine():
    """Seconds of CPU that the machine has spent, and seconds that its host has stolen."""
    fields = list(map(int, open("/proc/stat").readline().split()[1:9]))
    return (sum(fields[:3]) + sum(fields[5:7])) / TICKS, fields[7] / TICKS


def start(command, env=None, log=None, cpus=None):
    command = f"exec taskset -c {cpus} {command}" if cpus else f"exec {command}"
    process = subprocess.Popen(
        command,
        shell=True,
        env={**os.environ, **(env or {})},
        stdout=open(log or os.devnull, "w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    started.append(process)
    return process


def stop(process):
    if process is None or process.poll() is not None:
        return
    members = tree(process.pid)
    process.terminate()
    try:
        process.wait(4)
    except subprocess.TimeoutExpired:
        pass
    for member in members:
        try:
            os.kill(member, signal.SIGKILL)
        except OSError:
            pass
    process.wait(4)
    started.remove(process)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_port(port, secs=15):
    deadline = time.time() + secs
    while time.time() < deadline:
        if listens(port):
            return True
        time.sleep(0.05)
    return False


def wait_quiet(cores, secs):
    """Waits until the machine uses less than `cores`, at most `secs`."""
    deadline = time.time() + secs
    while time.time() < deadline:
        before = machine()[0]
        time.sleep(0.5)
        if (machine()[0] - before) / 0.5 < cores:
            return
        time.sleep(1)


# -- one run -----------------------------------------------------------------------------------------------------


def events(size, scheme, count, name):
    """A directory of signed events, made anew when its timestamps grow old."""
    path = f"{RUN}/ev/{name}-{scheme}-{size}"
    if time.time() - generated.get((path, count), 0) > EVENTS_FRESH_SECS:
        seed = int(time.time()) & 0xFFFFF | (0x800000 if name == "warm" else 0)
        options = {"size": size, "n": count, "out": path, "scheme": scheme, "seed": seed}
        command = [sys.executable, HERE + "/gen.py"]
        for key, value in options.items():
            command += [f"--{key}", str(value)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        generated[(path, count)] = time.time()
    return path


def load(args, cpus=None):
    command = (["taskset", "-c", cpus] if cpus else []) + [LOAD] + args
    out = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if out.returncode:
        return {"n": 0, "rps": 0, "error": out.stderr[-300:]}
    return json.loads(out.stdout.strip().splitlines()[-1])


def forwarded():
    """Requests that the upstream has seen, the ones that ask for this number included."""
    page = urllib.request.urlopen("http://127.0.0.1:9100/").read().decode()
    return int(page.split("\n")[2].split()[2])


def values(name, peer, workload):
    """What placeholders in configurations, commands and environments stand for."""
    a, b, c = UPSTREAMS[workload.get("upstream_ms", "0")]
    return {
        "RUN": RUN, "PERF": PERF, "HARNESS": HERE, "NAME": name, "PORT": peer["port"],
        "UA": a, "UB": b, "UC": c, "REDIS": f"127.0.0.1:{REDIS_PORT}",
        "CERT": RUN + "/tls/cert.pem", "KEY": RUN + "/tls/key.pem",
        "SECRET": SECRET, "SECRET64": base64.b64encode(SECRET.encode()).decode(),
        "GATEPOST": os.environ.get("GATEPOST", "@REPO@/target/dist/gatepost"),
        "RELEASE": "@REPO@/target/release/gatepost",
        "BEFORE": os.environ.get("BEFORE", "@REPO@/target/dist/gatepost"),
        **peer.get("vars", {}),
    }  # fmt: skip


def write_conf(peer, known):
    for entry in peer.get("conf", []):
        source, _, target = entry.partition(">")
        text = open(f"{HERE}/conf/{source}").read()
        for key, value in known.items():
            text = text.replace(f"@{key}@", str(value))
        open(f"{RUN}/{target or source}", "w").write(text)


def fill(text, known):
    for key, value in known.items():
        text = text.replace("{" + key + "}", str(value))
    return text


def start_redis(kind, cpus):
    durable = "--appendonly yes --appendfsync always --auto-aof-rewrite-percentage 0"
    options = durable if kind == "aof" else "--appendonly no"
    command = f"redis-server --bind 127.0.0.1 --port {REDIS_PORT} --save '' --dir {RUN}/redis {options}"
    process = start(command, log=RUN + "/redis.log", cpus=cpus)
    wait_port(REDIS_PORT)
    return process


def one(name, peer, wname, workload, args, number):
    """Fresh Redis, upstream and gateway; a warm-up with other events; then the measured seconds."""
    known = values(name, peer, workload)
    gateway_cpu, rest_cpu = ("1", "0") if args.pin else (None, None)
    write_conf(peer, known)
    scheme = peer.get("scheme", "stripe")
    main = events(workload["size"], scheme, workload["n"], "main")
    warm = events(workload["size"], scheme, 6000, "warm")
    for old in glob.glob(RUN + "/*.audit") + glob.glob(RUN + "/redis/*"):
        (shutil.rmtree if os.path.isdir(old) else os.remove)(old)
    redis = start_redis(peer["redis"], rest_cpu) if peer.get("redis") else None
    upstream = start(f"nginx -c {HERE}/conf/upstream.conf -g 'daemon off;'", log=RUN + "/upstream.log", cpus=rest_cpu)
    wait_port(9100)
    env = {key: fill(value, known) for key, value in peer.get("env", {}).items()}
    gateway = start(fill(peer["cmd"], known), env=env, log=f"{RUN}/{name}.log", cpus=gateway_cpu)
    run = {"peer": name, "w": wname, "round": number, "pin": args.pin, "t": round(time.time())}
    try:
        if not wait_port(peer["port"]):
            return {**run, "bad": "did not start"}
        time.sleep(0.3)
        common = ["--addr", f"127.0.0.1:{peer['port']}", "-c", str(workload["c"]), "--path", "/webhook"]
        common += ["--h2", str(workload["h2"])] if workload.get("h2") else []
        common += ["--close"] if workload.get("close") else []
        load(common + ["--events", warm, "-d", str(peer.get("warm", 1))], rest_cpu)
        measured = common + ["--events", main, "-d", str(args.secs)]
        measured += ["--rate", str(workload["rate"])] if workload.get("rate") else []
        return {**run, **observe(measured, peer, gateway, upstream, redis, rest_cpu)}
    finally:
        for process in (gateway, upstream, redis):
            stop(process)


def observe(command, peer, gateway, upstream, redis, cpus):
    def snapshot():
        none = (0, 0)
        parts = {"gateway": cpu(gateway.pid), "upstream": cpu(upstream.pid)}
        return {**parts, "redis": cpu(redis.pid) if redis else none, "machine": machine(), "time": time.time()}

    def spent(part):
        return tuple(b - a for a, b in zip(before[part], after[part]))

    seen, before = forwarded(), snapshot()
    result = load(command, cpus)
    after, seen = snapshot(), forwarded() - seen - 1
    count = result.get("n") or 1
    user, kernel = spent("gateway")
    elsewhere = sum(spent("redis")) + sum(spent("upstream")) + (result.get("gen_cpu") or 0)
    seconds = after["time"] - before["time"]
    busy, stolen = spent("machine")
    return {
        **{key: value for key, value in result.items() if key not in ("setup", "gen_cpu")},
        "gw_user": user,
        "gw_sys": kernel,
        "cpu1k": (user + kernel) / count * 1000,
        "redis1k": sum(spent("redis")) / count * 1000,
        "up1k": sum(spent("upstream")) / count * 1000,
        "pss": pss(gateway.pid),
        "foreign": (busy - user - kernel - elsewhere) / seconds,
        "steal": stolen / seconds,
        "fwd": seen,
        "bad": "; ".join(faults(result, peer, seen)),
    }


def faults(result, peer, seen):
    """What makes a run invalid: events refused, forgeries accepted, or not exactly one request per fresh event."""
    bad = [result["error"]] if result.get("error") else []
    if result.get("errors"):
        bad.append(f"{result['errors']} errors: {result.get('err')}")
    if peer["checks"] == "none" or not result.get("F"):
        return bad
    for kind in "FD":
        if sum(result[kind]) != result[kind][0]:
            bad.append(f"{kind} not all 2xx {result[kind]}")
    for kind in "BSM":
        if result[kind][0]:
            bad.append(f"{kind} accepted {result[kind][0]}")
    if seen != result["F"][0]:
        bad.append(f"forwarded {seen} != fresh {result['F'][0]}")
    return bad


# -- the table ---------------------------------------------------------------------------------------------------


def column(runs, key):
    return [run[key] for run in runs if run.get(key) is not None] or [float("nan")]


def table(results, workloads, chosen, peers):
    for wname in chosen:
        rows = [r for r in results if r["w"] == wname and r.get("n")]
        if not rows:
            continue
        print(f"\n### {wname}: {workloads[wname]['note']}\n")
        print("| peer | req/s (min–max) | gateway CPU-s/1000 (min–max) | kernel | redis | upstream | p50 ms | p90 | p99 | p99.9 | PSS MB | foreign cores | runs | checks |")
        print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
        for peer in peers:
            runs = [r for r in rows if r["peer"] == peer]
            if runs:
                print(row(peer, runs))


def row(peer, runs):
    def mid(key):
        return statistics.median(column(runs, key))

    def span(key, digits):
        data = column(runs, key)
        return f"{mid(key):.{digits}f} ({min(data):.{digits}f}–{max(data):.{digits}f})"

    kernel = statistics.median(r["gw_sys"] / max(r["gw_sys"] + r["gw_user"], 1e-9) for r in runs)
    bad = sorted({r["bad"] for r in runs if r["bad"]})
    unsent = max(r.get("unsent") or 0 for r in runs)
    cells = [peer, span("rps", 0), span("cpu1k", 4), f"{kernel:.0%}"]
    cells += [f"{mid(key):.4f}" for key in ("redis1k", "up1k")]
    cells += [f"{mid(key):.2f}" for key in ("p50", "p90", "p99", "p999")]
    cells += [f"{mid('pss'):.0f}", f"{mid('foreign'):.2f} (≤{max(column(runs, 'foreign')):.2f})", str(len(runs))]
    cells += [(bad[0][:90] if bad else "ok") + (f", unsent {unsent}" if unsent else "")]
    return "| " + " | ".join(cells) + " |"


# -- the rounds --------------------------------------------------------------------------------------------------


def rounds(args, peers, workloads, chosen, names):
    for wname in chosen:
        for number in range(args.r):
            for name in names:
                for attempt in range(args.retry + 1):
                    wait_quiet(0.25, args.wait)
                    run = one(name, peers[name], wname, workloads[wname], args, number)
                    noisy = (run.get("foreign") or 0) > 0.3
                    if not noisy:
                        break
                with open(args.out, "a") as out:
                    out.write(json.dumps(run) + "\n")
                figures = " ".join(f"{k} {run.get(k) or 0:.4g}" for k in ("rps", "cpu1k", "p50", "p99", "foreign"))
                print(f"{wname} round {number} {name}: {figures} {run.get('bad') or ''}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*")
    parser.add_argument("-w", default="ka4k", help="workloads, comma separated (workloads.json)")
    parser.add_argument("-r", type=int, default=5, help="rounds; in each one every peer runs once")
    parser.add_argument("-s", "--secs", type=float, default=4, help="measured seconds of each run")
    parser.add_argument("--pin", action="store_true", help="the gateway alone on CPU 1, all else on CPU 0")
    parser.add_argument("--wait", type=float, default=8, help="seconds to wait for a quiet machine before each run")
    parser.add_argument("--retry", type=int, default=0, help="times to repeat a run that had over 0.3 foreign cores")
    parser.add_argument("--out", default=RUN + "/results.jsonl")
    parser.add_argument("--table", action="store_true", help="only print the table from --out")
    args = parser.parse_args()
    peers = {}
    for path in [HERE + "/peers.json", *sorted(glob.glob(HERE + "/peers.d/*.json"))]:
        peers.update(json.load(open(path)))
    workloads = json.load(open(HERE + "/workloads.json"))
    names, chosen = args.peers or list(peers), args.w.split(",")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not args.table:
        # Two harnesses on the same ports would share listeners through SO_REUSEPORT without an error.
        lock = open(RUN + "/lock", "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        used = [p for p in [REDIS_PORT, 9100, 9101, *(peers[n]["port"] for n in names)] if listens(p)]
        if used:
            sys.exit(f"ports already in use, not by this run: {used}")
        try:
            rounds(args, peers, workloads, chosen, names)
        finally:
            for process in list(started):
                stop(process)
    results = [json.loads(line) for line in open(args.out)]
    table([r for r in results if r["pin"] == args.pin], workloads, chosen, names)


if __name__ == "__main__":
    main()
