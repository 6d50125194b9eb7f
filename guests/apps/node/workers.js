const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
if (isMainThread) {
    const shared = new SharedArrayBuffer(16), a = new Int32Array(shared);
    let left = 4, total = 0;
    for (let i = 0; i < 4; i++) {
        const w = new Worker(__filename, { workerData: { i, shared } });
        w.on('message', v => total += v);
        w.on('exit', code => {
            if (code) console.log('exit', code);
            if (--left === 0) {
                console.log(total, a[0]);
                spin();
            }
        });
    }
    function spin() { // the main thread spins without a call until the worker answers in shared memory
        a[1] = 0;
        const w = new Worker('const { workerData } = require("worker_threads"); Atomics.store(new Int32Array(workerData), 1, 1);', { eval: true, workerData: shared });
        w.on('online', () => { while (Atomics.load(a, 1) === 0); console.log('spun'); hot(); });
    }
    function hot() { // a loop that is only fast once the JIT's thread had its turn
        let x = 1;
        for (let i = 0; i < 50000000; i++) x = (x * 1103515245 + 12345) & 0x7fffffff;
        console.log(x);
    }
} else {
    const a = new Int32Array(workerData.shared);
    let n = 0;
    for (let i = 0; i < 100000; i++) { n += i % 7; if (i % 10 === 0) Atomics.add(a, 0, 1); }
    parentPort.postMessage(n);
}
