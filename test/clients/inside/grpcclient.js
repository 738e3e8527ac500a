// Calls an echoing gRPC service: once, then over a stream in both directions; prints what comes back.
'use strict';

const grpc = require('@grpc/grpc-js');
const same = (bytes) => bytes;
const client = new grpc.Client(process.argv[2], grpc.credentials.createSsl());

function fail(err) {
  console.error(`grpcclient: ${err.message}`);
  process.exit(1);
}

function many(done) {
  const words = ['1', '2', '3'];
  const call = client.makeBidiStreamRequest('/echo.Echo/Many', same, same);
  const next = () => (words.length ? call.write(Buffer.from(words.shift())) : call.end());
  call.on('data', (data) => { console.log('many', data.toString()); next(); });
  call.on('status', (status) => { console.log('trailer', status.metadata.get('x-count')[0]); done(); });
  call.on('error', fail);
  next();
}

client.makeUnaryRequest('/echo.Echo/Once', same, same, Buffer.from('one'), (err, answer) => {
  if (err) fail(err);
  console.log('once', answer.toString());
  many(() => client.makeUnaryRequest('/echo.Echo/Fail', same, same, Buffer.from('one'), (problem) => {
    console.log('error', grpc.status[problem.code], problem.details);
    client.close();
  }));
});
