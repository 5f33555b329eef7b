#!/usr/bin/env python3
"""Signs and judges requests with the providers' own SDKs: one JSON object per line in, one out, in the same order.

    sdk.py sign PROVIDER     {"secret", "body_base64", "url"?, "id"?, "timestamp"?}  ->  {"headers", "body_base64", "url"}
    sdk.py verify PROVIDER   {"secret", "body_base64", "url"?, "headers"}            ->  {"valid": bool, "error": text or null}
    sdk.py key PROVIDER      {}                                                      ->  {"secret", "public"}
    sdk.py public PROVIDER   {"key": PEM, or a seed}                                 ->  {"public": as the provider writes it}
    sdk.py serve             the same, each line with "do" and "provider"

`timestamp` is in seconds and defaults to now. Where a signature stands in the body or the URL, sign answers with a changed one. A
provider that signs with a private key signs with `secret` and is judged with `public`; key makes a pair. A line that the SDK cannot
take at all (a body that is not UTF-8, a malformed secret) is {"error": text} from sign and invalid from verify. Ends with 0
when every line could be signed or was valid, else with 1.

Which SDKs there are is in shared_key.py, in_body.py and public_key.py.
"""

import base64
import json
import sys
import time

import in_body
import public_key
import shared_key
from requests.structures import CaseInsensitiveDict

PROVIDERS = {**shared_key.PROVIDERS, **in_body.PROVIDERS, **public_key.PROVIDERS}


class Request:
    """A request that is signed or judged."""

    def __init__(self, line):
        self.secret = line["secret"]
        self.public = line.get("public", self.secret)
        self.raw = base64.b64decode(line["body_base64"])
        self.body = self.raw.decode()
        self.url = line.get("url", "https://hooks.example.com/in")
        self.headers = CaseInsensitiveDict(line.get("headers", {}))
        self.id = line.get("id", "msg_test")
        self.at = line.get("timestamp", int(time.time()))

    @property
    def millis(self):
        return self.at * 1000


def sign(sdk, line):
    try:
        request = Request(line)
        # A signature is a set of headers, or a request where it stands elsewhere.
        signed = sdk.sign(request)
        signed = signed if "headers" in signed else {"headers": signed}
        body = signed.pop("body", None)
        body = base64.b64encode(body.encode()).decode() if body is not None else line["body_base64"]
        return {"url": request.url, **signed, "body_base64": body}, True
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}, False


def verify(sdk, line):
    try:
        believes = sdk.verify(Request(line))
        return {"valid": believes is not False, "error": "the SDK says no" if believes is False else None}, believes is not False
    except Exception as error:  # every SDK has exceptions of its own; whatever it raises, it did not believe
        return {"valid": False, "error": f"{type(error).__name__}: {error}"[:300]}, False


def key(sdk, _line):
    secret, public = sdk.key()
    return {"secret": secret, "public": public}, True


def public(sdk, line):
    return {"public": sdk.public(line["key"])}, True


WORK = {"sign": sign, "verify": verify, "key": key, "public": public}


def main():
    arguments = sys.argv[1:]
    if arguments != ["serve"] and not (len(arguments) == 2 and arguments[0] in WORK and arguments[1] in PROVIDERS):
        sys.exit(__doc__)
    good = True
    output = sys.stdout
    sys.stdout = sys.stderr  # some SDKs print
    for line in sys.stdin:
        line = json.loads(line)
        do, provider = (line["do"], line["provider"]) if arguments == ["serve"] else arguments
        answer, ok = WORK[do](PROVIDERS[provider], line)
        good = good and ok
        print(json.dumps(answer), file=output, flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
