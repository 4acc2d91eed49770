//! A random model of a few layers, written as GGUF.

use exo_models::Model;
use std::io::Write;
use tempfile::NamedTempFile;

/// ggml's numbers of the formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q4K = 12,
    Q5K = 13,
    Q6K = 14,
    Bf16 = 30,
}

/// The shape of a random model.
#[derive(Clone, Debug)]
pub(crate) struct Tiny {
    pub(crate) architecture: &'static str,
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) intermediate: usize,
    pub(crate) vocab: usize,
    pub(crate) context: usize,
    /// The formats of the matrices, taken in turn.
    pub(crate) kinds: &'static [Kind],
    pub(crate) tied: bool,
    /// What the first number of a tensor is instead, if that is an `f32`.
    pub(crate) spoiled: Option<(&'static str, f32)>,
}

impl Tiny {
    /// A Llama with every quantised format.
    pub(crate) const LLAMA: Self = Self {
        architecture: "llama",
        layers: 4,
        hidden: 256,
        heads: 6,
        kv_heads: 2,
        head_dim: 32,
        intermediate: 512,
        vocab: 300,
        context: 256,
        kinds: &[
            Kind::Q4_1,
            Kind::Q8_0,
            Kind::Q4K,
            Kind::Q6K,
            Kind::Q4_0,
            Kind::Q5_1,
            Kind::Q5K,
            Kind::Q5_0,
            Kind::F16,
        ],
        tied: true,
        spoiled: None,
    };

    /// A Qwen 2 in floating point, with widths that no vector divides.
    pub(crate) const QWEN: Self = Self {
        architecture: "qwen2",
        layers: 3,
        hidden: 84,
        heads: 3,
        kv_heads: 1,
        head_dim: 28,
        intermediate: 130,
        vocab: 77,
        context: 200,
        kinds: &[Kind::F16, Kind::Bf16, Kind::F32],
        tied: false,
        spoiled: None,
    };

    /// Writes the model. The file lives as long as the first result.
    pub(crate) fn write(&self) -> (NamedTempFile, Model) {
        let mut file = tempfile::Builder::new()
            .suffix(".gguf")
            .tempfile()
            .expect("a file");
        file.write_all(&self.bytes()).expect("writes");
        let model = Model::open(file.path()).expect("opens");
        (file, model)
    }

    fn tensors(&self) -> Vec<(String, usize, usize, Kind)> {
        let (q, k) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut kinds = self.kinds.iter().copied().cycle();
        // K-quants need rows of whole 256s.
        let mut matrix = |name: String, rows: usize, cols: usize| {
            let fits = |kind: &Kind| cols.is_multiple_of(kind.unit().0);
            (name, rows, cols, kinds.find(fits).expect("some kind fits"))
        };
        let mut all = vec![matrix("token_embd.weight".into(), self.vocab, self.hidden)];
        for n in 0..self.layers {
            let name = |part: &str| format!("blk.{n}.{part}");
            all.extend([
                matrix(name("attn_q.weight"), q, self.hidden),
                matrix(name("attn_k.weight"), k, self.hidden),
                matrix(name("attn_v.weight"), k, self.hidden),
                matrix(name("attn_output.weight"), self.hidden, q),
                matrix(name("ffn_gate.weight"), self.intermediate, self.hidden),
                matrix(name("ffn_up.weight"), self.intermediate, self.hidden),
                matrix(name("ffn_down.weight"), self.hidden, self.intermediate),
            ]);
            let mut vector = |part: &str, len| all.push((name(part), 1, len, Kind::F32));
            vector("attn_norm.weight", self.hidden);
            vector("ffn_norm.weight", self.hidden);
            if self.architecture == "qwen2" {
                vector("attn_q.bias", q);
                vector("attn_k.bias", k);
                vector("attn_v.bias", k);
            }
        }
        if !self.tied {
            all.push(matrix("output.weight".into(), self.vocab, self.hidden));
        }
        all.push(("output_norm.weight".into(), 1, self.hidden, Kind::F32));
        all
    }

    fn bytes(&self) -> Vec<u8> {
        let mut random = Random(7);
        let tensors = self.tensors();
        let numbers = [
            ("block_count", self.layers),
            ("embedding_length", self.hidden),
            ("feed_forward_length", self.intermediate),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
            ("context_length", self.context),
        ];
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((tensors.len() as u64).to_le_bytes());
        out.extend((numbers.len() as u64 + 3).to_le_bytes());
        string(&mut out, "general.architecture");
        out.extend(8u32.to_le_bytes());
        string(&mut out, self.architecture);
        for (name, number) in numbers {
            string(&mut out, &format!("{}.{name}", self.architecture));
            out.extend(4u32.to_le_bytes());
            out.extend((number as u32).to_le_bytes());
        }
        string(
            &mut out,
            &format!("{}.attention.layer_norm_rms_epsilon", self.architecture),
        );
        out.extend(6u32.to_le_bytes());
        out.extend(1e-5f32.to_le_bytes());
        string(&mut out, "tokenizer.ggml.eos_token_id");
        out.extend(4u32.to_le_bytes());
        out.extend(2u32.to_le_bytes());
        let mut data: Vec<u8> = Vec::new();
        for (name, rows, cols, kind) in &tensors {
            string(&mut out, name);
            let dims: &[usize] = if *rows == 1 {
                &[*cols]
            } else {
                &[*cols, *rows]
            };
            out.extend((dims.len() as u32).to_le_bytes());
            dims.iter()
                .for_each(|dim| out.extend((*dim as u64).to_le_bytes()));
            out.extend((*kind as u32).to_le_bytes());
            data.resize(data.len().next_multiple_of(32), 0);
            out.extend((data.len() as u64).to_le_bytes());
            let around = if name.contains("norm") { 1.0 } else { 0.0 };
            for _ in 0..rows * cols / kind.unit().0 {
                kind.unit_of(&mut random, around, &mut data);
            }
            if let (Some((spoiled, value)), Kind::F32) = (self.spoiled, kind)
                && spoiled == name
            {
                let start = data.len() - rows * cols * 4;
                data[start..start + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }
}

impl Kind {
    /// Elements and bytes of what is stored together.
    pub(crate) fn unit(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }

    /// Appends one unit of random weights of about a tenth, `around` a number for floats.
    fn unit_of(self, random: &mut Random, around: f32, out: &mut Vec<u8>) {
        let start = out.len();
        let float = around + random.float() * 0.2;
        match self {
            Self::F32 => return out.extend(float.to_le_bytes()),
            Self::F16 => return out.extend(half::f16::from_f32(float).to_le_bytes()),
            Self::Bf16 => return out.extend(half::bf16::from_f32(float).to_le_bytes()),
            _ => out.extend((0..self.unit().1).map(|_| random.next() as u8)),
        }
        let mut put = |at: usize, value: f32| {
            let bytes = half::f16::from_f32(value * (1.0 + 0.3 * random.float())).to_le_bytes();
            out[start + at..start + at + 2].copy_from_slice(&bytes);
        };
        match self {
            Self::Q4_0 => put(0, 0.015),
            Self::Q5_0 => put(0, 0.008),
            Self::Q8_0 => put(0, 0.001),
            Self::Q4_1 => (put(0, 0.015), put(2, -0.11)).0,
            Self::Q5_1 => (put(0, 0.008), put(2, -0.12)).0,
            Self::Q4K => (put(0, 0.0004), put(2, 0.003)).0,
            Self::Q5K => (put(0, 0.0002), put(2, 0.003)).0,
            _ => put(208, 0.00004),
        }
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// SplitMix64: the same model every time.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// In -0.5..0.5.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }
}
