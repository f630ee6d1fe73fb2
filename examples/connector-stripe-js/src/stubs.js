// Stubs in the place of WASI. The engine's imports of it are traps (`--stub-wasi`), because a plugin has none; in front
// of two of them this file puts the plugin's own: printing goes to the log, and the time is the kernel's. There are no
// files and no sockets.
import log from 'kith:plugin/log@0.2.0';
import clock from 'kith:plugin/clock@0.2.0';

const text = (value) => {
  if (typeof value === 'string') return value;
  if (value instanceof Error) return `${value}\n${value.stack}`;
  return JSON.stringify(value) ?? String(value);
};
const writer = (level) => (...values) => log.write(level, values.map(text).join(' '));

// `kith plugin logs NAME` shows the lines.
globalThis.console = {
  debug: writer('debug'),
  log: writer('info'),
  info: writer('info'),
  warn: writer('warn'),
  error: writer('error'),
};
globalThis.print = console.log;

// The kernel's clock, which connectors and channels have; in a tag model or a scorer leave it out. `new Date()` goes past
// this and traps; `new Date(Date.now())` does not.
Date.now = () => clock.now();

// The functions of an interface, which log an error that none of them caught: the trap that it becomes has no words.
export function told(functions) {
  const telling = (call) => (...values) => {
    try {
      return call(...values);
    } catch (error) {
      if (error instanceof Error) console.error(error);
      throw error;
    }
  };
  return Object.fromEntries(Object.entries(functions).map(([name, call]) => [name, telling(call)]));
}

// `receive`, which is asked about a list of requests, of a function that knows one: what that returns is the answer, and what it
// throws refuses that request alone, unless it is an error of the program.
export function each(receive) {
  const answer = (request) => {
    try {
      return { tag: 'ok', val: receive(request) };
    } catch (refusal) {
      if (refusal instanceof Error) throw refusal;
      return { tag: 'err', val: refusal };
    }
  };
  return (requests) => requests.map(answer);
}
