// Registers and counters over a WebSocket (RFC 6455): a text frame asks, a text frame answers. All frames are short.
const crypto = require('crypto');
const values = new Map();
const answer = (path) => {
  const [, verb, key, value] = path.split('/');
  if (verb === 'get') return values.get(key) ?? '-';
  if (verb === 'set') { values.set(key, value); return 'OK'; }
  const sum = String(Number(values.get(key)) + Number(value));
  values.set(key, sum);
  return sum;
};
const server = require('http').createServer((request, response) => response.writeHead(426).end());
server.on('upgrade', (request, socket, first) => {
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = crypto.createHash('sha1').update(key).digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
    + `Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let had = first;
  const serve = (data) => {
    had = Buffer.concat([had, data]);
    while (had.length >= 6) {
      const length = had[1] & 127;
      if (had[0] !== 0x81 || !(had[1] & 128) || length > 125) return socket.destroy();
      if (had.length < 6 + length) return;
      const mask = had.subarray(2, 6);
      const text = Buffer.from(had.subarray(6, 6 + length).map((b, i) => b ^ mask[i % 4])).toString();
      had = had.subarray(6 + length);
      const body = Buffer.from(answer(text));
      socket.write(Buffer.concat([Buffer.from([0x81, body.length]), body]));
    }
  };
  socket.on('data', serve);
  socket.on('error', () => socket.destroy());
  serve(Buffer.alloc(0));
});
server.listen({ port: 8080, host: '0.0.0.0' });
