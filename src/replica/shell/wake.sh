# shellcheck shell=sh disable=SC2154,SC2034 # variables shared with core.sh
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
  if ours; then
    (printf '%s\n' "$text" >>./.osync-update.push) 2>&1
    return
  fi
  # Others could put a link there in the meantime. A file that is moved into a directory under its own
  # name takes the place of such a link: mv does not follow it there.
  enter_work || { echo "$base/.osync_workdir: it is not there, or not ours alone" && return 1; }
  has_private=yes
  {
    rm -rf "./private.$$"
    mkdir_closed "./private.$$" && cd -P "./private.$$" && printf '%s\n' "$text" >./.osync-update.push \
      && hold 9 && enter '' && mv -f "$held_at/.osync-update.push" ./ 9<&9
  } 2>&1
}
