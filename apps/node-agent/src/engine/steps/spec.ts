/** `config.json` and the files of /etc, from the image's config and the plan. Undo: they go with the bundle. */
import { copyFile } from "node:fs/promises";
import { StatusError } from "@berth/base";
import type { Attachment } from "@berth/network";
import { generateSpec, hostNameservers, writeEtcFiles, writeSpec } from "@berth/runtime";
import type { Container } from "../container.ts";
import type { Step, StepDeps } from "./step.ts";

export function specStep({ host }: Pick<StepDeps, "host">): Step {
  return {
    name: "spec",
    failure: "InvalidSpec",
    async run({ container, facts }) {
      const { image, attachment } = facts;
      if (image === undefined || attachment === undefined) {
        throw new StatusError("INTERNAL", "spec step ran before the image and network steps");
      }
      const etc = await etcOf(container, attachment);
      const spec = await generateSpec({
        image: image.config,
        container: container.plan.container,
        rootfs: container.rootfs,
        hostname: container.plan.hostname,
        ...(attachment.netnsPath === undefined ? {} : { netnsPath: attachment.netnsPath }),
        cgroupPath: container.cgroupPath,
        etc,
        host: await host(),
        annotations: { "io.berth.namespace": container.namespace, "io.berth.task": container.name },
      });
      await writeSpec(container.bundle, spec);
    },
    async undo() {},
  };
}

async function etcOf(container: Container, attachment: Attachment): ReturnType<typeof writeEtcFiles> {
  const names = attachment.mode === "bridge" ? await hostNameservers() : { nameservers: [] };
  const { hostname } = container.plan;
  const etc = await writeEtcFiles(container.bundle, { hostname, addresses: attachment.addresses, ...names });
  // In the host's own network its resolver works as it stands, also one on a loopback address.
  if (attachment.mode === "host") await copyFile("/etc/resolv.conf", etc.resolvConf).catch(() => {});
  return etc;
}
