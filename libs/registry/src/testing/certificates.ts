/** Certificates for tests: a private CA, servers on 127.0.0.1 and clients, made by the openssl program. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** PEM texts. */
export interface TestCertificate {
  readonly cert: string;
  readonly key: string;
}

export interface TestAuthority extends TestCertificate {
  /** Signed by the CA; for 127.0.0.1 and localhost, as a server's or a client's. */
  issue(commonName: string): TestCertificate;
}

/** False where it is there; else why it is not, for a test's `skip`. */
export function missingOpenssl(): string | false {
  try {
    execFileSync("openssl", ["version"]);
    return false;
  } catch {
    return "making a certificate needs the openssl program";
  }
}

export function createTestAuthority(): TestAuthority {
  const ca = make("test CA", ["-addext", "basicConstraints=critical,CA:TRUE"], undefined);
  const alternative = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"];
  return { ...ca, issue: (commonName) => make(commonName, alternative, ca) };
}

function make(commonName: string, extensions: readonly string[], by: TestCertificate | undefined): TestCertificate {
  const folder = mkdtempSync(join(tmpdir(), "berth-tls-"));
  try {
    const path = (name: string): string => join(folder, name);
    const what = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    const out = ["-subj", `/CN=${commonName}`, "-keyout", path("key.pem"), "-out", path("cert.pem")];
    if (by !== undefined) {
      writeFileSync(path("ca.pem"), by.cert);
      writeFileSync(path("ca-key.pem"), by.key);
    }
    const signed = by === undefined ? [] : ["-CA", path("ca.pem"), "-CAkey", path("ca-key.pem")];
    execFileSync("openssl", [...what, ...extensions, ...out, ...signed], { stdio: ["ignore", "ignore", "pipe"] });
    return { cert: readFileSync(path("cert.pem"), "utf8"), key: readFileSync(path("key.pem"), "utf8") };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
