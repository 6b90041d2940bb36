/** `WWW-Authenticate` (RFC 9110 §11.6.1): a list of challenges, each a scheme with parameters. */

export interface Challenge {
  /** In lower case: `basic`, `bearer`. */
  readonly scheme: string;
  /** Names in lower case. */
  readonly params: ReadonlyMap<string, string>;
}

const TOKEN = /[A-Za-z0-9!#$%&'*+.^_`|~-]+/y;
const MAX_LENGTH = 8192;

/** Reads what it can; a header that makes no sense gives no challenges rather than an error. */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const text = typeof header === "string" ? header : (header ?? []).join(", ");
  return text.length > MAX_LENGTH ? [] : new Reader(text).challenges();
}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  challenges(): Challenge[] {
    const found: { scheme: string; params: Map<string, string> }[] = [];
    while (this.#at < this.#text.length) {
      this.#skip(/[\s,]*/y);
      const word = this.#skip(TOKEN);
      if (word === "") break;
      const current = found.at(-1);
      if (this.#skip(/\s*=\s*/y) !== "" && current !== undefined) current.params.set(word.toLowerCase(), this.#value());
      else found.push({ scheme: word.toLowerCase(), params: new Map() });
    }
    return found;
  }

  #value(): string {
    if (this.#text[this.#at] !== '"') return this.#skip(TOKEN);
    let value = "";
    for (this.#at += 1; this.#at < this.#text.length && this.#text[this.#at] !== '"'; this.#at += 1) {
      if (this.#text[this.#at] === "\\") this.#at += 1;
      value += this.#text[this.#at] ?? "";
    }
    this.#at += 1;
    return value;
  }

  #skip(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text)?.[0] ?? "";
    this.#at += match.length;
    return match;
  }
}
