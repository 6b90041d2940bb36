/** What undici exports as `Pool`, by the file it lies in; see pools.ts for why. */
declare module "undici/lib/dispatcher/pool.js" {
  export { Pool as default } from "undici";
}
