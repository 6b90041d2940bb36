/**
 * What a benchmark prints: a table for people and, last, one line of JSON for machines:
 * `{"bench":…,"cases":[{"name":…,"unit":…,"better":…,"berth":…,"peer":…,"ratio":…}]}`. Figures are medians, the table shows
 * the spread, and the ratio is always berth's to the peer's: `better` says whether less or more of the unit is better.
 */

export interface BenchCase {
  readonly name: string;
  readonly unit: string;
  /** Default less. */
  readonly better?: "less" | "more";
  /** Every counted run of ours and of the peer's, in pairs taken one after the other. */
  readonly berth: readonly number[];
  readonly peer: readonly number[];
  /** Who the peer is. */
  readonly against: string;
}

/** A table of another kind, for what has no peer. */
export interface Printed {
  readonly text: string;
  readonly json: Readonly<Record<string, unknown>>;
}

export function print({ text, json }: Printed, notes: readonly string[]): void {
  console.log(`${text}\n`);
  for (const note of notes) console.log(`- ${note}`);
  console.log(JSON.stringify(json));
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function report(bench: string, cases: readonly BenchCase[], notes: readonly string[] = []): void {
  const summary = cases.map(summaryOf);
  const rows = cases.map((each, index) => [
    each.name,
    each.unit,
    spread(each.berth),
    spread(each.peer),
    summary[index]!.ratio.toFixed(2),
    summary[index]!.better,
    each.against,
  ]);
  console.log(table([["case", "unit", "berth", "peer", "ratio", "better", "peer is"], ...rows]));
  console.log(
    `\nmedian (least to most) of ${Math.max(...cases.map((each) => each.berth.length))}; ratio: berth to peer`,
  );
  for (const note of notes) console.log(`- ${note}`);
  console.log(JSON.stringify({ bench, cases: summary }));
}

function summaryOf({ name, unit, better = "less", berth, peer }: BenchCase) {
  const [ours, theirs] = [median(berth), median(peer)];
  return { name, unit, better, berth: round(ours), peer: round(theirs), ratio: round(ours / theirs) };
}

export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function spread(values: readonly number[]): string {
  return `${format(median(values))} (${format(Math.min(...values))} to ${format(Math.max(...values))})`;
}

function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}

/** Runs both sides in turn, `warmups` uncounted, then `runs` counted pairs. */
export async function inPairs(
  options: { readonly runs: number; readonly warmups?: number },
  berth: (run: number) => Promise<number>,
  peer: (run: number) => Promise<number>,
): Promise<{ berth: number[]; peer: number[] }> {
  const result = { berth: [] as number[], peer: [] as number[] };
  const { runs, warmups = 1 } = options;
  for (let run = -warmups; run < runs; run += 1) {
    const ours = await berth(run);
    const theirs = await peer(run);
    if (run < 0) continue;
    result.berth.push(ours);
    result.peer.push(theirs);
  }
  return result;
}

export async function timedMs(body: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await body();
  return performance.now() - start;
}
