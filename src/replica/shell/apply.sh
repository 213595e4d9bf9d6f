# shellcheck shell=sh disable=SC2154,SC2034 # variables shared with core.sh, and by eval
# Changing things. Expects core.sh, prepare.sh, look.sh.
#
# Operations come in groups: same directory, same kind. Each entry is looked at again
# right before it is changed, a hundred of them with one command; what is no longer what
# was scanned is left alone. Each is answered, in order, by one line: 'o' done, 'c'
# changed, 'v' vanished, 'b' something else is there already, 'n' not empty, or 'f', what
# was tried, a colon and the system's words. What is kept now answers 'k', or 'u' if it is
# not what was scanned, and '+' and a number if an older version of its name got another one
# with that number behind it (0: none).

# The names of a group are n_1, n_2 and so on, their expected looks e_1 and so on, further names t_1 and so on,
# names under which they are kept k_1 and so on, their answers r_1 and so on.
do_apply() {
  set_links "${1-}"
  count=0 act='' why='' here='' dest_of='' expect='' extra='' title='' notes='' links_to_dirs=''
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
      '+'*) decode "${line#+}" && title=$datum ;;
      .)
        flush
        return 0
        ;;
      *)
        entry "$line" || return 1
        case $act:$extra$title in
          rename:* | attr:*) ;;
          *:*/*) return 1 ;;
        esac
        count=$((count + 1))
        eval "n_$count=\$datum e_$count=\$expect t_$count=\$extra k_$count=\${title:-\$datum} r_$count="
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

# remove dir|file RUN: a file is moved to the private place of this run and looked at there
# before it goes.
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
      if make_private "$second"; then
        many into_dest
        again one_into_dest
        moved_ones
        judge_moved
        (cd -P "$dest/." 2>/dev/null && at "$base/.osync_workdir/$dest_place" && many rm -f)
        keep_unseen
      else
        many rm -f
        again rm -f
      fi
      ;;
  esac
}

# make_private RUN: makes and holds the place of $here in the private place, as make_dest does;
# not if this is in the work directory itself, on another file system, or seen through links.
make_private() {
  case $1:$links:$here/ in
    *[!0-9.]*:*:* | :* | *:plain:.osync_workdir/*) return 1 ;;
    *:plain:*) ;;
    *) return 1 ;;
  esac
  dest_of='' dest_place=replaced/$1${here:+/$here}
  if enter_work; then
    rest=$dest_place/ way=.osync_workdir
    while [ -n "$rest" ]; do
      part=${rest%%/*}
      rest=${rest#*/}
      way=$way/$part
      if [ -L "./$part" ]; then break; fi
      [ -d "./$part" ] || mkdir_closed "./$part" 2>/dev/null || break
      if ! { cd -P "./$part" 2>/dev/null && at "$base/$way"; }; then break; fi
    done
  fi
  if ! at "$base/.osync_workdir/$dest_place"; then
    enter "$here"
    return 1
  fi
  hold 8
  dest=$held_at
  enter "$here" || return 1
  case $style in
    gnu) find . "$dest/." -maxdepth 0 -printf '%D\n' 8<&8 ;;
    stat) stat -c %d . "$dest/." 8<&8 ;;
    bsd) stat -f %d . "$dest/." 8<&8 ;;
  esac 2>/dev/null | {
    read -r one && read -r other && [ "$one" = "$other" ]
  }
}

# Answers 'v' for what somebody was quicker to take away.
moved_ones() {
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i"
    if [ -z "$answer" ] && [ ! -e "$dest/$name" ] && [ ! -L "$dest/$name" ]; then eval "r_$i=v"; fi
  done
}

# Looks at what was moved to $dest just now: where it is the same file and was edited since
# it was looked at, it goes back ('c'); where its name is taken by then, it stays ('u').
judge_moved() {
  set --
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i"
    [ -n "$answer" ] || set -- "$@" "$dest/$name"
  done
  [ $# -gt 0 ] || return 0
  looks=$(look_as -P "$@" 8<&8)
  i=0
  while IFS= read -r now; do
    to_next_unanswered
    eval "expect=\$e_$i name=\$n_$i"
    case $now in "$expect"*) continue ;; esac
    # another file system gave it another number
    [ "${now%"${now#* * }"}" = "${expect%"${expect#* * }"}" ] || continue
    eval "r_$i=u"
    if is_there "$name"; then continue; fi
    if mv_new "$dest/$name" "./$name" >/dev/null 2>&1; then eval "r_$i=c"; fi
  done <<LOOKS
$looks
LOOKS
}

# What was removed and is not what was seen is kept in backup/.
keep_unseen() {
  from=$base/.osync_workdir/$dest_place now=''
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i"
    [ "$answer" = u ] || continue
    suffix=$(date "+.%Y.%m.%d-%H.%M.%S")
    kept=$here
    if make_dest backup "$suffix" && clear_place "$from/$name" "$name" '' \
      && note_arrival p "$name" && write_notes && mv_new "$from/$name" "$dest/$name" >/dev/null 2>&1; then
      continue
    fi
    eval "r_$i='f remove it:it was edited meanwhile, and lies in .osync_workdir/replaced'"
  done
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
      one mkdir_closed
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
  mkdir_closed "./private.$$" 2>/dev/null || return 1
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
  set_times
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i times=\$t_$i"
    [ -z "$answer" ] || continue
    if [ "$were_set" -gt 0 ]; then
      were_set=$((were_set - 1))
      continue
    fi
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

# set_times: of all that has no answer, in one process, up to the first that does not work; tells in
# $were_set how many that are.
set_times() {
  were_set=0
  has_timing || return 0
  set --
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i times=\$t_$i"
    [ -n "$answer" ] || set -- "$@" "./$name" "${times%% *}"
  done
  if [ $# -gt 2 ]; then were_set=$(perl -e "$timing" -- "$@" 2>/dev/null); fi
  case $were_set in '' | *[!0-9]*) were_set=0 ;; esac
}

# A touch sets one time only. Perl's own utime has no nanoseconds, so this calls utimensat, which
# never follows a link here (256) and leaves the time of access (1073741822). It takes pairs of a name
# and a time, stops at the first that does not work, and tells how many did.
# shellcheck disable=SC2016 # variables of Perl's
timing='use Config;
my ($machine) = $Config{archname} =~ /^(\w+)-linux/ or exit 1;
my $number = {x86_64 => 280, aarch64 => 88, riscv64 => 88}->{$machine};
exit 1 if !$number or $Config{ptrsize} != 8;
my $done = 0;
while (my ($name, $time) = splice @ARGV, 0, 2) {
  my ($seconds, $nanos) = $time =~ /^@(\d+)\.(\d{9})$/ or last;
  last if syscall $number, -100, $name, pack("q4", 0, 1073741822, $seconds, $nanos), 256;
  $done++;
}
print $done;'
can_time=
has_timing() {
  if [ -z "$can_time" ]; then
    can_time=no
    if [ "$(perl -e "$timing" -- 2>/dev/null)" = 0 ]; then can_time=yes; fi
  fi
  [ "$can_time" = yes ]
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
  done_to=0
  while [ "$done_to" -lt "$count" ]; do
    done_to=$((done_to + 1))
    i=$done_to
    eval "answer=\$r_$i name=\$n_$i to=\$t_$i expect=\$e_$i"
    [ -z "$answer" ] || continue
    case $to in
      */*) parent=${to%/*} ;;
      *) parent= ;;
    esac
    # in this directory we are already
    if [ "$parent" != "$here" ] && ! enter "$parent"; then
      eval "r_$i='f rename it:the directory of the new name is not there'"
      enter "$here"
      continue
    fi
    if open_dir; then parent_mode=$mode; else parent_mode=; fi
    hold 7
    if [ "$parent" != "$here" ] && keeps_its_name; then
      rename_many
    elif ! rename_pairs; then
      rename_one
    fi
    [ -z "$parent_mode" ] || { enter "$parent" && chmod "$parent_mode" .; }
    [ "$parent" = "$here" ] || enter "$here"
  done
}

# rename_one: the entry at $i, to $to in the directory we are in, $parent.
rename_one() {
  if is_there "${to##*/}" && ! is_itself; then
    eval "r_$i=b"
    return
  fi
  new_place=$held_at/${to##*/}
  if [ "$parent" != "$here" ] && ! enter "$here"; then
    eval "r_$i='f rename it:its directory was exchanged meanwhile'"
    return
  fi
  # once more, for its words, if it does not work
  if ! { is_no_dir "./$name" && mv_new "./$name" "$new_place" >/dev/null 2>&1; } \
    && ! words=$(move "./$name" "$new_place" 7<&7 2>&1); then
    failed "$doing" "$words"
    eval "r_$i=\$answer"
  elif [ -z "$proc" ]; then
    check_came
  fi
}

# Whether the entry at $i, no directory, goes to $parent under its own name.
keeps_its_name() {
  case $expect in 'd '*) return 1 ;; esac
  [ "$to" = "${parent:+$parent/}$name" ]
}

# rename_many: what follows and keeps its name in the directory we are in, $parent, at once.
rename_many() {
  set --
  i=$((done_to - 1)) begin=$done_to
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i to=\$t_$i expect=\$e_$i"
    keeps_its_name || break
    done_to=$i
    [ -z "$answer" ] || continue
    if is_there "$name"; then eval "r_$i=b"; else set -- "$@" "./$name"; fi
  done
  if ! enter "$here"; then
    set --
  elif [ $# -gt 0 ] && mv -f "$@" "$held_at/" 7<&7 >/dev/null 2>&1 && [ -n "$proc" ]; then
    return
  fi
  i=$((begin - 1))
  while [ "$i" -lt "$done_to" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i to=\$t_$i"
    [ -z "$answer" ] || continue
    if ! enter "$here"; then
      eval "r_$i='f rename it:its directory was exchanged meanwhile'"
    elif is_there "$name" && ! words=$(mv_new "./$name" "$held_at/$name" 2>&1); then
      failed "$doing" "$words"
      eval "r_$i=\$answer"
    elif [ -z "$proc" ]; then
      check_came
    fi
  done
}

# rename_pairs: what follows and goes to the directory we are in, $parent, under whatever names, in
# one process; up to the first that does not work. 1: that is the first of all, or there is
# nothing to be gained.
rename_pairs() {
  [ -n "$is_held" ] && has_perl || return 1
  set --
  i=$((done_to - 1))
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i to=\$t_$i expect=\$e_$i"
    case $expect in 'd '*) break ;; esac
    [ "$to" = "${parent:+$parent/}${to##*/}" ] || break
    [ -n "$answer" ] || set -- "$@" "./$name" "$held_at/${to##*/}"
  done
  went=0
  if [ $# -gt 2 ] && enter "$here"; then
    went=$(perl -e "$renaming" -- "$@" 7<&7 2>/dev/null)
  fi
  i=$done_to
  eval "name=\$n_$i to=\$t_$i expect=\$e_$i"
  case $went in
    [1-9]*) ;;
    *)
      enter "$parent" && return 1
      eval "r_$i='f rename it:its new directory was exchanged meanwhile'"
      return
      ;;
  esac
  while [ "$went" -gt 0 ]; do
    eval "answer=\$r_$i"
    [ -n "$answer" ] || went=$((went - 1)) done_to=$i
    i=$((i + 1))
  done
}

# No tool of POSIX gives many files new names in one process. This takes pairs of names, stops at
# the first that does not work, and tells how many did.
# shellcheck disable=SC2016 # variables of Perl's
renaming='my $done = 0;
while (my ($from, $to) = splice @ARGV, 0, 2) {
  last if lstat $to or !rename $from, $to;
  $done++;
}
print $done;'
perl=
has_perl() {
  if [ -z "$perl" ]; then
    perl=no
    if [ "$(perl -e "$renaming" -- 2>/dev/null)" = 0 ]; then perl=yes; fi
  fi
  [ "$perl" = yes ]
}

# check_came: where a directory is not held by its number, whether the entry at $i is in it.
check_came() {
  if ! { enter "$parent" && is_there "${to##*/}"; }; then
    eval "r_$i='f rename it:its new directory was exchanged meanwhile'"
  fi
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

# mv_new FROM TO: TO is the new name itself, also where somebody has just put a link to a directory
# there. An mv without -T follows it: without one, perl moves what goes where others may write.
mv_new() {
  if [ -z "$mv_options" ]; then
    mv_options=-f
    case $(mv --help 2>&1) in *-T*) mv_options=-fT ;; esac
  fi
  if [ "$mv_options" = -fT ] || nobody_else_writes "${2%/*}"; then
    mv "$mv_options" "$1" "$2" 7<&7 8<&8 9<&9
  elif has_perl; then
    # shellcheck disable=SC2016 # variables of Perl's
    perl -e 'rename $ARGV[0], $ARGV[1] or die "$!\n"' -- "$1" "$2" 7<&7 8<&8 9<&9
  else
    echo 'others may write to its new directory, and mv on this machine follows a link that they put at the new name; install perl or an osync there, or let runs copy what was moved (DETECT_MOVES=no)' >&2
    return 1
  fi
}
mv_options=

nobody_else_writes() {
  (cd -P "$1/." && ours) 7<&7 8<&8 9<&9 2>/dev/null
}

# aside KEEP o|p SUFFIX: into backup/ or deleted/, into the directory $kept there, as an
# ordinary or a protected version. What is kept there under that name already gets the
# further name, which stands behind when it came and what it is; without one a file is
# replaced by a file.
act_aside() {
  check
  doing='set it aside'
  all_into_dest "$first" "$second" "$third" || return 0
  judge_moved
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i"
    if [ "$answer" = u ]; then note_arrival p "$name"; fi
  done
  write_notes
  tell_kept
}

# settle discard, or settle KEEP o|p SUFFIX: what lies in the private place goes, or is kept
# under its other name.
act_settle() {
  check
  if [ "$first" = discard ]; then
    doing='remove it'
    many rm -f
    again rm -f
    return
  fi
  doing='set it aside'
  all_into_dest "$first" "$second" "$third" || return 0
  tell_kept
}

# all_into_dest KEEP o|p SUFFIX
all_into_dest() {
  if ! can_leave || ! make_dest "$1" "$3"; then
    i=0
    while [ "$i" -lt "$count" ]; do
      i=$((i + 1))
      eval "answer=\$r_$i"
      [ -n "$answer" ] || eval "r_$i=\$dest_answer"
    done
    return 1
  fi
  suffix=$3 now='' renamed=
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\$r_$i name=\$n_$i to=\$k_$i older=\$t_$i o_$i="
    [ -z "$answer" ] || continue
    if clear_place "./$name" "$to" "$older"; then
      eval "o_$i=\$number"
      note_arrival "$2" "$to"
      [ "$to" = "$name" ] || renamed=yes
    else
      eval "r_$i='f set it aside:cannot make room for it in the work directory'"
    fi
  done
  if ! write_notes; then
    dest_answer='f set it aside:cannot note in the work directory that it came'
    i=0
    while [ "$i" -lt "$count" ]; do
      i=$((i + 1))
      eval "answer=\$r_$i"
      [ -n "$answer" ] || eval "r_$i=\$dest_answer"
    done
  elif [ -n "$renamed" ]; then
    i=0
    while [ "$i" -lt "$count" ]; do
      i=$((i + 1))
      eval "answer=\$r_$i"
      [ -n "$answer" ] || one into_other_name
    done
  else
    many into_dest
    again one_into_dest
  fi
}

# What has no answer is kept now.
tell_kept() {
  i=0
  while [ "$i" -lt "$count" ]; do
    i=$((i + 1))
    eval "answer=\${r_$i:-k} number=\$o_$i"
    case $answer in k | u) eval "r_$i=\$answer\${number:+\"+\$number\"}" ;; esac
  done
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

into_other_name() {
  eval "to=\$k_$i"
  move "$1" "$dest/$to"
}

# clear_place PATH NAME OLDER: what is to come, and its name in $dest. OLDER is 'SECONDS KIND
# NAME' of what is kept there already, or nothing; a file replaces a file in one step, by mv.
# Sets $number to the one behind the name that an older version got.
clear_place() {
  number=
  [ -L "$dest/$2" ] || [ -e "$dest/$2" ] || return 0
  if [ -n "$3" ]; then
    rest=${3#* }
    note_line "${3%% *}" "${rest%% *}" "${rest#* }" \
      && rename_older "$dest/$2" "$dest/${rest#* }"
    return
  fi
  if is_file "$dest/$2" && is_file "$1"; then return 0; fi
  rename_older "$dest/$2" "$dest/$2$suffix"
}

is_no_dir() {
  [ -L "$1" ] || [ ! -d "$1" ]
}

# note_arrival o|p NAME: written down before it comes. What nothing is known of counts by its
# ctime, and that of what lies in a directory says nothing.
note_arrival() {
  [ -n "$now" ] || now=$(date +%s)
  note_line "$now" "$1" "$2"
}

# note_line SECONDS KIND NAME: for the record of the directory that $dest_place is in.
note_line() {
  escape "${dest_place#"${dest_place%%/*}"}/$3"
  notes="$notes$nl$1 $2 ${escaped#/}"
}

# Adds what was noted to the record.
write_notes() {
  [ -n "$notes" ] || return 0
  arrivals_file=${dest_place%%/*}.arrivals
  enter_work || { enter "$here" && return 1; }
  # nobody but us can put a link there
  [ ! -L "./$arrivals_file" ] && printf '%s\n' "$notes" >>"./$arrivals_file"
  noted=$? notes=''
  enter "$here" && return "$noted"
}

# escape NAME: sets $escaped; a backslash becomes two, a line end a backslash and an n.
escape() {
  escaped='' tail=$1
  while :; do
    case $tail in
      *[\\"$nl"]*) ;;
      *)
        escaped=$escaped$tail
        return
        ;;
    esac
    head=${tail%%[\\"$nl"]*}
    tail=${tail#"$head"}
    case $tail in
      "$nl"*) escaped=$escaped$head'\n' ;;
      *) escaped="$escaped$head\\\\" ;;
    esac
    tail=${tail#?}
  done
}

# rename_older PATH NEW: and a number if that is taken too.
rename_older() {
  newer=$2 number=0
  while [ -e "$newer" ] || [ -L "$newer" ]; do
    number=$((number + 1))
    newer=$2.$number
  done
  mv_new "$1" "$newer" >/dev/null 2>&1
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
      if ! words=$(mkdir_closed "./$part" 2>&1); then
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

is_file() {
  [ ! -L "$1" ] && [ -f "$1" ]
}

# copy KEEP o SUFFIX: into the directory $kept of backup/, under the further name.
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
    else
      now=
      note_arrival o "$to"
      write_notes
      eval "r_$i=k"
    fi
  done
}

# close RUN: removes what is empty of a private place.
do_close() {
  case ${1-} in '' | *[!0-9.]*) return 1 ;; esac
  enter_work || return 0
  if [ -L ./replaced ] || [ ! -d ./replaced ]; then return 0; fi
  find "./replaced/$1" -depth -type d -exec rmdir {} + 2>/dev/null
  rmdir ./replaced 2>/dev/null
  return 0
}
