//! The number formats of ggml, one block of values at a time.
//!
//! Each format multiplies in the order of the `gguf` Python package, so that values agree to the last bit.

use half::{bf16, f16};
use rayon::prelude::*;

/// Values in a block of the K formats.
const K: usize = 256;

/// Blocks one thread takes at a time.
const BLOCKS_TOGETHER: usize = 1024;

/// A number format we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are ggml's")]
#[expect(non_camel_case_types, reason = "the names are ggml's")]
pub enum GgmlType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl GgmlType {
    /// The format of an id; of one we do not read, its name where there is one.
    pub(super) fn of(id: u32) -> Result<Self, Option<&'static str>> {
        Ok(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            30 => Self::BF16,
            9 => return Err(Some("Q8_1")),
            10 => return Err(Some("Q2_K")),
            11 => return Err(Some("Q3_K")),
            15 => return Err(Some("Q8_K")),
            16 => return Err(Some("IQ2_XXS")),
            17 => return Err(Some("IQ2_XS")),
            18 => return Err(Some("IQ3_XXS")),
            19 => return Err(Some("IQ1_S")),
            20 => return Err(Some("IQ4_NL")),
            21 => return Err(Some("IQ3_S")),
            22 => return Err(Some("IQ2_S")),
            23 => return Err(Some("IQ4_XS")),
            24 => return Err(Some("I8")),
            25 => return Err(Some("I16")),
            26 => return Err(Some("I32")),
            27 => return Err(Some("I64")),
            28 => return Err(Some("F64")),
            29 => return Err(Some("IQ1_M")),
            34 => return Err(Some("TQ1_0")),
            35 => return Err(Some("TQ2_0")),
            39 => return Err(Some("MXFP4")),
            _ => return Err(None),
        })
    }

    /// Values in a block.
    pub fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => K,
        }
    }

    /// Bytes of a block.
    pub fn block_size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 4 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 4 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4_K => 4 + 12 + 128,
            Self::Q5_K => 4 + 12 + 32 + 128,
            Self::Q6_K => 128 + 64 + 16 + 2,
        }
    }

    /// The `elements` values of whole blocks, on all threads.
    pub(super) fn dequantize(self, bytes: &[u8], elements: usize) -> Vec<f32> {
        debug_assert_eq!(bytes.len(), elements / self.block() * self.block_size());
        let mut values = vec![0.0; elements];
        let outputs = values.par_chunks_mut(self.block() * BLOCKS_TOGETHER);
        let inputs = bytes.par_chunks(self.block_size() * BLOCKS_TOGETHER);
        outputs.zip(inputs).for_each(|(values, bytes)| {
            let blocks = values.chunks_exact_mut(self.block()).zip(bytes.chunks_exact(self.block_size()));
            for (values, bytes) in blocks {
                self.block_values(bytes, values);
            }
        });
        values
    }

    fn block_values(self, bytes: &[u8], values: &mut [f32]) {
        match self {
            Self::F32 => values[0] = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            Self::F16 => values[0] = half(bytes, 0),
            Self::BF16 => values[0] = bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            Self::Q4_0 => nibbles(&bytes[2..], values, half(bytes, 0), -8, 0.0),
            Self::Q4_1 => nibbles(&bytes[4..], values, half(bytes, 0), 0, half(bytes, 2)),
            Self::Q5_0 => fives(&bytes[2..6], &bytes[6..], values, half(bytes, 0), -16, 0.0),
            Self::Q5_1 => fives(&bytes[4..8], &bytes[8..], values, half(bytes, 0), 0, half(bytes, 2)),
            Self::Q8_0 => {
                let scale = half(bytes, 0);
                for (value, byte) in values.iter_mut().zip(&bytes[2..]) {
                    *value = scale * f32::from(*byte as i8);
                }
            }
            Self::Q4_K => k_nibbles(&bytes[..16], None, &bytes[16..], values),
            Self::Q5_K => k_nibbles(&bytes[..16], Some(&bytes[16..48]), &bytes[48..], values),
            Self::Q6_K => sixes(bytes, values),
        }
    }
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The low halves of 16 bytes, then the high halves.
fn nibbles(bytes: &[u8], values: &mut [f32], scale: f32, shift: i8, minimum: f32) {
    let (low, high) = values.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = scale * f32::from((byte & 15) as i8 + shift) + minimum;
        *high = scale * f32::from((byte >> 4) as i8 + shift) + minimum;
    }
}

/// As [`nibbles`], with a fifth bit for each value.
fn fives(fifth: &[u8], bytes: &[u8], values: &mut [f32], scale: f32, shift: i8, minimum: f32) {
    let fifth = u32::from_le_bytes([fifth[0], fifth[1], fifth[2], fifth[3]]);
    for (place, value) in values.iter_mut().enumerate() {
        let byte = bytes[place % 16];
        let low = if place < 16 { byte & 15 } else { byte >> 4 };
        let bits = low | ((fifth >> place & 1) as u8) << 4;
        *value = scale * f32::from(bits as i8 + shift) + minimum;
    }
}

/// Eight groups of 32 values with a scale and a minimum of six bits each; `fifth` holds one more bit for each value.
fn k_nibbles(head: &[u8], fifth: Option<&[u8]>, bytes: &[u8], values: &mut [f32]) {
    let (scale, minimum) = (half(head, 0), half(head, 2));
    let packed = &head[4..];
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let (scale_bits, minimum_bits) = if group < 4 {
            (packed[group] & 63, packed[group + 4] & 63)
        } else {
            let low = packed[group + 4];
            (low & 15 | packed[group - 4] >> 2 & 48, low >> 4 | packed[group] >> 2 & 48)
        };
        let scale = scale * f32::from(scale_bits);
        let minimum = minimum * f32::from(minimum_bits);
        let half_shift = group % 2 * 4;
        for (place, value) in values.iter_mut().enumerate() {
            let low = bytes[group / 2 * 32 + place] >> half_shift & 15;
            let high = fifth.map_or(0, |fifth| (fifth[place] >> group & 1) << 4);
            *value = scale * f32::from(low | high) - minimum;
        }
    }
}

/// Q6_K: sixteen groups of 16 values with a signed scale each.
fn sixes(bytes: &[u8], values: &mut [f32]) {
    let (low, rest) = bytes.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, scale) = rest.split_at(16);
    let scale = half(scale, 0);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        // Two halves of 128 values: 64 bytes of low bits (two groups in each half of a byte), 32 of high bits.
        let (part, quarter) = (group / 4, group % 4);
        let low = &low[part * 64 + quarter % 2 * 32..][..32];
        let high = &high[part * 32..][..32];
        for (place, value) in values.iter_mut().enumerate() {
            let bits = low[place] >> (quarter / 2 * 4) & 15 | (high[place] >> (quarter * 2) & 3) << 4;
            let group_scale = scale * f32::from(scales[group * 2 + place / 16] as i8);
            *value = group_scale * f32::from(bits as i8 - 32);
        }
    }
}
