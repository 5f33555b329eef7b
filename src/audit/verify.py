#!/usr/bin/env python3
"""Verifies records exported from a Gatepost audit log. Needs nothing but Python 3.

    python3 verify.py [DIR] [--against FILE] [--public-key FILE]

Every record holds the SHA-256 of the line before it; checkpoints, signed with Ed25519, say how many records there
were and the last one's hash. FILE holds checkpoints that left the machine: only they show a cut tail, a rollback or
a log that was sealed again. Whoever can write DIR can call it an export, and put other keys there: compare the first
line and the keys with what you know, or name a file of keys that you got another way. Exit status: 0 good, 75 good but for an unfinished end that the next start of Gatepost
cuts off, 6 tampered with, 1 cannot tell.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import re
import sys

# Ed25519 (RFC 8032, section 5.1; points in extended coordinates)
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def times(n, point):
    result = (0, 1, 1, 0)
    while n > 0:
        result = add(result, point) if n & 1 else result
        point, n = add(point, point), n >> 1
    return result


def decompress(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if len(data) != 32 or y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * ROOT % P
    if (x * x - x2) % P or (x == 0 and sign):
        return None
    x = P - x if (x & 1) != sign else x
    return (x, y, 1, x * y % P)


BASE = decompress((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def signed(key, message, signature):
    a, r, s = decompress(key), decompress(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L or len(signature) != 64:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    p, q = times(s, BASE), add(r, times(h, a))
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


# Keys and checkpoints (C2SP signed notes)
def unbase64(text):
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("not canonical")
    return data


def read_keys(path):
    keys = {}
    for line in open(path, encoding="utf-8"):
        if line.strip() and not line.startswith("#"):
            name, digest, data = line.strip().split("+", 2)
            data = unbase64(data)
            want = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
            if data[0] != 1 or len(data) != 33 or want.hex() != digest:
                raise ValueError("a public key does not fit its name")
            keys[name] = (want, data[1:])
    return keys


def fingerprint(key):
    return "ed25519 SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def read_note(note, keys):
    """(size, hash) of a note in good form, whether one of the keys signed it, and whether it says that one did."""
    text, signatures = note.split("\n\n", 1)
    origin, size, digest, time = text.split("\n")
    if not re.fullmatch("0|[1-9][0-9]*", size) or not time.startswith("time "):
        raise ValueError("not a checkpoint")
    match = re.fullmatch("\u2014 ([^ \n]+) ([A-Za-z0-9+/=]+)\n", signatures)
    blob, digest = unbase64(match.group(2)), unbase64(digest)
    if match.group(1) != origin or len(digest) != 32:
        raise ValueError("not a checkpoint")
    key = keys.get(origin)
    good = key and blob[:4] == key[0] and signed(key[1], (text + "\n").encode(), blob[4:])
    return int(size), digest.hex(), bool(good), bool(key)


def read_checkpoints(path, keys, findings, copied):
    """{size: {hash, ...}} of the checkpoints that one of the keys signed, and how many copies are of other logs."""
    found, foreign, lines = {}, [], list(open(path, encoding="utf-8", errors="replace", newline="\n"))
    for number, line in enumerate(lines):
        holed = line.startswith("\0") or line.endswith("\0\n")  # by a power cut; not in the middle
        if not line.endswith("\n") or holed and number + 1 == len(lines):
            continue  # it was being written
        try:
            at = line.index('{"v":1,"checkpoint":')
            note, end = json.JSONDecoder().raw_decode(line[at:])
            if not copied and (at, line[end:]) != (0, "\n"):
                raise ValueError("something stands beside it")
            size, digest, good, named = read_note(note["checkpoint"], keys)
        except (ValueError, AttributeError):
            if not copied:  # a log that holds copies may hold anything
                findings.append((0, "%s holds a line that is not a checkpoint" % path))
            continue
        if good:
            found.setdefault(size, set()).add(digest)
        else:  # several gateways may write their copies into one file
            unsigned = (size, "%s holds one that is not signed by this log's key" % path)
            (foreign if copied and not named else findings).append(unsigned)
    if not found:
        findings += foreign
    return found, len(foreign)


# The chain
BATCH = 1 << 20  # bytes that are written at once, at the most
FRAME = re.compile(rb'{"v":1,"seq":([1-9][0-9]{0,17}),"ts":"[^"]*","kind":"([^"]*)".*,"prev":"([0-9a-f]{64})"}', re.S)


def frame(line):
    """The fixed members of a record; None where they are not as Gatepost writes them."""
    try:
        line.decode("utf-8")
    except ValueError:
        return None
    return None if b"\0" in line else FRAME.fullmatch(line)


def not_json(text):
    raise ValueError(text)


def said(line):
    try:
        return json.loads(line, parse_constant=not_json)
    except ValueError:
        return {}


def number(said, key):
    value = said.get(key) if isinstance(said, dict) else None
    return value if type(value) is int and value >= 0 else None


def read_export(path):
    """After which record an export begins, and with which it ends; None for a log."""
    if not os.path.exists(path):
        return None
    try:
        note = json.load(open(path, encoding="utf-8"))
    except ValueError:
        note = None
    after, last = number(note, "after"), number(note, "last")
    if after is None or last is None or max(after, last) >= 10**18:
        sys.exit("%s: not the note of an export" % path)
    return after, last


def walk(directory, own, copied, export, findings):
    names = sorted(n for n in os.listdir(directory) if re.fullmatch(r"segment-\d{20}\.ndjson", n))
    if any(n.endswith(".zst") for n in os.listdir(directory)) or not names:
        sys.exit("there are no plain segments here: use gatepost audit export")
    last, head, begins, agreed, torn = None, None, None, 0, 0
    removals, unbelieved = [], {}  # what records say was removed; what a later start said of such a record
    started, sealed_once = 0, 0  # every run is sealed behind its "started", every segment before the next one
    for name in names:
        begin, sealed_once, end, data = int(name[8:28]), last or 0, 0, open(os.path.join(directory, name), "rb").read()
        data = data.rstrip(b"\0")
        for line in io.BytesIO(data):
            whole = line.endswith(b"\n")
            unfinished = name == names[-1] and not (whole and b"\0" not in line)
            if unfinished and len(data) - end <= BATCH and max([0, *own, *copied]) <= (last or 0):
                torn = len(data) - end  # one batch that was not written whole: it was never there
                break
            end += len(line)
            if not whole:
                findings.append(((last or begin - 1) + 1, "the record is cut short"))
                break
            line = line[:-1]
            match, digest = frame(line), hashlib.sha256(line).hexdigest()
            seq = int(match.group(1)) if match else (int(name[8:28]) if last is None else last + 1)
            if not match:
                findings.append((seq, "this is not a record"))
            elif last is None:
                begins = (seq - 1, match.group(3).decode())
            elif seq > last + 1:
                findings.append((last + 1, "records up to %d are missing" % (seq - 1)))
            elif seq <= last:
                findings.append((last + 1, "here stands record %d, where it does not belong" % seq))
            elif match.group(3).decode() != head:
                findings.append((last, "its content does not match the hash in record %d" % seq))
            if match and begin not in (None, seq):
                findings.append((begin, "it says that it is %d, its segment's name says %d" % (seq, begin)))
            begin = None
            if match and match.group(2) != b"control":
                sealed_once = max(sealed_once, started, 1)  # nothing comes before the first seal
            elif match:
                control = said(line)
                what = control.get("what")
                if what == "started":
                    started = seq
                    sealed_once = max(sealed_once, number(control, "checkpoint_size") or 0)
                elif what in ("damage_found", "segment_kept") and (number(control, "record") or seq) < seq:
                    unbelieved.setdefault(control["record"], set()).add(what)
                elif what == "segment_removed" and number(control, "removed_seq") is not None:
                    removals.append((seq, (control["removed_seq"], control.get("removed_hash"))))
            agreed += digest in copied.get(seq, ())
            if (own.get(seq, set()) | copied.get(seq, set())) - {digest}:
                findings.append((seq, "a checkpoint was made over another record"))
            last, head = seq, digest
    last = last or 0
    covered, (after, end) = max(own, default=0), export or (0, last)
    # Anybody can write that records were removed: it counts where that was sealed, and no start has called it in question.
    removed = [gone for record, gone in removals if record <= covered and record not in unbelieved]
    origin = begins == (0, "0" * 64) and after == 0
    proven = begins and after > 0 and begins[0] == after and begins[1] in own.get(after, ())
    if begins and not (origin or proven or begins in removed):
        findings.append((begins[0] + 1, "what was before is missing"))
    for record, gone in removals:
        if "damage_found" in unbelieved.get(record, ()):
            findings.append((record, "it says that records up to %d were removed, and was not sealed then" % gone[0]))
    if covered < sealed_once:
        findings.append((covered + 1, "it was sealed up to record %d, but no checkpoint says so" % sealed_once))
    if end != last:
        findings.append((min(end, last) + 1, "the export ends with %d, and its note says with %d" % (last, end)))
    for size in [s for s in own if s > last] + [s for s in copied if last < s and (not export or s <= end)]:
        findings.append((last + 1, "the log ends with %d, but a checkpoint covers %d" % (last, size)))
    return last, agreed, torn


def main():
    parser = argparse.ArgumentParser(description="Verifies exported records.")
    parser.add_argument("dir", nargs="?", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--against", metavar="FILE")
    parser.add_argument("--public-key", metavar="FILE")
    args = parser.parse_args()
    findings, beside = [], lambda name: os.path.join(args.dir, name)
    key_file = args.public_key or beside("audit-signing.pub")
    keys, export = read_keys(key_file), read_export(beside("export.json"))
    own, copied, others = {}, {}, 0
    if os.path.exists(beside("checkpoints")):
        own, _ = read_checkpoints(beside("checkpoints"), keys, findings, False)
    if args.against:
        copied, others = read_checkpoints(args.against, keys, findings, True)
    if export:
        print("EXPORT of records %d to %d" % (export[0] + 1, export[1]))
    last, agreed, torn = walk(args.dir, own, copied, export, findings)
    print("keys        %s, from %s" % (", ".join(fingerprint(key) for _, key in keys.values()), key_file))
    newer = last - max((s for s in own if s <= last), default=0)
    print("records     up to %d, %d of them behind the last checkpoint" % (last, newer))
    print("checkpoints %d signed sizes" % len(own))
    if args.against:
        later = sum(1 for size in copied if export and size > export[1])
        counts = ", %d of later records" % later * bool(later) + ", %d of other logs" % others * bool(others and copied)
        print("copies      %d agree%s" % (agreed, counts))
    for record, problem in sorted(findings)[:20]:
        print("  record %d: %s" % (record, problem))
    if args.against and not agreed and not findings:
        sys.exit("none of the copied checkpoints covers a record that is here")
    if torn:
        print("torn        %d bytes at the end were not written whole" % torn)
    print("TAMPERED" if findings else "TORN TAIL: the next start takes it up" if torn else "VERIFIED")
    sys.exit(6 if findings else 75 if torn else 0)


if __name__ == "__main__":
    main()
