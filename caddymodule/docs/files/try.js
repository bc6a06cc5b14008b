// The form to try the API with. Credentials and token stay in this page's memory.
'use strict'
{
  const form = document.getElementById('try-form')
  const shown = document.getElementById('answer')
  const { base, failed } = form.dataset
  let token = ''

  async function send(method, path, headers, body) {
    const first = `${method} ${path}\n`
    try {
      const answer = await fetch(base + path, {
        method, body, headers, credentials: 'omit', cache: 'no-store', redirect: 'error',
      })
      const text = await answer.text()
      let value
      try { value = JSON.parse(text) } catch { value = text }
      if (value && value.access_token) token = value.access_token
      const lines = [`${answer.status}`, `X-Request-ID: ${answer.headers.get('X-Request-ID')}`]
      const wait = answer.headers.get('Retry-After')
      if (wait) lines.push(`Retry-After: ${wait}`)
      shown.textContent = first + lines.join('\n') + '\n\n' + JSON.stringify(value, null, 2)
    } catch {
      shown.textContent = first + failed
    }
    for (const button of form.querySelectorAll('button[type=button]')) button.disabled = token === ''
  }

  const bearer = () => ({ Authorization: `Bearer ${token}` })
  const actions = {
    list: () => send('GET', '/rooms', bearer()),
    create: () => send('POST', '/rooms', {
      ...bearer(), 'Content-Type': 'application/json', 'Idempotency-Key': crypto.getRandomValues(new Uint32Array(4)).join('-'),
    }, '{}'),
    identity: () => send('GET', '/identity', bearer()),
  }
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    token = ''
    send('POST', '/application/token', { 'Content-Type': 'application/json' }, JSON.stringify({
      grant_type: 'client_credentials', ...Object.fromEntries(new FormData(form)),
    }))
  })
  form.addEventListener('click', (event) => actions[event.target.value]?.())
  form.hidden = false
}
