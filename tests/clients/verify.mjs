// Compares what a client reported as sent (numbers on standard input) with what is stored: prints lost, doubled, set aside, and
// moved: stored more than a second from when it was, which each event says itself. Ends with 1 where one of them is not 0, or the
// client reported nothing.
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
let [moved, corrected, farthest] = [0, 0, 0];
const profile = await get(`/api/v1/profiles?identifier=user_id:${client}`);
for (const event of (await pages(`/api/v1/profiles/${profile.id}/events`)).filter((one) => one.name === 'Tried')) {
  stored.set(event.properties.number, (stored.get(event.properties.number) ?? 0) + 1);
  // Sent at once or on a later try, by a clock that is right or not: the time is that of the event.
  const off = Math.abs(Date.parse(event.time) - event.properties.at);
  farthest = Math.max(farthest, off);
  if (!(off <= 1_000)) moved += 1;
  if ((event.flags ?? []).some((flag) => flag.startsWith('clock-corrected'))) corrected += 1;
}
const letters = await pages('/api/v1/dead-letters');
const lost = [...reported].filter((number) => !stored.has(number)).length;
const doubled = [...stored.values()].filter((times) => times > 1).length;
console.log(`${client}: ${count} events, ${reported.size} reported as sent, ${stored.size} stored, ${lost} lost, ` +
  `${doubled} doubled, ${letters.length} dead letters, ${moved} moved by more than a second (${farthest} ms at most), ` +
  `${corrected} by the correction of clocks`);
// A clock that is right is not corrected, and one that is wrong is.
const odd = client.endsWith('-ahead') ? stored.size - corrected : corrected;
process.exit(lost + doubled + letters.length + moved + odd > 0 || reported.size === 0 ? 1 : 0);
