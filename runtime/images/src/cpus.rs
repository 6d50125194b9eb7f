//! A number of CPUs (`limits.cpus`).

use serde::{Deserialize, Serialize};

/// A number of CPUs, to a thousandth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Cpus(u32);

impl Cpus {
    /// Thousandths of one CPU.
    pub fn thousandths(self) -> u32 {
        self.0
    }
}

impl TryFrom<f64> for Cpus {
    type Error = String;

    fn try_from(n: f64) -> Result<Cpus, String> {
        match (0.01..=1e6).contains(&n) {
            true => Ok(Cpus((n * 1000.0).round() as u32)),
            false => Err(format!(
                "{n} is no number of CPUs; write one from 0.01 on, as 0.5"
            )),
        }
    }
}

impl From<Cpus> for f64 {
    fn from(c: Cpus) -> f64 {
        f64::from(c.0) / 1000.0
    }
}

impl std::fmt::Display for Cpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f64::from(*self).fmt(f)
    }
}
