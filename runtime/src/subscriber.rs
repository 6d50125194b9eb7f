//! What daemons say by `tracing`, as lines of [`crate::talk`]: in one form with what processes of an image say.
//!
//! It has no thread, no buffer and no lock over a fork: an agent's processes go on with it as it is.

use crate::talk::{self, Fields, Format, Level, Value};
use std::fmt::{self, Debug};
use std::io;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// From here on events of this level and above are lines. In a process that is of no image.
pub fn install(format: Format, level: Level) {
    let up_to = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let all = tracing_subscriber::fmt()
        .with_max_level(up_to)
        .event_format(Lines(talk::format))
        .with_writer(|| Stderr)
        .finish();
    // There is one already only where a test has made it.
    let _ = tracing::subscriber::set_global_default(all);
    if format == Format::Json {
        // Else a thread's panic would be lines that are no objects.
        std::panic::set_hook(Box::new(|info| {
            talk::say(Level::Error, &info.to_string(), &[("code", "panic".into())]);
        }));
    }
}

struct Lines(fn() -> Format);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, e: &Event<'_>) -> fmt::Result {
        let level = match *e.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            _ => Level::Debug,
        };
        let mut said = Said::default();
        e.record(&mut said);
        let fields: &Fields<'_> = &said.fields;
        out.write_str(&talk::line_as((self.0)(), level, &said.message, fields))
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, Value<'static>)>,
}

impl Said {
    fn add(&mut self, field: &Field, value: Value<'static>) {
        match (field.name(), value) {
            ("message", Value::Text(text)) => self.message = text.into_owned(),
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, Value::Text(format!("{value:?}").into()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(value.to_string().into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Number(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Number(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Bool(value));
    }
}

/// A line comes in one piece, and goes so. Not std's, which locks.
struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        crate::sys::write_all(2, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    /// Each write apart.
    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<String>>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).expect("text");
            self.0.lock().expect("nobody has panicked").push(text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: fn() -> Format, events: impl FnOnce()) -> Vec<String> {
        let writes = Writes::default();
        let own = writes.clone();
        let all = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::INFO)
            .event_format(Lines(format))
            .with_writer(move || own.clone())
            .finish();
        tracing::subscriber::with_default(all, events);
        std::mem::take(&mut writes.0.lock().expect("nobody has panicked"))
    }

    fn events() {
        let (name, n) = ("a \"name\"", 7u32);
        tracing::info!(run = name, epoch = n, ok = true, path = ?name, "{name}: one\u{1b}\ntwo");
        tracing::debug!("not of this level");
        tracing::error!("over");
    }

    #[test]
    fn an_event_is_one_write_of_one_object() {
        let all = written(|| Format::Json, events);
        assert_eq!(all.len(), 2, "{all:?}");
        let objects: Vec<serde_json::Value> = all
            .iter()
            .map(|l| serde_json::from_str(l).expect("an object"))
            .collect();
        assert!(
            all.iter()
                .all(|l| l.matches('\n').count() == 1 && l.ends_with('\n'))
        );
        let v = &objects[0];
        assert_eq!(v["message"], "a \"name\": one\u{1b}\ntwo");
        assert_eq!((&v["level"], &v["run"]), (&"info".into(), &"a \"name\"".into()));
        assert_eq!((&v["epoch"], &v["ok"]), (&7.into(), &true.into()));
        assert_eq!(v["path"], "\"a \\\"name\\\"\"");
        assert_eq!(objects[1]["level"], "error");
    }

    #[test]
    fn text_has_the_message_alone() {
        let all = written(|| Format::Text, events);
        assert_eq!(all, ["ftvm: a \"name\": one\\u{1b}\ntwo\n", "ftvm: over\n"]);
    }
}
