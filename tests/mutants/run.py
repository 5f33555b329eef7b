#!/usr/bin/env python3
"""Runs the mutants of an area: `tests/long mutants` says how, docs/mutants.md what came of it.

cargo-mutants says what the mutants are. It would build each by itself; here all of an area are built at once into a copy of the
tree, each function with a body for each of its mutants, and an environment variable that says which of them counts. So a mutant
costs one run of the tests. What cannot be chosen at run time (constants, functions that return `impl Trait`) is built one by one.
"""

import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

# Its files, and the steps in which it is tested: a test binary with the tests in it that are run (all where none is named). What
# is quick and sees most comes first, because the first failure ends it.
AREAS = {
    "guard": ("src/server/guard.rs", [("server", ["guard::", "http1::", "requests::"])]),
    "verify": ("src/verify/*.rs", [("pure", [])]),
    "identify": ("src/identify/*.rs", [("pure", [])]),
    "json": ("src/json/*.rs", [("pure", [])]),
    "protocol": (
        "src/dedup/{claim,course,twins}.rs",
        [("store_contract", ["protocol::"]), ("store_contract", []), ("model", [])],
    ),
    "claims": (
        "src/dedup/{mod,clock,join,lease,memory,stage}.rs",
        [("store_contract", ["stage::", "leases::", "memory_"]), ("pure", ["audited::"]), ("store_contract", [])],
    ),
    "stores": (
        "src/dedup/{embedded,redis}/*.rs",
        [
            ("store_contract", ["embedded", "damaged::", "redis_keeps_", "settings_", "pretended::"]),
            ("store_contract", ["chaos::"]),
            ("store_contract", []),
        ],
    ),
    "audit": (
        "src/audit/*.rs",
        [
            ("pure", ["audited::", "noted::"]),
            ("disk", ["report::", "room::", "meanwhile::", "packing::", "planted::"]),
            ("audit", []),
            ("disk", ["torn::"]),
            ("disk", ["faults::", "tamper::", "bits::"]),
        ],
    ),
}

# A mutant under which the tests use so many times as much of the processor as without one, and so much at least, never ends; nor
# does one that takes so many times as long by the clock. That is longer: time by the clock alone would say so of every mutant
# while the machine is busy.
PATIENCE, PATIENCE_MIN_S, SILENCE, SILENCE_MIN_S = 8, 30, 30, 120
# One that eats memory is stopped here.
MEMORY_MAX = 8 << 30

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
TREE = TARGET / "mutants" / sys.argv[1]
JOBS = int(os.environ.get("MUTANTS_JOBS", "1"))
NICE = int(os.environ.get("MUTANTS_NICE", "0"))


class Mutant:
    """One small mistake. `key` names it as long as its function stays as it is."""

    def __init__(self, found, text):
        self.name, self.file = found["name"], found["file"]
        self.start, self.end = (offset(text, found["span"][edge]) for edge in ("start", "end"))
        self.replacement = found["replacement"] or " "
        self.function = None
        if function := found["function"]:
            self.function = tuple(offset(text, function["span"][edge]) for edge in ("start", "end"))
        self.around = text[slice(*self.function)] if self.function else text[max(0, self.start - 60) : self.end + 60]
        words = self.name.split(": ", 1)[1], self.start - (self.function or (self.start,))[0], self.around
        self.key = f"{self.file} {hashlib.sha256(repr(words).encode()).hexdigest()[:16]}"
        returns = (found["function"] or {}).get("return_type") or ""
        self.alone = self.function is None or "impl " in returns

    def applied(self, text, begin=0, end=None):
        """The text from `begin` to `end` with the mistake in it."""
        return text[begin : self.start] + self.replacement + text[self.end : len(text) if end is None else end]


def offset(text, at):
    lines = text.split("\n")
    return sum(len(line) + 1 for line in lines[: at["line"] - 1]) + at["column"] - 1


def body(text, function):
    """Where the braces of a function's body are."""
    start, end = function
    at = start + re.search(r"^[^/#\n]*\bfn \w+", text[start:end], re.M).end()
    depth = 0
    for at in range(at, end):
        depth += (text[at] in "([") - (text[at] in ")]")
        if text[at] == "{" and depth == 0:
            return at, end - 1
    raise SystemExit(f"no body: {text[start:end]}")


def switched(text, mutants, numbers):
    """The file with a body for each mutant, and on which lines each of these is."""
    functions = collections.defaultdict(list)
    for mutant in mutants:
        functions[mutant.function].append(mutant)
    pieces, lines, at, line = [], {}, 0, 1

    def put(piece):
        nonlocal line
        pieces.append(piece)
        line += piece.count("\n")

    for function, those in sorted(functions.items()):
        open_brace, close_brace = body(text, function)
        put(text[at : open_brace + 1] + "\n")
        for mutant in those:
            begin = line
            put(f"if crate::mutant({numbers[mutant.key]}) {{ return {{\n")
            put(mutant.applied(text, open_brace + 1, close_brace))
            put("\n} }\n")
            lines[mutant.key] = range(begin, line)
        at = open_brace + 1
    put(text[at:])
    return "".join(pieces), lines


SWITCH = """
/// Whether this mutant is the one.
pub(crate) fn mutant(number: u32) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<u32>> =
        std::sync::LazyLock::new(|| std::env::var("GATEPOST_MUTANT").ok()?.parse().ok());
    *CHOSEN == Some(number)
}
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_bytes() != text:
        path.write_bytes(text)


def copy_tree(sources):
    """The tree as it is, committed or not, but for `sources`, and without the binary: no area needs it. Only what differs is
    written, so that what was built is not built again."""
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], check=True, capture_output=True, text=True)
    files = [file for file in files.stdout.split("\n")[:-1] if pathlib.Path(file).is_file()]
    for gone in {path for path in TREE.rglob("*") if path.is_file()} - {TREE / file for file in files}:
        gone.unlink()
    for file in map(pathlib.Path, files):
        if str(file) not in {"Cargo.toml", "src/main.rs", "src/lib.rs", *sources}:
            write(TREE / file, file.read_bytes())
    manifest = pathlib.Path("Cargo.toml").read_text()
    manifest = re.sub(r"\[\[bin\]\]\n.*?\n\n", "", manifest, count=1, flags=re.S)
    manifest = manifest.replace("\nedition", "\nautobins = false\nedition", 1)
    # Nobody steps through a mutant. The units tell the trees apart: to cargo they are one package, and one's binaries would pass for
    # another's.
    units = 64 + list(AREAS).index(TREE.name)
    manifest += f"\n[profile.dev.package.gatepost]\ndebug = false\ncodegen-units = {units}\n"
    write(TREE / "Cargo.toml", manifest.encode())
    write(TREE / "src/lib.rs", (pathlib.Path("src/lib.rs").read_text() + SWITCH).encode())


def build(tests):
    """The test binaries by name, or what the compiler says is wrong: (file, line) pairs and words."""
    command = ["cargo", "test", "--locked", "--no-run", "--message-format=json"]
    command += [f"--test={test}" for test in sorted(tests)]
    built = subprocess.run(command, cwd=TREE, env=os.environ | {"CARGO_TARGET_DIR": str(TARGET)}, stdout=subprocess.PIPE)
    binaries, places, words = {}, set(), []
    for message in map(json.loads, built.stdout.splitlines()):
        if message["reason"] == "compiler-artifact" and message.get("executable"):
            binaries[message["target"]["name"]] = message["executable"]
        if message["reason"] == "compiler-message" and message["message"]["level"].startswith("error"):
            words.append(message["message"]["rendered"])
            for span in filter(lambda span: span["is_primary"], message["message"]["spans"]):
                while span:
                    places.add((span["file_name"], span["line_start"]))
                    span = (span["expansion"] or {}).get("span")
    return (binaries, None, None) if built.returncode == 0 else (None, places, words)


def build_switched(sources, mutants, tests, numbers):
    """Builds all mutants at once; what does not compile is left out. The binaries, and who is left."""
    left = [mutant for mutant in mutants if not mutant.alone]
    while True:
        lines = {}
        for file, text in sources.items():
            those = [mutant for mutant in left if mutant.file == file]
            text, where = switched(text, those, numbers)
            write(TREE / file, text.encode())
            lines |= {(file, line): key for key, range_ in where.items() for line in range_}
        binaries, places, words = build(tests)
        if binaries:
            return binaries, left
        wrong = {lines[place] for place in places if place in lines}
        if not wrong:
            raise SystemExit("does not build:\n" + "\n".join(words[:5]))
        print(f"{len(wrong)} do not compile", flush=True)
        left = [mutant for mutant in left if mutant.key not in wrong]


def limits(seconds):
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def meets(steps, binaries, number, patience):
    """Runs the tests until one fails: `caught`, `timeout` or `missed`, and the test that did it."""
    for (test, only), (seconds, silence) in zip(steps, patience):
        scratch = tempfile.mkdtemp(prefix="gatepost-mutant-")
        env = os.environ | {"TMPDIR": scratch, "CARGO_MANIFEST_DIR": str(TREE), "RUST_MIN_STACK": str(64 << 20)}
        env |= {"PROPTEST_FAILURE_PERSISTENCE": "off"} | ({"GATEPOST_MUTANT": str(number)} if number else {})
        run = subprocess.Popen(
            [binaries[test], *only], cwd=TREE, env=env, text=True, errors="replace",
            preexec_fn=lambda seconds=seconds: limits(seconds),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        late = threading.Event()
        timer = threading.Timer(silence, lambda: (late.set(), stop(run)))
        timer.start()
        by = None
        for line in run.stdout:
            if found := re.match(r"test (\S+) .*FAILED$", line):
                by = f"{test} {found[1]}"
                break
        timer.cancel()
        code = 1 if by else run.wait()
        stop(run)
        shutil.rmtree(scratch, ignore_errors=True)
        if late.is_set() or code in (-signal.SIGXCPU, -signal.SIGKILL):
            return "timeout", test
        if code != 0:
            return "caught", by or f"{test} ended with {code}"
    return "missed", None


def processor():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def stop(run):
    """Ends a run and what it started."""
    try:
        os.killpg(run.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    run.wait()


def as_it_was(commit, file):
    """The text of a file in a commit; nothing, where it was not there."""
    return subprocess.run(["git", "show", f"{commit}:{file}"], capture_output=True, text=True).stdout


def some_of(mutants, part):
    """Those of some files, of what is not as it was in a commit, that are built one by one, or of one shard."""
    if part == "alone":
        return [mutant for mutant in mutants if mutant.alone]
    if commit := part.startswith("since:") and part.removeprefix("since:"):
        then = {file: as_it_was(commit, file) for file in {mutant.file for mutant in mutants}}
        return [mutant for mutant in mutants if mutant.around not in then[mutant.file]]
    if part.endswith(".rs"):
        return [mutant for mutant in mutants if mutant.file.endswith(tuple(f"/{file}" for file in part.split(",")))]
    first, step = map(int, part.split("/"))
    return mutants[first::step]


def main(area, part="0/1"):
    files, steps = AREAS[area]
    tests = {test for test, _ in steps}
    tool = TARGET / "tools/bin/cargo-mutants"
    listed = subprocess.run([tool, "mutants", "--list", "--json", "-f", files], check=True, capture_output=True)
    listed = json.loads(listed.stdout)
    sources = {found["file"]: pathlib.Path(found["file"]).read_text() for found in listed}
    copy_tree(sources)
    mutants = [Mutant(found, sources[found["file"]]) for found in listed]
    results = TARGET / "mutants" / f"{area}.json"
    known = json.loads(results.read_text()) if results.exists() else {}
    known = {mutant.key: known[mutant.key] for mutant in mutants if mutant.key in known}
    numbers = {mutant.key: number for number, mutant in enumerate(mutants, 1)}
    # What was caught stays so; what was missed, or did not end, is looked at again.
    open_ = [m for m in some_of(mutants, part) if known.get(m.key, {}).get("end") not in ("caught", "unviable")]

    def keep(mutant, end, by=None):
        known[mutant.key] = {"name": mutant.name, "end": end, "by": by}
        results.write_text(json.dumps(known, indent=1))
        if end != "caught":
            print(f"{end}: {mutant.name}", flush=True)

    began = time.monotonic()
    binaries, left = build_switched(sources, open_, tests, numbers)
    for mutant in open_:
        if not mutant.alone and mutant not in left:
            keep(mutant, "unviable")
    print(f"{area}: {len(left)} mutants built in {time.monotonic() - began:.0f} s", flush=True)
    patience = []
    for step in steps:
        before, begun = processor(), time.monotonic()
        end, by = meets([step], binaries, None, [(3600, 3600)])
        if end != "missed":
            raise SystemExit(f"without a mutant: {by}")
        took = processor() - before
        silence = max(SILENCE * (time.monotonic() - begun), SILENCE_MIN_S)
        patience.append((int(max(PATIENCE * took, PATIENCE_MIN_S)), silence))
        print(f"{area}: {' '.join([step[0], *step[1]])} takes {took:.1f} s of the processor", flush=True)
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        runs = {pool.submit(meets, steps, binaries, numbers[m.key], patience): m for m in left}
        for run in concurrent.futures.as_completed(runs):
            keep(runs[run], *run.result())
    for file, text in sources.items():
        write(TREE / file, text.encode())
    for mutant in filter(lambda mutant: mutant.alone, open_):
        write(TREE / mutant.file, mutant.applied(sources[mutant.file]).encode())
        binaries, _, _ = build(tests)
        keep(mutant, *(meets(steps, binaries, None, patience) if binaries else ("unviable",)))
        write(TREE / mutant.file, sources[mutant.file].encode())
    table(known)


def table(known):
    """A line per file: how many there are, and how they ended."""
    ends = ("caught", "timeout", "missed", "unviable")
    counts = collections.defaultdict(collections.Counter)
    for mutant in known.values():
        counts[mutant["name"].split(":")[0]][mutant["end"]] += 1
    for file, count in sorted(counts.items()):
        print(f"| `{file}` | {sum(count.values())} | " + " | ".join(str(count[end]) for end in ends) + " |")


if __name__ == "__main__":
    main(*sys.argv[1:])
