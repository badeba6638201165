// Asks the simulated EPCC by way of the vendor's SDK. Usage: node client.js HOST:PORT
// Each line on standard input is a step, ["logs"] or ["job_logs", ID, JOB]; each is answered by a line of JSON with the
// `value` that the SDK made of the answer, or its `error`. The test changes the store in between.
const readline = require('node:readline')
const EP = require('@elasticpath/js-sdk')

const SECRETS = { client_id: 'demo', client_secret: 'demo-secret' }
console.info = () => {} // the SDK talks about tokens on standard output

async function main (host) {
  const client = EP.gateway({
    ...SECRETS, host, protocol: 'http', storage: new EP.MemoryStorageFactory(), retryDelay: 10, retryJitter: 1
  })
  const send = path => client.request.send(path, 'GET', undefined, undefined, undefined, true, 'v2')
  const steps = {
    integrations: () => client.Integrations.All(),
    integration: id => client.Integrations.Get(id),
    logs: () => client.Integrations.GetAllLogs(),
    integration_logs: id => client.Integrations.GetLogs(id),
    jobs: id => client.Integrations.GetJobs(id),
    job_logs: (id, job) => client.Integrations.GetAllLogsForJob(id, job),
    page: (limit, offset) => send(`integrations/logs?page[limit]=${limit}&page[offset]=${offset}`)
  }
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [step, ...given] = JSON.parse(line)
    const answer = await steps[step](...given).then(value => ({ value }), error => ({ error }))
    process.stdout.write(JSON.stringify(answer) + '\n')
  }
}

main(process.argv[2]).then(() => process.exit(0), error => {
  process.stderr.write(`${error.stack}\n`)
  process.exit(1)
})
