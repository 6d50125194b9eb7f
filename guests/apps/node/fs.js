const fs = require('fs');
const path = require('path');
(async () => {
    fs.mkdirSync('d/e', { recursive: true });
    for (let i = 0; i < 100; i++) fs.writeFileSync(`d/f${i}`, 'x'.repeat(i));
    const stats = await Promise.all(fs.readdirSync('d').filter(f => f !== 'e').map(f => fs.promises.stat(path.join('d', f))));
    console.log(stats.reduce((a, s) => a + s.size, 0));
    await fs.promises.rename('d/f5', 'd/e/moved');
    console.log((await fs.promises.readFile('d/e/moved')).toString());
    await fs.promises.appendFile('d/e/moved', 'tail');
    console.log(fs.statSync('d/e/moved').size, fs.existsSync('d/f5'));
    fs.symlinkSync('e/moved', 'd/link');
    console.log(fs.readlinkSync('d/link'), fs.readFileSync('d/link', 'utf8'));
    const big = fs.createWriteStream('big');
    for (let i = 0; i < 50; i++) if (!big.write(Buffer.alloc(100000, i))) await new Promise(r => big.once('drain', r));
    await new Promise(r => big.end(r));
    let sum = 0, bytes = 0;
    for await (const c of fs.createReadStream('big')) { bytes += c.length; for (const b of c) sum = (sum + b) | 0; }
    console.log(bytes, sum);
    try { fs.readFileSync('none'); } catch (e) { console.log(e.code, e.syscall); }
    await fs.promises.rm('d', { recursive: true });
    console.log(fs.existsSync('d'));
    fs.unlinkSync('big');
})();
