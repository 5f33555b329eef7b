"""SDKs of providers that sign with a private key, and of those that send a JWT."""

import base64
import hashlib
import urllib.parse
import zlib

from shared_key import Sdk


def b64(data):
    return base64.b64encode(data).decode()


def pem_of(private):
    from cryptography.hazmat.primitives import serialization as s

    return private.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode()


def private_of(pem):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(pem.encode(), None)


def public_of(pem):
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return load_pem_public_key(pem.encode())


def public_pem(private):
    from cryptography.hazmat.primitives import serialization as s

    return private.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo).decode()


def raw_public(private):
    from cryptography.hazmat.primitives import serialization as s

    return private.public_key().public_bytes(s.Encoding.Raw, s.PublicFormat.Raw)


def der_public(private):
    from cryptography.hazmat.primitives import serialization as s

    return private.public_key().public_bytes(s.Encoding.DER, s.PublicFormat.SubjectPublicKeyInfo)


def ed25519_key(written):
    def key():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.generate()
        return pem_of(private), written(raw_public(private))

    return key


def ec_key(curve, written):
    def key():
        from cryptography.hazmat.primitives.asymmetric import ec

        private = ec.generate_private_key(getattr(ec, curve)())
        return pem_of(private), written(private)

    return key


def rsa_key():
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(65537, 2048)
    return pem_of(private), public_pem(private)


def rsa_sign(pem, message):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    return b64(private_of(pem).sign(message, PKCS1v15(), hashes.SHA256()))


def rsa_verify(pem, signature, message):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    public_of(pem).verify(base64.b64decode(signature), message, PKCS1v15(), hashes.SHA256())


# -- Ed25519 -----------------------------------------------------------------------------------------------------


def discord_sign(r):
    signature = private_of(r.secret).sign(f"{r.at}{r.body}".encode())
    return {"X-Signature-Ed25519": signature.hex(), "X-Signature-Timestamp": str(r.at)}


def discord_verify(r):
    from discord_interactions import verify_key

    return verify_key(r.raw, r.headers["X-Signature-Ed25519"], r.headers["X-Signature-Timestamp"], r.public)


def telnyx_sign(r):
    signature = private_of(r.secret).sign(f"{r.at}|{r.body}".encode())
    return {"Telnyx-Signature-Ed25519": b64(signature), "Telnyx-Timestamp": str(r.at)}


def telnyx_verify(r):
    from telnyx.lib.webhook_verification import verify_webhook_signature

    verify_webhook_signature(r.body, r.headers, r.public)


def v1a_sign(r):
    """Standard Webhooks' `v1a`, which no official library has."""
    signature = private_of(r.secret).sign(f"{r.id}.{r.at}.{r.body}".encode())
    return {"webhook-id": r.id, "webhook-timestamp": str(r.at), "webhook-signature": f"v1a,{b64(signature)}"}


def v1a_verify(r):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(r.public.removeprefix("whpk_")))
    entries = [entry for entry in r.headers["webhook-signature"].split(" ") if entry.startswith("v1a,")]
    message = f"{r.headers['webhook-id']}.{r.headers['webhook-timestamp']}.{r.body}".encode()
    public.verify(base64.b64decode(entries[0].removeprefix("v1a,")), message)


def v1a_public(secret):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = base64.b64decode(secret.removeprefix("whsk_"))
    return f"whpk_{b64(raw_public(Ed25519PrivateKey.from_private_bytes(seed)))}"


# -- ECDSA and RSA -----------------------------------------------------------------------------------------------


def sendgrid_sign(r):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    signature = private_of(r.secret).sign(f"{r.at}{r.body}".encode(), ec.ECDSA(hashes.SHA256()))
    names = ["Signature", "Timestamp"]
    return dict(zip([f"X-Twilio-Email-Event-Webhook-{name}" for name in names], [b64(signature), str(r.at)]))


def sendgrid_verify(r):
    from sendgrid.helpers.eventwebhook import EventWebhook

    signature, at = (r.headers[f"X-Twilio-Email-Event-Webhook-{name}"] for name in ["Signature", "Timestamp"])
    return EventWebhook(r.public).verify_signature(r.body, signature, at)


def wise_sign(r):
    return {"X-Signature-SHA256": rsa_sign(r.secret, r.raw), "X-Delivery-Id": r.id}


def wise_verify(r):
    rsa_verify(r.public, r.headers["X-Signature-SHA256"], r.raw)


PAYPAL_WEBHOOK = "4JH86294D6297924G"


def paypal_message(id, at, body):
    return f"{id}|{at}|{PAYPAL_WEBHOOK}|{zlib.crc32(body)}".encode()


def paypal_sign(r):
    import datetime

    at = datetime.datetime.fromtimestamp(r.at, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    fixed = {
        "PAYPAL-AUTH-ALGO": "SHA256withRSA",
        "PAYPAL-CERT-URL": "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77",
    }
    signature = rsa_sign(r.secret, paypal_message(r.id, at, r.raw))
    return {**fixed, "PAYPAL-TRANSMISSION-ID": r.id, "PAYPAL-TRANSMISSION-TIME": at, "PAYPAL-TRANSMISSION-SIG": signature}


def paypal_verify(r):
    id, at, signature = (r.headers[f"PAYPAL-TRANSMISSION-{name}"] for name in ["ID", "TIME", "SIG"])
    rsa_verify(r.public, signature, paypal_message(id, at, r.raw))


# -- JWT and JWS -------------------------------------------------------------------------------------------------


def truelayer_headers(r):
    return {"X-Tl-Webhook-Timestamp": r.headers.get("X-Tl-Webhook-Timestamp", str(r.at))}


def truelayer_sign(r):
    from truelayer_signing import HttpMethod, sign_with_pem

    signer = sign_with_pem("a-kid", r.secret).set_method(HttpMethod.POST).set_path(urllib.parse.urlsplit(r.url).path)
    signer = signer.set_jku("https://webhooks.truelayer.com/.well-known/jwks")
    headers = truelayer_headers(r)
    return {**headers, "Tl-Signature": signer.add_headers(headers).set_body(r.body).sign()}


def truelayer_verify(r):
    from truelayer_signing import HttpMethod, verify_with_pem

    verifier = verify_with_pem(r.public).set_method(HttpMethod.POST).set_path(urllib.parse.urlsplit(r.url).path)
    verifier.add_headers(dict(r.headers)).add_required_header("X-Tl-Webhook-Timestamp").set_body(r.body).verify(
        r.headers["Tl-Signature"]
    )  # fmt: skip


def vonage_sign(r):
    import jwt

    claims = {"iat": r.at, "exp": r.at + 300, "jti": r.id, "iss": "Vonage", "api_key": "abc", "payload_hash": sha256_hex(r.raw)}
    return {"Authorization": f"Bearer {jwt.encode(claims, r.secret, 'HS256')}"}


def vonage_verify(r):
    import jwt
    from vonage_jwt import verify_signature

    token = r.headers["Authorization"].removeprefix("Bearer ")
    if not verify_signature(token, r.secret):
        return False
    # Comparing the hash is left to the caller by the SDK.
    return jwt.decode(token, options={"verify_signature": False})["payload_hash"] == sha256_hex(r.raw)


def messagebird_sign(r):
    import jwt

    hashes = {"payload_hash": sha256_hex(r.raw), "url_hash": sha256_hex(r.url.encode())}
    claims = {"iss": "MessageBird", "jti": r.id, "nbf": r.at, "exp": r.at + 60, **hashes}
    return {"MessageBird-Signature-JWT": jwt.encode(claims, r.secret, "HS256")}


def messagebird_verify(r):
    from messagebird.request_validator import RequestValidator

    RequestValidator(r.secret).validate_signature(r.headers["MessageBird-Signature-JWT"], r.url, r.raw)


def sha256_hex(data):
    return hashlib.sha256(data).hexdigest()


PROVIDERS = {
    "discord": Sdk(discord_sign, discord_verify, ed25519_key(bytes.hex)),
    "messagebird": Sdk(messagebird_sign, messagebird_verify),
    "paypal": Sdk(paypal_sign, paypal_verify, rsa_key),
    "sendgrid": Sdk(sendgrid_sign, sendgrid_verify, ec_key("SECP256R1", lambda private: b64(der_public(private)))),
    "standard-webhooks-v1a": Sdk(v1a_sign, v1a_verify, ed25519_key(lambda raw: f"whpk_{b64(raw)}"), v1a_public),
    "telnyx": Sdk(telnyx_sign, telnyx_verify, ed25519_key(b64)),
    "truelayer": Sdk(truelayer_sign, truelayer_verify, ec_key("SECP521R1", public_pem)),
    "vonage": Sdk(vonage_sign, vonage_verify),
    "wise": Sdk(wise_sign, wise_verify, rsa_key),
}
