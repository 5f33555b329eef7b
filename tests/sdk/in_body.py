"""SDKs of providers that sign the URL as well, or put the signature into the body."""

import hashlib
import json
import urllib.parse

from shared_key import Sdk, hmac_sha256

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def square_sign(r):
    import base64

    signature = base64.b64encode(hmac_sha256(r.secret, r.url, r.body).digest()).decode()
    return {"x-square-hmacsha256-signature": signature}


def square_verify(r):
    from square.utils.webhooks_helper import verify_signature

    signature = r.headers["x-square-hmacsha256-signature"]
    return verify_signature(
        request_body=r.body, signature_header=signature, signature_key=r.secret, notification_url=r.url
    )  # fmt: skip


class Form(dict):
    """Fields of a form, as a web framework hands them to Twilio's validator."""

    def __init__(self, body):
        super().__init__(urllib.parse.parse_qs(body, keep_blank_values=True, strict_parsing=True))
        self.getlist = self.__getitem__


def twilio_sign(r):
    from twilio.request_validator import RequestValidator

    signature = RequestValidator(r.secret).compute_signature(r.url, Form(r.body))
    return {**FORM, "X-Twilio-Signature": signature, "I-Twilio-Idempotency-Token": r.id}


def twilio_json_sign(r):
    from twilio.request_validator import RequestValidator

    validator = RequestValidator(r.secret)
    url = f"{r.url}?bodySHA256={validator.compute_hash(r.body)}"
    headers = {"X-Twilio-Signature": validator.compute_signature(url, {}), "I-Twilio-Idempotency-Token": r.id}
    return {"headers": headers, "url": url}


def twilio_verify(r):
    from twilio.request_validator import RequestValidator

    params = r.body if "bodySHA256" in r.url else Form(r.body)
    return RequestValidator(r.secret).validate(r.url, params, r.headers["X-Twilio-Signature"])


def hubspot(version):
    from hubspot.utils.signature import Signature

    headers = {"v3": "X-HubSpot-Signature-v3"}
    header = headers.get(version, "X-HubSpot-Signature")

    def sign(r):
        at = str(r.millis)
        signature = Signature.get_signature(r.secret, r.body, version, r.url, "POST", at)
        more = {"X-HubSpot-Request-Timestamp": at} if version == "v3" else {"X-HubSpot-Signature-Version": version}
        return {header: signature, **more}

    def verify(r):
        at = r.headers.get("X-HubSpot-Request-Timestamp")
        return Signature.is_valid(r.headers[header], r.secret, r.body, r.url, "POST", version, at)

    return sign, verify


def hubspot_sdk(version):
    """The SDK of one version of the scheme, loaded when it is needed."""
    return Sdk(lambda r: hubspot(version)[0](r), lambda r: hubspot(version)[1](r))


def mailgun_sign(r):
    token = hashlib.sha256(r.id.encode()).hexdigest()[:50]
    signature = {"timestamp": str(r.at), "token": token, "signature": hmac_sha256(r.secret, r.at, token).hexdigest()}
    return {"headers": {}, "body": json.dumps({"signature": signature, **json.loads(r.body)})}


def mailgun_verify(r):
    from mailgun.security import SecurityGuard

    part = json.loads(r.body)["signature"]
    return SecurityGuard.verify_webhook(r.secret, part["token"], part["timestamp"], part["signature"])


def adyen_sign(r):
    from Adyen.util import generate_notification_sig

    body = json.loads(r.body)
    for item in body["notificationItems"]:
        item = item["NotificationRequestItem"]
        item["additionalData"] = {"hmacSignature": generate_notification_sig(item, r.secret).decode()}
    return {"headers": {}, "body": json.dumps(body)}


def adyen_verify(r):
    from Adyen.util import is_valid_hmac_notification

    items = json.loads(r.body)["notificationItems"]
    # The SDK looks at the first item only.
    return all(is_valid_hmac_notification({"notificationItems": [item]}, r.secret) for item in items)


def braintree_gateway(secret):
    import braintree

    sandbox = braintree.Environment.Sandbox
    return braintree.BraintreeGateway(braintree.Configuration(sandbox, "a_merchant", BRAINTREE_KEY, secret))


BRAINTREE_KEY = "a_public_key"


def braintree_sign(r):
    kind = "subscription_went_past_due"
    sample = braintree_gateway(r.secret).webhook_testing.sample_notification(kind, r.id)
    return {"headers": FORM, "body": urllib.parse.urlencode(sample)}


def braintree_verify(r):
    fields = dict(urllib.parse.parse_qsl(r.body))
    braintree_gateway(r.secret).webhook_notification.parse(fields["bt_signature"], fields["bt_payload"])


BOUNDARY = "----a-boundary"


def dropbox_sign(r):
    event = json.loads(r.body)["event"]
    event["event_time"] = str(r.at)
    event["event_hash"] = hmac_sha256(r.secret, event["event_time"], event["event_type"]).hexdigest()
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="json"\r\n\r\n{json.dumps({"event": event})}\r\n'
    return {"headers": {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, "body": f"{part}--{BOUNDARY}--\r\n"}


def dropbox_sign_verify(r):
    import email.parser

    from dropbox_sign import EventCallbackHelper, EventCallbackRequest

    head = f"Content-Type: {r.headers['Content-Type']}\r\n\r\n"
    parts = email.parser.Parser().parsestr(head + r.body).get_payload()
    text = next(part.get_payload() for part in parts if part.get_param("name", header="content-disposition") == "json")
    return EventCallbackHelper.is_valid(r.secret, EventCallbackRequest.init(json.loads(text)))


PROVIDERS = {
    "adyen": Sdk(adyen_sign, adyen_verify),
    "braintree": Sdk(braintree_sign, braintree_verify),
    "dropbox-sign": Sdk(dropbox_sign, dropbox_sign_verify),
    "hubspot-v1": hubspot_sdk("v1"),
    "hubspot-v2": hubspot_sdk("v2"),
    "hubspot-v3": hubspot_sdk("v3"),
    "mailgun": Sdk(mailgun_sign, mailgun_verify),
    "square": Sdk(square_sign, square_verify),
    "twilio": Sdk(twilio_sign, twilio_verify),
    "twilio-json": Sdk(twilio_json_sign, twilio_verify),
}
