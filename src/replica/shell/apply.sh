# shellcheck shell=sh disable=SC2154,SC2034 # variables shared with core.sh, and by eval
# Changing things. Expects core.sh, prepare.sh, look.sh.
#
# Operations come in groups: same directory, same kind. Each entry is looked at again
# right before it is changed, a hundred of them with one command; what is no longer what
# was scanned is left alone. Each is answered, in order, by one line: 'o' done, 'c'
# changed, 'v' vanished, 'b' something else is there already, 'n' not empty, or 'f', what
# was tried, a colon and the system's words.

# The names of a group are n_1, n_2 and so on, their expected looks e_1 and so on, further names t_1 and so on,
# their answers r_1 and so on.
do_apply() {
  set_links "${1-}"
  count=0 act='' why='' here='' dest_of='' expect='' extra='' links_to_dirs=''
  [ "$links" != dirs ] || links_to_dirs=yes
  while next_line; do
    case $line in
      '>'*)
        flush
        decode "${line#>}"
        here=$datum
        enter_or_why "$here"
        ;;
      '*'*)
        flush
        user='' group='' kept='' access='' default=''
        # shellcheck disable=SC2086 # our own words
        set -- ${line#?}
        act=$1 first=$2 second=$3 third=$4 fourth=${5-}
        case $act in '' | *[!a-z]*) return 1 ;; esac
        ;;
      'K'*) decode "${line#K}" && kept=$datum ;;
      'A'*) decode "${line#A}" && access=$datum ;;
      'D'*) decode "${line#D}" && default=$datum ;;
      'U'*) decode "${line#U}" && user=$datum ;;
      'G'*) decode "${line#G}" && group=$datum ;;
      ':'*) expect=${line#:} ;;
      '@'*) decode "${line#@}" && extra=$datum ;;
      .)
        flush
        return 0
        ;;
      *)
        entry "$line" || return 1
        case $act:$extra in
          rename:* | attr:*) ;;
          *:*/*) return 1 ;;
        esac
        count=$((count + 1))
        eval "n_$count=\$datum e_$count=\$expect t_$count=\$extra r_$count="
        [ "$count" -lt 100 ] || flush
        ;;
    esac
  done
  return 1
}

flush() {
  [ "$count" -gt 0 ] || return 0
  case $why:$links:$act in
    link:dirs:meta | link:dirs:mtime | link:dirs:attr)
      # metadata takes nothing away: it also reaches behind a link
      if enter_to_look "$here"; then "act_$act"; else all_answer v; fi
      ;;
    :*)
      open_here
      "act_$act"
      close_here
      ;;
    gone:*) all_answer v ;;
    link:*) all_answer 'f reach it:a directory above it is a symbolic link, and nothing is changed behind one but by rsync' ;;
    *) all_answer 'f enter its directory:Permission denied' ;;
  esac
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "printf '%s\n' \"\${r_$i:-o}\""
  done
  count=0
}

# A directory of ours that may not be written is opened for the time being. This is only
# ever done to the directory we are in: its name may lead elsewhere by now.
open_here() {
  if open_dir; then opened=$mode; else opened=; fi
}

close_here() {
  [ -z "$opened" ] || { enter "$here" && chmod "$opened" .; }
}

# open_dir: whether this directory may not be written and has been opened; $mode is what it
# had.
open_dir() {
  [ ! -w . ] || return 1
  case $style in
    gnu) mode=$(find . -maxdepth 0 -printf %m) ;;
    stat) mode=$(stat -c %a .) ;;
    bsd) mode=$(stat -f %Lp .) ;;
  esac
  [ -n "$mode" ] && chmod u+w . 2>/dev/null
}

# below NAME: its path from the root, for an entry of $here.
below() {
  if [ -n "$here" ]; then below=$here/$1; else below=$1; fi
}

# move ./NAME TO: '..' of a directory changes, so one that may not be written is opened for
# the time being. TO is in a directory that is held.
move() {
  if is_no_dir "$1" || [ -w "$1" ]; then
    mv_new "$1" "$2"
    return
  fi
  below "${1#./}"
  if ! { enter "$below" && open_dir; }; then
    enter "$here" && mv_new "$1" "$2"
    return
  fi
  hold 9
  enter "$here" && mv_new "$1" "$2"
  moved=$?
  # the directory itself, wherever it is now
  if [ -n "$is_held" ]; then
    chmod "$mode" "$held_at/." 9<&9
  elif [ "$moved" -eq 0 ]; then
    (cd -P "$2" && chmod "$mode" .)
  else
    (cd -P "$1" && chmod "$mode" .)
  fi
  return "$moved"
}

all_answer() {
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "r_$i=\$1"
  done
}

# failed ACTION WORDS: an answer on one line, with the system's words only.
failed() {
  words=${2%%"$nl"*}
  answer="f $1:${words##*: }"
}

# one COMMAND...: runs it for the name at $i, which is added to it, and answers $i with
# 'f' and $doing if it fails.
one() {
  eval "name=\$n_$i"
  if ! words=$("$@" "./$name" 7<&7 8<&8 9<&9 2>&1); then
    failed "$doing" "$words"
    eval "r_$i=\$answer"
  fi
}

# many COMMAND...: runs it once with all names that have no answer yet, silently.
many() {
  i=0 going=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i"
    [ -z "$answer" ] || continue
    set -- "$@" "./$name"
    going=$((going + 1))
  done
  [ "$going" -eq 0 ] || "$@" 7<&7 8<&8 9<&9 >/dev/null 2>&1
}

# check: answers 'v' for what is not there and 'c' for what looks otherwise than expected.
check() {
  set --
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "name=\$n_$i"
    if is_there "$name"; then set -- "$@" "./$name"; else eval "r_$i=v"; fi
  done
  [ $# -gt 0 ] || return 0
  looks=$(look "$@")
  i=0 lines=0
  while IFS= read -r now; do
    lines=$((lines + 1))
    to_next_unanswered
    compare_look
  done <<LOOKS
$looks
LOOKS
  # if one vanished just now, the lines do not belong to the names as we thought
  [ "$lines" -eq $# ] || check_singly
}

to_next_unanswered() {
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i"
    [ -n "$answer" ] || return 0
  done
}

compare_look() {
  eval "expect=\$e_$i"
  case $now in
    "$expect"*) eval "r_$i=" ;;
    *) eval "r_$i=c" ;;
  esac
}

check_singly() {
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "name=\$n_$i"
    now=$(look "./$name")
    if [ -n "$now" ]; then compare_look; else eval "r_$i=v"; fi
  done
}

# again COMMAND...: for each name without an answer that is still there, tries the command
# on it alone, for its complaint.
again() {
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i"
    if [ -z "$answer" ] && is_there "$name"; then one "$@"; fi
  done
}

# through_links ANSWER: metadata of a link that counts as a directory (KEEP_DIRLINKS) is that
# of the directory. What a copied link points at (COPY_SYMLINKS) is left as it is.
through_links() {
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i"
    if [ -n "$answer" ] || ! follows "./$name"; then continue; fi
    case $links in
      dirs) eval "n_$i=\$name/." ;;
      *) eval "r_$i=\$1" ;;
    esac
  done
}

not_through='f change what a link points at:Operation not supported (COPY_SYMLINKS)'

act_remove() {
  check
  case $first in
    dir)
      doing='remove the directory'
      many rmdir
      again rmdir
      i=0
      while [ "$i" -lt "$count" ]; do
        i=$((i + 1))
        eval "answer=\$r_$i name=\$n_$i"
        case $answer in f*) [ -z "$(ls -A "./$name" 2>/dev/null)" ] || eval "r_$i=n" ;; esac
      done
      ;;
    *)
      doing='remove it'
      many rm -f
      again rm -f
      ;;
  esac
}

# mkdir MODE: a directory that is there already is fine. Where others may put a link in its
# place meanwhile, it gets its mode from inside.
act_mkdir() {
  doing='make the directory'
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "name=\$n_$i"
    if [ -L "./$name" ]; then
      eval "r_$i=b"
    elif [ -d "./$name" ]; then
      eval "r_$i=o"
    elif [ -e "./$name" ]; then
      eval "r_$i=b"
    fi
  done
  if ! ours; then
    i=0
    while [ "$i" -lt "$count" ]; do
      i=$((i + 1))
      eval "answer=\$r_$i name=\$n_$i"
      [ -z "$answer" ] || continue
      one mkdir -m 700
      eval "answer=\$r_$i"
      below "$name"
      if [ -z "$answer" ] && ! { enter "$below" && chmod "$first" .; } 2>/dev/null; then eval "r_$i=c"; fi
      enter "$here" || return
    done
    return
  fi
  many mkdir -m "$first"
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i"
    if [ -z "$answer" ] && [ ! -d "./$name" ]; then one mkdir -m "$first"; fi
  done
}

# safely COMMAND...: runs a command that follows links, for all names that have no answer
# yet. Where only we and root can exchange what is here, on the names themselves. Elsewhere
# they are first linked into a directory that nobody else can enter, and looked at there: a
# file that is no link, and the one that was scanned, cannot become another one any more.
# Directories get it from inside.
safely() {
  if ours; then
    many "$@" || again "$@"
    return
  fi
  i=0 files=
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i expect=\$e_$i"
    [ -z "$answer" ] || continue
    case $name in
      */.)
        # a link that counts as a directory; metadata takes nothing away
        one "$@"
        ;;
      *)
        if [ -d "./$name" ] && [ ! -L "./$name" ]; then
          below "$name"
          answer=c
          if enter "$below" && still_is .; then
            answer=
            words=$("$@" . 2>&1) || failed "$doing" "$words"
          fi
          eval "r_$i=\$answer"
          enter "$here" || return
        else
          files=yes
        fi
        ;;
    esac
  done
  [ -z "$files" ] || in_private "$@"
  enter "$here"
}

# still_is ./NAME: whether it looks as the entry at $i was expected to.
still_is() {
  case $(look_as -P "$1") in "$expect"*) return 0 ;; esac
  return 1
}

# in_private COMMAND...: for what has no answer yet.
in_private() {
  if ! hold_private; then
    i=0
    while [ "$i" -lt "$count" ]; do
      i=$((i + 1))
      eval "answer=\$r_$i expect=\$e_$i"
      case $answer:$expect in :d\ *) ;; :*) eval "r_$i=\$cannot" ;; esac
    done
    return
  fi
  many into_private
  cd -P "$private_place" && at "$private_place" || return
  looks=$(
    set --
    i=0
    while [ "$i" -lt "$count" ]; do
      i=$((i + 1))
      eval "answer=\$r_$i name=\$n_$i"
      if [ -z "$answer" ] && is_there "$name"; then set -- "$@" "./$name"; fi
    done
    [ $# -eq 0 ] || look_as -P "$@"
  )
  i=0 left=$looks$nl
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i expect=\$e_$i"
    [ -z "$answer" ] || continue
    # directories have had theirs
    case $expect in 'd '*) continue ;; esac
    if ! is_there "$name"; then
      eval "r_$i=\$cannot"
      continue
    fi
    now=${left%%"$nl"*} left=${left#*"$nl"}
    case $now in "$expect"*) [ ! -L "./$name" ] || eval "r_$i=c" ;; *) eval "r_$i=c" ;; esac
  done
  many "$@" || again "$@"
  enter_work && rm -rf "./private.$$"
}
cannot='f change it:others may write to its directory, and nothing on this machine can do it there without following a link that they put in its place; with an osync on that machine (REMOTE_OSYNC) it is done'

into_private() {
  ln "$@" "$private/" 9<&9
}

# hold_private: $private is a path to a directory that only we can enter, in the work
# directory; it goes with this shell.
hold_private() {
  enter_work || return 1
  sweep_private
  # what it held last time is gone from it
  rm -rf "./private.$$"
  mkdir -m 700 "./private.$$" 2>/dev/null || return 1
  cd -P "./private.$$" && ours || return 1
  hold 9
  private=$held_at private_place=$PWD has_private=yes
  enter "$here"
}

sweep_private() {
  [ -z "$has_private" ] || return 0
  set +f
  for left in ./private.*; do
    if [ -d "$left" ] && [ ! -L "$left" ] && ! kill -0 "${left##*.}" 2>/dev/null; then rm -rf "$left"; fi
  done
  set -f
}

# meta MODE UID GID, '-' for what stays; names in $user and $group outrank numbers. Owners
# first, because changing them takes the setuid bits away.
act_meta() {
  check
  through_links "$not_through"
  for owner in "${user:-$second}:${group:-$third}" "$second:$third"; do
    case $owner in
      -:-) break ;;
      -:*) owner=${owner#-} ;;
      *:-) owner=${owner%:-} ;;
    esac
    doing='change the owner'
    if many chown -h "$owner"; then break; fi
    [ "$owner" = "$second:$third" ] || [ -z "$user$group" ] || continue
    again chown -h "$owner"
    break
  done
  [ "$first" != - ] || return 0
  # chmod would follow it
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i"
    if [ -z "$answer" ] && [ -L "./$name" ]; then eval "r_$i=c"; fi
  done
  doing='change the permissions'
  safely chmod "$first"
}

# mtime: the further name is '@SECONDS.NANOS YYYY-MM-DDThh:mm:ss.nanosZ YYYYMMDDhhmm.ss'.
act_mtime() {
  check
  through_links o
  doing='set its time'
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i times=\$t_$i"
    [ -z "$answer" ] || continue
    # shellcheck disable=SC2086 # our own words
    set -- $times
    # -c: what is gone by now is not made anew
    touch -c -h -m -d "$1" "./$name" 2>/dev/null \
      || touch -c -h -m -d "$2" "./$name" 2>/dev/null \
      || touch -c -h -m -d "${1%.*}" "./$name" 2>/dev/null \
      || { TZ=UTC0 && export TZ && touch -c -h -m -t "$3" "./$name" 2>/dev/null; } \
      || touch_following "$@"
    unset TZ
  done
}

# touch_following: where touch knows no -h. The time of a link stays as it is.
touch_following() {
  unset TZ
  if [ -L "./$name" ] && [ -z "$links_to_dirs" ]; then return 0; fi
  if ours; then
    touch -c -m -d "$2" "./$name" 2>/dev/null || { TZ=UTC0 && export TZ && one touch -c -m -t "$3"; }
  elif [ -d "./$name" ] && [ ! -L "./$name" ]; then
    below "${name%/.}"
    { enter "$below" && { touch -c -m -d "$2" . || TZ=UTC0 touch -c -m -t "$3" .; }; } 2>/dev/null \
      || eval "r_$i='f set its time:Permission denied'"
    enter "$here"
  else
    eval "r_$i=\$cannot"
  fi
}

# rename: the further name is the new path. Nothing may be there, and no link on its way.
act_rename() {
  check
  doing='rename it'
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i to=\$t_$i"
    [ -z "$answer" ] || continue
    case $to in
      */*) parent=${to%/*} ;;
      *) parent= ;;
    esac
    if ! enter "$parent"; then
      eval "r_$i='f rename it:the directory of the new name is not there'"
    elif is_there "${to##*/}" && ! is_itself; then
      eval "r_$i=b"
    else
      if open_dir; then parent_mode=$mode; else parent_mode=; fi
      hold 7
      if enter "$here" && ! words=$(move "./$name" "$held_at/${to##*/}" 7<&7 2>&1); then
        failed "$doing" "$words"
        eval "r_$i=\$answer"
      elif [ -z "$proc" ] && ! { enter "$parent" && is_there "${to##*/}"; }; then
        eval "r_$i='f rename it:its new directory was exchanged meanwhile'"
      fi
      [ -z "$parent_mode" ] || { enter "$parent" && chmod "$parent_mode" .; }
    fi
    enter "$here"
  done
}

# is_itself: whether what is at the new name in this directory is the entry $name itself,
# because the file system takes both spellings for one: then only one of them is listed.
is_itself() {
  [ "$parent" = "$here" ] && is_there "$name" || return 1
  set +f
  itself=no
  for listed in ./* ./.*; do
    case $listed in
      "./$name") [ "$itself" = other ] || itself=yes ;;
      "./${to##*/}") itself=other ;;
    esac
  done
  set -f
  [ "$itself" = yes ]
}

# Where mv can, it also refuses by itself to go into or over something.
mv_new() {
  if [ -z "$mv_options" ]; then
    mv_options=-f
    case $(mv --help 2>&1) in *-T*) mv_options=-fT ;; esac
  fi
  mv "$mv_options" "$1" "$2" 7<&7 8<&8 9<&9
}
mv_options=

# aside KEEP replace|keep SUFFIX: into backup/ or deleted/, into the directory $kept there.
# What is kept there under that name already gets the further name, or goes if it is to be
# replaced.
act_aside() {
  check
  doing='set it aside'
  if ! can_leave || ! make_dest "$first" "$third"; then
    i=0
    while [ "$i" -lt "$count" ]; do
      i=$((i + 1))
      eval "answer=\$r_$i"
      [ -n "$answer" ] || eval "r_$i=\$dest_answer"
    done
    return
  fi
  i=0 now=
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i older=\$t_$i"
    if [ -z "$answer" ] && ! { clear_place "$name" "$older" && note_arrival "$name"; }; then
      eval "r_$i='f set it aside:cannot make room for it in the work directory'"
    fi
  done
  many into_dest
  again one_into_dest
}

# Where nothing can be removed, as on a read-only mount, mv would copy across to another file
# system first, and leave the copy behind.
can_leave() {
  if [ -w . ] || words=$(chmod u+w . 2>&1); then return 0; fi
  failed "$doing" "$words"
  dest_answer=$answer
  return 1
}

into_dest() {
  mv -f "$@" "$dest/" 8<&8
}

one_into_dest() {
  move "$1" "$dest/${1#./}"
}

# clear_place NAME OLDER: in $dest. A file replaces a file in one step, by mv.
clear_place() {
  [ -L "$dest/$1" ] || [ -e "$dest/$1" ] || return 0
  if [ "$second" = replace ] && is_file "$dest/$1" && is_file "./$1"; then return 0; fi
  rename_older "$dest/$1" "$dest/$2"
}

is_no_dir() {
  [ -L "$1" ] || [ ! -d "$1" ]
}

# A directory that comes whole keeps the times inside it, so its arrival is written down.
note_arrival() {
  if is_no_dir "./$1"; then return 0; fi
  [ -n "$now" ] || now=$(date +%s)
  enter_work || return 1
  # nobody but us can put a link there
  [ ! -L ./arrivals ] && printf '%s %s\000' "$now" "$dest_place/$1" >>./arrivals
  noted=$?
  enter "$here" && return "$noted"
}

# rename_older PATH NEW: and a number if that is taken too.
rename_older() {
  newer=$2 number=0
  while [ -e "$newer" ] || [ -L "$newer" ]; do
    number=$((number + 1))
    newer=$2.$number
  done
  mv_new "$1" "$newer" 2>/dev/null
}

# make_dest KEEP SUFFIX: makes the directory $kept in backup/ or deleted/, without following
# a link on the way, and holds it: $dest is the way to it, $dest_place its path from the
# work directory. Directories are made like those they stand for, as far as we may.
make_dest() {
  case $1 in backup | deleted) ;; *) return 1 ;; esac
  dest_place=$1${kept:+/$kept}
  [ "$dest_of" != "$dest_place" ] || return 0
  dest_of='' dest_answer='f set it aside:cannot make its place in the work directory'
  if ! enter_work; then
    dest_answer='f set it aside:the work directory is not ours alone any more'
    enter "$here"
    return 1
  fi
  if [ -L "./$1" ]; then
    dest_answer="f set it aside:$1 in the work directory is a symbolic link"
    enter "$here"
    return 1
  fi
  rest=$dest_place/ done='' way=.osync_workdir
  while [ -n "$rest" ]; do
    part=${rest%%/*}
    rest=${rest#*/}
    way=$way/$part
    [ "$way" = ".osync_workdir/$1" ] || done=${done:+$done/}$part
    if [ -L "./$part" ] || { [ -e "./$part" ] && [ ! -d "./$part" ]; }; then
      rename_older "./$part" "./$part$2"
    fi
    new=
    if [ ! -d "./$part" ]; then
      if ! words=$(mkdir -m 700 "./$part" 2>&1); then
        failed "$doing" "$words"
        dest_answer=$answer
        enter "$here"
        return 1
      fi
      new=yes
    fi
    if ! { cd -P "./$part" 2>/dev/null && at "$base/$way"; }; then break; fi
    if [ "$way" = ".osync_workdir/$1" ] && ! ours; then
      dest_answer="f set it aside:$1 in the work directory is not ours alone"
      break
    fi
    if [ -n "$new" ] && [ -n "$done" ]; then imitate "$done"; fi
  done
  if at "$base/.osync_workdir/$dest_place"; then
    hold 8
    dest=$held_at dest_of=$dest_place
  fi
  enter "$here" && [ -n "$dest_of" ]
}

# imitate DIR: the directory we are in becomes like that one of the replica.
imitate() {
  if [ -L "$base/$1" ] || [ ! -d "$base/$1" ]; then return 0; fi
  case $style in
    gnu) like=$(find "$base/$1" -maxdepth 0 -printf '%m %U:%G') ;;
    stat) like=$(stat -c '%a %u:%g' "$base/$1") ;;
    bsd) like=$(stat -f '%Lp %u:%g' "$base/$1") ;;
  esac
  # group bits mean the group, so without the right one only our own bits count
  chown "${like#* }" . 2>/dev/null && chmod "${like%% *}" . && chmod u+rwx .
}

# room KEEP replace|keep SUFFIX file|other: for what rsync will put into the directory $kept
# there, under this name.
act_room() {
  if ! make_dest "$first" "$third"; then
    dest_answer="f make room for its backup:${dest_answer#*:}"
    all_answer "$dest_answer"
    return
  fi
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "name=\$n_$i older=\$t_$i"
    [ -L "$dest/$name" ] || [ -e "$dest/$name" ] || continue
    if [ "$second$fourth" = replacefile ] && is_file "$dest/$name"; then continue; fi
    rename_older "$dest/$name" "$dest/$older" \
      || eval "r_$i='f make room for its backup:cannot rename what is there'"
  done
}

is_file() {
  [ ! -L "$1" ] && [ -f "$1" ]
}

# copy KEEP keep SUFFIX: into the directory $kept of backup/, under the further name.
act_copy() {
  check
  doing='copy it to backup/'
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i to=\$t_$i"
    [ -z "$answer" ] || continue
    if ! make_dest "$first" "$third"; then
      eval "r_$i=\$dest_answer"
    elif [ -L "./$name" ] || [ ! -f "./$name" ]; then
      eval "r_$i=c"
    elif { [ -L "$dest/$to" ] || [ -e "$dest/$to" ]; } \
      && ! rename_older "$dest/$to" "$dest/$to$third"; then
      eval "r_$i='f copy it to backup/:cannot make room for it there'"
    elif ! words=$(cp -pP "./$name" "$dest/$to" 8<&8 2>&1); then
      failed "$doing" "$words"
      eval "r_$i=\$answer"
    fi
  done
}
