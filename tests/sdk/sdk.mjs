// GitHub's side of the same protocol (see sdk.py), with @octokit/webhooks-methods:
//
//     sdk.mjs sign github     {"secret", "body_base64"}             ->  {"headers": {name: value}}
//     sdk.mjs verify github   {"secret", "body_base64", "headers"}  ->  {"valid": bool, "error": text or null}
//     sdk.mjs examples        every payload of @octokit/webhooks-examples as {"event", "body_base64"}, a line each
//
// The packages are found in $SDK_NODE (a folder with node_modules in it).
import { once } from "node:events";
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const packages = `${process.env.SDK_NODE ?? "."}/node_modules/@octokit`;

const decode = (text) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.from(text, "base64"));

async function octokit() {
  const { exports } = JSON.parse(readFileSync(`${packages}/webhooks-methods/package.json`));
  return import(pathToFileURL(`${packages}/webhooks-methods/${exports["."].node.import}`));
}

async function sign({ secret, body_base64, id }) {
  const { sign } = await octokit();
  const headers = { "X-Hub-Signature-256": await sign(secret, decode(body_base64)) };
  return id === undefined ? { headers } : { headers: { ...headers, "X-GitHub-Delivery": id } };
}

async function verify({ secret, body_base64, headers }) {
  const { verify } = await octokit();
  const found = Object.entries(headers).find(([name]) => name.toLowerCase() === "x-hub-signature-256");
  try {
    const valid = await verify(secret, decode(body_base64), found?.[1]);
    return { valid, error: valid ? null : "verify says no" };
  } catch (error) {
    return { valid: false, error: String(error) };
  }
}

async function print(answer) {
  if (!process.stdout.write(`${JSON.stringify(answer)}\n`)) await once(process.stdout, "drain");
}

async function eachLine(work) {
  for await (const line of createInterface({ input: process.stdin })) {
    const answer = await work(JSON.parse(line)).catch((error) => ({ error: String(error) }));
    if (answer.valid === false || (answer.error ?? null) !== null) process.exitCode = 1;
    await print(answer);
  }
}

async function examples() {
  const definitions = JSON.parse(readFileSync(`${packages}/webhooks-examples/api.github.com/index.json`));
  for (const { name, examples } of definitions)
    for (const example of examples)
      await print({ event: name, body_base64: Buffer.from(JSON.stringify(example)).toString("base64") });
}

const commands = { "sign github": () => eachLine(sign), "verify github": () => eachLine(verify), examples };
const command = commands[process.argv.slice(2).join(" ")];
if (command === undefined) {
  console.error("usage: sdk.mjs sign github | verify github | examples");
  process.exit(2);
}
await command();
