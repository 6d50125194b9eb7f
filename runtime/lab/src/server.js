// Registers and counters over HTTP with kept-alive connections.
const values = new Map();
const server = require('http').createServer((request, response) => {
  const [, verb, key, value] = request.url.split('/');
  let body = 'OK';
  if (verb === 'set') values.set(key, value);
  else if (verb === 'get') body = values.get(key) ?? '-';
  else { body = String(Number(values.get(key)) + Number(value)); values.set(key, body); }
  response.setHeader('Content-Length', body.length);
  response.end(body);
});
// An image whose outputs are held while the arbiter is away goes on. After 5 s in which a client sends nothing, since it was not
// answered, node would close its connection.
server.keepAliveTimeout = 120000;
server.listen({ port: Number(process.env.PORT ?? 8080), host: '0.0.0.0' });
