//! How parameters follow their gradients.
//!
//! MLX's own optimisers leave out the correction of the moments' bias, or key their state by module
//! paths; a few lines on arrays are simpler.

use exo_protocol::engine::Optimizer;
use mlx_rs::Array;
use mlx_rs::error::Result;

/// See [`Optimizer::AdamW`].
const BETAS: (f64, f64) = (0.9, 0.999);
const EPSILON: f32 = 1e-8;

/// What AdamW remembers of a parameter: means of its gradients and of their squares.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    pub(crate) first: Array,
    pub(crate) second: Array,
}

impl Moments {
    /// At the beginning.
    pub(crate) fn zeros(shape: &[i32]) -> Result<Self> {
        Ok(Self {
            first: Array::zeros::<f32>(shape)?,
            second: Array::zeros::<f32>(shape)?,
        })
    }
}

/// One step of a parameter; `step` counts from one. Nothing is computed yet.
pub(crate) fn follow(
    optimizer: Optimizer,
    learning_rate: f32,
    step: u32,
    value: &Array,
    gradient: &Array,
    moments: Option<&Moments>,
) -> Result<(Array, Option<Moments>)> {
    let number = Array::from_f32;
    let rate = number(learning_rate);
    let (weight_decay, moments) = match (optimizer, moments) {
        (Optimizer::AdamW { weight_decay }, Some(moments)) => (weight_decay, moments),
        (Optimizer::Sgd, _) | (_, None) => {
            return Ok((value.subtract(gradient.multiply(rate)?)?, None));
        }
    };
    let mean = |old: &Array, new: &Array, beta: f64| {
        let old = old.multiply(number(beta as f32))?;
        old.add(new.multiply(number((1.0 - beta) as f32))?)
    };
    let first = mean(&moments.first, gradient, BETAS.0)?;
    let second = mean(&moments.second, &gradient.square()?, BETAS.1)?;
    // In double precision: with the first steps the corrections are close to zero.
    let corrected = |moment: &Array, beta: f64| {
        let correction = 1.0 - beta.powf(f64::from(step));
        moment.multiply(number((1.0 / correction) as f32))
    };
    let root = corrected(&second, BETAS.1)?.sqrt()?;
    let change = corrected(&first, BETAS.0)?.divide(root.add(number(EPSILON))?)?;
    let kept = value.multiply(number(1.0 - learning_rate * weight_decay))?;
    let value = kept.subtract(change.multiply(rate)?)?;
    Ok((value, Some(Moments { first, second })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlx_rs::array;

    fn floats(array: &Array) -> Vec<f32> {
        array.contiguous().unwrap().to_vec_exact().unwrap()
    }

    #[test]
    fn sgd_goes_against_the_gradient() {
        let (value, gradient) = (array!([1.0f32, -2.0]), array!([0.5f32, 4.0]));
        let (value, moments) = follow(Optimizer::Sgd, 0.1, 1, &value, &gradient, None).unwrap();
        assert_eq!(floats(&value), [0.95, -2.4]);
        assert!(moments.is_none());
    }

    /// The same by the formula, in double precision.
    #[test]
    fn adamw_is_its_formula() {
        let (rate, decay) = (0.01, 0.1);
        let (mut p, mut m, mut v) = (0.7_f64, 0.0_f64, 0.0_f64);
        let mut value = array!([0.7f32]);
        let mut moments = Moments::zeros(&[1]).unwrap();
        for step in 1..=20_u32 {
            let g = (f64::from(step) * 0.37).sin();
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (mh, vh) = (
                m / (1.0 - 0.9_f64.powf(f64::from(step))),
                v / (1.0 - 0.999_f64.powf(f64::from(step))),
            );
            p = p * (1.0 - rate * decay) - rate * mh / (vh.sqrt() + 1e-8);
            let optimizer = Optimizer::AdamW {
                weight_decay: decay as f32,
            };
            let gradient = array!([g as f32]);
            let rate = rate as f32;
            let next = follow(optimizer, rate, step, &value, &gradient, Some(&moments)).unwrap();
            value = next.0;
            moments = next.1.unwrap();
            let got = floats(&value)[0];
            assert!(
                (f64::from(got) - p).abs() < 1e-5,
                "step {step}: {got}, not {p}"
            );
        }
    }
}
