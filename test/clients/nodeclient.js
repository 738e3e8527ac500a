#!/usr/bin/env node
// Fetches a URL and prints the body. It has no idea of proxies: the plain https (or http) module, its own agent.
'use strict';

const url = new URL(process.argv[2]);
const lib = require(url.protocol === 'http:' ? 'http' : 'https');

function fail(message) {
  process.stderr.write(`nodeclient: ${message}\n`);
  process.exitCode = 1;
}

lib.get(url, { agent: new lib.Agent(), timeout: 20000 }, (res) => {
  if (res.statusCode !== 200) {
    res.resume();
    fail(`fetching ${url}: ${res.statusCode}`);
    return;
  }
  res.pipe(process.stdout);
}).on('timeout', function () { this.destroy(new Error('timed out')); })
  .on('error', (err) => fail(err.message));
