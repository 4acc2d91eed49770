//! How far numbers are from golden ones, and how far they may be.

/// The largest difference found, and where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deviation {
    /// Relative to the largest golden number beside it.
    pub relative: f32,
    /// What was compared.
    pub at: String,
}

impl Deviation {
    /// The larger one. What is not a number is larger than any.
    pub fn merge(&mut self, other: Self) {
        if other.relative > self.relative || other.relative.is_nan() {
            *self = other;
        }
    }
}

/// The largest size among numbers.
#[must_use]
pub fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |most, n| most.max(n.abs()))
}

/// The largest difference relative to the largest golden number; `at` says of what.
///
/// # Errors
/// When there are more numbers or fewer.
pub fn deviation(ours: &[f32], golden: &[f32], at: String) -> Result<Deviation, String> {
    if ours.len() != golden.len() {
        let (ours, golden) = (ours.len(), golden.len());
        return Err(format!("{at}: {ours} numbers instead of {golden}"));
    }
    let mut most = 0f32;
    for (a, b) in ours.iter().zip(golden) {
        let off = (a - b).abs();
        // `max` would lose what is not a number.
        if off > most || off.is_nan() {
            most = off;
        }
        if most.is_nan() {
            break;
        }
    }
    let relative = most / largest(golden);
    Ok(Deviation { relative, at })
}

/// Compares logits and the token chosen from them.
pub(crate) fn logits(
    tolerance: f32,
    (ours, token): (&[f32], u32),
    (golden, chosen): (&[f32], u32),
    at: String,
) -> Result<Deviation, String> {
    let found = deviation(ours, golden, at)?;
    if found.relative.is_nan() || found.relative > tolerance {
        let Deviation { relative, at } = found;
        return Err(format!(
            "{at}: logits are off by {relative:.1e}, more than {tolerance:.0e}"
        ));
    }
    // Each of the two may have moved towards the other.
    let lead = lead(golden);
    if token != chosen && lead > 2.0 * tolerance * largest(golden) {
        return Err(format!(
            "{}: token {token} instead of {chosen}, which leads by {lead}",
            found.at
        ));
    }
    Ok(found)
}

/// How much larger the largest number is than the next one.
pub(crate) fn lead(numbers: &[f32]) -> f32 {
    let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for &number in numbers {
        if number > first {
            (first, second) = (number, first);
        } else if number > second {
            second = number;
        }
    }
    first - second
}
