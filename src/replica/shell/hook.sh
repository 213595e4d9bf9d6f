# shellcheck shell=sh disable=SC2154 # variables shared with core.sh
# Runs a command of the user's. Expects core.sh, list.sh (for make_scratch).

# hook LIMIT: the data are the command and variables, NAME=VALUE each. What it printed,
# then NUL and its status, or 'timeout'. It is ended, with its children, after LIMIT
# seconds (0: never), when the other end says 'enough', and when the connection is lost.
do_hook() {
  limit=$1
  datum && command=$datum || return 1
  set --
  while datum; do set -- "$@" "$datum"; done
  make_scratch 2>&1 || return 1
  cd "$start" 2>/dev/null || cd /
  rm -f "$scratch/timeout" "$scratch/said"
  apart=
  if command -v setsid >/dev/null 2>&1; then apart=setsid; fi
  # its output goes to a file, so that a service it leaves behind holds no connection open
  $apart env "$@" sh -c "$command" </dev/null >"$scratch/said" 2>&1 3<&- &
  hook=$!
  {
    if [ "$limit" -gt 0 ]; then
      sleep "$limit" 3<&-
      : >"$scratch/timeout"
      end_hook
    fi
  } >/dev/null 2>&1 &
  timer=$!
  {
    next_line || :
    end_hook
  } <&3 >/dev/null 2>&1 &
  listener=$!
  wait "$hook"
  status=$?
  kill "$listener" 2>/dev/null
  # the timer's own child goes with it
  for process in $(descendants "$timer"); do kill "$process" 2>/dev/null; done
  cat "$scratch/said"
  [ ! -e "$scratch/timeout" ] || status=timeout
  printf '\000%s' "$status"
}

end_hook() {
  signal_hook TERM
  waited=0
  while [ "$waited" -lt 10 ] && kill -0 "$hook" 2>/dev/null; do
    sleep 1
    waited=$((waited + 1))
  done
  signal_hook KILL
}

# Its process group where it has one of its own, else all that descend from it.
signal_hook() {
  if [ -n "$apart" ]; then
    kill -s "$1" -- "-$hook" 2>/dev/null
  else
    for process in $(descendants "$hook"); do kill -s "$1" "$process" 2>/dev/null; done
  fi
}

# descendants PID: it and all below it, by what ps says.
descendants() {
  family=" $1 "
  processes=$(ps -A -o pid= -o ppid= 2>/dev/null || ps -o pid,ppid 2>/dev/null)
  grown=yes
  while [ -n "$grown" ]; do
    grown=
    while read -r child parent; do
      case $family in
        *" $child "*) ;;
        *" $parent "*)
          family="$family$child "
          grown=yes
          ;;
      esac
    done <<PROCESSES
$processes
PROCESSES
  done
  echo "$family"
}
