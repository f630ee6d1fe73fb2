// One of the node clients sends COUNT events through the proxy at HOST; what it reports as sent is printed, one number a line.
//
// node many.mjs segment-node|rudder-node HOST COUNT
//
// SKEW_MS sets the client's clock so far ahead; each event says when it really was.

import { createRequire } from 'node:module';

const [client, host, count] = [process.argv[2], process.argv[3], Number(process.argv[4])];
const library = client.replace(/-ahead$/, '');
const { WRITE_KEY, SKEW_MS = '0' } = process.env;
const Right = Date;
if (SKEW_MS !== '0') {
  globalThis.Date = class extends Right {
    constructor(...given) {
      super(...(given.length === 0 ? [Right.now() + Number(SKEW_MS)] : given));
    }

    static now() {
      return Right.now() + Number(SKEW_MS);
    }
  };
}
const event = (number) => ({
  userId: client, event: 'Tried', properties: { number, at: Right.now() }, timestamp: new Date(),
});
const sent = [];
const report = (number, error) => { if (!error) sent.push(number); };
// A client that dies of an answer would take the others' reports along.
process.on('unhandledRejection', () => {});

if (library === 'segment-node') {
  const { Analytics } = await import('@segment/analytics-node');
  const analytics = new Analytics({ writeKey: WRITE_KEY, host, flushAt: 15, flushInterval: 200 });
  analytics.on('error', () => {});
  const all = [];
  for (let number = 0; number < count; number += 1) {
    all.push(new Promise((done) => {
      analytics.track(event(number), (error) => { report(number, error); done(); });
    }));
    if (number % 15 === 14) await new Promise((resolve) => { setImmediate(resolve); });
  }
  await analytics.closeAndFlush();
  await Promise.all(all);
} else {
  const Rudder = createRequire(import.meta.url)('@rudderstack/rudder-sdk-node');
  const analytics = new Rudder(WRITE_KEY, { dataPlaneUrl: host, flushAt: 20, flushInterval: 200, retryCount: 8 });
  const all = [];
  for (let number = 0; number < count; number += 1) {
    all.push(new Promise((done) => {
      analytics.track(event(number), (error) => { report(number, error); done(); });
    }));
    if (number % 200 === 199) await Promise.all(all);
  }
  await Promise.all(all);
}
console.log(sent.join('\n'));
process.exit(0);
