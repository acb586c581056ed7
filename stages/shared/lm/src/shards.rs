//! The safetensors files of a Hugging Face folder, one or several with an index: names, shapes, and values on request.
//!
//! Knows nothing of models or of burn. A file's header is checked against the file before anything is read from it, so a
//! damaged file costs an error that says where, never a panic, and no more memory than the file has bytes.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use half::{bf16, f16};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

pub(crate) const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Longer headers are refused, as the `safetensors` library does.
const MAX_HEADER: u64 = 100_000_000;

/// Why safetensors files cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ShardsError {
    /// A file could not be read.
    #[error("cannot access `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The folder has no weights that we read.
    #[error("`{}` holds neither `model.safetensors`, an index of several, nor exactly one `.gguf` file{}",
        folder.display(), if *pickle { "; PyTorch's pickled weights are not read, convert them first" } else { "" })]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// Whether it has weights in a format that can run code.
        pickle: bool,
    },
    /// The index is not one.
    #[error("`{}`: {problem}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file's header is not what the format wants.
    #[error("`{}`: at byte {offset}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// A tensor is not stored as the header says, or in a number format we do not read.
    #[error("`{}`: tensor `{tensor}` at byte {offset}: {problem}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where its values should start.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
}

/// The tensors of a folder.
#[derive(Debug)]
pub(crate) struct Shards {
    /// The one file, or the index.
    path: PathBuf,
    tensors: BTreeMap<String, Stored>,
}

#[derive(Debug)]
struct Stored {
    file: PathBuf,
    shape: Vec<usize>,
    dtype: String,
    /// In the file.
    offset: u64,
    size: usize,
}

/// One tensor in a header.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    /// Start and end, after the header.
    data_offsets: [u64; 2],
}

/// A header, without the free-form `__metadata__`.
struct Header(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let again = format!("tensor `{name}` is there twice");
                    if entries.insert(name, map.next_value()?).is_some() {
                        return Err(serde::de::Error::custom(again));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, PathBuf>,
}

impl Shards {
    /// Reads and checks the headers. Where there is one file and an index, the one file counts, as in transformers.
    pub(crate) fn open(folder: &Path) -> Result<Self, ShardsError> {
        let (single, index) = (folder.join(WEIGHTS), folder.join(INDEX));
        if single.exists() {
            return Self::open_file(&single);
        }
        if index.exists() {
            return Self::sharded(folder, index);
        }
        let pickle =
            folder.join("pytorch_model.bin").exists() || folder.join("pytorch_model.bin.index.json").exists();
        Err(ShardsError::Missing { folder: folder.to_owned(), pickle })
    }

    /// Reads and checks the header of one file.
    pub(crate) fn open_file(path: &Path) -> Result<Self, ShardsError> {
        Ok(Self { tensors: header(path)?, path: path.to_owned() })
    }

    fn sharded(folder: &Path, path: PathBuf) -> Result<Self, ShardsError> {
        let refuse = |problem: String| ShardsError::Index { path: path.clone(), problem };
        let bytes = std::fs::read(&path).map_err(|source| ShardsError::Io { path: path.clone(), source })?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        let mut tensors = BTreeMap::new();
        let mut headers: BTreeMap<&Path, BTreeMap<String, Stored>> = BTreeMap::new();
        for (name, file) in &index.weight_map {
            let mut parts = file.components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return Err(refuse(format!("`{}` is not the name of a file beside it", file.display())));
            }
            if !headers.contains_key(file.as_path()) {
                headers.insert(file, header(&folder.join(file))?);
            }
            let stored = headers.get_mut(file.as_path()).and_then(|header| header.remove(name));
            let Some(stored) = stored else {
                return Err(refuse(format!("`{}` holds no tensor `{name}`", file.display())));
            };
            tensors.insert(name.clone(), stored);
        }
        Ok(Self { path, tensors })
    }

    /// The one file, or the index.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors and their shapes.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, stored)| (name.as_str(), stored.shape.as_slice()))
    }

    /// The values of a tensor, the last axis fastest.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<f32>, ShardsError> {
        let Some(stored) = self.tensors.get(name) else {
            return Err(ShardsError::Index {
                path: self.path.clone(),
                problem: format!("there is no tensor `{name}`"),
            });
        };
        let values: fn(&[u8]) -> Vec<f32> = match stored.dtype.as_str() {
            "F32" => {
                |bytes| bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
            }
            "F16" => |bytes| {
                bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
            },
            "BF16" => |bytes| {
                bytes.as_chunks::<2>().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect()
            },
            other => {
                return Err(ShardsError::Tensor {
                    path: stored.file.clone(),
                    tensor: name.to_owned(),
                    offset: stored.offset,
                    problem: format!("number format `{other}` is not supported; F32, F16 and BF16 are"),
                });
            }
        };
        let io = |source| ShardsError::Io { path: stored.file.clone(), source };
        let mut file = File::open(&stored.file).map_err(io)?;
        file.seek(SeekFrom::Start(stored.offset)).map_err(io)?;
        // The header was checked: the file has that many bytes there.
        let mut bytes = vec![0; stored.size];
        file.read_exact(&mut bytes).map_err(io)?;
        Ok(values(&bytes))
    }
}

/// Bytes of one value.
fn width(dtype: &str) -> Option<usize> {
    Some(match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 1,
        "I16" | "U16" | "F16" | "BF16" => 2,
        "I32" | "U32" | "F32" => 4,
        "I64" | "U64" | "F64" | "C64" => 8,
        _ => return None,
    })
}

/// Reads and checks the header of one file.
fn header(path: &Path) -> Result<BTreeMap<String, Stored>, ShardsError> {
    let io = |source| ShardsError::Io { path: path.to_owned(), source };
    let damaged =
        |offset: u64, problem: String| ShardsError::Damaged { path: path.to_owned(), offset, problem };
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length < 8 {
        return Err(damaged(0, format!("8 bytes are needed, {length} are left")));
    }
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(io)?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER || size > length - 8 {
        return Err(damaged(0, format!("a header of {size} bytes does not fit")));
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact(&mut bytes).map_err(io)?;
    let Header(entries) = serde_json::from_slice(&bytes)
        .map_err(|error| damaged(8, format!("the header is not one: {error}")))?;

    let data = 8 + size;
    let mut tensors = BTreeMap::new();
    let mut places = Vec::with_capacity(entries.len());
    for (name, Entry { dtype, shape, data_offsets: [start, end] }) in entries {
        let offset = data.saturating_add(start);
        let refuse = |problem: String| ShardsError::Tensor {
            path: path.to_owned(),
            tensor: name.clone(),
            offset,
            problem,
        };
        if start > end || end > length - data {
            return Err(refuse(format!("its bytes {start}..{end} are not among the {}", length - data)));
        }
        let stored = end - start;
        let elements = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        let needed = width(&dtype).map(|width| elements.and_then(|elements| elements.checked_mul(width)));
        if needed.is_some_and(|needed| needed.map(|needed| needed as u64) != Some(stored)) {
            return Err(refuse(format!("{shape:?} values of {dtype} do not take {stored} bytes")));
        }
        places.push((offset, data + end, name.clone()));
        tensors.insert(name, Stored { file: path.to_owned(), shape, dtype, offset, size: stored as usize });
    }
    places.sort_unstable();
    for pair in places.windows(2) {
        let [(_, end, first), (start, _, second)] = pair else { continue };
        if start < end {
            return Err(ShardsError::Tensor {
                path: path.to_owned(),
                tensor: second.clone(),
                offset: *start,
                problem: format!("it overlaps with `{first}`"),
            });
        }
    }
    Ok(tensors)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    fn bytes_of(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    /// Opens bytes as a folder's one file and reads every tensor.
    fn read_all(bytes: &[u8]) -> Result<usize, ShardsError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(WEIGHTS), bytes).unwrap();
        let shards = Shards::open(folder.path())?;
        let mut values = 0;
        for (name, shape) in shards.shapes() {
            let read = shards.read(name)?;
            assert_eq!(read.len(), shape.iter().product::<usize>());
            values += read.len();
        }
        Ok(values)
    }

    fn refused(header: &str, data: usize) -> String {
        let text = read_all(&bytes_of(header, data)).unwrap_err().to_string();
        text.split_once("model.safetensors`: ").unwrap().1.to_owned()
    }

    #[test]
    fn shards_are_read_through_their_index() {
        let folder = fixture::folder("tiny-qwen2");
        let shards = Shards::open(&folder).unwrap();
        assert!(shards.path().ends_with(INDEX));
        assert!(shards.shapes().any(|found| found == ("lm_head.weight", [290, 16].as_slice())));
        assert_eq!(shards.shapes().count(), 27);
        for (name, shape) in shards.shapes() {
            assert_eq!(shards.read(name).unwrap().len(), shape.iter().product::<usize>(), "{name}");
        }
    }

    #[test]
    fn an_index_that_lies_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let header = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        fs::write(path("part.safetensors"), bytes_of(header, 8)).unwrap();
        let open = |map: &str| {
            fs::write(path(INDEX), format!("{{\"weight_map\":{map}}}")).unwrap();
            Shards::open(folder.path())
                .map(|shards| shards.shapes().count())
                .map_err(|error| error.to_string())
        };
        assert_eq!(open(r#"{"w":"part.safetensors"}"#), Ok(1));
        let cases = [
            (r#"{"v":"part.safetensors"}"#, "`part.safetensors` holds no tensor `v`"),
            (r#"{"w":"../part.safetensors"}"#, "`../part.safetensors` is not the name of a file beside it"),
            (r#"{"w":"/etc/passwd"}"#, "`/etc/passwd` is not the name of a file beside it"),
            (r#"{"w":"gone.safetensors"}"#, "cannot access"),
            ("[]", "invalid type"),
        ];
        for (map, problem) in cases {
            let error = open(map).unwrap_err();
            assert!(error.contains(problem), "{map}: {error}");
        }
    }

    #[test]
    fn a_folder_without_weights_says_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = || Shards::open(folder.path()).unwrap_err().to_string();
        assert!(text().ends_with("nor exactly one `.gguf` file"), "{}", text());
        fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
        assert!(text().contains("pickled weights are not read"), "{}", text());
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let bytes = fs::read(fixture::folder("tiny-llama").join(WEIGHTS)).unwrap();
        assert_eq!(read_all(&bytes).unwrap(), 4560);
        for length in (0..40).chain((40..bytes.len()).step_by(97)).chain([bytes.len() - 1]) {
            let error = read_all(&bytes[..length]).unwrap_err();
            assert!(
                matches!(error, ShardsError::Damaged { .. } | ShardsError::Tensor { .. }),
                "{length}: {error}"
            );
        }
    }

    #[test]
    fn what_a_header_says_wrong_is_named() {
        let one = |dtype: &str, shape: &str, offsets: &str| {
            let entry = format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#);
            refused(&format!(r#"{{"w":{entry}}}"#), 8)
        };
        assert!(one("F32", "[2]", "[0,16]").ends_with("its bytes 0..16 are not among the 8"));
        assert!(one("F32", "[2]", "[8,0]").contains("its bytes 8..0 are not"));
        let past = one("F32", "[2]", &format!("[{0},{0}]", u64::MAX));
        assert!(past.contains("are not among the 8"), "{past}");
        assert!(one("F32", "[3]", "[0,8]").ends_with("[3] values of F32 do not take 8 bytes"));
        let huge = format!("[{},4]", u64::MAX / 2);
        assert!(one("F32", &huge, "[0,8]").contains("do not take 8 bytes"));
        assert!(one("F64", "[1]", "[0,8]").contains("number format `F64` is not supported"));
        assert!(one("F32", "\"x\"", "[0,8]").contains("at byte 8: the header is not one: "));
        let again = r#"{"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        assert!(refused(again, 8).contains("tensor `v` is there twice"));
        let two = r#"{"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        assert!(refused(two, 8).ends_with("it overlaps with `v`"));
        let long = read_all(&u64::MAX.to_le_bytes()).unwrap_err().to_string();
        assert!(long.ends_with(&format!("at byte 0: a header of {} bytes does not fit", u64::MAX)), "{long}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn flipped_bytes_never_panic(flips in prop::collection::vec((0usize..3000, any::<u8>()), 1..6)) {
            let mut bytes = fs::read(fixture::folder("tiny-llama").join(WEIGHTS)).unwrap();
            for (place, byte) in &flips {
                bytes[*place] = *byte;
            }
            if let Ok(values) = read_all(&bytes) {
                prop_assert!(values <= bytes.len());
            }
        }
    }
}
