"""Creates a room for a user and prints its address. Needs Python 3.9 only."""

import base64
import json
import os
import urllib.request
import uuid

BASE = os.environ.get("MEET_BASE", "https://gateway.invalid")


def call(path, body, authorization, **headers):
    request = urllib.request.Request(
        BASE + path,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": authorization, **headers},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # an error status raises HTTPError
        return json.load(answer)


pair = os.environ["MEET_CLIENT_ID"] + ":" + os.environ["MEET_CLIENT_SECRET"]
token = call(
    "/application/token",
    {"grant_type": "client_credentials", "scope": os.environ["MEET_USER"]},
    "Basic " + base64.b64encode(pair.encode()).decode(),
)
# The same key makes the same room, so the request can be sent again.
room = call("/rooms", {}, "Bearer " + token["access_token"], **{"Idempotency-Key": str(uuid.uuid4())})
print(room["url"])
