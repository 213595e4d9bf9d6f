# shellcheck shell=sh disable=SC2154 # variables shared with core.sh
# Waiting until what was written is on the disk. Expects core.sh.

# flush WORD: the data are directories, one on each file system that has to be flushed.
# Answers 'done', or 'missing' where nothing can do it. A sync that knows of file systems
# also tells when that failed; any other flushes all the machine has.
do_flush() {
  set_links "${1-}"
  find_sync
  if [ "$way" = all ]; then sync 2>&1 || return 1; fi
  while datum; do
    # one that is gone since has nothing to be flushed
    if [ "$way" = one ] && enter_to_look "$datum"; then
      sync -f . 2>&1 || return 1
    fi
  done
  if [ "$way" = missing ]; then echo missing; else echo 'done'; fi
}

# find_sync: sets way to what there is: a sync of 'one' file system, of 'all', or 'missing'.
find_sync() {
  way=missing
  command -v sync >/dev/null 2>&1 || return 0
  case $(sync --help 2>&1) in *' -f'*) way=one ;; *) way=all ;; esac
}

# flush_here: the file system of this directory. Where nothing can do it, the flush of the whole
# run has said so.
flush_here() {
  find_sync
  case $way in
    one) sync -f . 2>&1 ;;
    all) sync 2>&1 ;;
  esac
}
