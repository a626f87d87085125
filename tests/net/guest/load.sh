#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Carries out what the console says, a command a line, each answered by its output and "status N".

/bin/sh /guest/configure.sh up && /bin/sh /guest/configure.sh dhcp4 >/dev/null 2>&1
echo "status $?"
while read -r command; do
	$command </dev/null
	echo "status $?"
done
