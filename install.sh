#!/bin/sh
# Installs osync, or removes it. See usage below, or docs/services.md.
set -eu
umask 022
cd "$(dirname "$0")"

usage() {
    cat <<'USAGE'
Usage: ./install.sh [OPTIONS]

Installs osync to /usr/local/bin, with the names that older versions had, its manual pages,
completions, documentation, example configuration and service files.

  --prefix=DIR    put everything below DIR instead of /
  --package       with --prefix: as packages have it, in DIR/usr, and without a manifest
  --user          install for this user alone: ~/.local/bin, ~/.config/osync, user units
  --init=SYSTEM   systemd, openrc, sysv or none, instead of what is found here
  --deps          install missing rsync and ssh without asking
  --remove        remove what was installed; your configuration stays
  --silent        say nothing, ask nothing
  --no-stats      accepted; nothing is ever sent anywhere
  --help          show this
USAGE
}

prefix=
init=
remove=no
deps=ask
silent=no
user=no
package=no
while [ $# -gt 0 ]; do
    case $1 in
    --prefix=*) prefix=${1#--prefix=} ;;
    --init=*) init=${1#--init=} ;;
    --prefix | --init)
        [ $# -ge 2 ] || {
            echo "install.sh: $1 lacks its value" >&2
            exit 1
        }
        if [ "$1" = --prefix ]; then prefix=$2; else init=$2; fi
        shift
        ;;
    --deps) deps=yes ;;
    --remove) remove=yes ;;
    --silent) silent=yes ;;
    --user) user=yes ;;
    --package) package=yes ;;
    --no-stats) ;;
    --help | -h | '-?')
        usage
        exit 0
        ;;
    *)
        echo "install.sh: there is no option $1" >&2
        usage >&2
        exit 1
        ;;
    esac
    shift
done
case $init in
'' | systemd | openrc | sysv | none) ;;
*)
    echo "install.sh: --init is systemd, openrc, sysv or none, not $init" >&2
    exit 1
    ;;
esac

say() {
    [ "$silent" = yes ] || echo "$*"
}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

# A relative prefix is one from here; / is none.
case $prefix in
'' | /) prefix= ;;
/*) prefix=${prefix%/} ;;
*) prefix=$(pwd)/${prefix%/} ;;
esac

if [ "$user" = yes ]; then
    [ -z "$prefix" ] || fail "--user and --prefix do not go together"
    [ -n "${HOME:-}" ] || fail "--user needs HOME"
    config_home=${XDG_CONFIG_HOME:-$HOME/.config}
    bin=$HOME/.local/bin
    etc=$config_home/osync
    share=${XDG_DATA_HOME:-$HOME/.local/share}
    user_units=$config_home/systemd/user
elif [ "$package" = yes ]; then
    [ -n "$prefix" ] || fail "--package needs --prefix"
    bin=$prefix/usr/bin
    etc=$prefix/etc/osync
    share=$prefix/usr/share
    user_units=$prefix/usr/lib/systemd/user
else
    bin=$prefix/usr/local/bin
    etc=$prefix/etc/osync
    share=$prefix/usr/local/share
    user_units=$prefix/etc/systemd/user
fi
# What was installed: checksum, size and path (without the prefix) of each file, and
# "link" and the path of each link. By this a file that somebody changed is told from one
# that nobody did. "saved", a path and another: what was at the first before osync came is at
# the second, and goes back there when osync is removed.
manifest=$share/osync/manifest
links="osync.sh osync-batch.sh osync-batch upgrade-v1.0x-v1.3x.sh upgrade-v1.0x-v1.2x.sh"

checksum() {
    cksum <"$1"
}

# Whether a file is as an earlier installation left it.
is_untouched() {
    [ -f "$1" ] && [ ! -L "$1" ] && [ -f "$manifest" ] &&
        grep -Fqx -- "$(checksum "$1") ${1#"$prefix"}" "$manifest"
}

record() {
    printf '%s\n' "$1" >>"$manifest.new"
}

make_dir() {
    [ -d "$1" ] || mkdir -p "$1" || fail "cannot make $1; are you root? Else use --user, or --prefix=DIR"
}

# Puts a file in place in one step: whoever runs or reads the old one goes on with it.
place() {
    make_dir "$(dirname "$2")"
    cp "$1" "$2.osync-new" || fail "cannot write $2; are you root? Else use --user, or --prefix=DIR"
    chmod "$3" "$2.osync-new"
    mv -f "$2.osync-new" "$2"
    record "$(checksum "$2") ${2#"$prefix"}"
}

# A program, unit or page: something else of that name is kept beside it.
install_file() {
    if [ -e "$2" ] || [ -L "$2" ]; then
        if ! is_untouched "$2" && ! cmp -s "$1" "$2"; then
            keep "$2"
        fi
    fi
    place "$1" "$2" "$3"
}

keep() {
    saved=$1.save
    count=0
    while [ -e "$saved" ] || [ -L "$saved" ]; do
        count=$((count + 1))
        saved=$1.save.$count
    done
    # what an installation of ours put there is nothing that --remove would put back
    known=$(manifest_lines "${1#"$prefix"}")
    mv "$1" "$saved"
    [ -n "$known" ] || record "saved ${1#"$prefix"} ${saved#"$prefix"}"
    say "kept what was at $1 as $saved"
}

# The lines of the last installation about a path.
manifest_lines() {
    [ -f "$manifest" ] || return 0
    while read -r line; do
        if [ "$(manifest_path "$line")" = "$1" ]; then echo "$line"; fi
    done <"$manifest"
}

# What was saved by an earlier installation still goes back when osync is removed.
carry_saved_over() {
    [ -f "$manifest" ] || return 0
    grep '^saved ' "$manifest" >>"$manifest.new" || true
}

# Something that people edit: their version stays, ours comes beside it.
install_config() {
    if [ -e "$2" ] && ! is_untouched "$2" && ! cmp -s "$1" "$2"; then
        place "$1" "$2.new" "$3"
        say "$2 is yours; the new one is $2.new"
    else
        place "$1" "$2" "$3"
    fi
}

install_link() {
    link=$bin/$1
    if [ -e "$link" ] || [ -L "$link" ]; then
        [ "$(readlink "$link" 2>/dev/null || true)" = osync ] || keep "$link"
    fi
    ln -sf osync "$link"
    record "link ${link#"$prefix"}"
}

# The forced command of authorized_keys. Whoever had closed sudo in the script of osync 1.x,
# or had another filter there, finds sudo closed behind the same name.
install_filter() {
    filter=$bin/ssh_filter.sh
    if [ ! -e "$filter" ] && [ ! -L "$filter" ]; then
        install_link ssh_filter.sh
    elif [ "$(readlink "$filter" 2>/dev/null || true)" = osync ]; then
        install_link ssh_filter.sh
    elif grep -q 'osync" ssh-filter' "$filter" 2>/dev/null; then
        if is_untouched "$filter"; then
            record "$(checksum "$filter") ${filter#"$prefix"}"
        else
            say "$filter is yours: it stays"
        fi
    elif allows_sudo "$filter"; then
        install_link ssh_filter.sh
    else
        cat >"$pages/filter" <<'FILTER'
#!/bin/sh
# The script that was here before osync came did not allow sudo, and so does this one.
# To allow it: ln -sf osync ssh_filter.sh, in this directory.
exec "$(dirname -- "$0")/osync" ssh-filter --no-sudo "$@"
FILTER
        keep "$filter"
        place "$pages/filter" "$filter" 755
        say "$filter refuses sudo, as what was there did (to allow it: ln -sf osync $filter)"
    fi
}

# Whether the last SUDO_EXEC that a filter script sets is yes.
allows_sudo() {
    word=$(sed -n "s/^[[:space:]]*\(export[[:space:]]*\)\{0,1\}SUDO_EXEC=[\"']\{0,1\}\([A-Za-z]*\).*/\2/p" \
        "$1" 2>/dev/null | tail -n 1)
    case $word in
    [Yy][Ee][Ss] | [Tt][Rr][Uu][Ee]) return 0 ;;
    *) return 1 ;;
    esac
}

find_cargo() {
    home=${HOME:-/root}
    if command -v cargo >/dev/null 2>&1; then
        echo cargo
    elif [ -x "$home/.cargo/bin/cargo" ]; then
        PATH=$PATH:$home/.cargo/bin
        echo "$home/.cargo/bin/cargo"
    else
        return 1
    fi
}

# Prints the path of the binary: one that came with this script, or the one built here.
find_binary() {
    target=${CARGO_TARGET_DIR:-target}
    for candidate in ./osync "$target/release/osync"; do
        if [ -f "$candidate" ] && [ -x "$candidate" ]; then
            echo "$candidate"
            return 0
        fi
    done
    cargo=$(find_cargo) ||
        fail "there is no binary yet, and no cargo to build it with. Build it first, as the user \
who has cargo (cargo build --release --locked), or get cargo from https://rustup.rs"
    say "building osync" >&2
    if [ "$silent" = yes ]; then
        "$cargo" build --release --locked --quiet >&2
    else
        "$cargo" build --release --locked >&2
    fi || fail "the build has failed"
    echo "$target/release/osync"
}

find_init() {
    if [ -n "$init" ]; then
        echo "$init"
    elif [ "$user" = yes ] && ! command -v systemctl >/dev/null 2>&1; then
        echo none
    elif [ -d /run/systemd/system ] || command -v systemctl >/dev/null 2>&1; then
        echo systemd
    elif command -v openrc-run >/dev/null 2>&1 || [ -x /sbin/openrc-run ]; then
        echo openrc
    elif [ -d /etc/init.d ]; then
        echo sysv
    else
        echo none
    fi
}

install_services() {
    found=$(find_init)
    if [ "$user" = yes ]; then
        case $found in
        systemd)
            install_units examples/systemd/user "$user_units"
            systemctl --user daemon-reload >/dev/null 2>&1 || true
            say "services: systemctl --user enable --now osync-srv@sync.conf, or osync-batch.timer"
            ;;
        *) say "only systemd has services of users: start osync --on-changes by yourself, or use cron" ;;
        esac
        return 0
    fi
    case $found in
    systemd)
        install_units examples/systemd "$prefix/usr/lib/systemd/system"
        install_units examples/systemd/user "$user_units"
        reload_systemd
        tell_of_old_services
        say "services: systemctl enable --now osync-srv@sync.conf, or osync-batch.timer"
        ;;
    openrc)
        install_file examples/openrc/osync-srv "$prefix/etc/init.d/osync-srv" 755
        say "services: ln -s osync-srv /etc/init.d/osync-srv.sync.conf"
        ;;
    sysv)
        install_file examples/init.d/osync-srv "$prefix/etc/init.d/osync-srv" 755
        say "service: /etc/init.d/osync-srv start"
        ;;
    none) say "no init system is known here: no service files installed" ;;
    esac
}

# The units of one directory in another one. They look for the binary where it is installed.
install_units() {
    for unit in "$1"/*.service "$1"/*.timer; do
        name=$(basename "$unit")
        awk -v bin="${bin#"$prefix"}/osync" '{
            while (at = index($0, "/usr/local/bin/osync")) {
                printf "%s%s", substr($0, 1, at - 1), bin
                $0 = substr($0, at + 20)
            }
            print
        }' "$unit" >"$pages/$name"
        install_file "$pages/$name" "$2/$name" 644
    done
}

install_docs() {
    for page in README.md CHANGELOG.md LICENSE docs/*.md docs/*.svg docs/*.png docs/*.json \
        examples/sync.toml examples/monitoring/*; do
        if [ -f "$page" ]; then
            install_file "$page" "$share/doc/osync/$page" 644
        fi
    done
}

# Only for the real thing, and only where systemd runs.
reload_systemd() {
    if [ -z "$prefix" ] && [ -d /run/systemd/system ]; then
        systemctl daemon-reload || true
    fi
}

# What runs is never cut off by an upgrade.
tell_of_old_services() {
    [ -z "$prefix" ] && [ -d /run/systemd/system ] || return 0
    for kind in osync-srv@ osync-target-helper-srv@; do
        if systemctl --quiet is-active "$kind*.service" 2>/dev/null; then
            say "services that run stay with the version they have until: systemctl restart '$kind*'"
        fi
    done
}

# Commands with a manual page of their own.
commands="sync batch init check upgrade conflicts plan apply history restore undo scrub status
state ssh-filter completions man"

# Pages that the binary itself prints. One built for another machine cannot.
install_pages() {
    if "$1" man >"$pages/man" 2>/dev/null; then
        install_file "$pages/man" "$share/man/man1/osync.1" 644
    fi
    for command in $commands; do
        if "$1" man "$command" >"$pages/man" 2>/dev/null; then
            install_file "$pages/man" "$share/man/man1/osync-$command.1" 644
        fi
    done
    if "$1" man conf >"$pages/man" 2>/dev/null; then
        install_file "$pages/man" "$share/man/man5/osync.conf.5" 644
    fi
    page=$share/bash-completion/completions/osync
    if "$1" completions bash >"$pages/bash" 2>/dev/null; then
        install_file "$pages/bash" "$page" 644
        # looked for under the name that is typed
        install_file "$pages/bash" "$page.sh" 644
    fi
    if "$1" completions zsh >"$pages/zsh" 2>/dev/null; then
        install_file "$pages/zsh" "$share/zsh/site-functions/_osync" 644
    fi
    if "$1" completions fish >"$pages/fish" 2>/dev/null; then
        install_file "$pages/fish" "$share/fish/vendor_completions.d/osync.fish" 644
        echo "complete -c osync.sh -w osync" >"$pages/fish.sh"
        install_file "$pages/fish.sh" "$share/fish/vendor_completions.d/osync.sh.fish" 644
    fi
}

# What an earlier version installed and this one does not.
remove_left_overs() {
    [ -f "$manifest" ] || return 0
    while read -r line; do
        case $line in
        saved\ *) continue ;;
        esac
        path=$(manifest_path "$line")
        if ! grep -q -- " $path\$" "$manifest.new"; then
            remove_entry "$line"
        fi
    done <"$manifest"
}

# The path is what stands behind checksum and size, or behind "link".
manifest_path() {
    case $1 in
    link\ *) echo "${1#link }" ;;
    saved\ *) echo "$1" | cut -d' ' -f2 ;;
    *) echo "$1" | cut -d' ' -f3- ;;
    esac
}

remove_entry() {
    path=$prefix$(manifest_path "$1")
    case $1 in
    saved\ *) ;;
    link\ *)
        if [ "$(readlink "$path" 2>/dev/null || true)" = osync ]; then
            rm -f "$path"
        fi
        ;;
    *)
        if is_untouched "$path"; then
            rm -f "$path"
        elif [ -e "$path" ]; then
            say "$path was changed: it stays"
        fi
        ;;
    esac
}

# What was there before osync came, back at its place, as far as that is free. The oldest of
# what was saved for a place is the one.
put_back() {
    while read -r line; do
        case $line in
        saved\ *) ;;
        *) continue ;;
        esac
        path=$prefix$(manifest_path "$line")
        saved=$prefix$(echo "$line" | cut -d' ' -f3)
        if [ ! -e "$path" ] && [ ! -L "$path" ] && { [ -e "$saved" ] || [ -L "$saved" ]; }; then
            mv "$saved" "$path"
            say "$path is again what it was before osync came"
        fi
    done <"$manifest"
}

stop_services() {
    [ -z "$prefix" ] || return 0
    if [ "$user" = yes ]; then
        systemctl --user stop 'osync-srv@*.service' >/dev/null 2>&1 || true
        systemctl --user disable osync-srv@.service >/dev/null 2>&1 || true
        systemctl --user disable --now osync-batch.timer >/dev/null 2>&1 || true
        systemctl --user stop 'osync-scrub@*.timer' 'osync-scrub@*.service' >/dev/null 2>&1 || true
        systemctl --user disable osync-scrub@.timer >/dev/null 2>&1 || true
        return 0
    fi
    if [ -d /run/systemd/system ]; then
        # disabling knows no patterns, but a template stands for all that is made from it
        for kind in osync-srv@ osync-target-helper-srv@; do
            systemctl stop "$kind*.service" >/dev/null 2>&1 || true
            systemctl disable "$kind.service" >/dev/null 2>&1 || true
        done
        systemctl disable --now osync-batch.timer >/dev/null 2>&1 || true
        systemctl stop osync-batch.service >/dev/null 2>&1 || true
        systemctl stop 'osync-scrub@*.timer' 'osync-scrub@*.service' >/dev/null 2>&1 || true
        systemctl disable osync-scrub@.timer >/dev/null 2>&1 || true
    elif [ -x /etc/init.d/osync-srv ]; then
        # OpenRC has a link for each task, the others one script for all
        for script in /etc/init.d/osync-srv /etc/init.d/osync-srv.*; do
            if [ "$script" = /etc/init.d/osync-srv ] || [ -L "$script" ]; then
                "$script" stop >/dev/null 2>&1 || true
            fi
        done
    fi
}

remove_all() {
    if [ ! -f "$manifest" ]; then
        say "nothing is installed below ${prefix:-/}"
        return 0
    fi
    stop_services
    while read -r line; do
        remove_entry "$line"
    done <"$manifest"
    put_back
    rm -f "$manifest"
    for directory in examples/monitoring examples docs; do
        rmdir "$share/doc/osync/$directory" 2>/dev/null || true
    done
    rmdir "$share/doc/osync" "$share/osync" "$etc" 2>/dev/null || true
    reload_systemd
    [ ! -d "$etc" ] || say "your configuration in $etc stays"
    say "osync is removed"
}

install_command() {
    for manager in apt-get dnf yum zypper apk pacman pkg brew; do
        command -v "$manager" >/dev/null 2>&1 || continue
        case $manager in
        apt-get) echo "apt-get install -y $*" ;;
        dnf | yum) echo "$manager install -y $*" ;;
        zypper) echo "zypper --non-interactive install $*" ;;
        apk) echo "apk add $*" ;;
        pacman) echo "pacman -S --noconfirm $*" ;;
        pkg) echo "pkg install -y $*" ;;
        brew) echo "brew install $*" ;;
        esac
        return 0
    done
    return 1
}

ssh_package() {
    if command -v apt-get >/dev/null 2>&1 || command -v apk >/dev/null 2>&1; then
        echo openssh-client
    elif command -v dnf >/dev/null 2>&1 || command -v yum >/dev/null 2>&1; then
        echo openssh-clients
    else
        echo openssh
    fi
}

# osync runs rsync, and ssh for targets elsewhere.
check_deps() {
    missing=
    command -v rsync >/dev/null 2>&1 || missing=rsync
    command -v ssh >/dev/null 2>&1 || missing="$missing $(ssh_package)"
    missing=${missing# }
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086 # a list of package names
    command=$(install_command $missing) || {
        say "please install $missing: osync needs it"
        return 0
    }
    if [ "$deps" = ask ] && [ "$silent" = no ] && [ -t 0 ] && [ -t 1 ]; then
        printf 'osync needs %s. Run "%s" now? [y/N] ' "$missing" "$command"
        read -r answer || answer=
        case $answer in
        y* | Y*) deps=yes ;;
        esac
    fi
    if [ "$deps" != yes ]; then
        say "osync needs $missing: $command"
        return 0
    fi
    say "installing $missing"
    [ "${command%% *}" != apt-get ] || apt-get update -q >/dev/null 2>&1 || true
    if [ "$silent" = yes ]; then
        DEBIAN_FRONTEND=noninteractive $command </dev/null >/dev/null 2>&1
    else
        DEBIAN_FRONTEND=noninteractive $command </dev/null
    fi || echo "install.sh: $missing could not be installed: $command" >&2
}

if [ "$remove" = yes ]; then
    remove_all
    exit 0
fi

binary=$(find_binary)
make_dir "$bin"
make_dir "$(dirname "$manifest")"
[ -w "$bin" ] || fail "cannot write to $bin; are you root? Else use --user, or --prefix=DIR"
: >"$manifest.new"
carry_saved_over
pages=$(mktemp -d "${TMPDIR:-/tmp}/osync-install.XXXXXX")
trap 'rm -rf "$manifest.new" "$pages"' EXIT
trap 'exit 1' HUP INT TERM
install_file "$binary" "$bin/osync" 755
for name in $links; do
    install_link "$name"
done
install_filter
for file in sync.conf.example exclude.list.example; do
    install_config "$file" "$etc/$file" 644
done
install_pages "$binary"
install_docs
install_services
if [ "$package" = yes ]; then
    # the manager of packages knows what belongs to it
    rm -f "$manifest.new"
    rmdir "$(dirname "$manifest")"
    exit 0
fi
remove_left_overs
mv -f "$manifest.new" "$manifest"
check_deps
say "osync is installed in $bin"
case :$PATH: in
*:"$bin":*) ;;
*) [ "$user" = no ] || say "$bin is not in your PATH yet: add it there" ;;
esac
if [ -n "$prefix" ] && [ "$(id -u)" != 0 ] && [ "${prefix#"${HOME:-/nowhere}"}" != "$prefix" ]; then
    say "to use osync as this user, ./install.sh --user puts everything where it is looked for"
fi
