/** Checked access to the fields of an untrusted JSON object; every error names the document and the path of the field. */
import { StatusError } from "@berth/base";

const MAX_TEXT = 1024 * 1024;

export class JsonFields {
  readonly #value: Readonly<Record<string, unknown>>;
  readonly #subject: string;
  readonly #path: string;
  readonly #reason: string;

  constructor(value: Readonly<Record<string, unknown>>, subject: string, path: string, reason: string) {
    this.#value = value;
    this.#subject = subject;
    this.#path = path;
    this.#reason = reason;
  }

  /** The field as it stands; undefined when missing or null. */
  raw(name: string): unknown {
    return Object.hasOwn(this.#value, name) ? (this.#value[name] ?? undefined) : undefined;
  }

  wrong(name: string, why: string): StatusError {
    const field = this.#pathOf(name);
    return new StatusError("INVALID_ARGUMENT", `${this.#subject}: ${field} ${why}`, {
      reason: this.#reason,
      violations: [{ field, description: why }],
    });
  }

  text(name: string): string {
    const text = this.optionalText(name);
    if (text === undefined) throw this.wrong(name, "is missing");
    return text;
  }

  optionalText(name: string): string | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    return this.#checkText(name, value);
  }

  /** A whole number of bytes from 0 on. */
  size(name: string): number {
    const value = this.raw(name);
    if (!Number.isSafeInteger(value) || (value as number) < 0) throw this.wrong(name, "is not a size in bytes");
    return value as number;
  }

  object(name: string): JsonFields {
    const object = this.optionalObject(name);
    if (object === undefined) throw this.wrong(name, "is missing");
    return object;
  }

  optionalObject(name: string): JsonFields | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    return new JsonFields(this.#checkObject(name, value), this.#subject, this.#pathOf(name), this.#reason);
  }

  /** A list of objects. */
  list(name: string, max: number): JsonFields[] {
    return this.#checkList(name, max).map((value, index) => {
      const item = `${name}[${index}]`;
      return new JsonFields(this.#checkObject(item, value), this.#subject, this.#pathOf(item), this.#reason);
    });
  }

  texts(name: string, max: number): string[] {
    return this.#checkList(name, max).map((value, index) => this.#checkText(`${name}[${index}]`, value));
  }

  optionalTexts(name: string, max: number): string[] | undefined {
    return this.raw(name) === undefined ? undefined : this.texts(name, max);
  }

  optionalTextMap(name: string, max: number): Record<string, string> | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    const entries = this.#entries(name, value, max);
    return Object.fromEntries(entries.map(([key, text]) => [key, this.#checkText(`${name}[${quote(key)}]`, text)]));
  }

  /** An object whose keys alone matter, such as `{"80/tcp": {}}`. */
  optionalKeySet(name: string, max: number): Record<string, object> | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    return Object.fromEntries(this.#entries(name, value, max).map(([key]) => [key, {}]));
  }

  #entries(name: string, value: unknown, max: number): [string, unknown][] {
    const entries = Object.entries(this.#checkObject(name, value));
    if (entries.length > max) throw this.wrong(name, `has ${entries.length} entries, more than ${max}`);
    return entries;
  }

  #checkList(name: string, max: number): unknown[] {
    const value = this.raw(name);
    if (!Array.isArray(value)) throw this.wrong(name, value === undefined ? "is missing" : "is not a list");
    if (value.length > max) throw this.wrong(name, `has ${value.length} entries, more than ${max}`);
    return value;
  }

  #checkObject(name: string, value: unknown): Record<string, unknown> {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw this.wrong(name, "is not an object");
    }
    return value as Record<string, unknown>;
  }

  #checkText(name: string, value: unknown): string {
    if (typeof value !== "string") throw this.wrong(name, "is not text");
    if (value.length > MAX_TEXT) throw this.wrong(name, `is longer than ${MAX_TEXT} characters`);
    return value;
  }

  #pathOf(name: string): string {
    return this.#path === "" ? name : `${this.#path}.${name}`;
  }
}

function quote(key: string): string {
  return JSON.stringify(key.length > 80 ? `${key.slice(0, 80)}…` : key);
}
