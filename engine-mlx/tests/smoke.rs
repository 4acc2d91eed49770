//! MLX itself: what the engine stands on does here what it says.
//!
//! Each test evaluates on its own thread, as MLX wants it.
#![cfg(mlx)]

use mlx_rs::error::Exception;
use mlx_rs::fast::{ScaledDotProductAttentionMask, rms_norm, rope, scaled_dot_product_attention};
use mlx_rs::io::GgufFile;
use mlx_rs::ops::indexing::{ArrayIndexOp, TryIndexMutOp, TryIndexOp, argmax_axis};
use mlx_rs::ops::{dequantize, gather_qmm, matmul, quantize, quantized_matmul, softmax_axis};
use mlx_rs::transforms::{async_eval, eval, value_and_grad_with_argnums};
use mlx_rs::{Array, Dtype, array, memory, random};
use std::collections::HashMap;

/// Numbers without a pattern that a wrong layout would keep.
fn numbers(shape: &[i32]) -> Array {
    let count: i32 = shape.iter().product();
    let wave = |i: i32| (i as f32 * 0.7).sin() + (i as f32 * 0.013).cos();
    Array::from_iter((0..count).map(wave), shape)
}

fn floats(array: &Array) -> Vec<f32> {
    array
        .contiguous()
        .and_then(|array| array.as_dtype(Dtype::Float32))
        .expect("a float array")
        .to_vec_exact()
        .expect("it computes")
}

fn assert_close(got: &Array, wanted: &Array, tolerance: f64) {
    assert_eq!(got.shape(), wanted.shape());
    let close = got
        .all_close(wanted, tolerance, tolerance, None)
        .expect("both compute");
    assert!(close, "got {got}\nwanted {wanted}");
}

#[test]
fn a_product_of_matrices_is_the_textbooks() {
    let (rows, inner, columns) = (5, 33, 17);
    let a = numbers(&[rows, inner]);
    let b = numbers(&[inner, columns]);
    let (left, right) = (floats(&a), floats(&b));
    let wanted = (0..rows * columns).map(|at| {
        let (row, column) = (at / columns, at % columns);
        (0..inner)
            .map(|k| left[(row * inner + k) as usize] * right[(k * columns + column) as usize])
            .sum::<f32>()
    });
    let wanted = Array::from_iter(wanted, &[rows, columns]);
    assert_close(&matmul(&a, &b).expect("shapes fit"), &wanted, 1e-4);
    let turned = b.t().contiguous().expect("a copy");
    assert_close(&matmul(&a, turned.t()).expect("shapes fit"), &wanted, 1e-4);
}

#[test]
fn quantised_weights_compute_as_their_values() {
    for (group, bits) in [(32, 4), (32, 8), (64, 4)] {
        let weights = numbers(&[48, 128]);
        let x = numbers(&[3, 128]);
        let (packed, scales, biases) = quantize(&weights, group, bits).expect("rows of groups");
        assert_eq!(packed.dtype(), Dtype::Uint32);
        assert_eq!(packed.shape(), [48, 128 * bits / 32]);
        let values = dequantize(&packed, &scales, &biases, group, bits).expect("its own");
        let product = quantized_matmul(&x, &packed, &scales, &biases, true, group, bits);
        let wanted = matmul(&x, values.t()).expect("shapes fit");
        assert_close(&product.expect("shapes fit"), &wanted, 1e-3);
    }
}

#[test]
fn experts_are_gathered_by_index() {
    let weights = numbers(&[4, 16, 64]);
    let x = numbers(&[2, 1, 64]);
    let (packed, scales, biases) = quantize(&weights, 32, 8).expect("rows of groups");
    let chosen = array!([3u32, 1]);
    let got = gather_qmm(
        &x, &packed, &scales, &biases, None, &chosen, true, 32, 8, false,
    );
    let values = dequantize(&packed, &scales, &biases, 32, 8).expect("its own");
    let values = values.take_axis(&chosen, 0).expect("two experts");
    let values = values.transpose_axes(&[0, 2, 1]).expect("three axes");
    let wanted = matmul(&x, values).expect("shapes fit");
    assert_close(&got.expect("shapes fit"), &wanted, 1e-3);
}

#[test]
fn rms_norm_is_its_formula() {
    let x = numbers(&[2, 7, 32]);
    let weight = numbers(&[32]);
    let square = x.square().and_then(|x| x.mean_axis(-1, true));
    let scale = square.and_then(|mean| (mean + array!(1e-5f32)).rsqrt());
    let wanted = &x * scale.expect("a mean") * &weight;
    let got = rms_norm(&x, Some(&weight), 1e-5).expect("shapes fit");
    assert_close(&got, &wanted, 1e-5);
}

#[test]
fn rope_turns_pairs_half_a_head_apart() {
    let (positions, dims, base, offset) = (3usize, 8usize, 10_000f32, 5);
    let x = numbers(&[1, 1, positions as i32, dims as i32]);
    let values = floats(&x);
    let half = dims / 2;
    let mut wanted = values.clone();
    for position in 0..positions {
        for i in 0..half {
            let angle = (position + offset) as f32 * base.powf(-(i as f32) / half as f32);
            let (low, high) = (position * dims + i, position * dims + i + half);
            wanted[low] = values[low] * angle.cos() - values[high] * angle.sin();
            wanted[high] = values[low] * angle.sin() + values[high] * angle.cos();
        }
    }
    let got = rope(&x, dims as i32, false, base, 1.0, offset as i32, None);
    let wanted = Array::from_slice(&wanted, x.shape());
    assert_close(&got.expect("shapes fit"), &wanted, 1e-4);
}

#[test]
fn attention_is_causal_and_shares_keys_among_heads() {
    let (heads, shared, queries, keys, dims) = (6, 2, 3, 5, 16);
    let q = numbers(&[1, heads, queries, dims]);
    let k = numbers(&[1, shared, keys, dims]);
    let v = numbers(&[1, shared, keys, dims]) * array!(0.5f32);
    let scale = 0.25;
    let causal = ScaledDotProductAttentionMask::Causal;
    let got = scaled_dot_product_attention(&q, &k, &v, scale, Some(causal), None);

    let spread = |x: &Array| {
        let indices = Array::from_iter((0..heads).map(|h| h * shared / heads), &[heads]);
        x.take_axis(indices, 1).expect("a head for each")
    };
    let scores = matmul(&q, spread(&k).swap_axes(-1, -2).expect("two axes"));
    let hidden = (0..queries * keys).map(|at| {
        let (query, key) = (at / keys, at % keys);
        let seen = key <= query + keys - queries;
        if seen { 0.0 } else { f32::NEG_INFINITY }
    });
    let hidden = Array::from_iter(hidden, &[queries, keys]);
    let scores = scores.expect("shapes fit") * array!(scale) + hidden;
    let weights = softmax_axis(scores, -1, true).expect("an axis");
    let wanted = matmul(weights, spread(&v)).expect("shapes fit");
    assert_close(&got.expect("shapes fit"), &wanted, 1e-4);
}

#[test]
fn gradients_are_those_of_the_formula() {
    // f = sum((x w)^2): df/dx = 2 (x w) w^T, df/dw = 2 x^T (x w).
    let x = numbers(&[4, 6]);
    let w = numbers(&[6, 3]);
    let f = |args: &[Array]| -> Result<Vec<Array>, Exception> {
        Ok(vec![matmul(&args[0], &args[1])?.square()?.sum(None)?])
    };
    let (value, gradients) =
        value_and_grad_with_argnums(f, &[0, 1])(&[x.clone(), w.clone()]).expect("it computes");
    let product = matmul(&x, &w).expect("shapes fit");
    let twice = &product * array!(2.0f32);
    let wanted = product.square().and_then(|square| square.sum(None));
    assert_close(&value[0], &wanted.expect("a sum"), 1e-4);
    assert_close(&gradients[0], &matmul(&twice, w.t()).expect("shapes"), 1e-4);
    assert_close(&gradients[1], &matmul(x.t(), &twice).expect("shapes"), 1e-4);
}

#[test]
fn a_slice_is_written_and_read_back() {
    let mut cache = Array::zeros::<f32>(&[1, 2, 8, 4]).expect("a shape");
    let rows = numbers(&[1, 2, 3, 4]);
    cache
        .try_index_mut((.., .., 2..5, ..), &rows)
        .expect("the slice fits");
    let back = cache.try_index((.., .., 2..5, ..)).expect("in range");
    assert_close(&back, &rows, 0.0);
    let rest = cache.try_index((.., .., 5.., ..)).expect("in range");
    assert!(floats(&rest).iter().all(|value| *value == 0.0));
    let last = cache.try_index((.., .., ArrayIndexOp::ExpandDims, 4));
    assert!(last.is_ok_and(|last| last.shape() == [1, 2, 1, 4]));
}

#[test]
fn what_cannot_be_is_an_error_not_the_end_of_the_process() {
    let error = matmul(numbers(&[2, 3]), numbers(&[4, 5])).expect_err("shapes differ");
    assert!(error.what().contains("matmul"), "{error}");
}

#[test]
fn random_numbers_follow_their_key() {
    let draw = |seed| {
        let key = random::key(seed).expect("a key");
        let numbers = random::normal::<f32>(&[64], None, None, &key);
        floats(&numbers.expect("a shape"))
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    let unseeded = random::uniform::<_, f32>(0.0, 1.0, &[8], None).expect("a shape");
    assert!(floats(&unseeded).iter().all(|x| (0.0..1.0).contains(x)));
}

#[test]
fn half_precision_goes_in_and_out() {
    for dtype in [Dtype::Float16, Dtype::Bfloat16] {
        let x = array!([0.5f32, -1.25, 3.0]).as_dtype(dtype);
        let x = x.expect("a cast");
        assert_eq!(x.nbytes(), 6);
        assert_eq!(floats(&x), [0.5, -1.25, 3.0]);
    }
    let one = array!([1.0f32]).as_dtype(Dtype::Bfloat16);
    let bits = one.and_then(|one| one.view_dtype(Dtype::Uint16));
    let bits = bits.expect("a view").to_vec_exact::<u16>();
    assert_eq!(bits.expect("it computes"), [0x3f80]);
}

#[test]
fn memory_is_counted() {
    let x = Array::zeros::<f32>(&[1024, 1024]).expect("a shape");
    let x = x.add(array!(1.0f32)).expect("the same shape");
    async_eval([&x]).expect("it starts");
    eval([&x]).expect("it computes");
    assert!(memory::active_memory().is_ok_and(|bytes| bytes >= 4 << 20));
    assert!(memory::peak_memory().is_ok_and(|bytes| bytes >= 4 << 20));
    memory::clear_cache().expect("a cache");
}

#[test]
fn safetensors_keep_what_was_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let weights = numbers(&[3, 4]);
    let note = HashMap::from([("format".to_owned(), "mlx".to_owned())]);
    Array::save_safetensors([("weights", &weights)], &note, &path).expect("it is written");
    let (arrays, metadata) = Array::load_safetensors_with_metadata(&path).expect("it is read");
    assert_close(&arrays["weights"], &weights, 0.0);
    assert_eq!(metadata.get("format").map(String::as_str), Some("mlx"));
}

#[test]
fn a_real_gguf_comes_in_packed() {
    let Some(path) = std::env::var_os("EXO_TEST_MODEL") else {
        eprintln!("SKIPPED a_real_gguf_comes_in_packed: EXO_TEST_MODEL names no model");
        return;
    };
    let file = GgufFile::load(path).expect("EXO_TEST_MODEL is a GGUF");
    let name = file.get_metadata_string("general.architecture");
    assert_eq!(name.expect("metadata"), Some("llama".to_owned()));
    let tensor = |name: &str| {
        let array = file.get_array(name).expect("the file is whole");
        array.unwrap_or_else(|| panic!("{name} is in {:?}", file.array_keys()))
    };
    let packed = tensor("blk.0.attn_q.weight");
    assert_eq!(packed.dtype(), Dtype::Uint32);
    // In half precision the long sums would hide a wrong nibble.
    let [scales, biases] = ["blk.0.attn_q.scales", "blk.0.attn_q.biases"]
        .map(|name| tensor(name).as_type::<f32>().expect("a cast"));
    let values = dequantize(&packed, &scales, &biases, 32, 4).expect("groups of 32");
    assert_eq!(values.shape(), [576, 576]);
    let x = numbers(&[1, 576]);
    let got = quantized_matmul(&x, &packed, &scales, &biases, true, 32, 4).expect("shapes fit");
    let wanted = matmul(&x, values.t()).expect("shapes fit");
    assert_close(&got, &wanted, 1e-3);
    assert!(argmax_axis(&got, -1, None).is_ok_and(|best| best.eval().is_ok()));
}
