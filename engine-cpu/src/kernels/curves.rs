//! Curves that layers bend numbers by, as plain loops: see [`super::bodies`].

/// e to the power of `x`, within 2 units in the last place between -87 and 88, clamped outside.
#[inline(always)]
#[must_use]
pub(crate) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    // ln 2 in two parts, so that the remainder keeps all its bits.
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 0.166_666_65);
    p = p.mul_add(r, 0.5);
    let y = (r * r).mul_add(p, r) + 1.0;
    let power = (shifted.to_bits() << 23).wrapping_add(127 << 23);
    y * f32::from_bits(power)
}

/// `gate` = silu(`gate`) × `up`.
#[inline(always)]
pub(crate) fn silu_product(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

/// Every `x` becomes its sigmoid.
#[inline(always)]
pub(crate) fn sigmoid(x: &mut [f32]) {
    for x in x {
        *x = 1.0 / (1.0 + exp(-*x));
    }
}

/// `gate` = gelu(`gate`) × `up`, by the tanh approximation.
///
/// Half of one plus tanh of `u` is the sigmoid of `2u`.
#[inline(always)]
pub(crate) fn gelu_product(gate: &mut [f32], up: &[f32]) {
    // 2 · sqrt(2 / π), and the same times 0.044715.
    const LINEAR: f32 = 1.595_769;
    const CUBIC: f32 = 0.071_354_814;
    for (gate, up) in gate.iter_mut().zip(up) {
        let x = *gate;
        let twice = x * (x * x).mul_add(CUBIC, LINEAR);
        *gate = x / (1.0 + exp(-twice)) * up;
    }
}

/// Hyperbolic tangent, within 1e-7 of its size.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    // Near zero 1 - exp(-2x) would lose the bits that count: there the odd Taylor series, beyond
    // its reach the exponential. Both are computed, so that loops become vectors.
    const SMALL: f32 = 0.25;
    let square = x * x;
    let mut p = 62.0 / 2835.0;
    p = square.mul_add(p, -17.0 / 315.0);
    p = square.mul_add(p, 2.0 / 15.0);
    p = square.mul_add(p, -1.0 / 3.0);
    let near = (x * square).mul_add(p, x);
    let e = exp(-2.0 * x.abs());
    let far = ((1.0 - e) / (1.0 + e)).copysign(x);
    if x.abs() < SMALL { near } else { far }
}

/// Every `x` becomes `cap` × tanh(`x` / `cap`).
#[inline(always)]
pub(crate) fn soft_cap(x: &mut [f32], cap: f32) {
    for x in x {
        *x = cap * tanh(*x / cap);
    }
}
