// Opens the page for integrators in a browser: looks for faults of accessibility with
// axe, for whatever was blocked or fetched elsewhere, and tries the API.
// Arguments: browser, address of the page, client id, client secret, mail, pictures' folder.
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import puppeteer from 'puppeteer-core'

const [executablePath, address, clientId, clientSecret, mail, pictures] = process.argv.slice(2)
const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const browser = await puppeteer.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] })
const faults = []
const answers = []
try {
  for (const [scheme, width, lang] of [['light', 1280, 'en'], ['light', 360, 'fr'], ['dark', 1280, 'fr']]) {
    const page = await browser.newPage()
    await page.setBypassCSP(false)
    await page.setViewport({ width, height: 900 })
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }])
    page.on('console', (m) => { if (m.type() === 'error') faults.push(`console: ${m.text()}`) })
    page.on('pageerror', (e) => faults.push(`script: ${e}`))
    page.on('request', (r) => { if (new URL(r.url()).origin !== new URL(address).origin) faults.push(`elsewhere: ${r.url()}`) })
    await page.goto(`${address}?lang=${lang}`, { waitUntil: 'networkidle0' })
    if (await page.$eval('html', (e) => e.lang) !== lang) faults.push(`language ${lang}`)
    await page.$$eval('details', (all) => all.forEach((d) => { d.open = true }))
    await page.evaluate(axe) // through the debugger, which the policy does not concern
    const { violations } = await page.evaluate('axe.run()')
    for (const v of violations) faults.push(`${scheme} ${width} ${lang}: ${v.id}: ${v.nodes.map((n) => n.html).slice(0, 3).join(' | ')}`)
    if (await page.evaluate('document.documentElement.scrollWidth > innerWidth')) faults.push(`${width} ${lang}: wider than the window`)
    if (pictures) await page.screenshot({ path: `${pictures}/${scheme}-${width}-${lang}.png`, fullPage: true })
    await page.close()
  }
  const page = await browser.newPage()
  await page.goto(address, { waitUntil: 'networkidle0' })
  await page.type('#client-id', clientId)
  await page.type('#client-secret', clientSecret)
  await page.type('#mail', mail)
  for (const value of ['token', 'create', 'list', 'identity']) {
    await page.$eval('#answer', (e) => { e.textContent = '' })
    await page.click(`button[value=${value}]`)
    await page.waitForFunction("document.getElementById('answer').textContent !== ''")
    answers.push((await page.$eval('#answer', (e) => e.textContent)).split('\n').slice(0, 2).join(': '))
  }
  // Without JavaScript everything but the form is there.
  const plain = await browser.newPage()
  await plain.setJavaScriptEnabled(false)
  await plain.goto(address)
  if (!(await plain.content()).includes('id="createRoom"')) faults.push('no reference without JavaScript')
} finally {
  await browser.close()
}
console.log(JSON.stringify({ faults, answers }))
