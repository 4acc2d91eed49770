//! The attention of a layer.

mod scores;

use crate::layer::Layer;
use crate::machine::{grown, scratch};
use crate::pass::Pass;
use scores::{Queries, attend};

/// Adds to `x`, `[row][hidden]`, what attention of layer `n` gives.
///
/// With `kept`, only those rows of `x` are wanted, in rising order: they become its first ones, and
/// what is behind them means nothing. Keys and values are stored of all rows.
pub(crate) fn attention(
    pass: &mut Pass<'_, '_>,
    (n, layer): (usize, &Layer),
    x: &mut [f32],
    kept: Option<&[usize]>,
) {
    let config = &pass.model.config;
    let weights = &layer.attention;
    let (width, head_dim, eps) = (config.hidden, config.head_dim, config.norm_eps);
    let (q, k) = (config.heads * head_dim, config.kv_heads * head_dim);
    let stride = q + 2 * k;
    let rows = x.len() / width;
    let kernels = pass.machine.kernels;
    let inputs = &mut pass.buffers.inputs;
    inputs.fill(pass.machine, (rows, width), &weights.qkv, |t, row| {
        (kernels.rms_norm)(&x[t * width..][..width], &layer.attn_norm, eps, row);
    });
    let qkv = grown(&mut pass.buffers.qkv, rows * stride, 0.0);
    inputs.multiply(pass.machine, &weights.qkv.each_ref(), false, qkv);

    // Each head is normed, turned by its position, and (queries only) scaled for its scores.
    let rope = pass.model.rope(n);
    let rope = rope.map(|(number, rope)| (rope, &*pass.buffers.angles[number]));
    let norms = weights.norms.as_ref();
    let (_, pool, scratches) = pass.machine.split();
    pool.run_tiles(qkv, stride, (16, stride), |mut tile, worker| {
        let mut scratch = scratch(scratches, worker);
        let copy = grown(&mut scratch.floats, head_dim, 0.0);
        for t in tile.rows() {
            let (queries, rest) = tile.row(t).split_at_mut(q);
            for (heads, norm, scale) in [
                (queries, norms.map(|[q, _]| q), config.score_scale),
                (&mut rest[..k], norms.map(|[_, k]| k), 1.0),
            ] {
                for head in heads.chunks_exact_mut(head_dim) {
                    if let Some(norm) = norm {
                        copy.copy_from_slice(head);
                        (kernels.rms_norm)(copy, norm, eps, head);
                    }
                    if let Some((rope, angles)) = rope {
                        let dims = rope.dims();
                        rope.turn(head, &angles[t * dims..][..dims], scale);
                    } else if scale != 1.0 {
                        head.iter_mut().for_each(|x| *x *= scale);
                    }
                }
            }
        }
    });
    for segment in &pass.segments {
        let kv = &mut *pass.runs[segment.run].kv;
        let rows = qkv[segment.rows.start * stride..segment.rows.end * stride].chunks_exact(stride);
        for (position, row) in (segment.position..).zip(rows) {
            let (keys, values) = row[q..].split_at(k);
            kv.write(n, position, keys, values);
        }
    }

    let rows = kept.map_or(rows, <[usize]>::len);
    let attended = grown(&mut pass.buffers.attention, rows * q, 0.0);
    let mut left = &mut *attended;
    for segment in &pass.segments {
        let wanted = match kept {
            None => segment.rows.clone(),
            Some(kept) => match kept.iter().find(|row| segment.rows.contains(row)) {
                Some(row) => *row..row + 1,
                None => continue,
            },
        };
        let (out, behind) = left.split_at_mut(wanted.len() * q);
        left = behind;
        let queries = Queries {
            rows: &qkv[wanted.start * stride..wanted.end * stride],
            stride,
            position: segment.position + (wanted.start - segment.rows.start),
            group: config.heads / config.kv_heads,
            window: weights.window,
            cap: config.score_cap,
        };
        attend(pass.machine, pass.runs[segment.run].kv, n, queries, out);
    }
    for (to, from) in kept.into_iter().flatten().enumerate() {
        x.copy_within(from * width..(from + 1) * width, to * width);
    }
    let x = &mut x[..rows * width];
    let attended = &*attended;
    inputs.fill(pass.machine, (rows, q), [&weights.output], |t, row| {
        row.copy_from_slice(&attended[t * q..][..q]);
    });
    let post = layer.post_attn_norm.as_deref();
    let branch = &mut pass.buffers.branch;
    inputs.add_product(pass.machine, &weights.output, (post, eps), branch, x);
}
