#!/usr/bin/env bash
# stand-in for osync 1.3
echo "osync 1.3 $*"
