/** The named formats of `(berth.v1.rules).format`, as one table from name to check. */
import { StatusError } from "@berth/base";
import {
  capabilityProblem,
  envNameProblem,
  labelKeyProblem,
  nameProblem,
  nodeNameProblem,
  pathProblem,
  signalProblem,
} from "./names.ts";
import { parseCountOrPercent } from "./disruption.ts";
import { parseCpu, parseDisk, parseMemory } from "./quantity.ts";
import { parseImageReference } from "./reference.ts";
import { parseSelector } from "./selector.ts";

type Check = (text: string) => string | undefined;

/** undefined for a good value; otherwise a clause that names the value and says how to write it. */
export const FORMATS: Readonly<Record<string, Check>> = {
  name: named(nameProblem),
  "node-name": named(nodeNameProblem),
  image: parsed(parseImageReference),
  "quantity-cpu": parsed(parseCpu),
  "quantity-memory": parsed(parseMemory),
  "quantity-disk": parsed(parseDisk),
  "count-or-percent": parsed(parseCountOrPercent),
  "label-key": named(labelKeyProblem),
  selector: parsed(parseSelector),
  path: named(pathProblem),
  signal: named(signalProblem),
  capability: named(capabilityProblem),
  "env-name": named(envNameProblem),
};

function named(problem: Check): Check {
  return (text) => {
    const clause = problem(text);
    return clause === undefined ? undefined : `${JSON.stringify(text)} ${clause}`;
  };
}

/** A parser's own words, for a field whose value it refuses. */
function parsed(parse: (text: string) => unknown): Check {
  return (text) => {
    try {
      parse(text);
      return undefined;
    } catch (error) {
      return StatusError.from(error).message;
    }
  };
}
