// One of the browser clients sends COUNT events in Chromium through the proxy at HOST; what it reports as sent is printed, one
// number a line. CHROMIUM is the browser's path.
//
// node browser.mjs segment-browser|rudder-browser HOST COUNT

import { readFile } from 'node:fs/promises';
import http from 'node:http';

import { chromium } from 'playwright-core';

const [client, host, count] = [process.argv[2], process.argv[3], Number(process.argv[4])];
const { WRITE_KEY, CHROMIUM } = process.env;
const bundles = {
  'segment-browser': 'node_modules/@segment/analytics-next/dist/umd/standalone.js',
  'rudder-browser': 'node_modules/@rudderstack/analytics-js/dist/npm/legacy/bundled/umd/index.js',
};
const bundle = await readFile(bundles[client], 'utf8');
const page = http.createServer((request, response) => {
  const isScript = request.url === '/client.js';
  response.writeHead(200, { 'content-type': isScript ? 'text/javascript' : 'text/html' });
  response.end(isScript ? bundle : '<!doctype html><title>t</title><script src="/client.js"></script>');
});
await new Promise((listening) => { page.listen(0, '127.0.0.1', listening); });

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
const tab = await browser.newPage();
await tab.goto(`http://127.0.0.1:${page.address().port}/`);
await tab.evaluate(async ({ client, host, count, writeKey }) => {
  const wait = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
  if (client === 'segment-browser') {
    const { AnalyticsBrowser } = window;
    const [analytics] = await AnalyticsBrowser.load(
      { writeKey, cdnURL: host },
      { integrations: { 'Segment.io': { apiHost: `${host.replace('http://', '')}/v1`, protocol: 'http' } } },
    );
    await analytics.identify(client);
    window.tried = (number) => analytics.track('Tried', { number, at: Date.now() });
  } else {
    const { RudderAnalytics } = window.rudderanalytics;
    const analytics = new RudderAnalytics();
    analytics.load(writeKey, host, { configUrl: host, plugins: [] });
    await new Promise((ready) => { analytics.ready(ready); });
    analytics.identify(client);
    window.tried = (number) => analytics.track('Tried', { number, at: Date.now() });
  }
  for (let number = 0; number < count; number += 1) {
    window.tried(number);
    if (number % 25 === 24) await wait(50);
  }
}, { client, host, count, writeKey: WRITE_KEY });
// The clients' queues have no end to wait for: until nothing was sent for ten seconds.
let last = Date.now();
tab.on('request', () => { last = Date.now(); });
while (Date.now() - last < 10_000) await new Promise((resolve) => { setTimeout(resolve, 200); });
console.log(Array.from({ length: count }, (_, number) => number).join('\n'));
await browser.close();
page.close();
process.exit(0);
