/**
 * containerd's filter grammar (its pkg/filters), for events: `topic=="/tasks/exit",namespace~="^shop"`.
 *
 *   filter    := selector (',' selector)*          all must hold; several filters: any
 *   selector  := fieldpath [('==' | '!=' | '~=') value]     without an operator: the field is there
 *   fieldpath := field ('.' field)*
 *   field     := [A-Za-z0-9_]+ | "quoted"
 *   value     := "quoted" | bare; after ~= also /quoted/ and |quoted|
 *
 * As there, `/` and `|` begin a quotation and so cannot begin a bare value (`topic==/tasks/exit` is an error), and `!=`
 * holds for a field that is absent. Unlike there, errors say what to write; and patterns whose repetitions nest are refused,
 * because JavaScript's matcher backtracks and a filter comes from a stranger.
 */
import { StatusError } from "@berth/base";
import { compilePattern } from "./filter-pattern.ts";

/** The value of a field, or undefined where there is none. */
export type FieldOf = (path: readonly string[]) => string | undefined;

export type FilterOperator = "==" | "!=" | "~=";

export interface FilterSelector {
  readonly path: readonly string[];
  /** Without an operator the field must be there. */
  readonly test?: { readonly op: FilterOperator; readonly value: string; readonly pattern?: RegExp };
}

/** All of these must hold. */
export type Filter = readonly FilterSelector[];

const MAX_FILTER_LENGTH = 1024;
const MAX_MATCHED_LENGTH = 1024;
const FIELD = /[A-Za-z0-9_]+/y;
const OPERATOR = /==|!=|~=/y;
const BARE = /[^\s,]+/y;
const SPACE = /\s*/y;

/** @throws INVALID_ARGUMENT `FILTER_INVALID` */
export function parseFilter(text: string): Filter {
  if (text.length > MAX_FILTER_LENGTH) throw new Parser(text).wrong(`is longer than ${MAX_FILTER_LENGTH} characters`);
  return new Parser(text).filter();
}

export function filterMatches(filter: Filter, fieldOf: FieldOf): boolean {
  return filter.every(({ path, test }) => {
    const value = fieldOf(path);
    if (test === undefined) return value !== undefined;
    switch (test.op) {
      case "==":
        return value === test.value;
      case "!=":
        return value !== test.value;
      case "~=":
        return value !== undefined && test.pattern!.test(value.slice(0, MAX_MATCHED_LENGTH));
    }
  });
}

/** Whether any of the filters holds; no filters hold for everything. */
export function anyFilterMatches(filters: readonly Filter[], fieldOf: FieldOf): boolean {
  return filters.length === 0 || filters.some((filter) => filterMatches(filter, fieldOf));
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  filter(): Filter {
    const selectors: FilterSelector[] = [];
    this.#take(SPACE);
    if (this.#at === this.#text.length) return selectors;
    for (;;) {
      selectors.push(this.#selector());
      this.#take(SPACE);
      if (this.#at === this.#text.length) return selectors;
      if (this.#text[this.#at] !== ",") throw this.wrong(this.#expected("a comma or the end"));
      this.#at += 1;
      this.#take(SPACE);
    }
  }

  #selector(): FilterSelector {
    const path = [this.#field()];
    while (this.#text[this.#at] === ".") {
      this.#at += 1;
      path.push(this.#field());
    }
    this.#take(SPACE);
    const op = this.#take(OPERATOR) as FilterOperator | undefined;
    if (op === undefined) {
      if (this.#text[this.#at] === "=") throw this.wrong(`has "=" where "==" must stand`);
      return { path };
    }
    this.#take(SPACE);
    const value = this.#value(op, path.join("."));
    if (op !== "~=") return { path, test: { op, value } };
    return { path, test: { op, value, pattern: compilePattern(value, (why) => this.wrong(why)) } };
  }

  #field(): string {
    if (this.#text[this.#at] === '"') return this.#quoted('"');
    const field = this.#take(FIELD);
    if (field === undefined) {
      throw this.wrong(`${this.#expected("a field's name")}; quote names with other characters: labels."a.b"`);
    }
    return field;
  }

  #value(op: FilterOperator, field: string): string {
    const first = this.#text[this.#at];
    if (first === '"') return this.#quoted('"');
    if (first === "/" || first === "|") {
      if (op === "~=") return this.#quoted(first);
      const bare = /[^\s,]+/.exec(this.#text.slice(this.#at))![0];
      throw this.wrong(
        `has a value that begins with ${JSON.stringify(first)}; quote it: ${field}${op}${JSON.stringify(bare)}`,
      );
    }
    if (first !== undefined && "=!~,".includes(first)) throw this.wrong(`${this.#expected("a value")}; quote it`);
    const value = this.#take(BARE);
    if (value === undefined) throw this.wrong(`ends where a value must follow ${field}${op}`);
    return value;
  }

  /** Reads a quotation. In `"…"` a backslash escapes as in Go and JSON; in /…/ and |…| it escapes the quote alone. */
  #quoted(quote: string): string {
    const start = this.#at;
    this.#at += 1;
    let out = "";
    for (;;) {
      const char = this.#text[this.#at];
      if (char === undefined) throw this.wrong(`has a quotation that does not end: ${this.#text.slice(start)}`);
      this.#at += 1;
      if (char === quote) return out;
      out += char === "\\" ? this.#escape(quote) : char;
    }
  }

  #escape(quote: string): string {
    const char = this.#text[this.#at] ?? "";
    this.#at += 1;
    if (char === quote) return char;
    if (quote !== '"') return `\\${char}`;
    const plain = { n: "\n", r: "\r", t: "\t", "\\": "\\" }[char];
    if (plain !== undefined) return plain;
    const code = /^(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4}))/.exec(this.#text.slice(this.#at - 1));
    if (code === null)
      throw this.wrong(`has the escape \\${char}, which is none of \\" \\\\ \\n \\r \\t \\xHH \\uHHHH`);
    this.#at += code[0].length - 1;
    return String.fromCharCode(Number.parseInt(code[1] ?? code[2]!, 16));
  }

  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return match[0];
  }

  #expected(what: string): string {
    const rest = this.#text.slice(this.#at);
    return rest === "" ? `ends where ${what} must stand` : `has ${JSON.stringify(rest)} where ${what} must stand`;
  }

  wrong(why: string): StatusError {
    return new StatusError("INVALID_ARGUMENT", `filter ${JSON.stringify(this.#text)} ${why}`, {
      reason: "FILTER_INVALID",
    });
  }
}
