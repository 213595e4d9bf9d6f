#!/usr/bin/env bash
# stand-in for osync-batch 1.3
echo "osync-batch 1.3 $*"
