const http = require('http');
const server = http.createServer((req, res) => {
    if (req.url === '/hello') res.end('hello\n');
    else if (req.url === '/quit') { res.end('bye\n'); server.close(); server.closeAllConnections?.(); }
    else if (req.url === '/upload') { let n = 0; req.on('data', d => n += d.length); req.on('end', () => res.end(n + ' bytes\n')); }
    else if (req.url === '/stream') { let i = 0; const next = () => i < 1000 ? res.write('chunk ' + i++ + '\n', next) : res.end(); next(); }
    else if (req.url.startsWith('/slow')) setTimeout(() => res.end('slow ' + req.url.slice(5) + '\n'), 20);
    else if (req.url.startsWith('/n')) res.end(JSON.stringify({ path: req.url }) + '\n');
    else { res.statusCode = 404; res.end(); }
});
server.listen(+process.argv[2], '127.0.0.1');
