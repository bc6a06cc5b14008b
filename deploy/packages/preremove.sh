#!/bin/sh
# Stops the service, unless a newer version follows.
set -e
case "${1-}" in
upgrade | 1 | 2) exit 0 ;; # deb says upgrade, rpm how many versions are left
esac
if [ -d /run/systemd/system ]; then
	systemctl --no-reload disable --now meet-gateway.service || true
fi
