const net = require('net');
const dgram = require('dgram');
const order = [];
// Which of a timer and an immediate comes first depends on how long the start took; the order of each kind does not.
setImmediate(() => { order.push('immediate'); setTimeout(() => order.push('t60'), 60); setTimeout(() => order.push('t30'), 30); });
process.nextTick(() => order.push('tick'));
Promise.resolve().then(() => order.push('promise'));
let n = 0;
const i = setInterval(() => { if (++n === 20) { clearInterval(i); next(); } }, 6);
function next() {
    console.log(order.join(' '));
    const server = net.createServer(s => s.on('data', d => s.write(d.toString().toUpperCase())).on('end', () => s.end()));
    server.listen(0, '127.0.0.1', () => {
        let left = 20, bytes = 0;
        for (let k = 0; k < 20; k++) {
            const c = net.connect(server.address().port, '127.0.0.1', () => c.end('hello ' + k));
            c.on('data', d => bytes += d.length).on('close', () => { if (--left === 0) { console.log(bytes); server.close(udp); } });
        }
    });
}
function udp() {
    const s = dgram.createSocket('udp4');
    s.on('message', m => { console.log(m.toString()); s.close(); });
    s.bind(0, '127.0.0.1', () => { const c = dgram.createSocket('udp4'); c.send('datagram', s.address().port, '127.0.0.1', () => c.close()); });
}
process.on('SIGUSR2', () => console.log('signal'));
process.kill(process.pid, 'SIGUSR2');
process.on('exit', c => console.log('exit', c));
