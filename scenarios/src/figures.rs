//! Percentiles, and figures for `cargo xtask accept`.

use std::io::Write;

use anyhow::Result;

/// Measurements of one thing, in any unit.
#[derive(Debug, Default)]
pub struct Series(Vec<f64>);

impl Series {
    pub const fn new() -> Self {
        Series(Vec::new())
    }

    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn extend(&mut self, other: Series) {
        self.0.extend(other.0);
    }

    /// The value below which `percent` of the measurements lie; 0 when there are none.
    pub fn percentile(&mut self, percent: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * percent / 100.0).round() as usize).copied().unwrap_or_default()
    }

    /// `p50 1.23  p90 2.34  p99 3.45  max 4.56`
    pub fn summary(&mut self) -> String {
        let mut at = |percent| self.percentile(percent);
        format!("p50 {:8.3}  p90 {:8.3}  p99 {:8.3}  max {:8.3}", at(50.0), at(90.0), at(99.0), at(100.0))
    }
}

/// Appends one figure to the file of the acceptance run, if there is one.
#[expect(clippy::disallowed_methods, reason = "a tool of the gate, told by its environment where to report")]
pub fn report(name: &str, value: f64, unit: &str) -> Result<()> {
    if let Ok(path) = std::env::var("FLINT_FIGURES") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
        writeln!(file, "{name} {value:.3} {unit}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Series;

    #[test]
    fn percentiles() {
        let mut series = Series::default();
        assert_eq!(series.percentile(50.0), 0.0);
        for n in 1..=101 {
            series.push(f64::from(102 - n));
        }
        assert_eq!((series.percentile(50.0), series.percentile(99.0), series.percentile(100.0)), (51.0, 100.0, 101.0));
    }
}
