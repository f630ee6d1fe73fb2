// The official clients of Segment and RudderStack against a real server: every call, over a connection that breaks, and
// then a look through the API whether every message is there exactly once with its fields.
//
// KITH_URL, KITH_KEY (admin) and WRITE_KEY name the server; the packages are installed beside this file.

import assert from 'node:assert/strict';
import http from 'node:http';
import { createRequire } from 'node:module';

import { Analytics as Segment } from '@segment/analytics-node';

const Rudder = createRequire(import.meta.url)('@rudderstack/rudder-sdk-node');

const { KITH_URL, KITH_KEY, WRITE_KEY } = process.env;
const ROUNDS = 25;

async function whole(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

// A proxy that spoils two of five requests: it cuts the connection after the server has taken the batch, so that the client
// does not know, or answers 503 without asking the server.
let requests = 0;
const faults = { cut: 0, unavailable: 0 };
const proxy = http.createServer(async (request, response) => {
  const number = requests++ % 5;
  const body = await whole(request);
  if (number === 3) {
    faults.unavailable += 1;
    response.writeHead(503, { 'content-type': 'application/json', 'retry-after': '1' });
    response.end('{"code":"test","message":"spoilt on purpose"}');
    return;
  }
  const { host, 'transfer-encoding': _chunked, ...headers } = request.headers;
  headers['content-length'] = body.length;
  const forwarded = http.request(`${KITH_URL}${request.url}`, { method: request.method, headers }, async (answer) => {
    const bytes = await whole(answer);
    if (number === 1) {
      faults.cut += 1;
      request.socket.destroy();
      return;
    }
    response.writeHead(answer.statusCode, answer.headers);
    response.end(bytes);
  });
  forwarded.on('error', () => request.socket.destroy());
  forwarded.end(body);
});
await new Promise((listening) => proxy.listen(0, '127.0.0.1', listening));
const host = `http://127.0.0.1:${proxy.address().port}`;

// The calls of one round, and what must be stored of each.
function calls(client, round) {
  const userId = `${client}-${round % 5}`;
  const timestamp = new Date(Date.UTC(2026, 0, 1, 0, 0, round));
  const common = { userId, timestamp };
  return [
    ['track', { ...common, event: 'Order Completed', properties: { total: round + 0.5, items: [{ sku: 'ä"\\' }] } }],
    ['identify', { ...common, traits: { email: `${userId}@example.com`, round } }],
    ['page', { ...common, name: 'Home', properties: { path: `/${round}` } }],
    ['screen', { ...common, name: 'Start', properties: { round } }],
    ['group', { ...common, groupId: `g${round}`, traits: { plan: 'pro' } }],
    ['alias', { ...common, previousId: `visitor-${userId}` }],
  ];
}

// message id → what was sent.
const expected = new Map();

async function sendWithSegment() {
  const client = new Segment({ writeKey: WRITE_KEY, host, flushAt: 15, flushInterval: 200 });
  client.on('error', (error) => assert.fail(`the Segment client gave up: ${JSON.stringify(error)}`));
  const sent = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [call, message] of calls('segment', round)) {
      sent.push(new Promise((done, failed) => {
        client[call](message, (error, context) => {
          if (error) return failed(error);
          expected.set(context.event.messageId, { call, message });
          return done();
        });
      }));
    }
  }
  await client.closeAndFlush();
  await Promise.all(sent);
}

async function sendWithRudder() {
  const client = new Rudder(WRITE_KEY, { dataPlaneUrl: host, flushAt: 20, flushInterval: 200, retryCount: 5 });
  const sent = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [call, message] of calls('rudder', round)) {
      const messageId = `rudder-${call}-${round}`;
      expected.set(messageId, { call, message });
      sent.push(new Promise((done, failed) => {
        client[call]({ ...message, messageId }, (error) => (error ? failed(error) : done()));
      }));
    }
  }
  await Promise.all(sent);
}

async function get(path) {
  const answer = await fetch(`${KITH_URL}${path}`, { headers: { authorization: `Bearer ${KITH_KEY}` } });
  assert.equal(answer.status, 200, `${path}: ${await answer.clone().text()}`);
  return answer.json();
}

// Every stored event of the people above, by message id.
async function stored() {
  const events = new Map();
  for (const client of ['segment', 'rudder']) {
    for (let number = 0; number < 5; number += 1) {
      const profile = await get(`/api/v1/profiles?identifier=user_id:${client}-${number}`);
      assert.equal(profile.traits.email.value, `${client}-${number}@example.com`);
      let cursor = '';
      do {
        const page = await get(`/api/v1/profiles/${profile.id}/events?limit=500${cursor}`);
        for (const event of page.items) {
          assert.ok(!events.has(event.message_id), `${event.message_id} is there twice`);
          events.set(event.message_id, event);
        }
        cursor = page.next ? `&cursor=${encodeURIComponent(page.next)}` : '';
      } while (cursor);
    }
  }
  return events;
}

function compare(id, { call, message }, event) {
  assert.ok(event, `${id} was acknowledged and is not there`);
  assert.equal(event.kind, call, id);
  assert.equal(event.source, 'segment', id);
  const identifiers = event.identifiers.map(({ type, value }) => `${type}:${value}`);
  assert.ok(identifiers.includes(`user_id:${message.userId}`), id);
  if (call === 'track') assert.equal(event.name, message.event, id);
  if (call === 'page' || call === 'screen') assert.equal(event.name, message.name, id);
  for (const [name, value] of Object.entries(message.properties ?? {})) {
    assert.deepEqual(event.properties[name], value, `${id}: ${name}`);
  }
  if (call === 'identify') {
    for (const [name, value] of Object.entries(message.traits)) assert.deepEqual(event.traits[name], value, id);
  }
  if (call === 'group') {
    assert.equal(event.properties.groupId, message.groupId, id);
    assert.deepEqual(event.properties.traits, message.traits, id);
  }
  if (call === 'alias') assert.ok(identifiers.includes(`previous_id:${message.previousId}`), id);
  // The clients send from this machine, so that the correction by `sentAt` is small.
  const skew = Math.abs(Date.parse(event.time) - message.timestamp.getTime());
  assert.ok(skew < 60_000, `${id}: ${event.time} is ${skew} ms off`);
}

await sendWithSegment();
await sendWithRudder();
proxy.close();
proxy.closeAllConnections();
assert.equal(expected.size, 2 * ROUNDS * 6);
assert.ok(faults.cut > 1 && faults.unavailable > 1, JSON.stringify(faults));
const events = await stored();
for (const [id, sent] of expected) compare(id, sent, events.get(id));
assert.equal(events.size, expected.size, 'nothing else is there');
console.log(`${expected.size} messages of two clients, each there once, over ${requests} requests of which ` +
  `${faults.cut} lost their answer and ${faults.unavailable} were refused`);
