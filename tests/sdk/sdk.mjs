// The JavaScript side of the same protocol (see sdk.py):
//
//     sdk.mjs sign|verify|key|public PROVIDER | serve
//     sdk.mjs examples        every payload of @octokit/webhooks-examples as {"event", "body_base64"}, a line each
//
// The packages are found in $SDK_NODE (a folder with node_modules in it). Where an SDK only verifies, the signature is made here,
// and is worth something once the SDK believed it.
import { createHash, createHmac } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { pathToFileURL } from "node:url";

const packages = `${process.env.SDK_NODE ?? "."}/node_modules`;
const required = createRequire(pathToFileURL(`${packages}/`));
// A package that has no CommonJS side, by its file.
const imported = (file) => import(pathToFileURL(`${packages}/${file}`));

const decode = (text) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.from(text, "base64"));
const hmac = (secret, text, encoding = "hex") => createHmac("sha256", secret).update(text).digest(encoding);
const sha256 = (text) => createHash("sha256").update(text).digest("hex");

const octokit = () => imported("@octokit/webhooks-methods/dist-node/index.js");

// A Request of the Fetch API, as handlers get it.
const fetched = (r) => new Request(r.url, { method: "POST", headers: r.headers, body: r.body });

function standard(r, prefix) {
  const { Webhook } = required("standardwebhooks");
  const signature = new Webhook(r.secret).sign(r.id, new Date(r.at * 1000), r.body);
  return { [`${prefix}-id`]: r.id, [`${prefix}-timestamp`]: String(r.at), [`${prefix}-signature`]: signature };
}

const github = {
  sign: async (r) => ({ "X-Hub-Signature-256": await (await octokit()).sign(r.secret, r.body), "X-GitHub-Delivery": r.id }),
  verify: async (r) => (await octokit()).verify(r.secret, r.body, r.headers["x-hub-signature-256"]),
};

let shop;
function shopifyApi(secret) {
  if (shop?.config.apiSecretKey !== secret) {
    required("@shopify/shopify-api/adapters/node");
    const { ApiVersion, shopifyApi } = required("@shopify/shopify-api");
    const logger = { level: 0, log: () => {} };
    const app = { apiKey: "a-key", hostName: "localhost", scopes: [], isEmbeddedApp: false, apiVersion: ApiVersion.October25 };
    shop = shopifyApi({ ...app, apiSecretKey: secret, logger });
  }
  return shop;
}

const shopify = {
  sign: (r) => ({
    "X-Shopify-Hmac-Sha256": hmac(r.secret, r.body, "base64"),
    "X-Shopify-Topic": "orders/create",
    "X-Shopify-Event-Id": r.id,
    "X-Shopify-Webhook-Id": r.id,
    "X-Shopify-Shop-Domain": "a-shop.myshopify.com",
    "X-Shopify-API-Version": "2025-10",
  }),
  async verify(r) {
    const rawRequest = Object.assign(Readable.from([]), { headers: r.headers, method: "POST", url: "/" });
    const { valid, reason } = await shopifyApi(r.secret).webhooks.validate({ rawBody: r.body, rawRequest, rawResponse: {} });
    // It also wants headers about the shop, behind the signature.
    return valid || reason === "missing_headers";
  },
};

const linear = {
  sign: (r) => ({ "Linear-Signature": hmac(r.secret, r.body), "Linear-Delivery": r.id }),
  async verify(r) {
    const { LinearWebhookClient } = await imported("@linear/sdk/dist/webhooks/index.mjs");
    new LinearWebhookClient(r.secret).parseData(Buffer.from(r.body), r.headers["linear-signature"], r.headers["linear-timestamp"]);
  },
};

const mux = {
  sign: (r) => ({ "Mux-Signature": `t=${r.at},v1=${hmac(r.secret, `${r.at}.${r.body}`)}` }),
  async verify(r) {
    const Mux = required("@mux/mux-node").default;
    await new Mux({ tokenId: "unused", tokenSecret: "unused" }).webhooks.verifySignature(r.body, r.headers, r.secret);
  },
};

const resend = {
  sign: (r) => standard(r, "svix"),
  verify(r) {
    const { Resend } = required("resend");
    const headers = { id: r.headers["svix-id"], timestamp: r.headers["svix-timestamp"], signature: r.headers["svix-signature"] };
    new Resend("re_unused").webhooks.verify({ payload: r.body, headers, webhookSecret: r.secret });
  },
};

const standardWebhooks = {
  sign: (r) => standard(r, "webhook"),
  verify(r) {
    const { Webhook } = required("standardwebhooks");
    new Webhook(r.secret).verify(r.body, r.headers);
  },
};

const clerk = {
  sign: (r) => standard(r, "svix"),
  verify: (r) => required("@clerk/backend/webhooks").verifyWebhook(fetched(r), { signingSecret: r.secret }).then(() => true),
};

const notion = {
  async sign(r) {
    const signature = await required("@notionhq/client").signWebhookPayload({ body: r.body, verificationToken: r.secret });
    return { "X-Notion-Signature": signature };
  },
  verify: (r) =>
    required("@notionhq/client").verifyWebhookSignature({
      body: r.body,
      signature: r.headers["x-notion-signature"],
      verificationToken: r.secret,
    }),
};

const sanity = {
  async sign(r) {
    const { encodeSignatureHeader } = required("@sanity/webhook");
    return { "sanity-webhook-signature": await encodeSignatureHeader(r.body, r.at * 1000, r.secret), "idempotency-key": r.id };
  },
  verify: (r) => required("@sanity/webhook").isValidSignature(r.body, r.headers["sanity-webhook-signature"], r.secret),
};

const zoom = {
  sign: (r) => ({ "x-zm-request-timestamp": String(r.at), "x-zm-signature": `v0=${hmac(r.secret, `v0:${r.at}:${r.body}`)}` }),
  async verify(r) {
    const { AwsLambdaReceiver } = required("@zoom/rivet/commerce");
    const handle = new AwsLambdaReceiver({ webhooksSecretToken: r.secret }).start();
    const debug = console.debug;
    console.debug = () => {}; // it prints every event
    const { statusCode } = await handle({ body: r.body, headers: r.headers, isBase64Encoded: false }).finally(() => (console.debug = debug));
    return statusCode === 200;
  },
};

// A JWT about the body, signed with a key of its provider.
const plaid = {
  async key() {
    const { exportPKCS8, exportSPKI, generateKeyPair } = await imported("jose/dist/webapi/index.js");
    const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
    return { secret: await exportPKCS8(privateKey), ...(await this.public({ key: await exportSPKI(publicKey) })) };
  },
  async public({ key }) {
    const { exportJWK, importSPKI } = await imported("jose/dist/webapi/index.js");
    const jwk = await exportJWK(await importSPKI(key, "ES256", { extractable: true }));
    return { public: JSON.stringify({ keys: [{ ...jwk, kid: "a-kid", alg: "ES256", use: "sig" }] }) };
  },
  async sign(r) {
    const { SignJWT, importPKCS8 } = await imported("jose/dist/webapi/index.js");
    const token = new SignJWT({ request_body_sha256: sha256(r.body) }).setIssuedAt(r.at);
    const key = await importPKCS8(r.secret, "ES256");
    return { "Plaid-Verification": await token.setProtectedHeader({ alg: "ES256", kid: "a-kid", typ: "JWT" }).sign(key) };
  },
  async verify(r) {
    const { createLocalJWKSet, jwtVerify } = await imported("jose/dist/webapi/index.js");
    const keys = createLocalJWKSet(JSON.parse(r.public));
    const { payload } = await jwtVerify(r.headers["plaid-verification"], keys, { algorithms: ["ES256"], maxTokenAge: "5m" });
    return payload.request_body_sha256 === sha256(r.body);
  },
};

// The SDK of Connect apps: a JWT of the tenant about method, path and query.
const atlassian = {
  sign(r) {
    const jwt = required("atlassian-jwt");
    const url = new URL(r.url);
    const qsh = jwt.createQueryStringHash(jwt.fromMethodAndUrl("POST", url.pathname + url.search));
    const token = jwt.encodeSymmetric({ iss: "a-tenant", iat: r.at, exp: r.at + 180, qsh }, r.secret);
    return { Authorization: `JWT ${token}` };
  },
  verify(r) {
    const jwt = required("atlassian-jwt");
    const token = r.headers.authorization.replace(/^JWT /, "");
    const claims = jwt.decodeSymmetric(token, r.secret, jwt.SymmetricAlgorithm.HS256);
    const url = new URL(r.url);
    return claims.qsh === jwt.createQueryStringHash(jwt.fromMethodAndUrl("POST", url.pathname + url.search));
  },
};

const named = { "atlassian-connect": atlassian, "standard-webhooks": standardWebhooks };
const providers = { ...named, clerk, github, linear, mux, notion, plaid, resend, sanity, shopify, zoom };

function request({ secret, body_base64, headers, public: publicKey, url, id, timestamp }) {
  const lower = Object.fromEntries(Object.entries(headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]));
  const at = timestamp ?? Math.floor(Date.now() / 1000);
  const more = { public: publicKey ?? secret, url: url ?? "https://hooks.example.com/in", id: id ?? "msg_test", at };
  return { secret, body: decode(body_base64), headers: lower, ...more };
}

const work = {
  async sign(provider, line) {
    try {
      const r = request(line);
      const signed = await provider.sign(r);
      const { body, ...answer } = "headers" in signed ? signed : { headers: signed };
      const body_base64 = body === undefined ? line.body_base64 : Buffer.from(body).toString("base64");
      return { url: r.url, ...answer, body_base64 };
    } catch (error) {
      return { error: String(error) };
    }
  },
  async verify(provider, line) {
    try {
      const valid = (await provider.verify(request(line))) !== false;
      return { valid, error: valid ? null : "the SDK says no" };
    } catch (error) {
      return { valid: false, error: String(error) };
    }
  },
  key: (provider) => provider.key(),
  public: (provider, line) => provider.public(line),
};

async function print(answer) {
  if (!process.stdout.write(`${JSON.stringify(answer)}\n`)) await once(process.stdout, "drain");
}

async function eachLine(one) {
  for await (const text of createInterface({ input: process.stdin })) {
    const line = JSON.parse(text);
    const { do: what, provider } = one ?? line;
    const answer = await work[what](providers[provider], line);
    if (answer.valid === false || (answer.error ?? null) !== null) process.exitCode = 1;
    await print(answer);
  }
}

async function examples() {
  const definitions = JSON.parse(readFileSync(`${packages}/@octokit/webhooks-examples/api.github.com/index.json`));
  for (const { name, examples } of definitions)
    for (const example of examples)
      await print({ event: name, body_base64: Buffer.from(JSON.stringify(example)).toString("base64") });
}

const [what, provider, ...rest] = process.argv.slice(2);
if (what === "examples" && provider === undefined) await examples();
else if (what === "serve" && provider === undefined) await eachLine();
else if (what in work && provider in providers && rest.length === 0) await eachLine({ do: what, provider });
else {
  console.error("usage: sdk.mjs sign|verify|key|public PROVIDER | serve | examples");
  process.exit(2);
}
