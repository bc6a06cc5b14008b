#!/bin/sh
# A purge deletes the secrets and the state; a removal keeps them.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
if [ "${1-}" = purge ]; then
	rm -rf /etc/meet-gateway /var/lib/meet-gateway
	userdel meet-gateway 2>/dev/null || true
	groupdel meet-gateway 2>/dev/null || true
fi
