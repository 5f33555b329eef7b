#!/usr/bin/env python3
"""Signs and judges requests with the providers' own SDKs: one JSON object per line in, one out, in the same order.

    sdk.py sign PROVIDER     {"secret", "body_base64", "id"?, "timestamp"?}  ->  {"headers": {name: value}}
    sdk.py verify PROVIDER   {"secret", "body_base64", "headers"}            ->  {"valid": bool, "error": text or null}

PROVIDER is stripe, slack, standard-webhooks or svix. `timestamp` is in seconds and defaults to now. A line that the SDK cannot
take at all (a body that is not UTF-8, a malformed secret) is {"error": text} from sign and invalid from verify. Ends with 0
when every line could be signed or was valid, else with 1.
"""

import base64
import datetime
import json
import sys
import time


def stripe_sign(secret, body, _id, timestamp):
    from stripe import WebhookSignature

    return {"Stripe-Signature": WebhookSignature.generate_signature_header(body, secret, timestamp)}


def stripe_verify(secret, body, headers):
    from stripe import Webhook

    Webhook.construct_event(body, headers.get("stripe-signature"), secret)


def slack_sign(secret, body, _id, timestamp):
    from slack_sdk.signature import SignatureVerifier

    signature = SignatureVerifier(secret).generate_signature(timestamp=str(timestamp), body=body)
    return {"X-Slack-Request-Timestamp": str(timestamp), "X-Slack-Signature": signature}


def slack_verify(secret, body, headers):
    from slack_sdk.signature import SignatureVerifier

    if not SignatureVerifier(secret).is_valid_request(body, headers):
        raise ValueError("is_valid_request says no")


def standard_sign(secret, body, id, timestamp):
    from standardwebhooks import Webhook

    return standard_headers("webhook", Webhook(secret), body, id, timestamp)


def standard_verify(secret, body, headers):
    from standardwebhooks import Webhook

    Webhook(secret).verify(body, headers)


def svix_sign(secret, body, id, timestamp):
    from svix.webhooks import Webhook

    return standard_headers("svix", Webhook(secret), body, id, timestamp)


def svix_verify(secret, body, headers):
    from svix.webhooks import Webhook

    Webhook(secret).verify(body, headers)


def standard_headers(prefix, webhook, body, id, timestamp):
    at = datetime.datetime.fromtimestamp(timestamp, datetime.timezone.utc)
    signature = webhook.sign(id, at, body)
    return {f"{prefix}-id": id, f"{prefix}-timestamp": str(timestamp), f"{prefix}-signature": signature}


PROVIDERS = {
    "slack": (slack_sign, slack_verify),
    "standard-webhooks": (standard_sign, standard_verify),
    "stripe": (stripe_sign, stripe_verify),
    "svix": (svix_sign, svix_verify),
}


def sign(provider, line):
    try:
        body = base64.b64decode(line["body_base64"]).decode()
        timestamp = line.get("timestamp", int(time.time()))
        headers = PROVIDERS[provider][0](line["secret"], body, line.get("id", "msg_test"), timestamp)
        return {"headers": headers}, True
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}, False


def verify(provider, line):
    headers = {name.lower(): value for name, value in line["headers"].items()}
    try:
        PROVIDERS[provider][1](line["secret"], base64.b64decode(line["body_base64"]).decode(), headers)
        return {"valid": True, "error": None}, True
    except Exception as error:  # every SDK has exceptions of its own; whatever it raises, it did not believe
        return {"valid": False, "error": f"{type(error).__name__}: {error}"[:300]}, False


def main():
    work = {"sign": sign, "verify": verify}.get(sys.argv[1] if len(sys.argv) == 3 else "")
    if work is None or sys.argv[2] not in PROVIDERS:
        sys.exit(__doc__)
    good = True
    for line in sys.stdin:
        answer, ok = work(sys.argv[2], json.loads(line))
        good = good and ok
        print(json.dumps(answer), flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
