// Sends words over a WebSocket, one when the one before has come back, and prints what comes back.
'use strict';

const WebSocket = require('ws');
const [url, ...words] = process.argv.slice(2);
const socket = new WebSocket(url);
const next = () => (words.length ? socket.send(words.shift()) : socket.close());
socket.on('open', next);
socket.on('message', (data) => { console.log(data.toString()); next(); });
socket.on('error', (err) => { console.error(`wsclient: ${err.message}`); process.exitCode = 1; });
