"""Vectors for providers that publish none: python3 derive.py > derived.json

Each follows its provider's documented formula, written down once more here with Python's hmac, and independent of the presets. A
provider's good request comes with copies of it that must be refused: another body, another secret, and a time that is past. Keys
of RSA are made at each run, by the package `cryptography`.
"""

import base64
import hashlib
import hmac
import json

NOW = 1_760_000_000
URL = "https://gateway.example/hooks/x"
HEX, B64 = "hex", "base64"
TEXT_SECRET = "a-secret-of-more-than-sixteen-bytes"
WHSEC = "whsec_" + base64.b64encode(b"twenty-four bytes of key").decode()

vectors = []


def mac(key, data, digest="sha256", form=HEX):
    raw = hmac.new(key.encode() if isinstance(key, str) else key, data, digest).digest()
    return raw.hex() if form == HEX else base64.b64encode(raw).decode()


def add(provider, name, request, valid, why=None, event=(None, None)):
    headers, body, secrets, now, params, url = request
    vector = {
        "provider": provider,
        "name": name,
        "source": "DERIVED, not published by the provider: its documented formula, by Python's hmac",
        "method": "POST",
        "url": url,
        "headers": headers,
        "body_base64": base64.b64encode(body).decode(),
        "secrets": secrets,
        "now_unix": now,
        "valid": valid,
        "event_id": event[0],
        "event_type": event[1],
        "reason_if_invalid": why,
    }
    if params:
        vector["params"] = params
    vectors.append(vector)


def provider(name, headers, body, event, secret=TEXT_SECRET, key=None, past=None, params=None,
             more_secrets=(), other="another-secret-of-sixteen-bytes", url=URL, covered=True):
    """`headers(body, key)` makes the headers of a good request; `past` is how many seconds later it is too old."""
    body = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    key = secret if key is None else key
    id_ = hashlib.sha256(body).hexdigest() if event[0] == "body" else event[0]
    secrets = [secret, *more_secrets]
    good = headers(body, key)
    add(name, "valid", (good, body, secrets, NOW, params, url), True, event=(id_, event[1]))
    if covered:
        touched = body[:-1] + b" " + body[-1:]
        add(name, "another_body", (good, touched, secrets, NOW, params, url), False, "the body was changed")
    add(name, "another_secret", (good, body, [other], NOW, params, url), False, "the secret is another")
    if past:
        late = (good, body, secrets, NOW + past + 1, params, url)
        add(name, "past", late, False, f"older than {past} s")


def plain(header, form=HEX, prefix="", digest="sha256", **more):
    return lambda body, key: {**JSON, header: prefix + mac(key, body, digest, form), **more}


JSON = {"Content-Type": "application/json"}


def standard(prefix="webhook"):
    def headers(body, key):
        signed = f"msg_1.{NOW}.".encode() + body
        names = {f"{prefix}-id": "msg_1", f"{prefix}-timestamp": str(NOW)}
        return {**JSON, **names, f"{prefix}-signature": "v1," + mac(key, signed, form=B64)}
    return headers


def timed(header, key_name="v1", time_name="t", time=str(NOW), separator=","):
    """`t=…,v1=…` over `t.body`."""
    def headers(body, key):
        signature = mac(key, f"{time}.".encode() + body)
        return {**JSON, header: f"{time_name}={time}{separator}{key_name}={signature}"}
    return headers


RAW_WHSEC = base64.b64decode(WHSEC.removeprefix("whsec_"))
OTHER_WHSEC = "whsec_" + base64.b64encode(b"another twenty-four bytes").decode()
standard_event = {"type": "thing.made", "data": {}}
for name in ["render", "liveblocks", "threesixtylearning"]:
    provider(name, standard(), standard_event, ("msg_1", "thing.made"), WHSEC, RAW_WHSEC, 300,
             other=OTHER_WHSEC)
provider("loops", standard(), {"eventName": "email.sent"}, ("msg_1", "email.sent"), WHSEC, RAW_WHSEC, 300,
         other=OTHER_WHSEC)
provider("recall-ai", standard(), {"event": "bot.done"}, ("msg_1", "bot.done"), WHSEC, RAW_WHSEC, 300,
         other=OTHER_WHSEC)
provider("supabase-auth", standard(), {"user": {}}, ("msg_1", "auth-hook"), "v1," + WHSEC, RAW_WHSEC, 300,
         other="v1," + OTHER_WHSEC)
provider("brex", standard("svix"), {"event_type": "TRANSFER_PROCESSED"}, ("msg_1", "TRANSFER_PROCESSED"),
         WHSEC, RAW_WHSEC, 300, other=OTHER_WHSEC)

provider("calendly", timed("Calendly-Webhook-Signature"), {"event": "invitee.created", "payload": {}},
         ("body", "invitee.created"), past=180)
provider("circleci", lambda body, key: {**JSON, "circleci-signature": "v1=" + mac(key, body) + ",v2=00"},
         {"id": "3888f21b", "type": "workflow-completed"}, ("3888f21b", "workflow-completed"))
provider("gocardless", plain("Webhook-Signature"),
         {"events": [{"id": "EV1", "resource_type": "payments", "action": "confirmed"}], "meta": {"webhook_id": "WB1"}},
         ("WB1", "payments.confirmed"))
provider("mux", timed("Mux-Signature"), {"id": "5af8", "type": "video.asset.ready"}, ("5af8", "video.asset.ready"),
         past=300)
provider("fintoc", timed("Fintoc-Signature"), {"id": "evt_1", "type": "payment_intent.succeeded"},
         ("evt_1", "payment_intent.succeeded"), "whsec_test_1234567890123456", past=300)
provider("moneybird", timed("Moneybird-Signature"), {"action": "contact_created", "idempotency_key": "k1"},
         ("k1", "contact_created"), past=300)
provider("qonto", timed("X-Qonto-Signature"), {"id": "q1", "event_type": "transaction.created"},
         ("q1", "transaction.created"), past=300)
provider("whereby", timed("Whereby-Signature", time=str(NOW * 1000)), {"id": "w1", "type": "room.client.joined"},
         ("w1", "room.client.joined"), past=300)
provider("tabapay", lambda body, key: {**JSON, "Idempotency-Key": "i1", "X-HMAC-Signature":
                                       f"t={NOW},v1=" + "0" * 64 + ",v2=" + mac(key, f"{NOW}.".encode() + body)},
         {"eventType": "CARD"}, ("i1", "CARD"), past=300)
provider("webflow", lambda body, key: {**JSON, "x-webflow-timestamp": str(NOW * 1000), "x-webflow-signature":
                                       mac(key, f"{NOW * 1000}:".encode() + body)},
         {"triggerType": "form_submission"}, ("body", "form_submission"), past=300)
provider("line", plain("x-line-signature", B64),
         {"destination": "U1", "events": [{"type": "message", "webhookEventId": "01H"}]}, ("01H", "message"))
provider("retell", lambda body, key: {**JSON, "x-retell-signature":
                                      f"v={NOW * 1000},d=" + mac(key, body + str(NOW * 1000).encode())},
         {"event": "call_ended"}, ("body", "call_ended"), "key_0123456789abcdef", past=300)
provider("dwolla", plain("X-Request-Signature-SHA-256"), {"id": "80d8ff7d", "topic": "customer_created"},
         ("80d8ff7d", "customer_created"))
provider("modern-treasury", plain("X-Signature", **{"X-Webhook-ID": "wh1", "X-Topic": "payment_order"}),
         {"event": "completed", "data": {}}, ("wh1", "completed"))
provider("attio", plain("Attio-Signature", **{"Idempotency-Key": "a1"}),
         {"webhook_id": "w", "events": [{"event_type": "record.created", "id": {"workspace_id": "ws"}}]},
         ("a1", "record.created"))
provider("expo", plain("expo-signature", prefix="sha1=", digest="sha1"), {"id": "b1", "status": "finished"},
         ("b1", "finished"))
provider("webex", plain("X-Spark-Signature", digest="sha1"),
         {"id": "hook", "resource": "messages", "event": "created", "orgId": "o"}, ("body", "messages.created"))
provider("help-scout", plain("X-HelpScout-Signature", B64, digest="sha1", **{"X-HelpScout-Event": "convo.created"}),
         {"id": 17}, ("body", "convo.created"))
provider("nylas", plain("x-nylas-signature"), {"id": "n1", "type": "message.created", "data": {}},
         ("n1", "message.created"))
provider("authorize-net", lambda body, key: {**JSON, "X-ANET-Signature": "sha512=" + mac(key, body, "sha512").upper()},
         {"notificationId": "d0e8", "eventType": "net.authorize.payment.capture.created"},
         ("d0e8", "net.authorize.payment.capture.created"), "0123456789ABCDEF" * 8)
provider("customer-io", lambda body, key: {**JSON, "X-CIO-Timestamp": str(NOW), "X-CIO-Signature":
                                           mac(key, f"v0:{NOW}:".encode() + body)},
         {"event_id": "c1", "object_type": "email", "metric": "sent"}, ("c1", "email.sent"), past=300)
provider("woocommerce", plain("X-WC-Webhook-Signature", B64, **{"X-WC-Webhook-Delivery-ID": "d1",
                                                               "X-WC-Webhook-Topic": "order.updated"}),
         {"id": 1}, ("d1", "order.updated"), "rock &amp; roll &quot;for ever&quot;", 'rock & roll "for ever"')
provider("recurly", lambda body, key: {**JSON, "recurly-notification-id": "r1", "recurly-signature":
                                       f"{NOW * 1000}," + "0" * 64 + "," + mac(key, f"{NOW * 1000}.".encode() + body)},
         {"object_type": "account", "event_type": "created"}, ("r1", "account.created"), past=300)
provider("persona", lambda body, key: {**JSON, "Persona-Signature":
                                       f"t={NOW - 5},v1=" + "0" * 64 + f" t={NOW},v1=" + mac(key, f"{NOW}.".encode() + body)},
         {"data": {"id": "evt_1", "attributes": {"name": "inquiry.completed"}}}, ("evt_1", "inquiry.completed"),
         "wbhsec_0123456789abcdef", past=300)
provider("trello", lambda body, key: {**JSON, "X-Trello-Webhook": mac(key, body + URL.encode(), "sha1", B64)},
         {"action": {"id": "51f9", "type": "createCard"}, "model": {"id": "m"}}, ("51f9", "createCard"))
provider("front", lambda body, key: {**JSON, "X-Front-Request-Timestamp": str(NOW * 1000), "X-Front-Signature":
                                     mac(key, f"{NOW * 1000}:".encode() + body, form=B64)},
         {"type": "inbound_received", "payload": {"id": "evt_f"}}, ("evt_f", "inbound_received"), past=300)
provider("smartsheet", plain("Smartsheet-Hmac-SHA256"),
         {"nonce": "s1", "webhookId": 7, "events": [{"objectType": "row", "eventType": "created"}]}, ("s1", "row.created"))
provider("linkedin", lambda body, key: {**JSON, "X-LI-Signature": mac(key, b"hmacsha256=" + body)},
         {"type": "ORGANIZATION_SOCIAL_ACTION_NOTIFICATIONS"}, ("body", "ORGANIZATION_SOCIAL_ACTION_NOTIFICATIONS"))


def contentful(body, key):
    headers = {**JSON, "X-Contentful-Idempotency-Key": "ci1", "X-Contentful-Topic": "ContentManagement.Entry.publish"}
    signed = {"x-contentful-signed-headers": "content-type,x-contentful-signed-headers,x-contentful-timestamp",
              "x-contentful-timestamp": str(NOW * 1000), "content-type": "application/json"}
    lines = ";".join(f"{name}:{signed[name]}" for name in sorted(signed))
    text = f"POST\n/hooks/x\n{lines}\n".encode() + body
    headers |= {name: value for name, value in signed.items() if name != "content-type"}
    return {**headers, "x-contentful-signature": mac(key, text)}


provider("contentful", contentful, {"sys": {"id": "e1"}}, ("ci1", "ContentManagement.Entry.publish"), past=30)


def basic(_, key):
    return {**JSON, "Authorization": "Basic " + base64.b64encode(key.encode()).decode()}


provider("postmark", basic, {"RecordType": "Bounce", "MessageID": "m1"}, ("Bounce:m1", "Bounce"),
         "user:a-long-password", covered=False, other="user:another-password")
for name, body, event in [
    ("auth0", [{"log_id": "l1", "data": {"type": "s"}}], ("l1", "s")),
    ("okta", {"eventId": "o1", "data": {"events": [{"eventType": "user.session.start"}]}}, ("o1", "user.session.start")),
]:
    provider(name, lambda _, key: {**JSON, "Authorization": key}, body, event, covered=False)

provider("youtube", lambda body, key: {"Content-Type": "application/atom+xml", "X-Hub-Signature":
                                      "sha1=" + mac(key, body, "sha1")}, b"<feed/>", ("body", "feed"))


def token(body, key):
    def b64u(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")
    claims = {"request_body_sha256": base64.b64encode(hashlib.sha256(body).digest()).decode()}
    text = b64u(b'{"alg":"HS256","typ":"JWT"}') + b"." + b64u(json.dumps(claims).encode())
    signature = hmac.new(key.encode(), text, "sha256").digest()
    return {**JSON, "X-FusionAuth-Signature-JWT": (text + b"." + b64u(signature)).decode()}


provider("fusionauth", token, {"event": {"id": "f1", "type": "user.create", "tenantId": "t"}}, ("f1", "user.create"))

from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa  # noqa: E402


def pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def raw_text(key):
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def rsa_text(key, data):
    return base64.b64encode(key.sign(data, padding.PKCS1v15(), hashes.SHA256())).decode()


ED, OTHER_ED = (ed25519.Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
RSA, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
provider("telnyx", lambda body, key: {**JSON, "Telnyx-Timestamp": str(NOW), "Telnyx-Signature-Ed25519":
                                      base64.b64encode(key.sign(f"{NOW}|".encode() + body)).decode()},
         {"data": {"id": "t1", "event_type": "message.received"}}, ("t1", "message.received"), raw_text(ED), ED, 300,
         other=raw_text(OTHER_ED))
provider("wechat-pay", lambda body, key: {**JSON, "Wechatpay-Timestamp": str(NOW), "Wechatpay-Nonce": "n0nce",
                                          "Wechatpay-Signature": rsa_text(key, f"{NOW}\nn0nce\n".encode() + body + b"\n")},
         {"id": "w1", "event_type": "TRANSACTION.SUCCESS"}, ("w1", "TRANSACTION.SUCCESS"), pem(RSA), RSA, 300,
         other=pem(OTHER_RSA))
provider("chip", lambda body, key: {**JSON, "X-Signature": rsa_text(key, body)}, {"event_type": "purchase.paid"},
         ("body", "purchase.paid"), pem(RSA), RSA, other=pem(OTHER_RSA))

from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

provider("dyte", lambda body, key: {**JSON, "dyte-signature": rsa_text(key, body)},
         {"event": "meeting.started", "meeting": {"id": "m"}}, ("body", "meeting.started"), pem(RSA), RSA,
         other=pem(OTHER_RSA))
provider("binance-pay", lambda body, key: {**JSON, "BinancePay-Timestamp": str(NOW * 1000), "BinancePay-Nonce": "n" * 32,
                                           "BinancePay-Certificate-SN": "d41d8cd98f00b204e9800998ecf8427e",
                                           "BinancePay-Signature":
                                           rsa_text(key, f"{NOW * 1000}\n{'n' * 32}\n".encode() + body + b"\n")},
         {"bizType": "PAY", "bizIdStr": "29383937493038367292", "bizStatus": "PAY_SUCCESS", "data": "{}"},
         ("29383937493038367292:PAY_SUCCESS", "PAY.PAY_SUCCESS"), pem(RSA), RSA, 300, other=pem(OTHER_RSA))
SKILL = "amzn1.ask.skill.00000000-0000-0000-0000-000000000000"
provider("alexa", lambda body, key: {**JSON, "SignatureCertChainUrl": "https://s3.amazonaws.com/echo.api/echo-api-cert-12.pem",
                                     "Signature-256": rsa_text(key, body)},
         {"context": {"System": {"application": {"applicationId": SKILL}}}, "request":
          {"requestId": "r1", "type": "LaunchRequest", "timestamp": "2025-10-09T08:53:20Z"}},
         ("r1", "LaunchRequest"), pem(RSA), RSA, 150, other=pem(OTHER_RSA))
provider("alexa", lambda body, key: {**JSON, "Signature-256": rsa_text(key, body)},
         {"context": {"System": {"application": {"applicationId": SKILL}}}, "request":
          {"requestId": "r1", "type": "AlexaSkillEvent.SkillEnabled", "timestamp": "2025-10-09T08:53:20Z"}},
         ("r1", "AlexaSkillEvent.SkillEnabled"), pem(RSA), RSA, 3600, other=pem(OTHER_RSA))
provider("adobe-io", lambda body, key: {**JSON, "x-adobe-event-id": "e1", "x-adobe-event-code": "asset_created",
                                        "x-adobe-digital-signature-1": rsa_text(OTHER_RSA, b"another body"),
                                        "x-adobe-digital-signature-2": rsa_text(key, body)},
         {"recipient_client_id": "1234567890abcdef1234567890abcdef"}, ("e1", "asset_created"), pem(RSA), RSA,
         other=pem(OTHER_RSA))
K1, OTHER_K1 = (ec.derive_private_key(n, ec.SECP256K1()) for n in (3, 5))
STARK = json.dumps({"event": {"id": "5415223380934656", "subscription": "invoice", "workspaceId": "5078376503050240"}}).encode()
STARK_SIGNED = {**JSON, "Digital-Signature": base64.b64encode(K1.sign(STARK, ec.ECDSA(hashes.SHA256()))).decode()}
provider("stark-bank", lambda body, key: STARK_SIGNED, STARK, ("5415223380934656", "invoice"), pem(K1), K1, other=pem(OTHER_K1))
add("stark-bank", "another_workspace", (STARK_SIGNED, STARK, [pem(K1)], NOW, {"workspace_id": "5078376503050241"}, URL), False,
    "signed for another workspace")


def integrated(body, key):
    at = "2025-10-09T08:53:20Z"
    digest = base64.b64encode(hashlib.sha512(body).digest()).decode()
    signed = "|".join([digest, "ev1", "2025-10-09T08:53:19Z", "rq1", at, "1"])
    return {**JSON, "X-Webhook-Content-Digest": digest, "X-Webhook-Event-Id": "ev1", "X-Webhook-Request-Id": "rq1",
            "X-Webhook-Event-Timestamp": "2025-10-09T08:53:19Z", "X-Webhook-Request-Timestamp": at,
            "X-Webhook-Key-Version": "1", "X-Webhook-Signature": base64.b64encode(key.sign(signed.encode())).decode()}


provider("integrated-finance", integrated, {"eventType": "payment.created"}, ("ev1", "payment.created"), raw_text(ED), ED,
         300, other=raw_text(OTHER_ED))


def b64u(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwks(key):
    numbers = key.public_key().public_numbers()
    n, e = (b64u(x.to_bytes((x.bit_length() + 7) // 8, "big")) for x in (numbers.n, numbers.e))
    return json.dumps({"keys": [{"kty": "RSA", "use": "sig", "kid": "k1", "n": n, "e": e}]})


def rs256(key, claims):
    header = {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    text = b64u(json.dumps(header).encode()) + "." + b64u(json.dumps(claims).encode())
    return text + "." + b64u(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))


chat = {"iss": "https://accounts.google.com", "aud": "https://hooks.example.com/google-chat", "iat": NOW, "exp": NOW + 3600,
        "email": "chat@system.gserviceaccount.com", "email_verified": True}
provider("google-chat", lambda _, key: {**JSON, "Authorization": "Bearer " + rs256(key, chat)},
         {"type": "MESSAGE", "message": {"name": "spaces/A/messages/B"}, "space": {"name": "spaces/A"}},
         ("spaces/A/messages/B", "MESSAGE"), jwks(RSA), RSA, 3660, covered=False, other=jwks(OTHER_RSA))

TENANT, APP = "84bd8158-6d4d-4958-8b9f-9d6445542f95", "8e460676-ae3f-4b1e-8790-ee0fb5d6148f"
PUBLISHER = "0bf30f3b-4a52-48df-9a82-234910c4a086"
first = {"aud": APP, "iss": f"https://sts.windows.net/{TENANT}/", "iat": NOW, "nbf": NOW, "exp": NOW + 3600, "appid": PUBLISHER}
second = {"aud": APP, "iss": f"https://login.microsoftonline.com/{TENANT}/v2.0", "exp": NOW + 3600, "azp": PUBLISHER}


def rich(*tokens, states=(TEXT_SECRET,)):
    items = [{"subscriptionId": "s1", "changeType": "created", "id": f"n{n}", "clientState": state}
             for n, state in enumerate(states, 1)]
    return {"value": items, "validationTokens": list(tokens)}


provider("microsoft-graph", lambda *_: JSON, rich(rs256(RSA, first), rs256(RSA, second)), ("n1", "created"), jwks(RSA), RSA,
         3660, covered=False, other=jwks(OTHER_RSA), more_secrets=[TEXT_SECRET])
request = (JSON, None, [jwks(RSA), TEXT_SECRET], NOW, None, URL)
for why, tokens in [
    ("one token is by another key", [rs256(RSA, first), rs256(OTHER_RSA, first)]),
    ("one token is of another publisher", [rs256(RSA, first), rs256(RSA, {**first, "appid": "another"})]),
    ("one token is for another app", [rs256(RSA, {**first, "aud": "another"}), rs256(RSA, first)]),
    ("a token is of another tenant", [rs256(RSA, {**first, "iss": "https://sts.windows.net/another/"})]),
    ("one token is none", [rs256(RSA, first), ""]),
    ("one token is no text", [rs256(RSA, first), None]),
]:
    body = json.dumps(rich(*tokens)).encode()
    add("microsoft-graph", why.replace(" ", "_"), (request[0], body, *request[2:]), False, why)
body = json.dumps(rich(states=["another"])).encode()
add("microsoft-graph", "there_is_no_token", (request[0], body, *request[2:]), False, "there is no token, and `clientState` is another")
for why, states in [("a_good_token_with_another_client_state", ["another"]),
                    ("a_good_token_with_no_client_state", [None]),
                    ("a_good_token_with_one_client_state_of_another", [TEXT_SECRET, "another"]),
                    ("a_good_token_with_no_notification", [])]:
    body = json.dumps(rich(rs256(RSA, first), states=states)).encode()
    add("microsoft-graph", why, (request[0], body, *request[2:]), False, "the tokens do not cover the body, `clientState` must hold")

provider("viva", lambda *_: JSON, {"MessageId": "v1", "EventTypeId": 1796, "RecipientId": "r"}, ("v1", "1796"),
         covered=False, url=URL + "?secret=" + TEXT_SECRET)
provider("mailchimp", lambda *_: {"Content-Type": "application/x-www-form-urlencoded"},
         b"type=subscribe&fired_at=2025-10-09+08%3A53%3A20&data%5Blist_id%5D=a6b5da1054", ("body", "subscribe"),
         covered=False, url=URL + "?secret=" + TEXT_SECRET)


def hook0(body, key):
    named = {"content-type": "application/json", "x-event-type": "onchain.activity.detected"}
    signed = ".".join([str(NOW), " ".join(named), *named.values()]).encode() + b"." + body
    return {**named, "X-Hook0-Signature": f"t={NOW},h={' '.join(named)},v1=" + mac(key, signed)}


onchain = {"id": "c1", "eventType": "onchain.activity.detected"}
provider("coinbase-cdp", hook0, onchain, ("c1", "onchain.activity.detected"), past=300)
body = json.dumps(onchain, separators=(",", ":")).encode()
good = hook0(body, TEXT_SECRET)
add("coinbase-cdp", "a_listed_header_is_another", ({**good, "x-event-type": "x"}, body, [TEXT_SECRET], NOW, None, URL), False,
    "a listed header says something else")
lacking = {name: value for name, value in good.items() if name != "x-event-type"}
add("coinbase-cdp", "a_listed_header_is_not_there", (lacking, body, [TEXT_SECRET], NOW, None, URL), False,
    "a listed header is not there")
moved = {**good, "x-event-type": "onchain"}
add("coinbase-cdp", "a_value_moved_into_the_body", (moved, b"activity.detected." + body, [TEXT_SECRET], NOW, None, URL), False,
    "what was a header's stands in the body")


def many_keys(body, key):
    others = {f"X-DocuSign-Signature-{n}": mac(f"another secret {n}", body, form=B64) for n in range(1, 100)}
    return {**JSON, **others, "X-DocuSign-Signature-100": mac(key, body, form=B64)}


provider("docusign", many_keys, {"event": "envelope-completed", "data": {"accountId": "a"}}, ("body", "envelope-completed"))

print(json.dumps(vectors, indent=1))
