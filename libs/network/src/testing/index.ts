export { inOwnNetns } from "./in-netns.ts";
