// A proxy in front of KITH_URL that spoils half of the requests: it cuts connections before and after the server has taken a
// batch, truncates answers, answers in the server's place, delays, and delivers twice. It prints its address, and what it did
// when it is stopped.

import http from 'node:http';

const { KITH_URL } = process.env;
const FAULTS = [
  'pass', 'cut-before', 'pass', 'cut-after', 'pass', 'truncate', 'pass', '500-before', 'pass', '500-after', 'pass',
  '502-html', 'pass', '503-retry', 'pass', '429-retry', 'pass', 'delay', 'pass', 'twice', 'pass', 'twice-late',
];
// Twice the same fault in a row would be a client's last try sooner or later.
const done = Object.fromEntries(FAULTS.map((fault) => [fault, 0]));
let requests = 0;

async function whole(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

function forward(request, body) {
  const { host, 'transfer-encoding': _chunked, ...headers } = request.headers;
  if (body.length > 0 || request.method === 'POST') headers['content-length'] = body.length;
  return new Promise((resolve, reject) => {
    const forwarded = http.request(`${KITH_URL}${request.url}`, { method: request.method, headers }, async (answer) => {
      resolve({ status: answer.statusCode, headers: answer.headers, bytes: await whole(answer) });
    });
    forwarded.on('error', reject);
    forwarded.end(body);
  });
}

const later = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

const proxy = http.createServer(async (request, response) => {
  const body = await whole(request);
  // Questions of browsers and their configuration are asked once; what is tried is the sending.
  const fault = request.method === 'POST' ? FAULTS[requests++ % FAULTS.length] : 'pass';
  done[fault] += 1;
  const own = (status, headers, text) => {
    response.writeHead(status, { 'access-control-allow-origin': '*', ...headers });
    response.end(text);
  };
  const problem = '{"code":"test","message":"spoilt on purpose"}';
  const json = { 'content-type': 'application/json' };
  try {
    if (fault === 'cut-before') return request.socket.destroy();
    if (fault === '500-before') return own(500, json, problem);
    if (fault === '503-retry') return own(503, { ...json, 'retry-after': '1' }, problem);
    if (fault === '429-retry') return own(429, { ...json, 'retry-after': '1' }, problem);
    if (fault === 'delay') await later(400);
    const answer = await forward(request, body);
    if (fault === 'twice') await forward(request, body);
    if (fault === 'twice-late') later(1_500).then(() => forward(request, body)).catch(() => {});
    if (fault === 'cut-after') return request.socket.destroy();
    if (fault === '500-after') return own(500, json, problem);
    if (fault === '502-html') return own(502, { 'content-type': 'text/html' }, '<html>Bad Gateway</html>');
    if (fault === 'truncate') {
      response.writeHead(answer.status, { ...answer.headers, 'content-length': answer.bytes.length + 100 });
      response.write(answer.bytes.subarray(0, 5));
      return setTimeout(() => request.socket.destroy(), 20);
    }
    response.writeHead(answer.status, answer.headers);
    return response.end(answer.bytes);
  } catch {
    return request.socket.destroy();
  }
});
await new Promise((listening) => { proxy.listen(0, '127.0.0.1', listening); });
console.log(`http://127.0.0.1:${proxy.address().port}`);
process.on('SIGTERM', () => {
  console.log(JSON.stringify({ requests, done }));
  process.exit(0);
});
