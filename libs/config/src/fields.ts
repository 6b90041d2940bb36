/** The kinds of fields that both programs' configurations have, with messages that say how to write them. */
import { isIP } from "node:net";
import { isAbsolute } from "node:path";
import { z } from "zod";

/** A URL of one of these schemes, such as `postgres`; its message never repeats the value. */
export function url(...schemes: string[]): z.ZodString {
  const example = `${schemes[0]}://user:password@host:port`;
  return z
    .string()
    .refine(
      (text) => {
        if (!URL.canParse(text)) return false;
        return schemes.includes(new URL(text).protocol.slice(0, -1));
      },
      { error: `is not a URL of the form ${example}` },
    )
    .meta({ form: `URL (${schemes.join(", ")})` });
}

/** One URL or several, separated by commas: servers of one cluster. The first carries the user and password. */
export function urls(...schemes: string[]): z.ZodString {
  const one = url(...schemes);
  const example = `${schemes[0]}://user:password@host:port`;
  return z
    .string()
    .refine((text) => text.split(",").every((each) => one.safeParse(each.trim()).success), {
      error: `is not a URL of the form ${example}, nor several, separated by commas`,
    })
    .meta({ form: `URLs (${schemes.join(", ")}), separated by commas` });
}

/** `host:port`; port 0 lets the system choose. */
export function hostPort(): z.ZodString {
  return z
    .string()
    .regex(/^(\[[0-9a-fA-F:]+\]|[^:\s]+):([0-9]{1,5})$/, {
      error: "is not of the form host:port, such as 127.0.0.1:7700",
    })
    .meta({ form: "host:port" });
}

export function absolutePath(): z.ZodString {
  return z
    .string()
    .refine((text) => isAbsolute(text), { error: "is not an absolute path; begin it with /" })
    .meta({ form: "absolute path" });
}

/** `address/bits`. */
export function cidr(): z.ZodString {
  return z
    .string()
    .refine(
      (text) => {
        const [, address = "", bits = ""] = /^([^/]+)\/([0-9]{1,3})$/.exec(text) ?? [];
        const family = isIP(address);
        return family !== 0 && Number(bits) <= (family === 4 ? 32 : 128);
      },
      { error: "is not a range of addresses, such as 10.20.0.0/16" },
    )
    .meta({ form: "address/bits" });
}

export function durationMs(min: number, max: number): z.ZodNumber {
  return z
    .int({ error: "is not a whole number of milliseconds" })
    .min(min, { error: `is less than ${min} milliseconds` })
    .max(max, { error: `is more than ${max} milliseconds` });
}

export const logLevel = z.enum(["debug", "info", "warn", "error"], {
  error: "is not one of debug, info, warn, error",
});

/** Splits what {@link hostPort} has let through. */
export function parseHostPort(text: string): { readonly host: string; readonly port: number } {
  const colon = text.lastIndexOf(":");
  const host = text.slice(0, colon);
  return { host: host.startsWith("[") ? host.slice(1, -1) : host, port: Number(text.slice(colon + 1)) };
}
