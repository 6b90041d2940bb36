/** What the engine did, for metrics: one line per operation, however it ended. */

export type OperationName =
  | "pull_image"
  | "create_container"
  | "start_container"
  | "stop_container"
  | "remove_container"
  | "attach_network"
  | "collect_garbage"
  | "exec_sync";

export interface OperationObserver {
  operation(name: OperationName, seconds: number, failed: boolean): void;
}

export const noObserver: OperationObserver = { operation() {} };

export async function observed<T>(
  observer: OperationObserver,
  name: OperationName,
  body: () => Promise<T>,
): Promise<T> {
  const begun = performance.now();
  let failed = true;
  try {
    const result = await body();
    failed = false;
    return result;
  } finally {
    observer.operation(name, (performance.now() - begun) / 1_000, failed);
  }
}
