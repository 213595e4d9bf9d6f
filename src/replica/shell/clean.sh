# shellcheck shell=sh disable=SC2154 # variables shared with core.sh and prepare.sh
# What backup/ and deleted/ have kept long enough. Expects core.sh, look.sh.

# aged BACKUP_DAYS DELETED_DAYS: for each with days, records ended by NUL: of what has not
# changed for longer (paths from the work directory), then '#' and the arrivals, each
# ended by NUL: 'SECONDS NAME/PATH'. The first record is '=' and the seconds of now.
do_aged() {
  printf '=%s\000' "$(date +%s)"
  enter_work || { printf '#\000\000.\000' && return 0; }
  [ "$1" -eq 0 ] || aged backup "$1"
  enter_work || return 1
  [ "$2" -eq 0 ] || aged deleted "$2"
  enter_work || return 1
  printf '#\000'
  if [ -f ./arrivals ] && [ ! -L ./arrivals ]; then cat ./arrivals || return 1; fi
  printf '\000.\000'
}

# Of directories only those that are empty or become so are removed, so all are told that
# are old enough or hold something that is.
aged() {
  if [ -L "./$1" ] || [ ! -d "./$1" ]; then return 0; fi
  case $style in
    gnu)
      find "./$1" -mindepth 1 -ctime "+$2" -printf '%y %m %U %G %D %i %n %s %T@ %C@ %B@/%p//%l\0'
      ;;
    *) find "./$1" ! -path "./$1" -ctime "+$2" -exec sh -c "$describe_aged" "$style" "$facts" {} + ;;
  esac 2>/dev/null
}

# For another sh that find starts: its arguments are names. Targets of links do not matter.
# shellcheck disable=SC2016
describe_aged='
facts=$1
shift
for name do
  case $0 in
    stat) line=$(stat -c "$facts" "$name") ;;
    *) line=$(stat -f "$facts" "$name") ;;
  esac
  [ -z "$line" ] || printf "%s/%s//\000" "$line" "$name"
done'

# arrivals: replaces the record; the data are its entries.
do_arrivals() {
  enter_work || return 1
  rm -f ./arrivals.new
  while datum; do printf '%s\000' "$datum" || return 1; done >./arrivals.new
  if [ -s ./arrivals.new ]; then mv -f ./arrivals.new ./arrivals; else rm -f ./arrivals ./arrivals.new; fi
}
