/** A sigstore of one's own: a certificate authority, a transparency log, and what they make of a signature. */
import { execFileSync } from "node:child_process";
import { createHash, createPrivateKey, generateKeyPairSync, sign, type KeyObject } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SignatureLayer } from "./sign.ts";
import { signBytes } from "./sign.ts";

export interface TestSigstore {
  /** `trusted_root.json`. */
  readonly trustRoot: string;
  certificate(subject: string, issuer: string): SigningCertificate;
  /** The annotations of cosign's older form. */
  layer(payload: Buffer, signer: SigningCertificate): SignatureLayer;
  /** A bundle, version 0.3, of a signed envelope. */
  bundle(envelope: object, signer: SigningCertificate): object;
}

export interface SigningCertificate {
  readonly key: KeyObject;
  readonly pem: string;
}

const ISSUER_OID = "1.3.6.1.4.1.57264.1.8";
const ORIGIN = "rekor.test";

export function startTestSigstore(): TestSigstore {
  const root = makeRoot();
  const rekor = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const rekorDer = rekor.publicKey.export({ type: "spki", format: "der" });
  const logId = createHash("sha256").update(rekorDer).digest();
  const entry = (body: object): LogEntry => logEntry(rekor.privateKey, logId, Buffer.from(JSON.stringify(body)));
  const validFor = { start: "2020-01-01T00:00:00.000Z" };
  const trustRoot = {
    mediaType: "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    tlogs: [
      {
        baseUrl: `https://${ORIGIN}`,
        hashAlgorithm: "SHA2_256",
        publicKey: { rawBytes: rekorDer.toString("base64"), keyDetails: "PKIX_ECDSA_P256_SHA_256", validFor },
        logId: { keyId: logId.toString("base64") },
      },
    ],
    certificateAuthorities: [{ certChain: { certificates: [{ rawBytes: derOf(root.pem) }] }, validFor }],
    ctlogs: [],
    timestampAuthorities: [],
  };
  return {
    trustRoot: JSON.stringify(trustRoot),
    certificate: (subject, issuer) => makeCertificate(root, subject, issuer),
    layer(payload, { key, pem }) {
      const signature = signBytes(key, payload);
      const { body, promise, integratedTime } = entry(hashedRekord(payload, signature, pem));
      const rekorBundle = {
        SignedEntryTimestamp: promise,
        Payload: { body, integratedTime, logIndex: 7, logID: logId.toString("hex") },
      };
      const annotations = {
        "dev.sigstore.cosign/certificate": pem,
        "dev.sigstore.cosign/bundle": JSON.stringify(rekorBundle),
      };
      return { payload, signature, annotations };
    },
    bundle(envelope, { pem }) {
      const { body, promise, integratedTime, proof } = entry(dsseEntry(envelope as Envelope, pem));
      return {
        mediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
        verificationMaterial: {
          certificate: { rawBytes: derOf(pem) },
          tlogEntries: [
            {
              logIndex: "7",
              logId: { keyId: logId.toString("base64") },
              kindVersion: { kind: "dsse", version: "0.0.1" },
              integratedTime: String(integratedTime),
              inclusionPromise: { signedEntryTimestamp: promise },
              inclusionProof: proof,
              canonicalizedBody: body,
            },
          ],
        },
        dsseEnvelope: envelope,
      };
    },
  };
}

interface LogEntry {
  readonly body: string;
  readonly promise: string;
  readonly integratedTime: number;
  readonly proof: object;
}

interface Envelope {
  readonly payload: string;
  readonly signatures: readonly { readonly sig: string }[];
}

/** An entry of a log that has no other. */
function logEntry(key: KeyObject, logId: Buffer, bytes: Buffer): LogEntry {
  const body = bytes.toString("base64");
  const integratedTime = Math.floor(Date.now() / 1000);
  const promised = JSON.stringify({ body, integratedTime, logID: logId.toString("hex"), logIndex: 7 });
  const rootHash = createHash("sha256")
    .update(Buffer.concat([Buffer.from([0]), bytes]))
    .digest();
  const note = `${ORIGIN}\n1\n${rootHash.toString("base64")}\n`;
  const noteSignature = Buffer.concat([logId.subarray(0, 4), sign("sha256", Buffer.from(note), key)]);
  const envelope = `${note}\n\u2014 ${ORIGIN} ${noteSignature.toString("base64")}\n`;
  return {
    body,
    integratedTime,
    promise: sign("sha256", Buffer.from(promised), key).toString("base64"),
    proof: {
      logIndex: "0",
      rootHash: rootHash.toString("base64"),
      treeSize: "1",
      hashes: [],
      checkpoint: { envelope },
    },
  };
}

function hashedRekord(payload: Buffer, signature: Buffer, pem: string): object {
  const value = createHash("sha256").update(payload).digest("hex");
  const publicKey = { content: Buffer.from(pem).toString("base64") };
  const spec = {
    data: { hash: { algorithm: "sha256", value } },
    signature: { content: signature.toString("base64"), publicKey },
  };
  return { apiVersion: "0.0.1", kind: "hashedrekord", spec };
}

function dsseEntry({ payload, signatures }: Envelope, pem: string): object {
  const value = createHash("sha256").update(Buffer.from(payload, "base64")).digest("hex");
  const spec = {
    payloadHash: { algorithm: "sha256", value },
    signatures: [{ signature: signatures[0]!.sig, verifier: Buffer.from(pem).toString("base64") }],
  };
  return { apiVersion: "0.0.1", kind: "dsse", spec };
}

interface Authority {
  readonly pem: string;
  readonly keyPem: string;
}

function makeRoot(): Authority {
  return inFolder((folder) => {
    openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ca.key");
    const extensions = ["-addext", "keyUsage=critical,keyCertSign"];
    openssl(
      folder,
      "req",
      "-x509",
      "-new",
      "-key",
      "ca.key",
      "-subj",
      "/O=test/CN=root",
      "-days",
      "3650",
      ...extensions,
      "-out",
      "ca.pem",
    );
    return { pem: readFileSync(join(folder, "ca.pem"), "utf8"), keyPem: readFileSync(join(folder, "ca.key"), "utf8") };
  });
}

function makeCertificate(root: Authority, subject: string, issuer: string): SigningCertificate {
  return inFolder((folder) => {
    writeFileSync(join(folder, "ca.pem"), root.pem);
    writeFileSync(join(folder, "ca.key"), root.keyPem);
    const name = subject.includes("://") ? `URI:${subject}` : `email:${subject}`;
    const extensions = [
      "keyUsage=critical,digitalSignature",
      "extendedKeyUsage=codeSigning",
      `subjectAltName=critical,${name}`,
      `${ISSUER_OID}=ASN1:UTF8String:${issuer}`,
    ];
    writeFileSync(join(folder, "leaf.cnf"), extensions.join("\n"));
    openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "leaf.key");
    openssl(folder, "req", "-new", "-key", "leaf.key", "-subj", "/O=test/CN=leaf", "-out", "leaf.csr");
    openssl(
      folder,
      "x509",
      "-req",
      "-in",
      "leaf.csr",
      "-CA",
      "ca.pem",
      "-CAkey",
      "ca.key",
      "-CAcreateserial",
      "-days",
      "1",
      "-extfile",
      "leaf.cnf",
      "-out",
      "leaf.pem",
    );
    const key = createPrivateKey(readFileSync(join(folder, "leaf.key"), "utf8"));
    return { key, pem: readFileSync(join(folder, "leaf.pem"), "utf8") };
  });
}

function inFolder<T>(body: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), "berth-sigstore-"));
  try {
    return body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function openssl(cwd: string, ...args: string[]): void {
  execFileSync("openssl", args, { cwd, stdio: "pipe" });
}

function derOf(pem: string): string {
  return pem.replaceAll(/-----[^-]+-----|\s/g, "");
}
