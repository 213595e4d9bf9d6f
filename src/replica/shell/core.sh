# shellcheck shell=sh disable=SC2154 # $mark is set by a line before this
# The control shell's ground: framing, names, directories. Sent first, once a run.
#
# Everything that is a name comes as data on standard input, one a line, and is only ever
# used inside quotes; the few words of a request are ours. No name is shell text, an
# option or a pattern. Needs a POSIX shell, nothing else.
LC_ALL=C
export LC_ALL
unset CDPATH
set -f
nl='
'
root='' base='' held='' scratch='' has_private='' made_work='' cache=''
# What symbolic links count as: 'plain', themselves; 'dirs', those to directories as the
# directories (KEEP_DIRLINKS); 'follow', all as what they point at (COPY_SYMLINKS).
links=plain

# set_links WORD: a word that is none of those follows nothing.
set_links() {
  case ${1-} in
    dirs | follow) links=$1 ;;
    *) links=plain ;;
  esac
}

# Requests and data come on descriptor 3, so that no command can eat them.
next_line() {
  IFS= read -r line <&3
}

# Reads one line of data into $datum; fails at the end of the list. A name stands as it is
# behind '=', or, if it holds a line end, behind '%' in the form of printf's %b.
datum() {
  next_line && decode "$line"
}

decode() {
  case $1 in
    =*) datum=${1#=} ;;
    %*)
      datum=$(printf '%b.' "${1#%}")
      datum=${datum%.}
      ;;
    *) return 1 ;;
  esac
}

# Like 'decode', for what must be the name of one entry.
entry() {
  decode "$1" || return 1
  case $datum in */* | ..) return 1 ;; esac
}

# Some shells do not ask the kernel where a 'cd' has led, but put it together from the path
# and what stood there a moment ago. For these a program asks.
sure=yes
case ${BASH_VERSION-}${KSH_VERSION-}${ZSH_VERSION-} in ?*) sure='' ;; esac

# at PATH: whether this is where we are, by the word of the kernel.
at() {
  [ "$PWD" = "$1" ] || return 1
  [ -n "$sure" ] || [ "$(env pwd -P && echo .)" = "$1$nl." ]
}

# Goes to a directory of the replica, and nowhere if a link is on the way there. Entries
# are then named by themselves ('./name'): whatever happens to the way, this is the place.
enter() {
  cd -P "$root" 2>/dev/null || return 1
  if [ -z "$1" ]; then
    at "$root"
  else
    [ "$PWD" = "$root" ] && cd -P "./$1" 2>/dev/null && at "$base/$1"
  fi
}

# The same only to look: also through links, where these count as directories.
enter_to_look() {
  cd -P "$root" 2>/dev/null && [ "$PWD" = "$root" ] || return 1
  [ -n "$1" ] || return 0
  cd -P "./$1" 2>/dev/null || return 1
  [ "$links" != plain ] || [ "$PWD" = "$base/$1" ]
}

# hold NUMBER: keeps the directory we are in open, and sets $held_at to a path that leads to
# it whatever becomes of its name: by way of /proc, where there is one; else its name, and
# whoever uses it looks again afterwards ($is_held is empty then). Descriptors go on to
# programs only by a redirection of their own, in some shells.
# shellcheck disable=SC2034 # used by other pieces
hold() {
  held_at=$PWD is_held=''
  # a failed exec ends some shells
  [ -r . ] || return 0
  case $1 in
    7) exec 7<. ;;
    8) exec 8<. ;;
    9) exec 9<. ;;
  esac
  if [ -n "$proc" ]; then held_at=$proc/$1 is_held=yes; fi
}
# Whether an open directory can be reached by its number, and not only looked at.
proc=
for name in /proc/self/fd /dev/fd; do
  if [ -z "$proc" ] && (cd -P / && exec 7<. && cd -P "$name/7/." && at /) 2>/dev/null; then proc=$name; fi
done

# Whether nobody but root and us may exchange what is in the directory we are in.
ours() {
  [ -z "$modeless" ] || return 0
  [ -n "$(find . -prune \( -user "$uid" -o -user 0 \) ! -perm -020 ! -perm -002 -print 2>/dev/null)" ]
}

# mkdir_closed ./NAME: for us alone from the first moment. (The mkdir of BusyBox carries out -m by
# a chmod of the name, where a link may stand by then.)
mkdir_closed() {
  (umask 077 && mkdir "$1")
}

# Goes to the work directory. It is made for us alone, and must have stayed that.
enter_work() {
  enter .osync_workdir && ours
}

# The same, where it is made if it is missing. Says what is wrong.
make_work() {
  enter '' || { echo "$root: it cannot be entered any more" && return 1; }
  if ! is_there .osync_workdir; then
    mkdir_closed ./.osync_workdir 2>&1 || return 1
    made_work=yes
  fi
  # somebody may have made it or put another in its place since the greeting
  if [ -L ./.osync_workdir ] || ! enter .osync_workdir; then
    echo "$base/.osync_workdir: it is no real directory"
    return 1
  fi
  inspect .osync_workdir
}

# enter_state DIR: goes to a state directory, and makes it. 1: it cannot be had; 2: it is
# not safe.
enter_state() {
  if [ "$1" = "$base/.osync_workdir/state" ]; then
    enter_work || return 1
    [ -d ./state ] || mkdir_closed ./state 2>/dev/null || return 1
    cd -P ./state 2>/dev/null || return 1
    at "$1" && ours && return 0
  else
    # this way is of the user's making; links on it are meant
    [ -d "$1" ] || (umask 077 && mkdir -p "$1") 2>/dev/null || return 1
    cd -P "$1" 2>/dev/null || return 1
    ours && return 0
  fi
  echo "$1: it must be a real directory that belongs to this user or to root and that nobody else may write to"
  return 2
}

# checksum: of standard input, as one word.
checksum() {
  found=$("$checker") || return 1
  # shellcheck disable=SC2086 # words
  set -- $found
  case $checker in
    cksum) echo "$1-$2" ;;
    *) echo "$1" ;;
  esac
}

# sweep_names BEGINNING: removes files here whose name is this and the number of a process
# that is gone: what shells that were killed have left.
sweep_names() {
  set +f
  for left in "./$1"*; do
    case ${left##*.} in '' | *[!0-9]*) continue ;; esac
    if [ -f "$left" ] && ! kill -0 "${left##*.}" 2>/dev/null; then rm -f "$left"; fi
  done
  set -f
}

# A private directory for what a hook says, and for listings that have no other place. It
# goes with this shell; what a shell that was killed has left, the next one removes.
make_scratch() {
  [ -z "$scratch" ] || return 0
  for place in "${TMPDIR:-/tmp}" .osync_workdir; do
    if [ "$place" = .osync_workdir ]; then
      # a run that only looks makes none
      [ "$may_write" != write ] || make_work >/dev/null || continue
      enter_work || continue
    else
      cd -P "$place" 2>/dev/null || continue
    fi
    set +f
    for left in "./osync.$uid".*; do
      number=${left#"./osync.$uid."}
      number=${number%%.*}
      case $number in '' | *[!0-9]*) continue ;; esac
      if ! kill -0 "$number" 2>/dev/null \
        && [ -n "$(find "$left" -prune -type d -user "$uid" ! -perm -020 ! -perm -002 -print)" ]; then
        rm -rf "$left"
      fi
    done
    set -f
    if mkdir_closed "./osync.$uid.$$.$mark" 2>/dev/null; then
      scratch=$PWD/osync.$uid.$$.$mark
      return 0
    fi
  done
  echo 'there is no place for temporary files: neither /tmp nor the work directory can be written; set TMPDIR'
  return 1
}

# Goes to that directory, if nobody has exchanged what it lies in.
enter_scratch() {
  cd -P "$scratch" 2>/dev/null && at "$scratch" && ours
}

# Why that failed: 'gone' (nothing, or no directory, is there), 'link' (one that counts as
# a directory, but nothing is changed behind it), or 'denied'. It is only asked behind a
# failure, of 'enter' or, with 'look', of 'enter_to_look'.
why_not() {
  rest=$1/ through=
  if [ "${2-}" = look ] && [ "$links" != plain ]; then through=yes; fi
  cd -P "$root" 2>/dev/null || { why=denied && return; }
  while [ -n "$rest" ]; do
    part=${rest%%/*}
    rest=${rest#*/}
    if [ ! -d "./$part" ] || { [ -L "./$part" ] && [ -z "$through" ]; }; then
      why=gone
      if [ "$links" != plain ] && [ -d "./$part" ]; then why='link'; fi
      [ -x . ] || why=denied
      return
    fi
    cd -P "./$part" 2>/dev/null || { why=denied && return; }
  done
  why=gone
}

enter_or_why() {
  why=
  enter "$1" || why_not "$1"
  [ -z "$why" ]
}

look_or_why() {
  why=
  enter_to_look "$1" || why_not "$1" look
  [ -z "$why" ]
}

# follows NAME: whether it is a link that counts as what it points at.
follows() {
  [ -L "$1" ] || return 1
  case $links in
    dirs) [ -d "$1" ] ;;
    follow) [ -e "$1" ] ;;
    *) return 1 ;;
  esac
}

is_there() {
  [ -e "./$1" ] || [ -L "./$1" ]
}

# Adds a piece of script to what this shell knows.
do_load() {
  text=
  while next_line && [ "$line" != "$mark" ]; do
    text="$text$line$nl"
  done
  eval "$text"
}

# Only what this run made is taken away, and only if it is still that. This happens
# however the connection ends.
leave() {
  trap '' HUP INT TERM PIPE
  if [ -n "$scratch" ] && enter_scratch; then
    find . ! -name . -prune -exec rm -rf {} +
    rmdir "$scratch"
  fi >/dev/null 2>&1
  if [ -n "$has_private" ] && enter_work; then rm -rf "./private.$$"; fi >/dev/null 2>&1
  [ -z "$held" ] || drop_lock >/dev/null 2>&1
  # A run that was refused has given no identity. It leaves the replica as it was found, so that a
  # mount point can be removed.
  if [ -n "$made_work" ] && enter_work && ! is_there identity; then
    rm -f "./state/${cache##*/}"
    rmdir ./state
    enter '' && rmdir ./.osync_workdir
  fi >/dev/null 2>&1
}

drop_lock() {
  enter_work || return 1
  if [ "$(cat lock 2>/dev/null)" = "$held" ]; then
    rm -f lock.by && rm -f lock || return 1
  fi
  held=
}

do_unlock() {
  [ -z "$held" ] || drop_lock 2>&1
}

# Requests begin with the mark of this connection; anything else on the line is noise.
serve() {
  trap leave EXIT
  trap 'exit 1' HUP INT TERM PIPE
  exec 3<&0 </dev/null 7<&0 8<&0 9<&0
  while next_line; do
    case $line in
      "$mark "*) ;;
      *) continue ;;
    esac
    # shellcheck disable=SC2086 # our own words, without names among them
    set -- $line
    frame=$2
    asked=$3
    case $asked in '' | *[!a-z_]*) continue ;; esac
    shift 3
    printf '\n%s %s begin\n' "$mark" "$frame"
    "do_$asked" "$@"
    printf '\n%s %s end %s\n' "$mark" "$frame" "$?"
  done
}
