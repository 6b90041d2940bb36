/** `berthd doctor` */
import { StatusError } from "@berth/base";
import { formatTable, type Column } from "@berth/base/terminal";
import { runDoctor } from "../doctor/doctor.ts";
import type { Finding } from "../doctor/finding.ts";
import { localContext } from "./local.ts";
import type { GlobalOptions } from "./options.ts";
import type { Session } from "./session.ts";

const COLUMNS: readonly Column<Finding>[] = [
  { heading: "STATUS", cell: ({ status }) => status },
  { heading: "CHECK", cell: ({ check }) => check },
  { heading: "DETAIL", cell: ({ detail }) => detail },
];

export interface DoctorOptions {
  readonly quiet?: boolean;
}

/** Fails when something fails, so that scripts see it. */
export async function doctor(session: Session, globals: GlobalOptions, { quiet }: DoctorOptions): Promise<void> {
  const { config, path } = await localContext(session, globals);
  const findings = await runDoctor({ config, path, signal: session.signal });
  const shown = quiet === true ? findings.filter(({ status }) => status !== "ok") : findings;
  if (session.json) session.out(JSON.stringify(shown, null, 2));
  else {
    if (shown.length > 0) session.stdout.write(formatTable(COLUMNS, shown, { wide: false }));
    for (const { check, remedy } of shown) if (remedy !== undefined) session.out(`${check}: ${remedy}`);
  }
  const failed = findings.filter(({ status }) => status === "fail");
  if (failed.length === 0) return;
  const names = failed.map(({ check }) => check).join(", ");
  throw new StatusError("INTERNAL", `${failed.length} of ${findings.length} checks fail: ${names}`, {
    reason: "DOCTOR_FAILED",
  });
}
