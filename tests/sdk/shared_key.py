"""SDKs of providers that sign headers with a key that both sides have.

Where an SDK only verifies, the signature is made here, and is worth something once the SDK believed it.
"""

import base64
import datetime
import hashlib
import hmac
import json
import unicodedata
from collections import namedtuple

# `sign` takes a request and gives headers; `verify` raises, or gives False, where it does not believe; `key` makes a pair,
# and `public` writes a public key as the provider does.
Sdk = namedtuple("Sdk", "sign verify key public", defaults=[None, None])


def hmac_sha256(secret, *parts):
    return hmac.new(secret.encode(), "".join(map(str, parts)).encode(), hashlib.sha256)


def hex_of(header):
    """Signs the body alone, in hexadecimal."""
    return lambda r: {header: hmac_sha256(r.secret, r.body).hexdigest()}


# -- Standard Webhooks, and vendors on its headers ---------------------------------------------------------------


def standard_sign(webhook, prefix="webhook", key=lambda secret: secret):
    def sign(r):
        at = datetime.datetime.fromtimestamp(r.at, datetime.timezone.utc)
        signature = webhook()(key(r.secret)).sign(r.id, at, r.body)
        return {f"{prefix}-id": r.id, f"{prefix}-timestamp": str(r.at), f"{prefix}-signature": signature}

    return sign


def standard_webhook():
    from standardwebhooks import Webhook

    return Webhook


def svix_webhook():
    from svix.webhooks import Webhook

    return Webhook


def openai_verify(r):
    from openai import OpenAI

    OpenAI(api_key="unused").webhooks.verify_signature(r.body, r.headers, secret=r.secret)


def replicate_verify(r):
    from replicate.webhook import Webhooks, WebhookSigningSecret

    Webhooks.validate(headers=dict(r.headers), body=r.body, secret=WebhookSigningSecret(key=r.secret), tolerance=300)


def polar_verify(r):
    from polar.webhooks import validate_event

    types = frozenset([json.loads(r.body).get("type")])
    validate_event(r.body, dict(r.headers), r.secret, types, dict)


# -- headers of their own ----------------------------------------------------------------------------------------


def stripe_sign(r):
    from stripe import WebhookSignature

    return {"Stripe-Signature": WebhookSignature.generate_signature_header(r.body, r.secret, r.at)}


def stripe_verify(r):
    from stripe import Webhook

    Webhook.construct_event(r.body, r.headers.get("stripe-signature"), r.secret)


def slack_sign(r):
    from slack_sdk.signature import SignatureVerifier

    signature = SignatureVerifier(r.secret).generate_signature(timestamp=str(r.at), body=r.body)
    return {"X-Slack-Request-Timestamp": str(r.at), "X-Slack-Signature": signature}


def slack_verify(r):
    from slack_sdk.signature import SignatureVerifier

    return SignatureVerifier(r.secret).is_valid_request(r.body, dict(r.headers.lower_items()))


def paddle_sign(r):
    from paddle_billing.Notifications.PaddleSignature import PaddleSignature

    signature = PaddleSignature.calculate_hmac(r.secret, f"{r.at}:{r.body}".encode()).hexdigest()
    return {"Paddle-Signature": f"ts={r.at};h1={signature}"}


def paddle_verify(r):
    from paddle_billing.Notifications import Secret, Verifier

    Request = namedtuple("Request", "headers body")
    return Verifier().verify(Request(r.headers, r.raw), Secret(r.secret))


def mollie_verify(r):
    from mollie.utils.webhooks.signature_validator import SignatureValidator

    return SignatureValidator.validate(r.body, r.secret, r.headers["X-Mollie-Signature"])


def mollie_sign(r):
    from mollie.utils.webhooks.signature_validator import SignatureValidator

    return {"X-Mollie-Signature": "sha256=" + SignatureValidator.create_signature(r.body, r.secret)}


def razorpay_verify(r):
    from razorpay.utility import Utility

    Utility().verify_webhook_signature(r.body, r.headers["X-Razorpay-Signature"], r.secret)


def workos_verify(r):
    from workos.webhooks._verification import verify_header

    verify_header(event_body=r.raw, event_signature=r.headers["WorkOS-Signature"], secret=r.secret)


def gocardless_verify(r):
    from gocardless_pro.webhooks import parse

    parse(r.body, r.secret, r.headers["Webhook-Signature"])


def line_verify(r):
    from linebot.v3.webhook import SignatureValidator

    return SignatureValidator(r.secret).validate(r.body, r.headers["X-Line-Signature"])


def coinbase_sign(r):
    from coinbase_commerce.webhook import WebhookSignature

    return {"X-CC-Webhook-Signature": WebhookSignature._compute_signature(r.body, r.secret)}


def coinbase_verify(r):
    from coinbase_commerce.webhook import Webhook

    Webhook.construct_event(r.body, r.headers["X-CC-Webhook-Signature"], r.secret)


def easypost_sign(r):
    secret = unicodedata.normalize("NFKD", r.secret)
    return {"X-Hmac-Signature": f"hmac-sha256-hex={hmac_sha256(secret, r.body).hexdigest()}"}


def easypost_verify(r):
    from easypost.util import validate_webhook

    validate_webhook(r.raw, r.headers, r.secret)


def pusher_sign(r):
    from pusher.signature import sign

    return {"X-Pusher-Key": PUSHER_KEY, "X-Pusher-Signature": sign(r.secret, r.body)}


def pusher_verify(r):
    from pusher import Pusher

    pusher = Pusher(app_id="1", key=PUSHER_KEY, secret=r.secret)
    return pusher.validate_webhook(r.headers["X-Pusher-Key"], r.headers["X-Pusher-Signature"], r.body) is not None


PUSHER_KEY = "a-pusher-key"


def retell_sign(r):
    from retell.lib.webhook_auth import symmetric

    return {"X-Retell-Signature": symmetric["sign"](r.body, r.secret, r.millis)}


def retell_verify(r):
    from retell.lib import verify

    return verify(r.body, r.secret, r.headers["X-Retell-Signature"])


def elevenlabs_verify(r):
    from elevenlabs.client import ElevenLabs

    ElevenLabs(api_key="unused").webhooks.construct_event(r.body, r.headers["ElevenLabs-Signature"], r.secret)


def box_sign(r):
    from box_sdk_gen.internal.utils import compute_webhook_signature

    at = datetime.datetime.fromtimestamp(r.at, datetime.timezone(datetime.timedelta(hours=-7))).isoformat()
    fixed = {"box-delivery-timestamp": at, "box-signature-version": "1", "box-signature-algorithm": "HmacSHA256"}
    return {**fixed, "box-delivery-id": r.id, "box-signature-primary": compute_webhook_signature(r.body, fixed, r.secret)}


def box_verify(r):
    from box_sdk_gen.managers.webhooks import WebhooksManager

    return WebhooksManager.validate_message(r.body, dict(r.headers.lower_items()), r.secret)


def adyen_platform_sign(r):
    from Adyen.util import generate_payload_sig

    return {"HmacSignature": generate_payload_sig(r.raw, r.secret).decode(), "Protocol": "HmacSHA256"}


def adyen_platform_verify(r):
    from Adyen.util import is_valid_hmac_payload

    return is_valid_hmac_payload(r.headers["HmacSignature"], r.secret, r.raw)


PROVIDERS = {
    "adyen-platform": Sdk(adyen_platform_sign, adyen_platform_verify),
    "box": Sdk(box_sign, box_verify),
    "coinbase-commerce": Sdk(coinbase_sign, coinbase_verify),
    "easypost": Sdk(easypost_sign, easypost_verify),
    "elevenlabs": Sdk(
        lambda r: {"ElevenLabs-Signature": f"t={r.at},v0={hmac_sha256(r.secret, r.at, '.', r.body).hexdigest()}"}, elevenlabs_verify
    ),
    "gocardless": Sdk(hex_of("Webhook-Signature"), gocardless_verify),
    "line": Sdk(lambda r: {"X-Line-Signature": base64.b64encode(hmac_sha256(r.secret, r.body).digest()).decode()}, line_verify),
    "openai": Sdk(standard_sign(standard_webhook), openai_verify),
    "paddle": Sdk(paddle_sign, paddle_verify),
    "mollie": Sdk(mollie_sign, mollie_verify),
    "polar": Sdk(standard_sign(standard_webhook, key=str.encode), polar_verify),
    "pusher": Sdk(pusher_sign, pusher_verify),
    "razorpay": Sdk(hex_of("X-Razorpay-Signature"), razorpay_verify),
    "replicate": Sdk(standard_sign(standard_webhook), replicate_verify),
    "retell": Sdk(retell_sign, retell_verify),
    "slack": Sdk(slack_sign, slack_verify),
    "standard-webhooks": Sdk(
        standard_sign(standard_webhook), lambda r: standard_webhook()(r.secret).verify(r.body, dict(r.headers))
    ),
    "stripe": Sdk(stripe_sign, stripe_verify),
    "svix": Sdk(standard_sign(svix_webhook, "svix"), lambda r: svix_webhook()(r.secret).verify(r.body, dict(r.headers))),
    "workos": Sdk(
        lambda r: {"WorkOS-Signature": f"t={r.millis}, v1={hmac_sha256(r.secret, r.millis, '.', r.body).hexdigest()}"},
        workos_verify,
    ),
}
