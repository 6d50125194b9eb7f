// Registers and counters over HTTP with kept-alive connections.
const values = new Map();
require('http').createServer((request, response) => {
  const [, verb, key, value] = request.url.split('/');
  let body = 'OK';
  if (verb === 'set') values.set(key, value);
  else if (verb === 'get') body = values.get(key) ?? '-';
  else { body = String(Number(values.get(key)) + Number(value)); values.set(key, body); }
  response.setHeader('Content-Length', body.length);
  response.end(body);
}).listen({ port: Number(process.env.PORT ?? 8080), host: '0.0.0.0' });
