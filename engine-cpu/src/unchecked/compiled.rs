//! The plain bodies, compiled for wider vectors.

/// The same code once for each format: a constant one folds the unpacking into straight code.
macro_rules! each_format {
    ($format:expr, |$constant:ident| $code:expr) => {
        each_format!(@ $format, $constant, $code, Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4K Q5K Q6K)
    };
    (@ $format:expr, $constant:ident, $code:expr, $($name:ident)*) => {
        match $format {
            $(Format::$name => {
                let $constant = Format::$name;
                $code
            })*
        }
    };
}

/// The same for the bits of packed weights.
macro_rules! each_width {
    ($rows:ident, |$constant:ident| $code:expr) => {
        each_width!(@ $rows, $constant, $code, 2 3 4 6 _ 8)
    };
    (@ $rows:ident, $constant:ident, $code:expr, $($bits:literal)* _ $last:literal) => {
        match $rows.bits {
            $($bits => {
                let $constant = &PackedRows { bits: $bits, ..*$rows };
                $code
            })*
            _ => {
                let $constant = &PackedRows { bits: $last, ..*$rows };
                $code
            }
        }
    };
}

/// Defines `wide`, a module with a safe entry for each body, compiled for `$features`.
///
/// The entries are safe to call only by promise 1 of the folder: they end up in a table that is
/// given out after the features were detected.
macro_rules! compiled_for {
    ($features:literal) => {
        mod wide {
            use crate::kernels::activations::{self, Q8x8, Q8x16};
            use crate::kernels::bodies::{self, FLOAT_TOKENS, PAGE};
            use crate::kernels::curves;
            use crate::kernels::{Format, PackedRows, Panel};

            compiled_for!(@ $features
                fn unpack(panel: &mut Panel, format: Format, rows: &[u8], row_bytes: usize) {
                    each_format!(format, |format| panel.unpack(format, rows, row_bytes))
                }
            );
            compiled_for!(@ $features
                fn unpack_packed(panel: &mut Panel, rows: &PackedRows<'_>) {
                    each_width!(rows, |rows| panel.unpack_packed(rows))
                }
            );
            compiled_for!(@ $features
                fn read(format: Format, row: &[u8], out: &mut [f32]) {
                    each_format!(format, |format| bodies::read(format, row, out))
                }
            );
            compiled_for!(@ $features
                fn read_packed(rows: &PackedRows<'_>, out: &mut [f32]) {
                    each_width!(rows, |rows| bodies::read_packed(rows, out))
                }
            );
            compiled_for!(@ $features
                fn quantise(x: &[f32], out: &mut [Q8x8]) { activations::quantise(x, out) }
            );
            compiled_for!(@ $features
                fn interleave(tokens: &[&[Q8x8]], out: &mut [Q8x16]) {
                    activations::interleave(tokens, out)
                }
            );
            compiled_for!(@ $features
                fn float_tile(row: &[f32], tokens: [&[f32]; FLOAT_TOKENS]) -> [f32; FLOAT_TOKENS] {
                    bodies::float_tile(row, tokens)
                }
            );
            compiled_for!(@ $features
                fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
                    bodies::rms_norm(x, weight, eps, out)
                }
            );
            compiled_for!(@ $features
                fn silu_product(gate: &mut [f32], up: &[f32]) { curves::silu_product(gate, up) }
            );
            compiled_for!(@ $features
                fn gelu_product(gate: &mut [f32], up: &[f32]) { curves::gelu_product(gate, up) }
            );
            compiled_for!(@ $features
                fn sigmoid(x: &mut [f32]) { curves::sigmoid(x) }
            );
            compiled_for!(@ $features
                fn soft_cap(x: &mut [f32], cap: f32) { curves::soft_cap(x, cap) }
            );
            compiled_for!(@ $features
                fn add(x: &mut [f32], y: &[f32]) { bodies::add(x, y) }
            );
            compiled_for!(@ $features
                fn softmax(x: &mut [f32]) -> f32 { bodies::softmax(x) }
            );
            compiled_for!(@ $features
                fn scores(query: &[f32], keys: &[f32], out: &mut [f32; PAGE]) {
                    bodies::scores(query, keys, out)
                }
            );
            compiled_for!(@ $features
                fn weigh(weights: &[f32], values: &[f32], out: &mut [f32]) {
                    bodies::weigh(weights, values, out)
                }
            );
        }
    };
    (@ $features:literal
        fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block) => {
        pub(super) fn $name($($argument: $type),*) $(-> $result)? {
            #[target_feature(enable = $features)]
            fn compiled($($argument: $type),*) $(-> $result)? $body
            // SAFETY: promise 1: this entry is in no table given out without these features.
            unsafe { compiled($($argument),*) }
        }
    };
}
