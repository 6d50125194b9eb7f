const { spawn, exec, execFileSync, fork } = require('child_process');
if (process.argv[2] === 'child') {
    process.on('message', m => { process.send({ got: m.n * 2 }); if (m.n === 5) process.disconnect(); });
} else {
    console.log(execFileSync('echo', ['sync']).toString().trim());
    exec('exit 3', e => {
        console.log('exec', e.code);
        const p = spawn('sort', ['-n']);
        let out = '';
        p.stdout.on('data', d => out += d);
        p.on('close', c => {
            console.log(out.split('\n').slice(0, 3).join(), c);
            const k = spawn('sleep', ['100']);
            k.on('exit', (c, s) => {
                console.log(c, s);
                spawn('no-such-program').on('error', e => {
                    console.log(e.code);
                    const f = fork(__filename, ['child']);
                    let sum = 0;
                    f.on('message', m => sum += m.got);
                    f.on('exit', c => console.log('fork', sum, c));
                    for (let n = 1; n <= 5; n++) f.send({ n });
                });
            });
            k.kill('SIGTERM');
        });
        for (let i = 0; i < 100; i++) p.stdin.write((i * 37 % 101) + '\n');
        p.stdin.end();
    });
}
