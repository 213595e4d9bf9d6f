# shellcheck shell=sh disable=SC2154 # variables shared with core.sh
# The lock, the identity and other small files of the work directory. Expects core.sh.

# write_file NAME CONTENT: at every moment it is the old or the new one.
write_file() {
  rm -f "./$1.new.$$"
  printf '%s\n' "$2" >"./$1.new.$$" && mv -f "./$1.new.$$" "./$1"
}

# show NAME: a small file's content, ended by NUL; nothing more if it is not there.
show() {
  if [ -L "./$1" ]; then
    printf 'link'
  elif [ -f "./$1" ]; then
    printf 'file'
    dd bs=4096 count=1 <"./$1" 2>/dev/null | tr '\000' '\001'
  elif [ -e "./$1" ]; then
    printf 'other'
  fi
  printf '\000'
}

# lock: the data are the lock's content and lock.by's; a third is the content of a lock
# that does not count any more. Answers 'taken' with the time of the new lock and then the
# identity, or 'found' and what was found. The lock
# appears whole (by a hard link), and never over another one. lock.by stands before it,
# so that nobody finds a lock without knowing whose it is; it names the lock it is for.
do_lock() {
  datum && content=$datum || return 1
  datum && by=$datum || return 1
  judged=
  if datum; then
    judged=$datum
    datum
  fi
  make_work || return 1
  if [ -n "$judged" ]; then
    remove_judged || return 1
  fi
  if ! is_there lock; then
    write_file lock.by "$by" 2>&1 && write_file "lock.mine.$$" "$content" 2>&1 || return 1
    if ln "./lock.mine.$$" ./lock 2>/dev/null || appear; then
      held=$content
    fi
    rm -f "./lock.mine.$$"
    if [ -n "$held" ]; then
      # another run that came too late may have replaced it
      [ "$(cat ./lock.by)" = "$by" ] || write_file lock.by "$by" 2>&1 || return 1
      sweep
      echo "taken $(time_of_lock)"
      # what was said at the beginning may be another run's past by now
      cat ./identity 2>/dev/null
      return 0
    fi
    is_there lock || { echo "$PWD/lock: cannot be made" && return 1; }
  fi
  echo found
  show lock
  show lock.by
}

# What time it is by the file system's own clock, which need not be the machine's.
time_of_lock() {
  case $style in
    gnu) find ./lock -prune -printf '%C@' 2>/dev/null ;;
    stat) stat -c %Z ./lock 2>/dev/null ;;
    bsd) stat -f %c ./lock 2>/dev/null ;;
  esac
}

# What shells that were killed have left half made: theirs are the numbers of processes
# that are gone.
sweep() {
  for left in lock.new. lock.by.new. lock.mine. lock.old. identity.new. arrivals.new.; do
    sweep_names "$left"
  done
  rm -f ./arrivals.new ./backup.arrivals.new ./deleted.arrivals.new
}

# For file systems without hard links: the shell makes a new file or fails.
appear() {
  if is_there lock; then return 1; fi
  (set -C && printf '%s\n' "$content" >./lock) 2>/dev/null
}

# It is renamed first and looked at again: if it has become another one, it goes back.
remove_judged() {
  is_there lock || return 0
  mv -f ./lock "./lock.old.$$" 2>&1 || return 1
  if [ -f "./lock.old.$$" ] && [ "$judged" != forced ] \
    && [ "$(tr -d '\000' <"./lock.old.$$")" != "${judged#lock }" ]; then
    ln "./lock.old.$$" ./lock 2>/dev/null
  fi
  [ -d "./lock.old.$$" ] || rm -f "./lock.old.$$"
}

# set_run (with flush.sh): the data are how the line of this task begins, and the line. The others stay.
do_set_run() {
  datum && key=$datum && datum && text=$datum || return 1
  datum
  enter_work || { echo "$base/.osync_workdir: cannot enter it" && return 1; }
  new=
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in
      "$key"* | '') ;;
      *) new="$new$line$nl" ;;
    esac
  done <./identity
  [ -n "$new" ] || { echo 'there is no identity' && return 1; }
  write_file identity "$new$text" 2>&1 && flush_here
}

do_set_identity() {
  datum || return 1
  text=$datum
  datum
  make_work && write_file identity "$text" 2>&1
}
