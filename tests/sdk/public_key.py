"""SDKs of providers that sign with a private key, and of those that send a JWT."""

import base64
import hashlib
import zlib

from shared_key import Sdk


def b64(data):
    return base64.b64encode(data).decode()


def private_of(pem):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(pem.encode(), None)


def public_of(pem):
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return load_pem_public_key(pem.encode())


# How providers write a public key.


def in_pem(public):
    from cryptography.hazmat.primitives import serialization as s

    return public.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo).decode()


def in_der(public):
    from cryptography.hazmat.primitives import serialization as s

    return b64(public.public_bytes(s.Encoding.DER, s.PublicFormat.SubjectPublicKeyInfo))


def raw(public):
    from cryptography.hazmat.primitives import serialization as s

    return public.public_bytes(s.Encoding.Raw, s.PublicFormat.Raw)


def in_hex(public):
    return raw(public).hex()


def in_base64(public):
    return b64(raw(public))


def whpk(public):
    return f"whpk_{b64(raw(public))}"


def ed25519():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate()


def p256():
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def rsa():
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(65537, 2048)


def asymmetric(sign, verify, generate, written):
    """The SDK of a provider with such keys, whose public ones are written so."""

    def key():
        from cryptography.hazmat.primitives import serialization as s

        private = generate()
        pem = private.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode()
        return pem, written(private.public_key())

    return Sdk(sign, verify, key, lambda text: written(seeded(text) or public_of(text)))


def seeded(text):
    """The public key to a seed, as the gateway signs with one."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not text.startswith("whsk_"):
        return None
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(text.removeprefix("whsk_"))).public_key()


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


def sha256_hex(data):
    return hashlib.sha256(data).hexdigest()


PROVIDERS = {
    "discord": asymmetric(discord_sign, discord_verify, ed25519, in_hex),
    "paypal": asymmetric(paypal_sign, paypal_verify, rsa, in_pem),
    "sendgrid": asymmetric(sendgrid_sign, sendgrid_verify, p256, in_der),
    "standard-webhooks-v1a": asymmetric(v1a_sign, v1a_verify, ed25519, whpk),
    "telnyx": asymmetric(telnyx_sign, telnyx_verify, ed25519, in_base64),
    "vonage": Sdk(vonage_sign, vonage_verify),
    "wise": asymmetric(wise_sign, wise_verify, rsa, in_pem),
}
