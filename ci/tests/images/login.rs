//! A registry with TLS, by a certificate authority that nobody knows, and with a password: Debian's, in a network of its own, as
//! loopback needs no TLS.

use crate::host::{Done, Host, io, same};
use ftl_ci::place;
use std::fs;

const NAME: &str = "192.0.2.1:5000/app:1";

/// Keys and certificates: an authority, a server's that it signed, and another authority.
const KEYS: &str = "set -e\n\
    ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'\n\
    openssl req -x509 $ec -keyout ca.key -out ca.pem -days 2 -subj /CN=ca\n\
    openssl req -x509 $ec -keyout other.key -out other.pem -days 2 -subj /CN=other\n\
    openssl req $ec -keyout server.key -out server.csr -subj /CN=registry\n\
    printf 'subjectAltName=IP:192.0.2.1\\nextendedKeyUsage=serverAuth\\n' > ext\n\
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem\n\
    perl -e 'print \"user:\", crypt(\"secret\", q($2b$05$abcdefghijklmnopqrstuu)), \"\\n\"' > htpasswd\n";

/// In the network: what must be refused is, with the reason; what is right goes out, and comes back elsewhere.
const TALK: &str = "set -e\n\
    ip link set lo up; ip addr add 192.0.2.1/32 dev lo\n\
    docker-registry serve registry.yml > /dev/null 2>&1 & registry=$!\n\
    trap 'kill $registry' EXIT\n\
    n=0; until openssl s_client -connect 192.0.2.1:5000 < /dev/null > /dev/null 2>&1; do n=$((n + 1)); [ $n -lt 300 ]; sleep 0.1; done\n\
    no() { part=$1; shift; if \"$@\" 2> said; then echo \"went through: $*\"; exit 1; fi; grep -q \"$part\" said || { cat said; exit 1; }; }\n\
    export REGISTRY_AUTH_FILE=none.json\n\
    no 'invalid peer certificate' $f image push --ca-file other.pem $name\n\
    no 'asks for a name and a password' $f image push --ca-file ca.pem $name\n\
    export REGISTRY_AUTH_FILE=wrong.json\n\
    no 'does not let us in' $f image push --ca-file ca.pem $name\n\
    export REGISTRY_AUTH_FILE=auth.json\n\
    no 'registry 192.0.2.1:5000' $f image push --insecure-registry 192.0.2.1:5000 $name\n\
    $f image push --ca-file ca.pem $name\n\
    export XDG_DATA_HOME=$elsewhere\n\
    SSL_CERT_FILE=ca.pem $f image pull $name >&2\n\
    $f run --image $name\n";

/// See the module.
pub fn tls() -> Done {
    let h = Host::new()?;
    h.small(NAME, "hello")?;
    h.ask("sh", &["-c", KEYS])?.good()?;
    let auths = |file: &str, auth: &str| {
        h.write(
            file,
            &format!("{{\"auths\":{{\"192.0.2.1:5000\":{{\"auth\":\"{auth}\"}}}}}}"),
        )
    };
    auths("auth.json", "dXNlcjpzZWNyZXQ=")?;
    auths("wrong.json", "dXNlcjp3cm9uZw==")?;
    h.write("none.json", "{}")?;
    h.write(
        "registry.yml",
        "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: stored}}\nhttp:\n  addr: 192.0.2.1:5000\n  \
         tls: {certificate: server.pem, key: server.key}\nauth: {htpasswd: {realm: here, path: htpasswd}}\n",
    )?;
    io(fs::create_dir_all(h.cwd().join("stored")))?;
    let elsewhere = h.cwd().join("elsewhere");
    let f = place::ftvm()?;
    let script = format!(
        "f={}; name={NAME}; elsewhere={}\n{TALK}",
        f.display(),
        elsewhere.display()
    );
    same(
        "run",
        h.ask("unshare", &["-Urn", "sh", "-c", &script])?
            .good()?
            .lines()
            .last(),
        Some("hello"),
    )
}
