/**
 * Loaded before a program under chaos (`--import`): its wall clock is off by what a file says, from one moment to the next. The
 * machine's clock is never set, and durations (CLOCK_MONOTONIC, CLOCK_BOOTTIME) stay what they are, as on a real host.
 */
import { readFileSync } from "node:fs";

const file = process.env["CHAOS_CLOCK_FILE"];
const RealDate = Date;
let offsetMs = 0;

const read = () => {
  try {
    offsetMs = Number(readFileSync(file, "utf8")) || 0;
  } catch {
    offsetMs = 0;
  }
};

if (file !== undefined) {
  read();
  setInterval(read, 250).unref();
  globalThis.Date = class extends RealDate {
    constructor(...args) {
      if (args.length === 0) super(RealDate.now() + offsetMs);
      else super(...args);
    }

    static now() {
      return RealDate.now() + offsetMs;
    }
  };
}
