/** Work that does not go on: tasks without a node or that fail, rollouts, jobs, cron jobs, campaigns. Pure. */
import type { Finding } from "@berth/proto";
import type { CampaignTrouble, CronTrouble, JobTrouble, RolloutTrouble, Trouble } from "@berth/store";
import { counted, finding, sinceOf, type FindingInit } from "./finding.ts";
import type { FleetReadings } from "./readings.ts";

export function workFindings(input: FleetReadings): Finding[] {
  const { unplaceable, failing, rollouts, jobs, cronJobs, campaigns } = input;
  const failed = new Set(jobs.map(({ namespace, name }) => `${namespace}/${name}`));
  // Tasks of a job that failed are told of with it.
  const others = failing.filter(({ namespace, workload }) => !failed.has(`${namespace}/${workload}`));
  return [
    ...rollouts.map(rolloutFinding),
    ...jobs.map(jobFinding),
    ...cronJobs.map(cronFinding),
    ...campaigns.map(campaignFinding),
    ...unplaceable.map(unplaceableFinding),
    ...others.map(failingFinding),
  ];
}

function rolloutFinding(trouble: RolloutTrouble): Finding {
  const { namespace, name, phase, revision, target, done, desired, message, since } = trouble;
  const berth = `berth -n ${namespace} rollout`;
  const far = `${done} of ${desired} done`;
  const about = { subject: `workload/${namespace}/${name}`, count: Math.max(0, desired - done), ...sinceOf(since) };
  const told = (reason: string, text: string, verb: string): Finding =>
    finding({ ...about, area: reason === "RolloutPaused" ? "held" : "stuck", reason, message: text, hint: `${berth} ${verb} ${name}` }); // prettier-ignore
  switch (phase) {
    case "Paused":
      return told("RolloutPaused", `the rollout of revision ${revision} is paused: ${far}`, "resume");
    case "RollingBack":
      return told("RollingBack", `revision ${revision} failed, going back to ${target} (${far}): ${message}`, "status");
    case "RolledBack":
      return told("RolledBack", `revision ${revision} failed; its tasks are back at ${target}, the spec is not: ${message}`, "undo"); // prettier-ignore
    case "Failed":
      return told("RolloutFailed", `the rollout of revision ${revision} has failed (${far}): ${message}`, "status");
    default:
      return told("RolloutStalled", `the rollout of revision ${revision} gets no further: ${far}`, "status");
  }
}

function jobFinding({ namespace, name, cronJob, message, since }: JobTrouble): Finding {
  const of = cronJob === "" ? "the job" : `the newest run of cron job ${cronJob}`;
  const about = { area: "stuck", reason: "JobFailed", subject: `workload/${namespace}/${name}`, count: 1 } as const;
  const hint = `berth -n ${namespace} logs ${name}`;
  return finding({ ...about, message: `${of} has failed for good: ${message}`, ...sinceOf(since), hint });
}

function cronFinding({ namespace, name, missed, message, since }: CronTrouble): Finding {
  const text =
    missed === 0
      ? "it is due, and no controller has looked at it"
      : `${counted(missed, "time", "times in a row")} did not begin a run: ${message}`;
  const about = { area: "stuck", reason: "CronJobMisses", subject: `cronjob/${namespace}/${name}` } as const;
  const hint = `berth -n ${namespace} describe cronjob ${name}`;
  return finding({ ...about, message: text, count: missed, ...sinceOf(since), hint });
}

function campaignFinding({ namespace, name, targets, failed, node, message, since }: CampaignTrouble): Finding {
  const first = node === "" ? "" : `; ${node}: ${message}`;
  const text = `the campaign has failed: ${failed} of ${targets} targets${first}`;
  const about = { area: "stuck", reason: "CampaignFailed", subject: `campaign/${namespace}/${name}` } as const;
  const hint = `berth -n ${namespace} describe campaign ${name}`;
  return finding({ ...about, message: text, count: failed, ...sinceOf(since), hint });
}

function unplaceableFinding(trouble: Trouble): Finding {
  const { namespace, name, count, message } = trouble;
  return finding({
    ...about(trouble),
    area: "stuck",
    reason: "Unplaceable",
    message: `${counted(count, "task")} without a node: ${message}`,
    hint: `berth -n ${namespace} explain task ${name}`,
  });
}

function failingFinding(trouble: Trouble): Finding {
  const { namespace, name, count, reason, message, failures, forGood } = trouble;
  const pulls = reason === "ImagePullFailed";
  const loops = count === 1 ? "fails again and again" : "fail again and again";
  const what = pulls ? "cannot get the image" : forGood ? "failed for good" : loops;
  const times = failures > 0 ? ` (${failures} in a row)` : "";
  const why = [reason, message].filter((part) => part !== "").join(": ");
  return finding({
    ...about(trouble),
    area: "stuck",
    reason: pulls ? "PullFailing" : forGood ? "Failed" : "CrashLoop",
    message: `${counted(count, "task")} ${what}${times}: ${why}`,
    hint: pulls ? `berth -n ${namespace} describe task ${name}` : `berth -n ${namespace} logs --previous ${name}`,
  });
}

function about({ namespace, workload, count, since }: Trouble): FindingInit {
  return { subject: `workload/${namespace}/${workload}`, count, ...sinceOf(since) };
}
