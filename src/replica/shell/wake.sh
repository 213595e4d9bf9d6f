# shellcheck shell=sh disable=SC2154 # variables shared with core.sh
# Waking the monitor of the initiator. Expects core.sh.

# wake: the data are the line that is appended to the trigger file. A link or a fifo there
# is not written to.
do_wake() {
  datum && text=$datum || return 1
  datum
  enter '' || { echo "$root: cannot enter it" && return 1; }
  if [ -L ./.osync-update.push ] || { is_there .osync-update.push && [ ! -f ./.osync-update.push ]; }; then
    echo "$base/.osync-update.push: it is no regular file"
    return 1
  fi
  (printf '%s\n' "$text" >>./.osync-update.push) 2>&1
}
