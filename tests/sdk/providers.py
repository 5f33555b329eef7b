"""Whose SDKs there are, how a source is configured for each, and which of the four checks run.

For every provider: what its SDK signs passes the gateway; what was changed does not; what `gatepost send` signs is believed by the SDK;
what was changed is not. Where a check is not possible, its entry says why. Where a provider signs with a private key, `send` makes one of its
own, and the SDK judges with that one's public key.
"""

import base64
import hashlib
from dataclasses import dataclass, field

ADYEN_ITEM = (
    '{"NotificationRequestItem":{"pspReference":"7914073381342284","merchantAccountCode":"TestMerchant","merchantReference":"TestPayment-1",'
    '"amount":{"currency":"EUR","value":1130},"eventCode":"AUTHORISATION","eventDate":"2026-05-06T17:15:34.121+02:00","success":"true"}}'
)
HUBSPOT = '[{"eventId":%d,"subscriptionId":12345,"portalId":62515,"subscriptionType":"contact.creation","objectId":123}]'


@dataclass
class Provider:
    # A text, or none: then a pair of keys is made, and the gateway gets the public one.
    secret: str | None
    # What is signed; none where the preset's example is.
    body: str | None = None
    # Which preset it is, where its name is another.
    preset: str = ""
    # Headers that say what the body does not.
    headers: dict = field(default_factory=dict)
    # Settings of the source besides.
    source: str = ""
    # A change that must be noticed; a byte behind the body, where there is none. `None`: its signature does not cover the body.
    change: tuple | None = ("", " ")
    # Why the SDK cannot judge what `gatepost send` signs.
    unjudged: str = ""
    javascript: bool = False
    # What `gatepost send` is told besides.
    options: tuple = ()
    # What requests call the secret by.
    id: str = ""
    # Whether a time is signed, which the SDK looks at.
    timed: bool = False


def whsec(name):
    return "whsec_" + base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


def hexadecimal(name):
    return hashlib.sha256(name.encode()).hexdigest().upper()


PROVIDERS = {
    "adyen-platform": Provider(
        hexadecimal("adyen-platform"), '{"type":"balancePlatform.transfer.created","data":{"id":"48POO45WCJJEFJFI"}}'
    ),
    "clerk": Provider(
        whsec("clerk"),
        '{"type":"user.created","object":"event","data":{"id":"user_29w83sxmDNGwOuEthce5gg56FcC"}}',
        javascript=True,
        timed=True,
    ),
    "coinbase-commerce": Provider(
        "30291a20-0bd1-4267-9b0f-e6e7b123c0bf",
        '{"id":1,"event":{"id":"24934862-d980-46cb-9402-43c81b0cdba6","type":"charge:created"}}',
    ),
    "elevenlabs": Provider(
        "wsec_4c1a9b5e",
        '{"type":"post_call_transcription","event_timestamp":1739537297,"data":{"conversation_id":"conv_01"}}',
        timed=True,
    ),
    "github": Provider("It's a Secret to Everybody", headers={"X-GitHub-Event": "ping"}, javascript=True),
    "gocardless": Provider(
        "a-webhook-endpoint-secret",
        '{"events":[{"id":"EV123","resource_type":"payments","action":"confirmed","links":{"payment":"PM123"}}],'
        '"meta":{"webhook_id":"WB123"}}',
    ),
    "mollie": Provider(
        "a-signing-secret-of-a-webhook",
        '{"resource":"event","id":"event_GvJ8WHrp5isUdRub9CJyH","type":"payment-link.paid","entityId":"pl_qng5gbbv8NAZ5gpM5ZYgx"}',
    ),
    "zoom": Provider(
        "a-secret-token-of-an-app",
        '{"event":"meeting.started","event_ts":1739537297000,"payload":{"account_id":"AAAAAABBBB","object":{"id":"1234567890"}}}',
        change=("1234567890", "1234567891"),
        javascript=True,
        unjudged="it judges what it writes itself of the parsed body, not the bytes that came",
    ),
    "line": Provider(
        "8c570fa6dd201bb328f1c1eac23a96d8",
        '{"destination":"U8e742f61d673b39c7fff3cecb7536ef0","events":[{"type":"message","webhookEventId":"01FZ74A0TDDPYRVKNK77XKC3ZR"}]}',
    ),
    "linear": Provider("lin_wh_a_signing_secret", javascript=True),
    "mux": Provider(
        "a-mux-signing-secret",
        '{"type":"video.asset.ready","id":"3a56ac3d-33da-4366-855b-f592d898409d","data":{}}',
        javascript=True,
        timed=True,
    ),
    "notion": Provider(
        "a_verification_token",
        '{"id":"367cba44-b6f3-4c92-81e7-6a2e9659efd4","type":"page.created","attempt_number":1}',
        javascript=True,
    ),
    "openai": Provider(
        whsec("openai"),
        '{"object":"event","id":"evt_685343a1381c819085d44c354e1b330e","type":"response.completed","data":{}}',
        timed=True,
    ),
    "paddle": Provider("pdl_ntfset_01h6tzrgkqmvzcmtxztb30zjr8_a_secret", timed=True),
    "polar": Provider("polar_whs_an_ordinary_string", '{"type":"order.paid","data":{"id":"order_1"}}', timed=True),
    "razorpay": Provider(
        "a-razorpay-webhook-secret",
        '{"entity":"event","event":"payment.authorized","contains":["payment"]}',
        headers={"x-razorpay-event-id": "evt_razorpay_1"},
    ),
    "replicate": Provider(whsec("replicate"), '{"id":"ufawqhfynnddngldkgtslldrkq","status":"succeeded","output":null}', timed=True),
    "resend": Provider(
        whsec("resend"),
        '{"type":"email.delivered","data":{"email_id":"56761188-7520-42d8-8898-ff6fc54ce618"}}',
        javascript=True,
        timed=True,
    ),
    "retell": Provider(
        "key_0a1b2c3d4e5f", '{"event":"call_ended","call":{"call_id":"Jabr9TXYYJHfvl6Syypi88rdAHYHmcq6"}}', timed=True
    ),
    "sanity": Provider(
        "a-sanity-secret",
        '{"_id":"article-1","_type":"article"}',
        headers={"sanity-operation": "update"},
        unjudged="its time is not checked, so `send` cannot tell how it is written",
        javascript=True,
    ),
    "shopify": Provider("hush", javascript=True),
    "slack": Provider("8f742231b10e8888abcd99yyyzzz85a5", timed=True),
    "square": Provider("asdf1234"),
    "standard-webhooks": Provider(whsec("standard-webhooks"), timed=True),
    "stripe": Provider("whsec_an_ordinary_string_used_as_it_is", timed=True),
    "svix": Provider(whsec("svix"), '{"type":"invoice.paid","data":{"id":"in_1"}}', timed=True),
    "workos": Provider(
        "a-workos-secret",
        '{"id":"event_01H4TQ4XVKXCMB5Y4Q9RF5X2ZN","event":"dsync.user.created","data":{}}',
        timed=True,
    ),
    "adyen": Provider(hexadecimal("adyen"), f'{{"live":"false","notificationItems":[{ADYEN_ITEM}]}}', change=("1130", "1131")),
    "box": Provider(
        "SamplePrimaryKey", '{"type":"webhook_event","trigger":"FILE.UPLOADED","source":{"id":"1234567890"}}', timed=True
    ),
    "braintree": Provider(
        "integration_private_key",
        "",
        source="params: { public_key: a_public_key }",
        change=("bt_payload=", "bt_payload=A"),
        unjudged="its payload is base64 of XML, which the example is not",
    ),
    "dropbox-sign": Provider(
        "a-dropbox-sign-api-key",
        '{"event":{"event_type":"signature_request_sent","event_metadata":{"reported_for_app_id":"app1"}}}',
        change=("request_sent", "request_signed"),
        unjudged="it sends a multipart form, which the example is not",
    ),
    "easypost": Provider("a-sécret-of-ours", '{"id":"evt_1","object":"Event","description":"batch.created"}'),
    "hubspot-v1": Provider("zzzzzzzz-yyyy-yyyy-yyyy-yyyyyyyyyyy1", HUBSPOT % 1, preset="hubspot", source="pin: v1"),
    "hubspot-v2": Provider("zzzzzzzz-yyyy-yyyy-yyyy-yyyyyyyyyyy2", HUBSPOT % 2, preset="hubspot", source="pin: v2"),
    "hubspot-v3": Provider("zzzzzzzz-yyyy-yyyy-yyyy-yyyyyyyyyyy3", HUBSPOT % 3, preset="hubspot", timed=True),
    "mailgun": Provider(
        "3ax6xnjp29jd6fds4gc373sgvjxteol0",
        '{"event-data":{"id":"DACSsAdVSeGpLid7TN03WA","event":"clicked"}}',
        change=('"token": "', '"token": "0'),
    ),
    "pusher": Provider(
        "tofu-and-more-tofu",
        '{"time_ms":{millis},"events":[{"channel":"a_channel","name":"channel_vacated"}]}',
        id="a-pusher-key",
        options=("--set", "time_ms={millis}"),
    ),
    "twilio": Provider(
        "1234567890123456789012345678901a",
        "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309",
        change=("1234&", "1235&"),
    ),
    "twilio-json": Provider(
        "23456789012345678901234567890123",
        '{"MessageSid":"SM1","Body":"Zoë"}',
        preset="twilio",
        unjudged="`send` makes a form of it, as Twilio does",
    ),
    "atlassian-connect": Provider(
        "a-shared-secret-of-a-tenant-0123456789",
        '{"timestamp":1,"webhookEvent":"jira:issue_created"}',
        change=None,
        javascript=True,
    ),
    "discord": Provider(None, '{"version":1,"application_id":"1","type":1,"event":{"type":"APPLICATION_AUTHORIZED"}}'),
    "paypal": Provider(
        None,
        '{"id":"WH-2WR32451HC0233532-67976317FL4543714","event_type":"PAYMENT.SALE.COMPLETED"}',
        source="params: { webhook_id: 4JH86294D6297924G }",
    ),
    "plaid": Provider(
        None,
        '{\n  "webhook_type": "TRANSACTIONS",\n  "webhook_code": "DEFAULT_UPDATE",\n  "item_id": "eVBn"\n}',
        javascript=True,
        timed=True,
    ),
    "sendgrid": Provider(None, '[{"email":"hello@world.com","event":"dropped","sg_event_id":"ZHJvcC0xMDk5NDkxOS0"}]\r\n'),
    "standard-webhooks-v1a": Provider(None, '{"type":"user.created","data":{}}'),
    "telnyx": Provider(None, '{"data":{"id":"4ee8c3a6-4995-4309-a3c6-38e3db9ea4be","event_type":"message.received"}}', timed=True),
    "vonage": Provider(
        "qwertyuiopasdfghjklzxcvbnm123456", '{"message_uuid":"aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab","channel":"sms"}'
    ),
    "wise": Provider(None, '{"data":{"resource":{"id":49983981}},"event_type":"transfers#state-change"}'),
}
