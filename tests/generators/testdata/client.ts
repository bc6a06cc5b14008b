// A client that openapi-typescript's types are enough for. It gets a token, creates a
// room, reads it and finds it in the list.
import createClient from 'openapi-fetch'
import type { paths } from './api.js'

const [base, clientId, clientSecret, mail] = process.argv.slice(2)
if (!base || !clientId || !clientSecret || !mail) throw new Error('base, client id, secret, mail')

const anonymous = createClient<paths>({ baseUrl: base })
const token = await anonymous.POST('/application/token', {
  body: { client_id: clientId, client_secret: clientSecret, grant_type: 'client_credentials', scope: mail },
})
if (!token.data) throw new Error(JSON.stringify(token.error))
const expiresIn: number = token.data.expires_in

const api = createClient<paths>({ baseUrl: base, headers: { Authorization: `Bearer ${token.data.access_token}` } })
const created = await api.POST('/rooms', {
  body: { access_level: 'restricted' },
  params: { header: { 'Idempotency-Key': crypto.randomUUID() } },
})
if (!created.data) throw new Error(JSON.stringify(created.error))
const room = await api.GET('/rooms/{id}', { params: { path: { id: created.data.id } } })
if (!room.data) throw new Error(JSON.stringify(room.error))
const list = await api.GET('/rooms', { params: { query: { page: 1, page_size: 100 } } })
if (!list.data) throw new Error(JSON.stringify(list.error))
const identity = await api.GET('/identity')
if (!identity.data) throw new Error(JSON.stringify(identity.error))

console.log(JSON.stringify({
  expires_in: expiresIn,
  room: room.data.id === created.data.id,
  listed: list.data.results.some((r) => r.id === created.data.id),
  type: identity.data.payload.type,
}))
