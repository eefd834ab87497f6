// KafkaJS: `node kafkajs.js BOOTSTRAP [NAME...]`. Writes `pass NAME` or `fail NAME: why` for each scenario; the same names mean
// the same in every language (docs/testing.md).
'use strict'

const { Kafka, CompressionTypes, CompressionCodecs, logLevel, AssignerProtocol, ConfigResourceTypes } = require('kafkajs')
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')

const LIMIT = 90_000 // milliseconds, far above what any scenario takes
const AT_ONCE = 4 // scenarios mostly wait for timers of groups
const COUNT = 1000

const [bootstrap, ...wanted] = process.argv.slice(2)
const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { retries: 8 } })
const scenarios = new Map()
let numbers = 0
const fresh = what => `js-${what}-${process.pid}-${Date.now().toString(36)}-${numbers++}`
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

function same(wanted, was, what) {
  const [left, right] = [JSON.stringify(wanted), JSON.stringify(was)]
  if (left !== right) throw new Error(`${what}: ${right}, not ${left}`)
}

async function until(what, look) {
  for (const end = Date.now() + 60_000; Date.now() < end; await sleep(20)) {
    const found = await look()
    if (found) return found
  }
  throw new Error(`waited for a minute in vain: ${what}`)
}

async function fails(type, work) {
  try {
    await work()
  } catch (error) {
    if (error.type === type || error.name === type || (error.errors || []).some(one => one.type === type)) return
    throw new Error(`it failed with ${error.name} ${error.type} ${error.message}, not ${type}`)
  }
  throw new Error(`it went well instead of failing with ${type}`)
}

async function withAdmin(work) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}

async function topic(what, numPartitions = 1, configEntries = []) {
  const name = fresh(what)
  await withAdmin(admin => admin.createTopics({ waitForLeaders: true, topics: [{ topic: name, numPartitions, configEntries }] }))
  return name
}

async function withProducer(options, work) {
  const producer = kafka.producer(options)
  await producer.connect()
  try {
    return await work(producer)
  } finally {
    await producer.disconnect()
  }
}

const messages = count => [...Array(count).keys()].map(n => ({ key: `key-${n}`, value: `value-${n}` }))

async function fill(name, count, options = {}, sending = {}) {
  await withProducer(options, producer => producer.send({ topic: name, messages: messages(count), ...sending }))
}

// Reads until `enough` messages were seen.
async function read(name, enough, options = {}) {
  const consumer = kafka.consumer({ groupId: fresh('reader'), ...options })
  const seen = []
  await consumer.connect()
  await consumer.subscribe({ topics: [name], fromBeginning: true })
  await consumer.run({ eachMessage: async ({ partition, message }) => seen.push({ partition, ...message }) })
  await until(`${enough} messages of ${name}, ${seen.length} are there`, () => seen.length >= enough)
  await consumer.disconnect()
  return seen
}

async function roundTrip(options, sending) {
  const name = await topic('round-trip', 3)
  await fill(name, COUNT, options, sending)
  const seen = await read(name, COUNT)
  same(COUNT, seen.length, 'messages')
  same(messages(COUNT).map(m => m.value).sort(), seen.map(m => m.value.toString()).sort(), 'values')
}

scenarios.set('produce-none', () => roundTrip({}, {}))
scenarios.set('produce-gzip', () => roundTrip({}, { compression: CompressionTypes.GZIP }))
scenarios.set('produce-snappy', () => roundTrip({}, { compression: CompressionTypes.Snappy }))
scenarios.set('produce-acks-0', () => roundTrip({}, { acks: 0 }))
scenarios.set('produce-acks-1', () => roundTrip({}, { acks: 1 }))
scenarios.set('produce-idempotent', () => roundTrip({ idempotent: true, maxInFlightRequests: 1 }, {}))

scenarios.set('record-shape', async () => {
  const name = await topic('shape')
  await withProducer({}, async producer => {
    await producer.send({ topic: name, messages: [{ key: 'key', value: 'value', timestamp: '1700000000123', headers: { a: ['1', '2'], b: '' } }] })
    await producer.send({ topic: name, messages: [{ key: 'gone', value: null }] })
  })
  const [full, none] = await read(name, 2)
  same(['1', '2'], full.headers.a.map(String), 'a header that is there twice')
  same('1700000000123', full.timestamp, 'timestamp')
  same(null, none.value, 'no value')
})

scenarios.set('record-too-large', async () => {
  const name = await topic('small', 1, [{ name: 'max.message.bytes', value: '1000' }])
  await withProducer({}, producer =>
    fails('MESSAGE_TOO_LARGE', () => producer.send({ topic: name, messages: [{ value: 'x'.repeat(2000) }] })))
})

scenarios.set('offsets-by-time', async () => {
  const name = await topic('by-time')
  await withProducer({}, async producer => {
    for (let n = 0; n < 10; n++) await producer.send({ topic: name, messages: [{ value: 'v', timestamp: `${1700000000000 + n * 1000}` }] })
  })
  await withAdmin(async admin => {
    same([{ partition: 0, offset: '5' }], await admin.fetchTopicOffsetsByTimestamp(name, 1700000004500), 'the first at or after a time')
    same([{ partition: 0, offset: '10', high: '10', low: '0' }], await admin.fetchTopicOffsets(name), 'beginning and end')
  })
})

scenarios.set('log-append-time', async () => {
  const name = await topic('append-time', 1, [{ name: 'message.timestamp.type', value: 'LogAppendTime' }])
  const before = Date.now()
  await withProducer({}, producer => producer.send({ topic: name, messages: [{ value: 'v', timestamp: '5' }] }))
  const [message] = await read(name, 1)
  if (Number(message.timestamp) < before) throw new Error(`timestamp ${message.timestamp}`)
})

scenarios.set('group-rebalance', async () => {
  const [name, groupId, seen] = [await topic('rebalance', 6), fresh('group'), new Map()]
  const owned = {}
  const member = async id => {
    const consumer = kafka.consumer({ groupId, sessionTimeout: 10_000, rebalanceTimeout: 10_000, heartbeatInterval: 300 })
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => (owned[id] = (payload.memberAssignment[name] || []).length))
    await consumer.connect()
    await consumer.subscribe({ topics: [name], fromBeginning: true })
    await consumer.run({ eachMessage: async ({ message }) => seen.set(`${message.key}`, (seen.get(`${message.key}`) || 0) + 1) })
    return consumer
  }
  const first = await member('first')
  await until('one has all', () => owned.first === 6)
  await fill(name, 600)
  await until('all is read', () => seen.size === 600)
  const second = await member('second')
  await until('each has half', () => owned.first === 3 && owned.second === 3)
  await first.disconnect()
  await until('the other has all', () => owned.second === 6)
  await second.disconnect()
  same(600, [...seen.values()].reduce((sum, times) => sum + times, 0), 'messages seen')
})

scenarios.set('group-commits', async () => {
  const [name, groupId] = [await topic('commits'), fresh('commits')]
  await fill(name, 100)
  await withAdmin(async admin => {
    await admin.setOffsets({ groupId, topic: name, partitions: [{ partition: 0, offset: '30' }] })
    const [told] = await admin.fetchOffsets({ groupId, topics: [name] })
    same('30', told.partitions[0].offset, 'the committed offset')
  })
  const seen = await read(name, 70, { groupId })
  same('30', seen[0].offset, 'where a member begins')
  await withAdmin(async admin => {
    const [told] = await admin.fetchOffsets({ groupId, topics: [name] })
    same('100', told.partitions[0].offset, 'what it committed')
  })
})

scenarios.set('group-pattern', async () => {
  const name = await topic('pattern')
  await fill(name, 1)
  const consumer = kafka.consumer({ groupId: fresh('pattern') })
  let seen
  await consumer.connect()
  await consumer.subscribe({ topics: [new RegExp(`^${name}.*`)], fromBeginning: true })
  await consumer.run({ eachMessage: async ({ topic }) => (seen = topic) })
  await until('a message', () => seen === name)
  await consumer.disconnect()
})

scenarios.set('transactions', async () => {
  const [name, written, committed] = [await topic('transactions', 3), [], []]
  await withProducer({ transactionalId: fresh('id'), maxInFlightRequests: 1, idempotent: true }, async producer => {
    for (let number = 0; number < 20; number++) {
      const transaction = await producer.transaction()
      const values = [...Array(10).keys()].map(n => `${number}-${n}`)
      await transaction.send({ topic: name, messages: values.map(value => ({ key: value, value })) })
      written.push(...values)
      if (number % 3) committed.push(...values)
      await (number % 3 ? transaction.commit() : transaction.abort())
    }
  })
  same(committed.sort(), (await read(name, committed.length)).map(m => `${m.value}`).sort(), 'what committed readers see')
  same(written.sort(), (await read(name, written.length, { readUncommitted: true })).map(m => `${m.value}`).sort(), 'what others see')
})

scenarios.set('transactions-offsets', async () => {
  const [name, consumerGroupId] = [await topic('to'), fresh('copier')]
  await withProducer({ transactionalId: fresh('copier'), maxInFlightRequests: 1, idempotent: true }, async producer => {
    for (const [offset, end] of [['7', 'commit'], ['9', 'abort']]) {
      const transaction = await producer.transaction()
      await transaction.send({ topic: name, messages: [{ value: end }] })
      await transaction.sendOffsets({ consumerGroupId, topics: [{ topic: name, partitions: [{ partition: 0, offset }] }] })
      await transaction[end]()
    }
  })
  await withAdmin(async admin => {
    const [told] = await admin.fetchOffsets({ groupId: consumerGroupId, topics: [name] })
    same('7', told.partitions[0].offset, 'the committed offset')
  })
  same(['commit'], (await read(name, 1)).map(m => `${m.value}`), 'what is committed')
})

scenarios.set('admin-topics', () => withAdmin(async admin => {
  const name = fresh('admin')
  same(true, await admin.createTopics({ waitForLeaders: true, topics: [{ topic: name, numPartitions: 3 }] }), 'created')
  same(false, await admin.createTopics({ topics: [{ topic: name }] }), 'created again')
  await admin.createPartitions({ topicPartitions: [{ topic: name, count: 5 }] })
  await until('there are five', async () => (await admin.fetchTopicMetadata({ topics: [name] })).topics[0].partitions.length === 5)
  await admin.deleteTopics({ topics: [name] })
  await until('it is gone', async () => !(await admin.listTopics()).includes(name))
}))

scenarios.set('admin-topic-errors', () => withAdmin(async admin => {
  await fails('INVALID_TOPIC_EXCEPTION', () => admin.createTopics({ topics: [{ topic: 'a b' }] }))
  await fails('INVALID_REPLICATION_FACTOR', () => admin.createTopics({ topics: [{ topic: fresh('many'), replicationFactor: 9 }] }))
}))

scenarios.set('admin-configs', () => withAdmin(async admin => {
  const name = await topic('configs')
  const resource = { type: ConfigResourceTypes.TOPIC, name }
  const told = async () => (await admin.describeConfigs({ resources: [{ ...resource, configNames: ['retention.ms'] }] })).resources[0].configEntries[0]
  same('604800000', (await told()).configValue, 'the default')
  await admin.alterConfigs({ resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '1000' }] }] })
  await until('it is changed', async () => (await told()).configValue === '1000')
}))

scenarios.set('admin-records', () => withAdmin(async admin => {
  const name = await topic('records')
  await fill(name, 10)
  same('10', (await admin.fetchTopicOffsets(name))[0].high, 'the end') // which also makes it know where the leader is
  await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: '4' }] })
  same('4', (await admin.fetchTopicOffsets(name))[0].low, 'the low watermark')
}))

scenarios.set('admin-groups', () => withAdmin(async admin => {
  const [name, groupId] = [await topic('grouped'), fresh('grouped')]
  await fill(name, 1)
  const consumer = kafka.consumer({ groupId })
  await consumer.connect()
  await consumer.subscribe({ topics: [name], fromBeginning: true })
  await consumer.run({ eachMessage: async () => {} })
  const { groups: [told] } = await until('it is stable', async () => {
    const told = await admin.describeGroups([groupId])
    return told.groups[0].state === 'Stable' && told
  })
  same(1, told.members.length, 'members')
  same([name], Object.keys(AssignerProtocol.MemberAssignment.decode(told.members[0].memberAssignment).assignment), 'assigned')
  await consumer.disconnect()
  if (!(await admin.listGroups()).groups.some(one => one.groupId === groupId)) throw new Error('it is not listed')
  await admin.deleteGroups([groupId])
  if ((await admin.listGroups()).groups.some(one => one.groupId === groupId)) throw new Error('it is still listed')
}))

scenarios.set('admin-cluster', () => withAdmin(async admin => {
  const told = await admin.describeCluster()
  if (!told.clusterId || !told.brokers.some(one => one.nodeId === told.controller)) throw new Error(JSON.stringify(told))
}))

async function main() {
  const names = [...scenarios.keys()].filter(name => !wanted.length || wanted.includes(name))
  const lane = async () => {
    for (let name; (name = names.shift()); ) {
      const late = sleep(LIMIT).then(() => { throw new Error(`took more than ${LIMIT} ms`) })
      const verdict = await Promise.race([scenarios.get(name)(), late])
        .then(() => `pass ${name}`, error => `fail ${name}: ${error.name} ${error.message}`.replaceAll('\n', ' '))
      console.log(verdict)
    }
  }
  await Promise.all([...Array(AT_ONCE)].map(lane))
  process.exit(0)
}

main()
