#!/bin/sh
# Stops the service, unless a newer version follows.
set -e
case "${1-}" in
upgrade | failed-upgrade | 1 | 2) exit 0 ;; # deb passes a word, rpm the number of versions that remain
esac
if [ -d /run/systemd/system ]; then
	systemctl --no-reload disable --now meet-gateway.socket meet-gateway.service || true
elif command -v rc-service >/dev/null; then
	rc-service --ifstarted meet-gateway stop || true
	rc-update --quiet delete meet-gateway || true
fi
