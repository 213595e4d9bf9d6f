# shellcheck shell=sh disable=SC2154 # variables shared with core.sh
# Runs a command of the user's. Expects core.sh.

# hook LIMIT: the data are the command and variables, NAME=VALUE each. What it printed,
# then NUL and its status, or 'timeout'. It is ended, with its children, after LIMIT
# seconds (0: never), when the other end says 'enough', and when the connection is lost.
do_hook() {
  limit=$1
  datum && command=$datum || return 1
  set --
  while datum; do set -- "$@" "$datum"; done
  make_scratch 2>&1 || return 1
  # what follows happens in there, whatever becomes of its name
  enter_scratch || { echo 'the directory for temporary files was exchanged' && return 1; }
  rm -rf ./timeout ./enough ./said
  apart=
  if command -v setsid >/dev/null 2>&1; then apart=setsid; fi
  # its output goes to a file, so that a service it leaves behind holds no connection open
  : >./said
  # osync 1.3 has bash run it
  hook_shell='bash'
  if ! command -v bash >/dev/null 2>&1; then
    hook_shell='sh'
    case $command in
    *'[['* | *'<('* | *'>('* | *'&>'* | *'(('*)
      echo 'osync: there is no bash here: sh runs this command' >./said ;;
    esac
  fi
  {
    cd "$start" 2>/dev/null || cd /
    exec $apart env "$@" "$hook_shell" -c "$command"
  } </dev/null >>./said 2>&1 3<&- 7<&- 8<&- 9<&- &
  hook=$!
  # each says that it has begun to end the hook before it does, so that it is not ended
  # itself in the middle of that
  {
    if [ "$limit" -gt 0 ]; then
      sleep "$limit" 3<&- 7<&- 8<&- 9<&-
      mkdir ./timeout && end_hook
    fi
  } >/dev/null 2>&1 &
  timer=$!
  {
    next_line || :
    mkdir ./enough && end_hook
  } >/dev/null 2>&1 &
  listener=$!
  wait "$hook"
  status=$?
  if [ -d ./timeout ]; then wait "$timer"; else end_family "$timer"; fi
  if [ -d ./enough ]; then wait "$listener"; else end_family "$listener"; fi
  cat ./said
  [ ! -d ./timeout ] || status=timeout
  printf '\000%s' "$status"
}

end_hook() {
  # those that ignore TERM lose their parent to it, so they are counted before
  [ -n "$apart" ] || descendants "$hook"
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
    # dash wants the dashes, BusyBox refuses them
    kill -s "$1" -- "-$hook" 2>/dev/null || kill -s "$1" "-$hook" 2>/dev/null
  else
    for process in $family; do kill -s "$1" "$process" 2>/dev/null; done
  fi
}

# It is gone when this returns: a listener that lives on would read what is asked next. Any other
# signal gets lost in a child that has not yet given up the traps of this shell.
end_family() {
  descendants "$1"
  for process in $family; do kill -s KILL "$process" 2>/dev/null; done
  wait "$1" 2>/dev/null
}

# descendants PID: sets $family to it and all below it, by what ps says.
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
}
