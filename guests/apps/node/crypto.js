const crypto = require('crypto');
const zlib = require('zlib');
console.log(crypto.createHash('sha256').update('text').digest('hex'));
console.log(crypto.createHmac('sha512', 'key').update('text').digest('base64').slice(0, 40));
crypto.pbkdf2('password', 'salt', 20000, 32, 'sha256', (e, k) => {
    console.log(k.toString('hex'));
    const c = crypto.createCipheriv('aes-256-gcm', k, Buffer.alloc(12));
    const out = Buffer.concat([c.update('secret'), c.final()]);
    console.log(out.toString('hex'), c.getAuthTag().toString('hex'));
    const { publicKey, privateKey } = crypto.generateKeyPairSync('ed25519');
    const sig = crypto.sign(null, Buffer.from('m'), privateKey);
    console.log(crypto.verify(null, Buffer.from('m'), publicKey, sig), sig.length);
    console.log(crypto.randomBytes(16).length, crypto.randomUUID().length);
    zlib.gzip(Buffer.alloc(100000, 'a'), (e, z) => zlib.gunzip(z, (e, u) => console.log(u.length)));
});
