// Use the vendor's JavaScript SDK with a simulator, and print the results as JSON.
import { createRequire } from 'node:module'

const require = createRequire(`${process.cwd()}/`)
const { gateway, MemoryStorageFactory } = require('@moltin/sdk')

const client = gateway({
  client_id: process.env.EPCC_CLIENT_ID,
  client_secret: process.env.EPCC_CLIENT_SECRET,
  host: process.env.EPCC_API_BASE_URL.replace('http://', ''),
  protocol: 'http',
  storage: new MemoryStorageFactory(),
})

const created = await client.Jobs.Create({
  type: 'job',
  job_type: 'order_export',
  filter: 'gt(created_at,2018-09-01)',
})
const id = [created.data].flat()[0].id
const all = await client.Jobs.All()

const statuses = []
for (;;) {
  const { data } = await client.Jobs.Get(id)
  if (data.status !== statuses.at(-1)) statuses.push(data.status)
  if (['success', 'complete', 'failed'].includes(data.status)) break
  await new Promise((resolve) => setTimeout(resolve, 100))
}

const file = await client.Jobs.GetFile(id)
const href = (file.data ?? file).href
const csv = await (await fetch(href)).text()
const missing = await client.Jobs.Get('nowhere').catch((error) => error)

console.log(
  JSON.stringify({ id, listed: all.data.map((job) => job.id), statuses, href, csv, missing }),
)
