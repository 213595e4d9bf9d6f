#!/bin/sh
# What must hold before a version is tagged. Each line says what was looked at; the exit status is
# 1 if something is missing.
#
#     packaging/release-check.sh VERSION [--quick]     --quick: without the tests and the packages
# shellcheck disable=SC2317 # what holds is called by its name
set -eu
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || {
    sed -n 's/^#     //p' "$0" >&2
    exit 128
}
version=$1
quick=${2:-}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
verdict=0

# Runs a command and says whether what it stands for holds; what it printed is shown if it does not.
holds() {
    what=$1
    shift
    if "$@" >"$log" 2>&1; then
        echo "ok       $what"
    else
        echo "MISSING  $what"
        sed 's/^/         /' "$log" | tail -n 20
        verdict=1
    fi
}

is_clean() {
    git status --porcelain
    [ -z "$(git status --porcelain)" ]
}

is_free() {
    ! git rev-parse --quiet --verify "refs/tags/v$version"
}

has_version() {
    grep -qx "version = \"$version\"" Cargo.toml
}

# The heading of a version that is out has its day.
has_entry() {
    grep -Eq "^## $version \([0-9]{4}-[0-9]{2}-[0-9]{2}\)\$" CHANGELOG.md || {
        echo "CHANGELOG.md has no heading like: ## $version ($(date +%Y-%m-%d))"
        return 1
    }
}

# The day in the manual pages is that of the entry.
has_date() {
    day=$(sed -n "s/^## $version (\(.*\))\$/\1/p" CHANGELOG.md)
    grep -q "^const DATE: &str = \"$day\";" src/cli/manual/mod.rs
}

is_locked() {
    cargo metadata --locked --format-version 1 >/dev/null &&
        cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
}

has_good_libraries() {
    command -v cargo-deny >/dev/null 2>&1 || {
        echo "cargo-deny is not installed: cargo install --locked cargo-deny"
        return 1
    }
    cargo deny --locked check
}

holds "nothing is uncommitted" is_clean
holds "there is no tag v$version yet" is_free
holds "Cargo.toml has version $version" has_version
holds "CHANGELOG.md has an entry with a day" has_entry
holds "the manual pages have that day" has_date
holds "Cargo.lock and fuzz/Cargo.lock fit" is_locked
holds "licences and known holes of libraries (cargo deny)" has_good_libraries
if [ "$quick" != --quick ]; then
    holds "format, lints, shell scripts, tests (tests/run.sh)" tests/run.sh
    holds "the packages are built and sound (packaging/build.sh)" packaging/build.sh --check
fi
if [ "$verdict" = 0 ]; then
    echo "then: git tag -s v$version, and publish what is in target/packages"
fi
exit "$verdict"
