//! Medians, and intervals by bootstrap; the same numbers from the same values and seed.

use ftl_lab::Dice;

/// Samples of the bootstrap.
const RESAMPLES: usize = 4000;

/// Middle of the values; the mean of the two in the middle of an even number.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    let n = v.len();
    match n {
        0 => None,
        _ => Some((v[(n - 1) / 2] + v[n / 2]) / 2.0),
    }
}

/// A ratio and what is known of it.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Ratio {
    /// Median of the rounds' ratios.
    pub median: f64,
    /// 95 % interval of that median.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// Rounds in which both were measured.
    pub rounds: usize,
}

impl Ratio {
    /// From ratios within rounds. `None` below two rounds: one value has no interval.
    pub fn of(ratios: &[f64], seed: u64) -> Option<Ratio> {
        if ratios.len() < 2 {
            return None;
        }
        let mut dice = Dice(seed);
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .filter_map(|_| {
                let again: Vec<f64> = (0..ratios.len())
                    .map(|_| ratios[dice.below(ratios.len() as u64) as usize])
                    .collect();
                median(&again)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let at = |share: f64| medians[((RESAMPLES - 1) as f64 * share).round() as usize];
        Some(Ratio {
            median: median(ratios)?,
            low: at(0.025),
            high: at(0.975),
            rounds: ratios.len(),
        })
    }

    /// The interval is narrower than the effect. What differs by less than can be seen has no ratio.
    pub fn resolved(&self) -> bool {
        let width = self.high - self.low;
        width.is_finite() && width < (self.median - 1.0).abs()
    }

    /// For a table: the ratio, or that there is none.
    pub fn text(&self) -> String {
        match self.resolved() {
            true => format!("{:.2}", self.median),
            false => "not resolved".to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn only_what_is_wider_apart_than_the_noise_is_a_ratio() {
        let clear = Ratio::of(&[0.80, 0.81, 0.79, 0.80, 0.82], 1).expect("five rounds");
        assert!(clear.resolved() && clear.text() == "0.80", "{clear:?}");
        assert!(clear.low >= 0.79 && clear.high <= 0.82, "{clear:?}");
        let noise = Ratio::of(&[0.80, 1.3, 0.7, 1.1, 0.95], 1).expect("five rounds");
        assert!(!noise.resolved() && noise.text() == "not resolved", "{noise:?}");
        let same = Ratio::of(&[1.0, 1.001, 0.999], 1).expect("three rounds");
        assert!(!same.resolved(), "no effect has no ratio: {same:?}");
        assert_eq!(Ratio::of(&[0.5], 1), None);
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let v = [0.5, 0.6, 0.7, 0.8, 0.55];
        assert_eq!(Ratio::of(&v, 7), Ratio::of(&v, 7));
    }
}
