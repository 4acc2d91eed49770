//! The table that is printed: Markdown, in the columns of llama-bench.

use std::fmt;

/// What stands above the rows.
pub(super) const HEAD: &str = "\
| model                          |       size | format | engine     | threads | nodes |  test |           tokens/s |
| ------------------------------ | ---------: | ------ | ---------- | ------: | ----: | ----: | -----------------: |
";

/// One test.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The model's name.
    pub(super) model: String,
    /// Of its weights.
    pub(super) bytes: u64,
    /// How most of them are stored.
    pub(super) format: String,
    /// What computed.
    pub(super) engine: String,
    /// With how many threads; MLX does not tell.
    pub(super) threads: Option<usize>,
    /// On how many nodes.
    pub(super) nodes: usize,
    /// `pp512` reads a prompt of 512 tokens, `tg128` writes 128.
    pub(super) test: String,
    /// Tokens per second of each turn.
    pub(super) rates: Vec<f64>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = self.threads.map_or("-".to_owned(), |n| n.to_string());
        let (mean, deviation) = spread(&self.rates);
        write!(
            f,
            "| {:<30} | {:>10} | {:<6} | {:<10} | {threads:>7} | {:>5} | {:>5} | {:>18} |",
            self.model,
            format!("{:.2} MiB", self.bytes as f64 / f64::from(1 << 20)),
            self.format,
            self.engine,
            self.nodes,
            self.test,
            format!("{mean:.2} ± {deviation:.2}"),
        )
    }
}

/// The mean, and how far single values are from it (the sample's standard deviation).
fn spread(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = if values.len() > 1 {
        (squares / (count - 1.0)).sqrt()
    } else {
        0.0
    };
    (mean, deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_below_the_head() {
        let row = Row {
            model: "stories".into(),
            bytes: 7 << 20,
            format: "F16".into(),
            engine: "mlx + cpu".into(),
            threads: None,
            nodes: 2,
            test: "pp512".into(),
            rates: vec![1.0, 2.0, 6.0],
        };
        let line = row.to_string();
        for head in HEAD.lines() {
            let bars = |line: &str| -> Vec<usize> {
                let letters = line.chars().enumerate();
                letters
                    .filter(|(_, c)| *c == '|')
                    .map(|(at, _)| at)
                    .collect()
            };
            assert_eq!(bars(head), bars(&line), "{head}\n{line}");
        }
        assert!(line.ends_with(" 3.00 ± 2.65 |"), "{line}");
        assert!(line.contains("7.00 MiB | F16 "), "{line}");
    }

    #[test]
    fn one_value_has_no_spread() {
        assert_eq!(spread(&[5.0]), (5.0, 0.0));
    }
}
