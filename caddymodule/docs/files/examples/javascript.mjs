// Creates a room for a user and prints its address. Needs Node.js 20 only.
const base = process.env.MEET_BASE ?? 'https://gateway.invalid'

async function call(path, body, headers) {
  const answer = await fetch(base + path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(30_000),
  })
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`)
  return answer.json()
}

const token = await call('/application/token', {
  client_id: process.env.MEET_CLIENT_ID,
  client_secret: process.env.MEET_CLIENT_SECRET,
  grant_type: 'client_credentials',
  scope: process.env.MEET_USER,
})
// The same key makes the same room, so the request can be sent again.
const room = await call('/rooms', {}, {
  Authorization: `Bearer ${token.access_token}`,
  'Idempotency-Key': crypto.randomUUID(),
})
console.log(room.url)
