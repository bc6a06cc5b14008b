"""A client that openapi-python-client generated. It gets a token, creates a room, reads it
and finds it in the list."""

import json
import sys
import uuid

from meet_client import AuthenticatedClient, Client
from meet_client.api.authentication import generate_token
from meet_client.api.identity import get_identity
from meet_client.api.rooms import create_room, list_rooms, retrieve_room
from meet_client.models import RoomCreate, RoomCreateAccessLevel, TokenRequest, TokenRequestGrantType

base, client_id, client_secret, mail = sys.argv[1:]
anonymous = Client(base_url=base, raise_on_unexpected_status=True)
token = generate_token.sync(
    client=anonymous,
    body=TokenRequest(
        grant_type=TokenRequestGrantType.CLIENT_CREDENTIALS,
        client_id=client_id,
        client_secret=client_secret,
        scope=mail,
    ),
)
api = AuthenticatedClient(base_url=base, token=token.access_token, raise_on_unexpected_status=True)
created = create_room.sync(
    client=api, body=RoomCreate(access_level=RoomCreateAccessLevel.RESTRICTED), idempotency_key=str(uuid.uuid4())
)
room = retrieve_room.sync(client=api, id=str(created.id))
rooms = list_rooms.sync(client=api, page=1, page_size=100)
identity = get_identity.sync(client=api)

print(
    json.dumps(
        {
            "expires_in": token.expires_in,
            "room": room.id == created.id,
            "listed": any(r.id == created.id for r in rooms.results),
            "type": identity.payload.type_,
        }
    )
)
