/** What `berth COMMAND --help` shows below the options, for commands whose use is not told by their options alone. */
export const STATUS_EXAMPLES = `
Examples:
  berth status                      one screen: what is uncertain, stuck or held, since when, and what to type next
  berth status --all                every finding of it
  berth status -o json | jq -r '.findings[] | [.reason, .subject] | @tsv'
  watch -c -n 5 berth status`;

export const EXPLAIN_EXAMPLES = `
Examples:
  berth explain task web-7k2mq                    why it is there, or why it is nowhere
  berth explain task web-7k2mq --node node-3      everything for and against that node
  berth explain workload web                      its tasks that wait, in groups
  berth explain node node-3                       silent: when may its tasks be replaced, and by which rule?`;

export const ATTACH_EXAMPLES = `
Examples:
  berth attach -it game                 a shell or a console; ctrl-p ctrl-q leaves it running
  berth attach web-7k2mq                what it says from now on; Ctrl-C ends the looking, not the task
  berth attach -i sum < numbers.txt     with stdinOnce, the end of the file is the end of its input`;

export const CP_EXAMPLES = `
Examples:
  berth cp nginx.conf web-7k2mq:/etc/nginx/       into a folder
  berth cp site/ web:/srv                         a folder, to the first running task of a workload
  berth cp web:/var/log/nginx logs                a folder out, under a new name
  berth cp web:/etc/hosts -                       print a file; of a folder, its tar archive`;

export const PORT_FORWARD_EXAMPLES = `
Examples:
  berth port-forward web 8080:80        http://127.0.0.1:8080 is port 80 of the task
  berth port-forward db-0 5432 :9187    the same port, and a free one (it is printed)`;

export const DRILL_EXAMPLES = `
Examples:
  berth drill partition -l berth.io/zone=z1 --for 1m --max-nodes 2 --dry-run
  berth drill pause -l rack=r7 --for 30s                 what is noticed, replaced and healed, and when
  berth drill kill -l berth.io/hostname=node-1           containers go on; something starts the agent again
  berth drill show partition-7k2mq                       the report, also after Ctrl-C`;

/** Of commands whose help has room for no more than what they are, by name. */
export const MORE_EXAMPLES: Readonly<Record<string, string>> = {
  rollout: `
Examples:
  berth rollout status web -w                     follow it; exit code 4 when it fails
  berth rollout history web
  berth rollout undo web --to-revision 3 --cause "slow start"
  berth rollout pause web                         hold it; berth rollout resume web lets it go on`,
  logs: `
Examples:
  berth logs -f web                     all of its tasks, also those that come later
  berth logs web-7k2mq --tail 100`,
  events: `
Examples:
  berth events -f --filter 'topic~=^/tasks/'      as they are stored
  berth events -A --filter severity==Warning --tail 50
  berth events --as-of 2h                         what was known two hours ago`,
  nodes: `
Examples:
  berth nodes -o wide                   versions, conditions, and when what a silent one ran may be replaced
  berth nodes -l zone=a --as-of 90m`,
  top: `
Examples:
  berth top nodes                       redrawn on a terminal
  berth top tasks -A --sort memory`,
  exec: `
Examples:
  berth exec -it web -- sh              in the first of its tasks that runs
  berth exec -i db-0 -- psql < dump.sql`,
  drain: `
Examples:
  berth drain node-1                    and follow it; Ctrl-C ends the looking, not the drain
  berth drain -l rack=r7 --deadline 10m --force
  berth uncordon node-1                 ends it`,
  taint: `
Examples:
  berth taint node node-1 gpu=yes:NoSchedule
  berth taint node node-1 broken:NoExecute        also stops what is there
  berth taint node node-1 gpu- broken:NoExecute-`,
  cronjob: `
Examples:
  berth cronjob run report --wait       now, whatever the clock says
  berth cronjob runs report`,
  webhook: `
Examples:
  berth webhook test ci                 a ping, and its answer
  berth webhook deliveries ci
  berth webhook rotate-secret ci --grace 24h`,
  journal: `
Examples:
  berth journal verify node-1
  berth journal acknowledge node-1 --reason 'disk replaced, INC-1234'`,
  store: `
Examples:
  berth store status                    which store this is, and for whom it waits after a restore
  berth store confirm EPOCH             what it does not name may be stopped
  berth store release EPOCH node-7      its host is off for good`,
};
