// Fetches paths of one host over one HTTP/2 connection, with Node's own http2, all at the same time, and prints the
// status and body of each in their order.
'use strict';

const http2 = require('http2');
const [origin, ...paths] = process.argv.slice(2);
const session = http2.connect(origin);
session.on('error', (err) => { console.error(`http2client: ${err.message}`); process.exitCode = 1; });

function fetchOne(path) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':path': path });
    let text = '';
    let status;
    stream.setEncoding('utf8');
    stream.on('response', (headers) => { status = headers[':status']; });
    stream.on('data', (part) => { text += part; });
    stream.on('end', () => resolve(`${status} ${text}`));
    stream.on('error', reject);
    stream.end();
  });
}

Promise.all(paths.map(fetchOne)).then((answers) => process.stdout.write(answers.join('')))
  .finally(() => session.close());
