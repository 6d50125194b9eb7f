//! `--log-format`, `--log-level`: of what stays, as a daemon or as the supervisor of an image.

use crate::subscriber;
use crate::talk::{self, Format, Level, Role};

/// The same for processes that cannot be given options.
const ENV_FORMAT: &str = "FTVM_LOG_FORMAT";
const ENV_LEVEL: &str = "FTVM_LOG_LEVEL";

/// How ftvm's own lines on stderr are written. (clap wants a name that no other verb's options have: record has its LogArgs.)
#[derive(clap::Args)]
pub struct LineArgs {
    /// Form of ftvm's own lines on stderr: text, or json, an object a line with time, level, message and fields
    /// [default: $FTVM_LOG_FORMAT, else text]
    #[arg(long, value_name = "text|json", hide_possible_values = true)]
    log_format: Option<Format>,
    /// Write lines of this level and above [default: $FTVM_LOG_LEVEL, else info]
    #[arg(long, value_name = "error|warn|info|debug", hide_possible_values = true)]
    log_level: Option<Level>,
}

fn variable<T>(name: &str, of: fn(&str) -> Option<T>, words: &str) -> Result<Option<T>, String> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => match of(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(format!("{name}: {text:?} is none of {words}")),
        },
        _ => Ok(None),
    }
}

/// Before the verb. `args`: of a verb that has them. `in_place`: in a process of an image, which does not reach the subscriber.
pub fn begin(args: Option<&LineArgs>, role: Role, in_place: bool) -> Result<(), String> {
    let (mut format, mut level) = (None, None);
    if let Some(args) = args {
        (format, level) = (args.log_format, args.log_level);
    }
    // A process of an image, or of a node, goes by whoever has made it.
    if let Some(handed) = talk::take_on() {
        format = format.or(Some(handed.0));
        level = level.or(Some(handed.1));
    }
    if args.is_some() {
        if format.is_none() {
            format = variable(ENV_FORMAT, Format::of, "text, json")?;
        }
        if level.is_none() {
            level = variable(ENV_LEVEL, Level::of, "error, warn, info, debug")?;
        }
    }
    let (format, level) = (format.unwrap_or(Format::Text), level.unwrap_or(Level::Info));
    talk::begin(format, level);
    // What an agent has made is an image's from there on.
    talk::set_role(if in_place { Role::Run } else { role });
    if !in_place {
        subscriber::install(format, level);
    }
    Ok(())
}
