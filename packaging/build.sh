#!/bin/sh
# Builds the packages of osync from this checkout into target/packages: .deb, .rpm, a tarball with
# the binary and its installer, and a PKGBUILD. What a machine has no tools for is left out, and
# that is said.
#
#     packaging/build.sh [--check]     --check: look at them with lintian and rpmlint, too
#
# The binary needs nothing but libgcc_s and the C library of the machine it runs on, as new as that
# of the machine where it was built: build on the oldest system that shall run it.
set -eu
umask 022
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
out=$(pwd)/target/packages
maintainer=${OSYNC_MAINTAINER:-$(git log -1 --format='%an <%ae>')}
# the same commit makes the same packages
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
machine=$(uname -m)

fail() {
    echo "packaging/build.sh: $*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# Everything as a package has it, below a directory.
make_stage() {
    rm -rf "$out"
    mkdir -p "$out"
    ./install.sh --package --prefix="$stage" --init=systemd --silent
    packaging/licences.sh bundled >"$stage/usr/share/doc/osync/licences-of-libraries.txt"
    find "$stage" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
}

# No library but those.
check_needs() {
    others=$(ldd "$1" | grep -Ev 'linux-vdso|ld-linux|/libc\.|/libm\.|/libgcc_s\.' || true)
    [ -z "$others" ] || fail "the binary needs more than the C library: $others"
}

# The version of the C library that the binary asks for.
needed_libc() {
    grep -ao 'GLIBC_2\.[0-9]*' "$1" | sed 's/GLIBC_//' | sort -t. -k2 -n | tail -n 1
}

tarball() {
    name=osync-$version-$machine-linux
    root=$out/$name
    mkdir "$root"
    cp -a install.sh sync.conf.example exclude.list.example examples docs README.md CHANGELOG.md \
        LICENSE "$root"
    cp "$binary" "$stage/usr/share/doc/osync/licences-of-libraries.txt" "$root"
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
        -C "$out" -cf - "$name" | gzip -9n >"$out/$name.tar.gz"
    rm -r "$root"
}

deb() {
    architecture=$(dpkg --print-architecture)
    root=$out/deb
    cp -a "$stage" "$root"
    doc=$root/usr/share/doc/osync
    rm "$doc/LICENSE"
    mkdir "$root/DEBIAN" "$root/usr/share/lintian" "$root/usr/share/lintian/overrides"
    gzip -9n "$root"/usr/share/man/man*/*
    mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"
    mv "$doc/CHANGELOG.md" "$doc/changelog"
    {
        printf 'osync (%s-1) unstable; urgency=medium\n\n' "$version"
        printf '  * What is new stands in changelog.gz.\n\n'
        printf ' -- %s  %s\n' "$maintainer" "$(date -R --utc --date="@$SOURCE_DATE_EPOCH")"
    } >"$doc/changelog.Debian"
    gzip -9n "$doc/changelog" "$doc/changelog.Debian" "$doc/licences-of-libraries.txt"
    {
        cat <<'HEAD'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: osync
Comment: Libraries are compiled in; their licences are in licences-of-libraries.txt.gz.

Files: *
HEAD
        sed -n 's/^Copyright (c) /Copyright: /p' LICENSE
        echo "License: BSD-3-clause"
        sed '1,/^Copyright/d; s/^$/./; s/^/ /' LICENSE | sed '1d'
    } >"$doc/copyright"
    cat >"$root/usr/share/lintian/overrides/osync" <<'OVERRIDES'
# one package for many releases: what differs between them is compiled in
osync: embedded-library
OVERRIDES
    (cd "$root" && find etc -type f | sed 's,^,/,' | sort) >"$root/DEBIAN/conffiles"
    (cd "$root" && find usr -type f | sort | xargs md5sum) >"$root/DEBIAN/md5sums"
    cat >"$root/DEBIAN/control" <<CONTROL
Package: osync
Version: $version-1
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f 1)
Depends: libc6 (>= $(needed_libc "$binary")), libgcc-s1, rsync (>= 3.1.2)
Recommends: openssh-client
Suggests: default-mta | mail-transport-agent
Section: net
Priority: optional
Description: keep two directories in step, unattended
 Two directories of one machine, one here and one behind ssh, or a star of many:
 what is changed, renamed or deleted on one side is changed, renamed or deleted
 on the other. On the other machine sh and rsync are enough.
 .
 Each run compares both sides with what they were after the last one, survives
 being killed at any moment, and never takes a missing disk for a deletion. What
 it replaces or deletes is kept for a while and can be brought back.
 .
 It takes the place of the bash tool of this name, with the same configuration.
CONTROL
    dpkg-deb --root-owner-group -Zxz --build "$root" "$out/osync_$version-1_$architecture.deb" \
        >/dev/null
    rm -r "$root"
}

rpm_package() {
    rpmbuild -bb --quiet --target "$machine" \
        --define "_topdir $out/rpm" --define "osync_version $version" \
        --define "osync_stage $stage" --define "osync_packager $maintainer" \
        --define "osync_day $(LC_ALL=C date --utc --date="@$SOURCE_DATE_EPOCH" '+%a %b %d %Y')" \
        packaging/osync.spec
    mv "$out/rpm/RPMS/$machine"/*.rpm "$out"
    rm -r "$out/rpm"
}

# Looks at what was made; errors count, warnings are shown.
check() {
    verdict=0
    if has lintian && [ -n "$(find "$out" -name '*.deb')" ]; then
        lintian --fail-on error "$out"/*.deb || verdict=1
    else
        echo "not checked: the .deb (there is no lintian, or no .deb)"
    fi
    if has rpmlint && [ -n "$(find "$out" -name '*.rpm')" ]; then
        rpmlint -c packaging/rpmlint.toml "$out"/*.rpm || verdict=1
    else
        echo "not checked: the .rpm (there is no rpmlint, or no .rpm)"
    fi
    return "$verdict"
}

# compiles zlib, which libssh2 uses, in (libz-sys)
LIBZ_SYS_STATIC=1 cargo build --release --locked --features bundled
binary=${CARGO_TARGET_DIR:-target}/release/osync
stage=$out/stage
check_needs "$binary"
make_stage
tarball
if has dpkg-deb; then deb; else echo "left out: .deb (there is no dpkg-deb)"; fi
if has rpmbuild; then rpm_package; else echo "left out: .rpm (there is no rpmbuild)"; fi
sed "s/@VERSION@/$version/" packaging/PKGBUILD.in >"$out/PKGBUILD"
rm -r "$stage"
ls -l "$out"
[ "${1:-}" != --check ] || check
