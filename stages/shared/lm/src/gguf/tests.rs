//! Formats against the `gguf` Python package, and files that lie.

use std::fs;

use proptest::prelude::*;
use safetensors::SafeTensors;

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Opens bytes as a file and reads every tensor: what a hostile file has to survive.
fn read_all(bytes: &[u8]) -> Result<usize, GgufError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let file = Gguf::open(&path)?;
    let mut values = 0;
    for (name, info) in file.tensors() {
        let read = file.read(name)?;
        assert_eq!(read.len(), info.elements);
        values += read.len();
    }
    Ok(values)
}

/// A file built by hand.
struct Bytes(Vec<u8>);

impl Bytes {
    fn new(tensors: u64, entries: u64) -> Self {
        let mut bytes = Self(b"GGUF".to_vec());
        bytes.u32(3).u64(tensors).u64(entries);
        bytes
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.u64(text.len() as u64);
        self.0.extend(text.as_bytes());
        self
    }

    fn tensor(&mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> &mut Self {
        self.text(name).u32(shape.len() as u32);
        for size in shape {
            self.u64(*size);
        }
        self.u32(kind).u64(offset)
    }

    /// Fills up to the data and adds `count` bytes of it.
    fn data(&mut self, count: usize) -> &mut Self {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + count, 0);
        self
    }

    fn refused(&self) -> String {
        let text = read_all(&self.0).unwrap_err().to_string();
        assert!(text.contains("model.gguf`: "), "{text}");
        text.split_once("model.gguf`: ").unwrap().1.to_owned()
    }
}

#[test]
fn every_format_gives_the_values_of_the_gguf_package() {
    let file = Gguf::open(&fixture("formats.gguf")).unwrap();
    let expected = fs::read(fixture("formats.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    assert_eq!(expected.len(), 11);
    for (name, view) in expected.iter() {
        let info = &file.tensors()[name];
        assert_eq!(info.shape, view.shape(), "{name}");
        let values: Vec<f32> =
            view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        // To the last bit: both sides multiply in the same order.
        assert_eq!(file.read(name).unwrap(), values, "{name}");
    }
}

#[test]
fn metadata_keeps_its_types() {
    let file = Gguf::open(&fixture("tiny-qwen2.gguf")).unwrap();
    assert_eq!(file.text("general.architecture").unwrap(), Some("qwen2"));
    assert_eq!(file.unsigned("qwen2.block_count").unwrap(), Some(2));
    assert_eq!(file.float("qwen2.rope.freq_base").unwrap(), Some(1e6));
    assert_eq!(file.texts("tokenizer.ggml.tokens").unwrap().unwrap().len(), 290);
    assert_eq!(file.unsigneds("tokenizer.ggml.token_type").unwrap().unwrap()[289], 5);
    assert_eq!(file.text("general.nothing").unwrap(), None);
    let error = file.bool("qwen2.block_count").unwrap_err().to_string();
    assert!(error.ends_with("metadata `qwen2.block_count` is neither true nor false"), "{error}");

    let mut bytes = Bytes::new(0, 2);
    bytes.text("a").u32(5).u32(-3i32 as u32);
    bytes.text("b").u32(9).u32(3).u64(2).0.extend([0xff, 0xff, 1, 0]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    fs::write(&path, &bytes.0).unwrap();
    let file = Gguf::open(&path).unwrap();
    assert_eq!(file.get("a"), Some(&Value::Signed(-3)));
    assert!(file.unsigned("a").is_err() && file.unsigneds("b").is_err(), "negative");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for name in ["formats.gguf", "tiny-llama3.gguf"] {
        let bytes = fs::read(fixture(name)).unwrap();
        let values = read_all(&bytes).unwrap();
        assert!(values > 0);
        // The last tensor is padded up to the alignment.
        let whole = bytes.len() - 32;
        // Everywhere in the first header, then at steps that share no factor with any field.
        for length in (0..600).chain((600..whole).step_by(997)) {
            let error = read_all(&bytes[..length]).unwrap_err();
            assert!(
                matches!(error, GgufError::Damaged { .. } | GgufError::Tensor { .. }),
                "{length}: {error}"
            );
        }
    }
}

#[test]
fn counts_and_lengths_are_not_believed() {
    let huge = u64::MAX / 2;
    assert_eq!(Bytes::new(0, huge).refused(), "at byte 24: 8 bytes are needed, 0 are left");
    assert_eq!(Bytes::new(huge, 0).refused(), "at byte 24: 8 bytes are needed, 0 are left");
    let long = Bytes::new(0, 1).u64(u64::MAX).refused();
    assert_eq!(long, format!("at byte 32: {} bytes are needed, 0 are left", u64::MAX));
    let array = |kind: u32, count: u64| Bytes::new(0, 1).text("a").u32(9).u32(kind).u64(count).refused();
    assert_eq!(array(8, huge), "at byte 49: 8 bytes are needed, 0 are left");
    for kind in [0, 7, 12] {
        assert!(array(kind, u64::MAX).starts_with("at byte 49: "), "{kind}");
    }
    assert_eq!(array(9, 1), "at byte 37: an array of type 9 is not supported");
}

#[test]
fn what_the_header_says_wrong_is_named() {
    let dimensions = Bytes::new(1, 0).text("w").u32(5).refused();
    assert_eq!(dimensions, "at byte 33: tensor `w` has 5 dimensions");
    let large = Bytes::new(1, 0).tensor("w", &[1 << 40, 1 << 40], 0, 0).refused();
    assert_eq!(large, "at byte 33: tensor `w` is larger than any file");
    let past = Bytes::new(1, 0).tensor("w", &[32], 0, 0).data(96).refused();
    assert_eq!(past, "tensor `w` at byte 64: its 128 bytes end past the file's 160");
    let wrapped = Bytes::new(1, 0).tensor("w", &[32], 0, u64::MAX - 31).data(128).refused();
    assert!(wrapped.contains("its 128 bytes end past the file's 192"), "{wrapped}");
    let odd = Bytes::new(1, 0).tensor("w", &[4], 0, 4).data(128).refused();
    assert_eq!(odd, "tensor `w` at byte 4: its place is not a multiple of 32");
    let row = Bytes::new(1, 0).tensor("w", &[48, 2], 2, 0).data(128).refused();
    assert_eq!(row, "at byte 33: tensor `w` has rows of 48, no multiple of the 32 in a block");
    let format = Bytes::new(1, 0).tensor("w", &[256], 10, 0).refused();
    assert_eq!(format, "at byte 45: tensor `w` has the unsupported number format `Q2_K`");
    let twice = Bytes::new(2, 0).tensor("w", &[8], 0, 0).tensor("w", &[8], 0, 32).data(64).refused();
    assert_eq!(twice, "at byte 57: tensor `w` is there twice");
    let overlap = Bytes::new(2, 0).tensor("v", &[16], 0, 0).tensor("w", &[16], 0, 32).data(128).refused();
    assert_eq!(overlap, "tensor `w` at byte 128: it overlaps with `v`");
    let key = Bytes::new(0, 2).text("a").u32(4).u32(1).text("a").u32(4).u32(1).refused();
    assert_eq!(key, "at byte 41: metadata `a` is there twice");
    let alignment = Bytes::new(0, 1).text(ALIGNMENT).u32(4).u32(0).refused();
    assert_eq!(alignment, "metadata `general.alignment` is not a power of two");
    assert_eq!(Bytes(b"GGUF\x01\0\0\0".to_vec()).refused(), "at byte 4: version 1 is not supported, 3 is");
    assert_eq!(Bytes(b"GGUF\0\0\0\x03".to_vec()).refused(), "at byte 4: big-endian files are not supported");
    assert_eq!(Bytes(b"PK\x03\x04".to_vec()).refused(), "at byte 0: it does not start with `GGUF`");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((0usize..2000, any::<u8>()), 1..8)) {
        for name in ["formats.gguf", "tiny-llama3.gguf"] {
            let mut bytes = fs::read(fixture(name)).unwrap();
            for (place, byte) in &flips {
                bytes[*place] = *byte;
            }
            // Values may be any; what counts is that there are never more than the file has room for.
            if let Ok(values) = read_all(&bytes) {
                prop_assert!(values <= bytes.len() * 2);
            }
        }
    }

    #[test]
    fn noise_behind_the_magic_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(noise);
        prop_assert!(read_all(&bytes).is_err() || bytes.len() >= 24);
    }
}
