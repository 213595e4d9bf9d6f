# shellcheck shell=sh disable=SC2154 # variables shared with core.sh
# Waiting until what was written is on the disk. Expects core.sh.

# flush WORD: the data are directories, one on each file system that has to be flushed.
# Answers 'done', or 'missing' where nothing can do it. A sync that knows of file systems
# also tells when that failed; any other flushes all the machine has.
do_flush() {
  set_links "${1-}"
  way=
  case $(sync --help 2>&1) in *' -f'*) way=-f ;; esac
  if ! command -v sync >/dev/null 2>&1; then
    way=missing
  elif [ -z "$way" ]; then
    sync 2>&1 || return 1
  fi
  while datum; do
    # one that is gone since has nothing to be flushed
    if [ "$way" = -f ] && enter_to_look "$datum"; then
      sync -f . 2>&1 || return 1
    fi
  done
  if [ "$way" = missing ]; then echo missing; else echo 'done'; fi
}
