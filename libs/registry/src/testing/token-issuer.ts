/** A token service as docker-registry's `auth: token` wants it: JWTs, signed with ES256, with the certificate in them. */
import { createPrivateKey, randomUUID, sign, X509Certificate } from "node:crypto";
import type { TestCertificate } from "./certificates.ts";
import { sendJson, startHostileServer, type SeenRequest } from "./hostile-server.ts";

export interface TokenIssuer extends AsyncDisposable {
  /** For the registry's configuration. */
  readonly realm: string;
  readonly service: string;
  readonly issuer: string;
  readonly cert: string;
  /** Every request for a token. */
  readonly seen: readonly SeenRequest[];
  /** How long the tokens from now on are good. */
  lifetimeSeconds: number;
}

export interface IssuerOptions {
  readonly certificate: TestCertificate;
  /** May this user (undefined: nobody) do this? The default lets everybody do all. */
  readonly allows?: (user: string | undefined, repository: string, action: string) => boolean;
  /** Passwords by user. */
  readonly users?: Readonly<Record<string, string>>;
  /** Users by identity token. */
  readonly identityTokens?: Readonly<Record<string, string>>;
}

export async function startTokenIssuer(options: IssuerOptions): Promise<TokenIssuer> {
  const { allows = () => true } = options;
  const [service, issuer] = ["test registry", "test issuer"];
  const server = await startHostileServer((seen, response) => {
    const asked = seen.method === "POST" ? new URLSearchParams(seen.body) : new URL(seen.path, "http://x").searchParams;
    const user = userOf(seen, asked, options);
    if (user === false)
      return sendJson(response, 401, { errors: [{ code: "UNAUTHORIZED", message: "wrong password" }] });
    const access = asked
      .getAll("scope")
      .flatMap((scope) => scope.split(" "))
      .map((scope) => /^(\w+):(.+):([^:]*)$/.exec(scope))
      .filter((match) => match !== null)
      .map(([, type, name, actions]) => ({
        type,
        name,
        actions: actions!.split(",").filter((action) => allows(user, name!, action)),
      }));
    const token = jwt(
      options.certificate,
      { iss: issuer, aud: service, sub: user ?? "", access },
      self.lifetimeSeconds,
    );
    sendJson(response, 200, {
      [seen.method === "POST" ? "access_token" : "token"]: token,
      expires_in: self.lifetimeSeconds,
    });
  });
  const self = {
    realm: `http://${server.host}/token`,
    service,
    issuer,
    cert: options.certificate.cert,
    seen: server.seen,
    lifetimeSeconds: 300,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
  return self;
}

/** Undefined for nobody, false for a wrong password. */
function userOf(seen: SeenRequest, asked: URLSearchParams, options: IssuerOptions): string | undefined | false {
  if (seen.method === "POST") return options.identityTokens?.[asked.get("refresh_token") ?? ""] ?? false;
  const basic = /^Basic (.*)$/.exec(seen.headers.authorization ?? "");
  if (basic === null) return undefined;
  const [user = "", password] = Buffer.from(basic[1]!, "base64").toString("utf8").split(":");
  return options.users?.[user] === password ? user : false;
}

function jwt({ cert, key }: TestCertificate, claims: object, lifetimeSeconds: number): string {
  const now = Math.floor(Date.now() / 1000);
  const header = { typ: "JWT", alg: "ES256", x5c: [new X509Certificate(cert).raw.toString("base64")] };
  const payload = { ...claims, jti: randomUUID(), iat: now, nbf: now - 10, exp: now + lifetimeSeconds };
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${encode(header)}.${encode(payload)}`;
  const signature = sign("sha256", Buffer.from(signed), { key: createPrivateKey(key), dsaEncoding: "ieee-p1363" });
  return `${signed}.${signature.toString("base64url")}`;
}
