// What a program in JavaScript may try inside of a plugin: `.ci/languages` has what has to come of it.
import config from 'kith:plugin/config@0.2.0';
import { each, told } from '../../../examples/connector-stripe-js/src/stubs.js';

const deeper = (depth) => deeper(depth + 1) + 1;

const WAYS = {
  well: () => 'well',
  print() {
    print('a line of print');
    console.log('a line of', { console: true });
    return 'printed';
  },
  loop() {
    for (;;);
  },
  memory() {
    const taken = [];
    for (;;) taken.push(new Uint8Array(1 << 20).fill(1));
  },
  deep: () => String(deeper(0)),
  throw() {
    throw new Error('words of the author');
  },
  // There is nothing with which a file could be named, and a module cannot be loaded once the plugin is made.
  file: () => [typeof require, typeof process, typeof Deno, typeof open].join(' '),
  socket: () => [typeof fetch, typeof XMLHttpRequest, typeof WebSocket].join(' '),
  date: () => [Date.now() > 0, new Date(Date.now()).toISOString()].join(' '),
};

export const source = told({
  receive: each((request) => {
    const { how } = JSON.parse(config.get());
    const notes = [['said', WAYS[how]()]];
    return { events: [], rejected: [], consumed: request.body.length, resume: null, answer: null, notes };
  }),
});

export const connectorChecking = {
  validate() {},
  migrate: (_fromVersion, configuration) => configuration,
};
