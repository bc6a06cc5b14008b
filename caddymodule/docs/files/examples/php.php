<?php
// Creates a room for a user and prints its address. Needs PHP 8 only.
$base = getenv('MEET_BASE') ?: 'https://gateway.invalid';

function call(string $url, array|object $body, array $headers): array
{
    $answer = file_get_contents($url, false, stream_context_create(['http' => [
        'method' => 'POST',
        'header' => array_merge(['Content-Type: application/json'], $headers),
        'content' => json_encode($body),
        'timeout' => 30,
    ]]));
    if ($answer === false) {
        exit(1); // PHP has said why
    }
    return json_decode($answer, true, flags: JSON_THROW_ON_ERROR);
}

$token = call("$base/application/token", [
    'client_id' => getenv('MEET_CLIENT_ID'),
    'client_secret' => getenv('MEET_CLIENT_SECRET'),
    'grant_type' => 'client_credentials',
    'scope' => getenv('MEET_USER'),
], []);
// The same key makes the same room, so the request can be sent again.
$room = call("$base/rooms", new stdClass(), [
    'Authorization: Bearer ' . $token['access_token'],
    'Idempotency-Key: ' . bin2hex(random_bytes(16)),
]);
echo $room['url'], "\n";
