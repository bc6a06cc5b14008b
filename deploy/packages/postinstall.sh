#!/bin/sh
# Creates the user and the secret, and restarts a running service.
set -e

if ! getent group meet-gateway >/dev/null 2>&1; then
	groupadd --system meet-gateway 2>/dev/null || addgroup -S meet-gateway
fi
if ! id meet-gateway >/dev/null 2>&1; then
	useradd --system --gid meet-gateway --home-dir /var/lib/meet-gateway --no-create-home --shell /usr/sbin/nologin meet-gateway 2>/dev/null ||
		adduser -S -D -H -h /var/lib/meet-gateway -s /sbin/nologin -G meet-gateway meet-gateway
fi

# All gateways of an installation need the same secret: copy it to the others.
if [ ! -e /etc/meet-gateway/secrets/secret ]; then
	(umask 077 && head -c 32 /dev/urandom | base64 >/etc/meet-gateway/secrets/secret)
fi

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	systemctl try-restart meet-gateway.service || true
fi
