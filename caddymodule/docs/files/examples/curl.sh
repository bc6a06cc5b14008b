#!/bin/sh
# Creates a room for a user and prints its address. Needs curl and sed.
set -eu
base=${MEET_BASE:-https://gateway.invalid}

token=$(curl --fail-with-body --silent --show-error "$base/application/token" \
	--user "$MEET_CLIENT_ID:$MEET_CLIENT_SECRET" \
	--data grant_type=client_credentials --data-urlencode "scope=$MEET_USER" |
	sed 's/.*"access_token":"\([^"]*\)".*/\1/')

# The same key makes the same room, so the request can be sent again.
curl --fail-with-body --silent --show-error "$base/rooms" \
	--header "Authorization: Bearer $token" --header "Content-Type: application/json" \
	--header "Idempotency-Key: booking-$(date +%s)-$$" --data '{}' |
	sed 's/.*"url":"\([^"]*\)".*/\1\n/'
