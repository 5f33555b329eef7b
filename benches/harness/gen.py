#!/usr/bin/env python3
"""Pre-signed webhook request files.

gen.py --size 4096 --n 100000 --out DIR [--scheme stripe|svix|github] [--seed S] [--dup .05] [--bad .01]

Writes  DIR/tmpl_<i>.json   body templates (the event id sits at byte offset ID_OFF, fixed width)
        DIR/events.tsv      one request per line:  kind \t event-id \t template-index \t headers
                            kind: F fresh, D duplicate of an earlier F (same bytes), B bad signature,
                                  S stale timestamp (correctly signed, 1000 s old), M signature header missing
                            headers: "Name: value" joined by 0x1f
        DIR/meta.json       counts, expected forwarded events, id offset
The signature timestamp is the time of generation, so a file is good for 300 s (Stripe's tolerance).
"""
import argparse
import base64
import hmac
import json
import os
import random
import sys
import time

SECRET = b"whsec_perfharness0123456789abcdefgh"          # stripe: used as is
SVIX_SECRET_B64 = base64.b64encode(SECRET[6:30]).decode()  # svix: whsec_<base64 of key>
SVIX_KEY = SECRET[6:30]
GITHUB_SECRET = SECRET
TYPES = ["payment_intent.succeeded", "payment_intent.created", "charge.succeeded", "charge.refunded",
         "invoice.paid", "invoice.finalized", "customer.subscription.updated", "customer.created"]
ALPH = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_PLACE = "evt_" + "0" * 24

def template(rng, i, size):
    typ = TYPES[i % len(TYPES)]
    rid = lambda p: p + "".join(rng.choices(ALPH, k=24))
    obj = {"id": rid("pi_"), "object": typ.split(".")[0], "type": "card", "amount": rng.randrange(100, 99999),
           "currency": "usd", "customer": rid("cus_"), "livemode": True, "status": "succeeded",
           "payment_method_types": ["card"], "metadata": {}}
    ev = {"id": ID_PLACE, "object": "event", "api_version": "2024-06-20", "created": 1716163200 + i,
          "data": {"object": obj}, "livemode": True, "pending_webhooks": 1,
          "request": {"id": rid("req_"), "idempotency_key": rid("")}, "type": typ}
    dump = lambda: json.dumps(ev, indent=2)
    items = []
    if size > 2500:
        obj["lines"] = {"object": "list", "data": items, "has_more": False}
    while True:                                  # realistic nested line items up to ~ size
        if size > 2500 and len(dump()) < size - 900:
            items.append({"id": rid("il_"), "object": "line_item", "amount": rng.randrange(1, 10**6), "currency": "usd",
                          "description": "Subscription \"pro\" \u2014 1 \u00d7 seat", "discountable": True,
                          "price": {"id": rid("price_"), "object": "price", "type": "recurring", "unit_amount": 1250,
                                    "recurring": {"interval": "month", "interval_count": 1}},
                          "proration": False, "quantity": rng.randrange(1, 50), "type": "subscription"})
        else:
            break
    short = size - len(dump())
    if short > 12:
        obj["metadata"]["note"] = ""
        obj["metadata"]["note"] = "x" * max(0, size - len(dump()))
    return dump().encode(), typ

def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--size", type=int, default=4096); ap.add_argument("--n", type=int, default=100000)
    ap.add_argument("--out", required=True); ap.add_argument("--scheme", default="stripe")
    ap.add_argument("--seed", type=int, default=1); ap.add_argument("--dup", type=float, default=.05)
    ap.add_argument("--bad", type=float, default=.01); ap.add_argument("--gap", type=int, default=2000)
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    rng = random.Random(a.seed)
    trng = random.Random(7)
    tm = [template(trng, i, a.size) for i in range(64)]
    off = tm[0][0].index(ID_PLACE.encode())
    assert all(t[0].index(ID_PLACE.encode()) == off for t in tm)
    for i, (b, _) in enumerate(tm):
        open(f"{a.out}/tmpl_{i}.json", "wb").write(b)
    pre = [b[:off] for b, _ in tm]; post = [b[off + len(ID_PLACE):] for b, _ in tm]
    now = int(time.time())
    cnt = dict.fromkeys("FDBSM", 0); hist = []; lines = []
    gap = min(a.gap, max(1, a.n // 4))
    dig = hmac.digest
    for i in range(a.n):
        r = rng.random()
        kind = "F"
        if r < a.dup and len(hist) > gap: kind = "D"
        elif a.dup <= r < a.dup + a.bad: kind = "BBSM"[i & 3]
        if kind == "D":
            lines.append("D" + hist[rng.randrange(max(0, len(hist) - 20 * gap), len(hist) - gap)]); cnt["D"] += 1
            continue
        k = i & 63
        eid = "evt_%06x%018d" % (a.seed & 0xffffff, i)
        body = pre[k] + eid.encode() + post[k]
        t = now - 1000 if kind == "S" else now
        if a.scheme == "stripe":
            sig = dig(SECRET, b"%d." % t + body, "sha256").hex()
            if kind == "B": sig = sig[:-1] + ("0" if sig[-1] != "0" else "1")
            h = f"Stripe-Signature: t={t},v1={sig}"
        elif a.scheme == "svix":
            sig = base64.b64encode(dig(SVIX_KEY, f"{eid}.{t}.".encode() + body, "sha256")).decode()
            if kind == "B": sig = ("A" if sig[0] != "A" else "B") + sig[1:]
            h = f"svix-id: {eid}\x1fsvix-timestamp: {t}\x1fsvix-signature: v1,{sig}"
        else:  # github
            sig = dig(GITHUB_SECRET, body, "sha256").hex()
            if kind in "BS": sig = sig[:-1] + ("0" if sig[-1] != "0" else "1")
            h = f"X-Hub-Signature-256: sha256={sig}"
        if kind == "M": h = "X-No-Signature: 1"
        rest = f"\t{eid}\t{k}\t{h}"
        cnt[kind] += 1
        if kind == "F": hist.append(rest)
        lines.append(kind + rest)
    with open(f"{a.out}/events.tsv", "w") as f:
        f.write("\n".join(lines) + "\n")
    json.dump({"size": a.size, "n": a.n, "counts": cnt, "id_off": off, "id_len": len(ID_PLACE), "templates": len(tm),
               "scheme": a.scheme, "t": now, "secret": SECRET.decode(), "svix_secret": "whsec_" + SVIX_SECRET_B64},
              open(f"{a.out}/meta.json", "w"))
    sys.stderr.write(f"gen: {a.n} x {len(tm[0][0])} B {cnt} -> {a.out}\n")

main()
