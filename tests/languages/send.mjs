// Payments as Stripe would tell of them, signed with the endpoint's secret, to the address of a source: four of one
// person, a week apart, the last of them twice, and one with a forged signature.
//
// KITH_URL and WRITE_KEY name the address, STRIPE_SECRET is the endpoint's secret.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';

const { KITH_URL, WRITE_KEY, STRIPE_SECRET } = process.env;
const now = Math.floor(Date.now() / 1000);
const WEEK = 7 * 24 * 60 * 60;

async function send(number, secret) {
  const metadata = { order_id: `Ö-${number}` };
  const charge = { id: `ch_${number}`, amount: 4999, currency: 'eur', customer: 'cus_1', metadata };
  const created = now - number * WEEK;
  const webhook = { id: `evt_${number}`, type: 'charge.succeeded', created, data: { object: charge } };
  const body = JSON.stringify(webhook);
  const signature = createHmac('sha256', secret).update(`${now}.${body}`).digest('hex');
  const headers = { 'content-type': 'application/json', 'stripe-signature': `t=${now},v1=${signature}` };
  const answer = await fetch(`${KITH_URL}/hooks/${WRITE_KEY}`, { method: 'POST', headers, body });
  return { status: answer.status, body: await answer.json() };
}

// `more`: only one that comes after all of these.
if (process.argv[2] === 'more') {
  const more = await send(0, STRIPE_SECRET);
  assert.deepEqual([more.status, more.body.accepted], [200, 1], JSON.stringify(more.body));
} else {
  for (const number of [1, 2, 3, 4]) {
    const { status, body } = await send(number, STRIPE_SECRET);
    assert.deepEqual([status, body.accepted], [200, 1], JSON.stringify(body));
  }
  const again = await send(4, STRIPE_SECRET);
  assert.deepEqual([again.status, again.body.accepted, again.body.duplicate], [200, 0, 1], JSON.stringify(again.body));
  const forged = await send(5, 'another');
  assert.deepEqual([forged.status, forged.body.code], [401, 'bad-signature'], JSON.stringify(forged.body));
}
