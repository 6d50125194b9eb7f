//! A registry that asks for tokens, and one that stops sending.

use super::*;
use crate::store::tests::{Place, image, name};
use std::io::BufRead;
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A request.
struct Asked {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// An answer: status, headers, body.
type Told = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn receive(from: &mut impl BufRead) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let (method, path) = (method.to_string(), path.to_string());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let Some((k, v)) = line.trim().split_once(':') else {
            break;
        };
        headers.insert(k.to_lowercase(), v.trim().to_string());
    }
    let length = headers.get("content-length").and_then(|n| n.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    from.read_exact(&mut body)?;
    Ok(Some(Asked {
        method,
        path,
        headers,
        body,
    }))
}

fn answer(to: &mut TcpStream, asked: &Asked, (status, headers, body): &Told) -> std::io::Result<()> {
    let mut text = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (k, v) in headers {
        text += &format!("{k}: {v}\r\n");
    }
    to.write_all(text.as_bytes())?;
    to.write_all(b"\r\n")?;
    match asked.method.as_str() {
        "HEAD" => Ok(()),
        _ => to.write_all(body),
    }
}

/// Serves each connection by a thread; its port.
fn serve(each: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let each = Arc::new(each);
    std::thread::spawn(move || {
        for c in listener.incoming().flatten() {
            let each = each.clone();
            std::thread::spawn(move || each(c));
        }
    });
    port
}

/// Serves answers; its port.
fn answering(told: impl Fn(&Asked) -> Told + Send + Sync + 'static) -> u16 {
    serve(move |mut c| {
        let mut from = std::io::BufReader::new(c.try_clone()?);
        if let Some(asked) = receive(&mut from)? {
            answer(&mut c, &asked, &told(&asked))?;
        }
        Ok(())
    })
}

/// A registry that takes each token so often, and gives one only for the actions that it is asked for.
#[derive(Default)]
struct Tokens {
    uses: usize,
    /// Actions and uses that are left.
    given: Vec<(String, usize)>,
    stored: BTreeMap<String, (String, Vec<u8>)>,
    refused: usize,
}

impl Tokens {
    fn told(&mut self, asked: &Asked, at: &str) -> Told {
        let own =
            |headers: &[(&'static str, &str)]| headers.iter().map(|(k, v)| (*k, v.to_string())).collect();
        if let Some(query) = asked.path.strip_prefix("/token?") {
            // Percent-encoding of `repository:some/app:` and of the service.
            let actions = query
                .split('&')
                .find_map(|p| p.strip_prefix("scope=repository%3Asome%2Fapp%3A"));
            let Some(actions) = actions.filter(|_| query.contains("service=images%2C%20all")) else {
                return (400, Vec::new(), Vec::new());
            };
            self.given.push((actions.replace("%2C", ","), self.uses));
            let n = self.given.len() - 1;
            return (
                200,
                Vec::new(),
                json!({"token": n.to_string()}).to_string().into_bytes(),
            );
        }
        let needed = match asked.method.as_str() {
            "GET" | "HEAD" => "pull",
            _ => "push",
        };
        let token = asked
            .headers
            .get("authorization")
            .and_then(|t| t.strip_prefix("Bearer "));
        let token = token
            .and_then(|t| t.parse::<usize>().ok())
            .and_then(|n| self.given.get_mut(n));
        let good = token
            .filter(|(actions, left)| *left > 0 && actions.split(',').any(|a| a == needed))
            .map(|(_, left)| *left -= 1);
        if good.is_none() {
            self.refused += 1;
            // As docker's registry asks: pull alone where that would do.
            let actions = if needed == "pull" { "pull" } else { "pull,push" };
            let challenge = format!(
                "Bearer realm=\"http://{at}/token\",service=\"images, all\",scope=\"repository:some/app:{actions}\",error=\"invalid_token\""
            );
            return (401, vec![("www-authenticate", challenge)], Vec::new());
        }
        let Some(rest) = asked.path.strip_prefix("/v2/some/app/") else {
            return (404, Vec::new(), Vec::new());
        };
        match asked.method.as_str() {
            "POST" => (
                202,
                own(&[("location", "/v2/some/app/blobs/uploads/1")]),
                Vec::new(),
            ),
            "PUT" => {
                let digest = Digest::of(&asked.body);
                let media = asked.headers.get("content-type").cloned().unwrap_or_default();
                if rest.starts_with("blobs/") {
                    let meant = rest.ends_with(&format!("digest={}", encode(&digest.to_string())));
                    assert!(meant, "{rest} is {digest}");
                    self.stored
                        .insert(format!("blobs/{digest}"), (media, asked.body.clone()));
                } else {
                    self.stored
                        .insert(format!("manifests/{digest}"), (media.clone(), asked.body.clone()));
                    self.stored.insert(rest.to_string(), (media, asked.body.clone()));
                }
                (201, Vec::new(), Vec::new())
            }
            _ => match self.stored.get(rest) {
                Some((media, bytes)) => (200, own(&[("content-type", media)]), bytes.clone()),
                None => (404, Vec::new(), Vec::new()),
            },
        }
    }
}

fn quiet(_: &str) {}

#[test]
fn a_registry_with_tokens_is_pushed_to_and_pulled_from_also_when_they_expire() {
    // With one use, every request meets a token that is used up, uploads with a body too.
    for uses in [1000, 3, 1] {
        let p = Place::new();
        let store = p.store();
        let [manifest, ..] = image(&store, "layer", false);
        let state = Arc::new(Mutex::new(Tokens {
            uses,
            ..Tokens::default()
        }));
        let at = Arc::new(Mutex::new(String::new()));
        let (own, here) = (state.clone(), at.clone());
        let port = answering(move |asked| {
            let here = here.lock().expect("locked").clone();
            own.lock().expect("locked").told(asked, &here)
        });
        *at.lock().expect("locked") = format!("127.0.0.1:{port}");
        let reference = name(&format!("127.0.0.1:{port}/some/app:1"));
        let opened = Image::open(&store, &manifest).expect("an image");
        push(&store, &opened, &reference, &Options::default(), quiet).expect("pushed");
        {
            let state = state.lock().expect("locked");
            let pushed = state
                .stored
                .get("manifests/1")
                .map(|(_, bytes)| Digest::of(bytes));
            assert_eq!(pushed, Some(manifest.digest));
            // One token for all of a push, if it lives.
            assert!(
                uses < 1000 || state.refused == 1,
                "{} times refused",
                state.refused
            );
        }
        let other = Place::new();
        let elsewhere = other.store();
        let (pulled, _) = pull(
            &elsewhere,
            &reference,
            &Options::default(),
            quiet,
            &|_| false,
            |_| Ok(()),
        )
        .expect("pulled");
        assert_eq!(pulled.digest, manifest.digest);
        let last = state
            .lock()
            .expect("locked")
            .given
            .last()
            .expect("a token")
            .0
            .clone();
        assert_eq!(last, "pull", "a pull asks for no more than that");
    }
}

#[test]
fn a_storage_elsewhere_gets_no_password() {
    let asked_there = Arc::new(AtomicUsize::new(0));
    let count = asked_there.clone();
    let storage = answering(move |asked| {
        if asked.path.starts_with("/token") {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let challenge = format!("Bearer realm=\"http://{}/token\"", asked.headers["host"]);
        (401, vec![("www-authenticate", challenge)], Vec::new())
    });
    let port = answering(move |asked| {
        let to = format!("http://127.0.0.1:{storage}{}", asked.path);
        (307, vec![("location", to)], Vec::new())
    });
    let p = Place::new();
    let store = p.store();
    let reference = name(&format!("127.0.0.1:{port}/some/app:1"));
    let mut c = Client::new(&reference, &Options::default(), Access::Pull, quiet).expect("a client");
    let blob = Blob {
        media: String::new(),
        digest: Digest::of(b"x"),
        size: 1,
    };
    let why = c.blob(&store, &blob).expect_err("refused");
    assert!(why.contains("401"), "{why}");
    assert_eq!(asked_there.load(Ordering::Relaxed), 0);
}

#[test]
fn a_registry_that_stops_sending_is_left_and_asked_for_the_rest() {
    let bytes: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let half = bytes.len() / 2;
    let served = bytes.clone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (ranges, (gone, left)) = (seen.clone(), std::sync::mpsc::channel());
    let gone = Mutex::new(gone);
    let port = serve(move |mut c| {
        let mut from = std::io::BufReader::new(c.try_clone()?);
        let Some(asked) = receive(&mut from)? else {
            return Ok(());
        };
        let range = asked.headers.get("range").cloned();
        ranges.lock().expect("locked").push(range.clone());
        let Some(range) = range else {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", served.len());
            c.write_all(head.as_bytes())?;
            c.write_all(&served[..half])?;
            // Silent, and still there, for far longer than the client waits.
            c.set_read_timeout(Some(Duration::from_secs(60)))?;
            let hung_up = matches!(from.read(&mut [0]), Ok(0));
            let _ = gone.lock().expect("locked").send(hung_up);
            return Ok(());
        };
        let at: usize = range
            .trim_start_matches("bytes=")
            .trim_end_matches('-')
            .parse()
            .expect("a number");
        let told = (206, Vec::new(), served[at..].to_vec());
        answer(&mut c, &asked, &told)
    });
    let p = Place::new();
    let store = p.store();
    let reference = name(&format!("127.0.0.1:{port}/some/app:1"));
    // Long enough that one who does answer does so in time.
    let silence = Duration::from_secs(8);
    let mut c =
        Client::patient(&reference, &Options::default(), Access::Pull, quiet, silence).expect("a client");
    let blob = Blob {
        media: String::new(),
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
    };
    c.blob(&store, &blob).expect("fetched");
    assert!(store.has(&blob));
    let seen = seen.lock().expect("locked").clone();
    assert_eq!(seen, [None, Some(format!("bytes={half}-"))]);
    assert_eq!(left.recv(), Ok(true), "the client hung up");
}

#[test]
fn challenges_are_read_with_their_quotes() {
    let read = |text: &str| -> Vec<String> {
        challenges(text)
            .iter()
            .map(|c| format!("{} {:?}", c.scheme, c.fields))
            .collect()
    };
    assert_eq!(
        read(r#"Bearer realm="https://a.example/t?x=1",service="a\"b", scope="repository:x:pull,push""#),
        [
            r#"Bearer [("realm", "https://a.example/t?x=1"), ("service", "a\"b"), ("scope", "repository:x:pull,push")]"#
        ]
    );
    assert_eq!(
        read(r#"Basic realm="r, s", bearer realm = t ,scope=u"#),
        [
            r#"Basic [("realm", "r, s")]"#,
            r#"bearer [("realm", "t"), ("scope", "u")]"#
        ]
    );
    assert_eq!(read("Negotiate"), ["Negotiate []"]);
    for odd in ["", "=", "\"", "a=\"", "==\"\"=,", "Basic \"", "Bearer realm=\"\\"] {
        let _ = read(odd);
    }
}
