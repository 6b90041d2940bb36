/** `berth restart`. */
import { TaskService } from "@berth/proto";
import type { Session } from "../session.ts";

export async function restart(session: Session, task: string): Promise<void> {
  const client = session.client(TaskService);
  const name = task.replace(/^task\//, "");
  await client.restartTask({ namespace: session.namespace(), name });
  session.out(`task/${name} ${session.paint.green("restarting")}`);
}
