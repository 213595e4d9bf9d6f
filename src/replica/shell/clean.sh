# shellcheck shell=sh disable=SC2154 # variables shared with core.sh and prepare.sh
# What backup/ and deleted/ have kept long enough. Expects core.sh, look.sh.

# aged BACKUP_DAYS DELETED_DAYS: for each with days, records ended by NUL: of what has not
# changed for longer (paths from the work directory), then '#' and the first lines of the two
# records of arrivals, whether there is one of an older version, and how many bytes both hold.
# The first record is '=' and the seconds of now.
do_aged() {
  printf '=%s\000' "$(date +%s)"
  enter_work || { printf '#\000\000\000\000%s\000.\000' '0 0' && return 0; }
  [ "$1" -eq 0 ] || aged backup "$1"
  enter_work || return 1
  [ "$2" -eq 0 ] || aged deleted "$2"
  enter_work || return 1
  printf '#\000'
  first_of backup
  printf '\000'
  first_of deleted
  printf '\000'
  [ ! -f ./arrivals ] || printf 'older'
  printf '\000'
  { { sizes_in backup && sizes_in deleted; } || echo unknown; } | add_up
  printf '\000.\000'
}

# sizes_in KEEP: of every file in it, a line.
sizes_in() {
  if [ -L "./$1" ] || [ ! -d "./$1" ]; then return 0; fi
  case $style in
    gnu) find "./$1" -type f -printf '%s\n' ;;
    stat) find "./$1" -type f -exec stat -c %s {} + ;;
    *) find "./$1" -type f -exec stat -f %z {} + ;;
  esac 2>/dev/null
}

# The sum of such lines, as millions and the rest: some shells count no further than 2^31.
# Nothing, if one of them is no number.
add_up() {
  millions=0 rest=0 whole=yes
  while IFS= read -r size; do
    case $size in
      '' | *[!0-9]*) whole='' ;;
      ???????*)
        millions=$((millions + ${size%??????}))
        # a number that begins with 0 would be an octal one
        rest=$((rest + 1${size#"${size%??????}"} - 1000000))
        ;;
      *) rest=$((rest + size)) ;;
    esac
    if [ "$rest" -ge 1000000 ]; then
      millions=$((millions + 1)) rest=$((rest - 1000000))
    fi
  done
  [ -z "$whole" ] || printf '%s %s' "$millions" "$rest"
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

# first KEEP: the first line of its record that says something, or nothing.
first_of() {
  if [ -L "./$1.arrivals" ] || [ ! -f "./$1.arrivals" ]; then return 0; fi
  while IFS= read -r line; do
    [ -z "$line" ] || { printf '%s' "$line" && return 0; }
  done <"./$1.arrivals"
}

# record backup|deleted all|protected: its record, then a NUL and what an older version
# recorded for both.
do_record() {
  case $1 in backup | deleted) ;; *) return 1 ;; esac
  enter_work || return 0
  if [ -f "./$1.arrivals" ] && [ ! -L "./$1.arrivals" ]; then
    case $2 in
      protected)
        # whoever asked looks more closely
        while IFS= read -r line; do
          case $line in [0-9]*' '[pP]' '*) printf '%s\n' "$line" || return 1 ;; esac
        done <"./$1.arrivals"
        ;;
      *) cat <"./$1.arrivals" || return 1 ;;
    esac
  fi
  printf '\000'
  if [ -f ./arrivals ] && [ ! -L ./arrivals ]; then cat ./arrivals || return 1; fi
}

# note backup|deleted add|replace: the data are lines for its record. With none, it goes.
do_note() {
  case $1 in backup | deleted) ;; *) return 1 ;; esac
  enter_work || return 1
  rm -f "./$1.arrivals.new"
  if [ "$2" = add ] && [ -f "./$1.arrivals" ] && [ ! -L "./$1.arrivals" ]; then
    echo >>"./$1.arrivals" || return 1
    while datum; do printf '%s\n' "$datum" || return 1; done >>"./$1.arrivals"
    return
  fi
  while datum; do printf '%s\n' "$datum" || return 1; done >"./$1.arrivals.new"
  if [ -s "./$1.arrivals.new" ]; then
    mv -f "./$1.arrivals.new" "./$1.arrivals"
  else
    rm -f "./$1.arrivals.new" "./$1.arrivals"
  fi
}

# older: what an older version recorded means nothing any more.
do_older() {
  enter_work || return 0
  rm -f ./arrivals
}
