#!/bin/sh
# Pauses one process for a time (`berth drill pause`) and lets it go on, whatever becomes of anybody else. Run by the agent that is to
# be paused, before it is, in a cgroup of its own. Usage: sh pause.sh PID START_TICKS CENTISECONDS; "go" on standard input begins it.
#
# What holds:
#  1. Only the process with this pid that started at START_TICKS is signalled (field 22 of /proc/PID/stat): another that got the pid
#     later is not it, and an agent that was started again meanwhile is not paused.
#  2. Two processes wait for the end, by CLOCK_BOOTTIME (/proc/uptime), and each lets it go on: killing one of them changes nothing.
#  3. Without "go" (its agent ended first) nothing happens.
#
# Only builtins and sleep(1) are used. All of it is read before it begins (main at the end).

set -u

now() {
  read -r uptime _ </proc/uptime
  now_cs=${uptime%.*}${uptime#*.}
}

is_it() {
  { read -r stat <"/proc/$pid/stat"; } 2>/dev/null || return 1
  # The second field is a name in parentheses, and may hold anything: count from its last parenthesis.
  set -- ${stat##*) }
  [ "${20}" = "$ticks" ]
}

go_on() {
  now
  until [ "$now_cs" -ge "$until_cs" ]; do
    left=$((until_cs - now_cs))
    [ "$left" -lt 100 ] || left=100
    sleep "$((left / 100)).$((left / 10 % 10))$((left % 10))"
    is_it || return 0
    now
  done
  is_it && kill -CONT "$pid"
}

main() {
  pid=$1 ticks=$2
  trap '' HUP INT TERM
  { echo -900 >/proc/self/oom_score_adj; } 2>/dev/null || :
  echo ready
  read -r word || exit 0
  [ "$word" = go ] || exit 0
  now
  until_cs=$((now_cs + $3))
  go_on &
  is_it || exit 0
  kill -STOP "$pid"
  go_on
}

main "$@"
exit
