/** A line diff (longest common subsequence) with three lines of context, for `berth diff`. Inputs are a resource long. */
import type { Paint } from "@berth/base/terminal";

export interface DiffLine {
  readonly mark: " " | "+" | "-";
  readonly text: string;
}

export function diffLines(before: readonly string[], after: readonly string[]): DiffLine[] {
  const table = commonLengths(before, after);
  const result: DiffLine[] = [];
  let [i, j] = [0, 0];
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      result.push({ mark: " ", text: before[i]! });
      i += 1;
      j += 1;
    } else if (j >= after.length || (i < before.length && table[i + 1]![j]! >= table[i]![j + 1]!)) {
      result.push({ mark: "-", text: before[i]! });
      i += 1;
    } else {
      result.push({ mark: "+", text: after[j]! });
      j += 1;
    }
  }
  return result;
}

/** Changed lines with their context; empty when nothing changed. */
export function formatHunks(lines: readonly DiffLine[], paint: Paint, context = 3): string {
  const near = lines.map((_, index) =>
    lines.slice(Math.max(0, index - context), index + context + 1).some((line) => line.mark !== " "),
  );
  let text = "";
  lines.forEach(({ mark, text: line }, index) => {
    if (!near[index]) {
      if (near[index - 1]) text += `${paint.dim("  …")}\n`;
      return;
    }
    const shown = `${mark} ${line}`;
    text += `${mark === "+" ? paint.green(shown) : mark === "-" ? paint.red(shown) : shown}\n`;
  });
  return text;
}

/** lengths[i][j]: the longest common subsequence of before[i..] and after[j..]. */
function commonLengths(before: readonly string[], after: readonly string[]): number[][] {
  const lengths = Array.from({ length: before.length + 1 }, () =>
    Array.from<number>({ length: after.length + 1 }).fill(0),
  );
  for (let i = before.length - 1; i >= 0; i -= 1) {
    for (let j = after.length - 1; j >= 0; j -= 1) {
      lengths[i]![j] =
        before[i] === after[j] ? lengths[i + 1]![j + 1]! + 1 : Math.max(lengths[i + 1]![j]!, lengths[i]![j + 1]!);
    }
  }
  return lengths;
}
