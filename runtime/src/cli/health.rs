//! Options of `run` about health checks.

use super::options;
use crate::health::{self, Health};
use std::time::Duration;

/// Whether a run is well, as a command in the image says.
#[derive(clap::Args)]
pub struct HealthArgs {
    /// Command that says by exit code 0 that the program is well: a line for the image's shell, or a JSON array as in
    /// ["CMD", "redis-cli", "ping"]. `ftvm ps` and `ftvm status` show what came of it
    #[arg(long = "health-cmd", value_name = "COMMAND")]
    pub(super) health_cmd: Option<String>,
    /// Time between two checks [default: 30s]
    #[arg(long = "health-interval", value_name = "TIME", value_parser = options::interval, requires = "health_cmd")]
    pub(super) health_interval: Option<Duration>,
    /// Failures in a row that make it unhealthy [default: 3]
    #[arg(long = "health-retries", value_name = "N", value_parser = clap::value_parser!(u32).range(1..), requires = "health_cmd")]
    pub(super) health_retries: Option<u32>,
    /// Failures before the first success count from so long after the start on [default: at once]
    #[arg(long = "health-start-period", value_name = "TIME", value_parser = options::interval, requires = "health_cmd")]
    pub(super) health_start_period: Option<Duration>,
    /// A check that takes longer has failed [default: 30s]
    #[arg(long = "health-timeout", value_name = "TIME", value_parser = options::interval, requires = "health_cmd")]
    pub(super) health_timeout: Option<Duration>,
    /// They are the image's own.
    #[arg(skip)]
    pub(super) of_image: bool,
}

impl HealthArgs {
    /// What the image says, where the command line says nothing.
    pub fn fill(&mut self, h: &ftl_images::config::Health) -> Result<(), String> {
        if self.health_cmd.is_some() {
            return Ok(());
        }
        let time = |name: &str, text: &Option<String>| {
            let parsed = text.as_deref().map(options::interval).transpose();
            parsed.map_err(|e| format!("health.{name}: {e}"))
        };
        if h.command.is_empty() || h.retries == Some(0) {
            return Err("health: the command is empty, or retries is 0".to_string());
        }
        let words: Vec<&str> = std::iter::once("CMD")
            .chain(h.command.iter().map(String::as_str))
            .collect();
        self.health_cmd = Some(serde_json::json!(words).to_string());
        self.health_interval = time("interval", &h.interval)?;
        self.health_timeout = time("timeout", &h.timeout)?;
        self.health_start_period = time("start-period", &h.start_period)?;
        self.health_retries = h.retries;
        self.of_image = true;
        Ok(())
    }

    /// What is to be checked, if anything.
    pub fn wanted(&self) -> Result<Option<Health>, String> {
        let Some(text) = &self.health_cmd else {
            return Ok(None);
        };
        let argv = health::command(text).map_err(|why| format!("--health-cmd: {why}"))?;
        let usual = Duration::from_secs(30);
        Ok(argv.map(|argv| Health {
            argv,
            interval: self.health_interval.unwrap_or(usual),
            timeout: self.health_timeout.unwrap_or(usual),
            start_period: self.health_start_period.unwrap_or_default(),
            retries: self.health_retries.unwrap_or(3),
        }))
    }
}
