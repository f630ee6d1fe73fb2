// The connector acme/stripe: one webhook of Stripe is at most one event.
import config from 'kith:plugin/config@0.2.0';
import secrets from 'kith:plugin/secrets@0.2.0';
import { each, told } from './stubs.js';

// Amounts come in the currency's smallest unit; these have none smaller than one, or a thousand to one.
const WHOLE = new Set('bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf'.split(' '));
const THOUSANDTHS = new Set('bhd jod kwd omr tnd'.split(' '));

function amount(units, currency) {
  if (!Number.isFinite(units) || !currency) return undefined;
  if (WHOLE.has(currency)) return units;
  return units / (THOUSANDTHS.has(currency) ? 1000 : 100);
}

// The event of each type of webhook. The other types are taken, and nothing is made of them.
const READERS = {
  'charge.succeeded': (charge) => ({ kind: 'track', name: 'Payment Succeeded', ...payment(charge, charge.amount) }),
  'charge.refunded': (charge, before) => {
    // A charge may be refunded in parts, each of which is a webhook with the sum of all so far.
    const refunded = charge.amount_refunded - (before.amount_refunded ?? 0);
    return { kind: 'track', name: 'Payment Refunded', ...payment(charge, refunded) };
  },
  'customer.created': customer,
  'customer.updated': customer,
};

function payment(charge, units) {
  const details = charge.billing_details ?? {};
  const currency = typeof charge.currency === 'string' ? charge.currency : undefined;
  return {
    identifiers: identifiers(charge.customer, details.email ?? charge.receipt_email),
    properties: {
      total: amount(units, currency),
      currency: currency?.toUpperCase(),
      payment_id: charge.id,
      order_id: charge.metadata?.order_id,
      method: charge.payment_method_details?.type,
    },
  };
}

function customer(person) {
  return {
    kind: 'identify',
    name: '',
    identifiers: identifiers(person.id, person.email),
    traits: { name: person.name ?? undefined, city: person.address?.city, country: person.address?.country },
  };
}

function identifiers(id, email) {
  const found = [];
  if (typeof id === 'string') found.push({ kind: 'stripe_id', value: id });
  if (typeof email === 'string') found.push({ kind: 'email', value: email });
  return found;
}

// A request that was set aside comes again without its headers. Its signature was checked when it first came.
function isChecked(request) {
  return request.attributes.some(([name]) => name === 'replay' || name === 'again');
}

// `Stripe-Signature: t=TIME,v1=SIGNATURE,…`: of the time, a point and the body.
function isSigned(request, tolerance) {
  const header = request.headers.find(([name]) => name === 'stripe-signature')?.[1] ?? '';
  const fields = header.split(',').map((field) => field.trim().split('='));
  const time = fields.find(([name]) => name === 't')?.[1] ?? '';
  if (!/^[0-9]{1,12}$/.test(time) || Math.abs(request.receivedAt / 1000 - time) > tolerance) return false;
  const message = new Uint8Array(time.length + 1 + request.body.length);
  message.set([...`${time}.`].map((character) => character.charCodeAt(0)));
  message.set(request.body, time.length + 1);
  const key = { secret: 'endpoint', form: 'text', digest: 'sha256' };
  // While a secret is changed there is a signature by each.
  const signatures = fields.filter(([name]) => name === 'v1').slice(0, 4);
  return signatures.some(([, signature]) => secrets.verifyHmac(key, message, signature ?? ''));
}

// The text of UTF-8 bytes; the engine has no TextDecoder.
function decoded(bytes) {
  const parts = [];
  // A call takes only so many arguments.
  for (let at = 0; at < bytes.length; at += 4096) parts.push(String.fromCharCode(...bytes.subarray(at, at + 4096)));
  return decodeURIComponent(escape(parts.join('')));
}

// The answer of `receive` for a whole body.
function received(request, parts) {
  const { events = [], rejected = [] } = parts;
  return { events, rejected, consumed: request.body.length, resume: null, answer: null, notes: [] };
}

function refusal(status, code, message) {
  return { status, code, message };
}

// What comes of one request. The contract asks about a list of them.
function receive(request) {
  // Nothing is made of half a document: call again with more.
  if (!request.complete) return { ...received(request, {}), consumed: 0 };
  const settings = JSON.parse(config.get());
  if (!isChecked(request) && !isSigned(request, settings.tolerance_seconds)) {
    throw refusal(401, 'bad-signature', "the call is not signed with the endpoint's secret, or too long ago");
  }
  let text, webhook;
  try {
    text = decoded(request.body);
    webhook = JSON.parse(text);
  } catch (error) {
    throw refusal(400, 'bad-json', `the body is no JSON in UTF-8: ${error.message}`);
  }
  const subject = webhook?.data?.object;
  if (typeof webhook?.type !== 'string' || typeof subject !== 'object' || subject === null) {
    throw refusal(400, 'bad-event', 'the body is no event of Stripe: it has no `type` and no `data.object`');
  }
  const read = Object.hasOwn(READERS, webhook.type) ? READERS[webhook.type] : undefined;
  if (!read) {
    console.debug('nothing is made of', webhook.type);
    return received(request, {});
  }
  const { kind, name, identifiers, properties, traits } = read(subject, webhook.data.previous_attributes ?? {});
  if (identifiers.length === 0) {
    const message = 'the event names no customer and no e-mail address; have the shop send one of them';
    return received(request, { rejected: [{ place: 0, code: 'missing-identifier', message, raw: text }] });
  }
  const event = {
    kind,
    messageId: typeof webhook.id === 'string' ? webhook.id : null,
    name,
    time: Number.isInteger(webhook.created) ? webhook.created * 1000 : null,
    sentAt: null,
    identifiers,
    properties: properties ? JSON.stringify(properties) : '',
    traits: traits ? JSON.stringify(traits) : '',
    context: '',
    flags: [],
    originalTime: null,
    attributes: [['at', `0:0-${request.body.length}`]],
  };
  return received(request, { events: [event] });
}

export const source = told({ receive: each(receive) });

// Asked of every configuration. `polling`, which the world has as well, is never asked without `[poll]` in the manifest.
export const connectorChecking = {
  validate() {},
  migrate(_fromVersion, configuration) {
    return configuration;
  },
};
