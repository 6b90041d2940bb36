/** Patterns of names: `*` stands for any run without a slash, `**` for any run. Linear in pattern times text, whatever they are. */

export function globMatches(pattern: string, text: string): boolean {
  const parts = pattern.match(/\*\*|\*|[^*]/gs) ?? [];
  // reached[i]: the parts so far can stand for the first i characters.
  let reached = new Uint8Array(text.length + 1);
  reached[0] = 1;
  for (const part of parts) {
    const next = new Uint8Array(text.length + 1);
    for (let at = 0; at <= text.length; at += 1) {
      if (part.startsWith("*")) {
        const extends_ = at > 0 && next[at - 1] === 1 && (part === "**" || text[at - 1] !== "/");
        next[at] = reached[at] === 1 || extends_ ? 1 : 0;
      } else if (at > 0 && reached[at - 1] === 1 && text[at - 1] === part) {
        next[at] = 1;
      }
    }
    reached = next;
  }
  return reached[text.length] === 1;
}
