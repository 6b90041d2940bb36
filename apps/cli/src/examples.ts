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
