// Compares what a client reported as sent (numbers on standard input) with what is stored: prints lost, doubled and set aside,
// and ends with 1 where one of them is not 0.
//
// node verify.mjs CLIENT COUNT < numbers

const [client, count] = [process.argv[2], Number(process.argv[3])];
const { KITH_URL, KITH_KEY } = process.env;

async function get(path) {
  const answer = await fetch(`${KITH_URL}${path}`, { headers: { authorization: `Bearer ${KITH_KEY}` } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

async function pages(path) {
  const items = [];
  let cursor = '';
  do {
    const page = await get(`${path}?limit=500${cursor}`);
    items.push(...page.items);
    cursor = page.next ? `&cursor=${encodeURIComponent(page.next)}` : '';
  } while (cursor);
  return items;
}

let text = '';
for await (const piece of process.stdin) text += piece;
const reported = new Set(text.split('\n').filter(Boolean).map(Number));
const stored = new Map();
let moved = 0;
const profile = await get(`/api/v1/profiles?identifier=user_id:${client}`);
for (const event of (await pages(`/api/v1/profiles/${profile.id}/events`)).filter((one) => one.name === 'Tried')) {
  stored.set(event.properties.number, (stored.get(event.properties.number) ?? 0) + 1);
  // Sent at once or on a later try: the time is that of the event and not after its receipt.
  if (Date.parse(event.time) > Date.parse(event.received_at) + 1_000) moved += 1;
}
const letters = await pages('/api/v1/dead-letters');
const lost = [...reported].filter((number) => !stored.has(number)).length;
const doubled = [...stored.values()].filter((times) => times > 1).length;
console.log(`${client}: ${count} events, ${reported.size} reported as sent, ${stored.size} stored, ${lost} lost, ` +
  `${doubled} doubled, ${letters.length} dead letters, ${moved} later than their receipt`);
process.exit(lost + doubled + letters.length > 0 ? 1 : 0);
