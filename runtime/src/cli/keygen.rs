//! `ftvm keygen`: keys with which hosts know each other.

use super::say;
use crate::link::keys;
use std::path::PathBuf;

/// Options of `keygen`.
#[derive(clap::Args)]
pub struct KeygenArgs {
    /// The directory to make: authority.pem, cert.pem and key.pem for --tls-dir
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Directory of an earlier keygen: sign by its authority, for a further host
    #[arg(long, value_name = "DIR")]
    authority: Option<PathBuf>,
    /// Name of the host in its certificate
    #[arg(long, default_value = "node", value_name = "NAME", value_parser = label)]
    name: String,
    /// Days that the certificate is good for
    #[arg(long, default_value_t = 825, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
}

/// What can stand in a certificate's name.
fn label(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = text.starts_with('-') || text.ends_with('-');
    if text.is_empty() || text.len() > 63 || ends || !text.chars().all(good) {
        return Err(format!(
            "{text:?} is not a name: 1 to 63 lower-case letters, digits and -"
        ));
    }
    Ok(text.to_string())
}

/// `keygen`. Returns 0 or 1.
pub fn keygen(args: &KeygenArgs) -> i32 {
    match keys::make(&args.out, args.authority.as_deref(), &args.name, args.days) {
        Ok(()) => {
            println!("{}", args.out.display());
            if args.authority.is_none() {
                say(&format!(
                    "copy {0} to the other host without authority-key.pem, or make its keys with --authority {0}",
                    args.out.display()
                ));
            }
            0
        }
        Err(why) => {
            say(&why);
            1
        }
    }
}
