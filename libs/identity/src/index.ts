export { Authenticator, type AuthenticatorDeps, type Bearer, type StoredToken } from "./authenticator.ts";
export { BOOTSTRAP_NAME, ensureBootstrapToken, type BootstrapDeps } from "./bootstrap.ts";
export { makeToken, parseToken, sameHash, type NewToken, type PresentedToken } from "./token.ts";
