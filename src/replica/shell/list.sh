# shellcheck shell=sh disable=SC2154 # variables shared with core.sh and prepare.sh
# Listing whole trees. Expects core.sh, prepare.sh, look.sh.
#
# A listing counts only as a whole: every status is looked at, the last record says how it
# ended, and a checksum and a count say what it is.

# list TOP: TOP and everything below it, one record a line on standard output, in the form
# $form (where it is find's). What does not fit a line (a line end in a path or in a link's
# target) stands behind '+', with its line ends as '\n' and its backslashes doubled. '!'
# before a record: it is there and cannot be read. $walk is -L, -H or nothing, $deref says
# the same to stat; further arguments are expressions of find that are always true. The
# status is that of what went worst.
#
# Without -printf it takes several walks. The first tells of every entry, so that none is
# missed that changes its kind between two; what the others tell of an entry counts more.
list() {
  top=$1 worst=0
  shift
  # nothing depends on these but moves, and what happened meanwhile the records tell
  [ -z "$births" ] || find ${walk:+"$walk"} "$top" -path ./.osync_workdir -prune -o "$@" \
    -type d -exec stat ${deref:+"$deref"} -c "$birth" {} + 2>/dev/null
  case $style in
    gnu)
      # GNU find writes out what it has before it runs a program, so lines stay whole
      case $walk in -L) deep=-L ;; *) deep= ;; esac
      find ${walk:+"$walk"} "$top" -path ./.osync_workdir -prune -o "$@" \
        \( \( -path "*$nl*" -o -lname "*$nl*" \) \
        -exec sh -c "$escaping$describe_odd" "$style" "$named." "$deep" {} + -o \
        \( -type f ! -perm -444 ! -readable -o \
        -type d ! -perm -555 ! \( -readable -executable \) \) -printf "!$form\\n" -o \
        -printf "$form\\n" \) || worst=$?
      return "$worst"
      ;;
    stat)
      find ${walk:+"$walk"} "$top" -path ./.osync_workdir -prune -o "$@" ! -path "*$nl*" \
        -exec stat ${deref:+"$deref"} -c "$facts/%n" {} + || worst=$?
      ;;
    bsd)
      find ${walk:+"$walk"} "$top" -path ./.osync_workdir -prune -o "$@" ! -path "*$nl*" \
        -exec stat ${deref:+"$deref"} -f "$facts/%N" {} + || worst=$?
      ;;
  esac
  find ${walk:+"$walk"} "$top" -path ./.osync_workdir -prune -o "$@" \
    \( -type l -o -path "*$nl*" \) \
    -exec sh -c "$escaping$describe_odd" "$style" "$facts" "$deref" {} + || worst=$?
  find ${walk:+"$walk"} "$top" -path ./.osync_workdir -prune -o "$@" \
    \( -type f ! -perm -444 -o -type d ! -perm -555 \) \
    -exec sh -c "$escaping$describe_closed" sh {} + || worst=$?
  return "$worst"
}

# list_whole TOP ARGUMENTS: the same, then what the programs complained about, each line
# behind '?', and the end: '~end' and the status. Complaints travel by a pipe and not by a
# file, so a full disk loses none. Where the lines are sorted, the end stays the last.
list_whole() {
  {
    complaints=$(list "$@" 2>&1 >&4 4>&-)
    worst=$?
  } 4>&1
  ifs=$IFS IFS=$nl
  for line in $complaints; do printf '?%s\n' "$line"; done
  IFS=$ifs
  echo "~end $worst"
}

# For another sh that find starts.
# shellcheck disable=SC2016
escaping='nl="
"
swap() {
  out= rest=$1
  while :; do
    case $rest in
      *"$2"*) out=$out${rest%%"$2"*}$3 rest=${rest#*"$2"} ;;
      *) break ;;
    esac
  done
  out=$out$rest
}
escape() {
  swap "$1" "\\" "\\\\"
  swap "$out" "$nl" "\\n"
}
'
# Its arguments are names, the first our way of looking.
# shellcheck disable=SC2016
describe_odd='
facts=$1 deref=$2
shift 2
untold=0
for name do
  deep=$deref
  [ -e "$name" ] || deep=
  case $0 in
    gnu) line=$(find ${deep:+"$deep"} "$name" -maxdepth 0 \( -type f ! -perm -444 ! -readable -o \
        -type d ! -perm -555 ! \( -readable -executable \) \) -printf "!$facts" -o -printf "$facts") ;;
    stat) line=$(stat ${deep:+"$deep"} -c "$facts" "$name" 2>/dev/null) ;;
    *) line=$(stat ${deep:+"$deep"} -f "$facts" "$name" 2>/dev/null) ;;
  esac
  if [ -z "$line" ]; then
    # gone since find saw it, or something is wrong
    if [ -e "$name" ] || [ -L "$name" ]; then untold=1; fi
    continue
  fi
  case $0 in
    gnu) line=${line%.} ;;
    *)
      target=.
      if [ -z "$deep" ] && [ -L "$name" ]; then
        target=$(readlink -n "$name" && echo .) || { untold=1 && continue; }
      fi
      line=$line/$name//${target%.}
      ;;
  esac
  escape "$line"
  printf "+%s\n" "$out"
done
[ "$untold" = 0 ] || { echo "an entry cannot be looked at" >&2 && exit 1; }'
# shellcheck disable=SC2016
describe_closed='
for name do
  if [ -f "$name" ] && [ -r "$name" ]; then continue; fi
  if [ -d "$name" ] && [ -r "$name" ] && [ -x "$name" ]; then continue; fi
  escape "$name"
  printf "+!/%s\n" "$out"
done'
# A record whose path begins with the name that find was given.
named='%y %m %U %G %D %i %n %s %T@ %C@ %B@/%p//%l'

# choose_links LINKS: find follows those that count as what they point at, if it notices
# circles, as POSIX asks for; BusyBox's does not. Else what lies behind links is asked for
# afterwards ('below behind').
choose_links() {
  set_links "${1-}"
  case ${1-}:$style in
    follow:stat) as -P ;;
    follow:*) as -L ;;
    behind:*) set_links dirs && as -P && as=-H ;;
    *) as -P ;;
  esac
  walk=$as
}

# scan LINKS WRITE KINDS SPACES (see attributes.sh): the data are the cache's path (or nothing), the checksum of what the
# other end has of it, user ids behind 'u', group ids behind 'g', then what need not be
# entered: names behind '=' or '%', paths behind '>'.
#
# The whole tree is always listed. Where both ends have the listing of the last run, only
# what differs from it is sent; the checksum of the new one shows whether that worked.
do_scan() {
  choose_links "$1"
  write=$2 kinds=$3 spaces=$4 form=$record
  datum && cache=$datum && datum && known=$datum || return 1
  owners='' prunes=0
  set --
  while next_line; do
    case $line in
      u* | g*) owners="$owners $line" && continue ;;
      '>'*) decode "${line#>}" && test=-path ;;
      .) break ;;
      *) decode "$line" && test=-name ;;
    esac
    if [ $# -eq 0 ]; then set -- \( -type d \(; else set -- "$@" -o; fi
    set -- "$@" "$test" "$datum"
    prunes=1
  done
  [ "$prunes" -eq 0 ] || set -- "$@" \) -prune -o -type d -o ! -type d \)
  enter '' || { echo 'cannot enter the directory' && return 1; }
  place_for_listing
  case $? in
    0) list_kept "$@" || return 1 ;;
    1) list_twice "$@" ;;
    *) return 1 ;;
  esac
  enter '' || return 1
  rest=$(
    say_owners "$owners"
    [ "$kinds" != none ] || exit 0
    echo '#attributes'
    choose "$kinds" "$spaces"
    tell ${walk:+"$walk"} . -path ./.osync_workdir -prune -o "$@"
    told
  ) || return 1
  say "$rest"
  sum=$(say "$rest" | checksum) || return 1
  echo "#rest $sum"
}

# printf is no part of some shells, and a command line is finite.
say() {
  printf '%s\n' "$1"
}
if [ -n "${KSH_VERSION-}" ]; then
  say() { print -r -- "$1"; }
fi

# Goes to where the listing can be written: the state directory, where it is kept; else a
# private one. $new is its name there, $old where the last one is, $keep whether it takes
# its place. 1: there is no such place; 2: one that is not safe, and why.
place_for_listing() {
  old=$cache keep='' new=./list
  if [ -n "$cache" ] && [ "$write" = write ]; then
    enter_state "${cache%/*}"
    case $? in
      0)
        old=./${cache##*/} keep=yes
        new=$old.new.$$
        # what a shell that was killed has left
        sweep_names "${old#./}.new."
        rm -f "$new"
        # it names private files
        if (umask 077 && set -C && printf '' >"$new") 2>/dev/null; then return 0; fi
        old='' keep='' new=./list
        ;;
      2) return 2 ;;
    esac
  fi
  make_scratch >/dev/null 2>&1 && enter_scratch || return 1
}

# list_kept ARGUMENTS: by way of the file $new in this directory. (Of three walks each may
# complain of the same.)
list_kept() {
  if ! words=$({ (enter '' && list_whole . "$@") | sort -u >"$new"; } 2>&1); then
    rm -f "$new"
    echo "its listing cannot be written: $words"
    return 1
  fi
  if ! { sum=$(checksum <"$new") && count=$(wc -l <"$new"); }; then
    rm -f "$new"
    echo 'its listing cannot be read again'
    return 1
  fi
  if [ -n "$known" ] && [ -f "$old" ] && [ ! -L "$old" ] \
    && [ "$(checksum <"$old")" = "$known" ] && can_compare; then
    echo '#changes'
    [ "$sum" = "$known" ] || compare
  else
    echo '#full'
    cat "$new"
  fi
  # shellcheck disable=SC2086 # a number, which some programs put spaces before
  echo "#sum $sum" $count
  if [ -z "$keep" ] || ! mv -f "$new" "$old" 2>/dev/null; then rm -f "$new"; fi
}

# list_twice ARGUMENTS: where nothing can be written. The checksum of a first listing proves
# the second.
list_twice() {
  sum=$(list_whole . "$@" | checksum) || return 1
  echo '#once'
  list_whole . "$@"
  echo "#sum $sum"
}

# diff keeps both files in memory: that is no good for long listings on a small machine.
can_compare() {
  if command -v comm >/dev/null 2>&1; then
    compare() { comm -3 "$old" "$new"; }
  elif command -v diff >/dev/null 2>&1 && [ "$(wc -c <"$new")" -lt 60000000 ]; then
    compare() { diff "$old" "$new"; }
  else
    return 1
  fi
}

# The names of owners, as far as this machine knows them.
say_owners() {
  # shellcheck disable=SC2086 # our own words
  for owner in $1; do
    name=
    case $owner in
      u*) name_of passwd "${owner#u}" ;;
      g*) name_of group "${owner#g}" ;;
    esac
    echo "#owner $owner $name"
  done
}

name_of() {
  if command -v getent >/dev/null 2>&1; then
    name=$(getent "$1" "$2")
    name=${name%%:*}
    return
  fi
  while IFS=: read -r name _ number _; do
    [ "$number" != "$2" ] || return 0
  done <"/etc/$1"
  name=
  [ "$1" = group ] || name=$(id -un "$2" 2>/dev/null)
}

do_owners() {
  owners=
  while next_line && [ "$line" != . ]; do owners="$owners $line"; done
  say_owners "$owners"
}

# below LINKS: the data are directories behind '>' and names in them. For each name a line
# '>' (or '<' and why its directory cannot be entered), then the listing of it and of all
# below it, as 'list_whole' tells it; of a name that is not there nothing but the end.
# 'behind': of links to directories, where the record of the entry itself may be that of
# the link.
do_below() {
  choose_links "$1"
  form=$named
  why=
  while next_line; do
    case $line in
      '>'*)
        decode "${line#>}"
        look_or_why "$datum"
        ;;
      .) return 0 ;;
      *)
        entry "$line" || return 1
        if [ -n "$why" ]; then
          echo "<$why"
        else
          echo '>'
          if is_there "$datum"; then list_whole "./$datum"; else echo '~end 0'; fi
        fi
        ;;
    esac
  done
  return 1
}

# devices LINKS: names of device nodes; a line 'MAJOR MINOR' in hexadecimal for each.
do_devices() {
  set_links "${1-}"
  why=
  while next_line; do
    case $line in
      '>'*)
        decode "${line#>}"
        look_or_why "$datum"
        ;;
      .) return 0 ;;
      *)
        entry "$line" || return 1
        numbers='' deref=
        if follows "./$datum"; then deref=-L; fi
        [ -n "$why" ] || numbers=$(stat ${deref:+"$deref"} -c '%t %T' "./$datum" 2>/dev/null)
        echo "${numbers:-0 0}"
        ;;
    esac
  done
  return 1
}
