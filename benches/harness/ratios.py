#!/usr/bin/env python3
"""Paired ratios: each peer's figures divided by BASE's in the same interleaved round. These are the figures to quote.

    ratios.py [BASE=nginx-lua] [results.jsonl]

Pairing takes the machine's moods out: neighbours in a round met the same noise.
"""
import json
import os
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FIGURES = ("CPU/event", "with Redis", "req/s", "p99")


def rounds(path):
    """Consecutive results of one workload and round, by peer."""
    groups, current = [], None
    for line in open(path):
        run = json.loads(line)
        if not run.get("n"):
            continue
        key = (run["w"], run["round"])
        if current is None or current[0] != key or run["peer"] in current[1]:
            current = (key, {})
            groups.append(current)
        current[1][run["peer"]] = run
    return groups


def ratios(run, base):
    return (
        run["cpu1k"] / base["cpu1k"],
        (run["cpu1k"] + run["redis1k"]) / (base["cpu1k"] + base["redis1k"]),
        run["rps"] / base["rps"],
        run["p99"] / base["p99"],
    )


def main():
    base = sys.argv[1] if len(sys.argv) > 1 else "nginx-lua"
    default = os.environ.get("PERF", os.path.dirname(HERE)) + "/run/results.jsonl"
    table = {}
    for (workload, _), group in rounds(sys.argv[2] if len(sys.argv) > 2 else default):
        for peer, run in group.items() if base in group else ():
            table.setdefault(workload, {}).setdefault(peer, []).append(ratios(run, group[base]))
    for workload, peers in table.items():
        print(f"\n{workload}: relative to {base} (median of paired rounds, min–max)")
        for peer, pairs in peers.items():
            columns = [(name, [pair[i] for pair in pairs]) for i, name in enumerate(FIGURES)]
            text = "  ".join(f"{n} {statistics.median(c):5.2f} ({min(c):.2f}–{max(c):.2f})" for n, c in columns)
            print(f"  {peer:18s} {text}  n={len(pairs)}")


if __name__ == "__main__":
    main()
