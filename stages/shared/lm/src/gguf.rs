//! GGUF version 3 files: metadata, the list of tensors, and one tensor's values as `f32` on request.
//!
//! Knows nothing of models or of burn. Every count, length and offset in a file is a claim that is checked against what
//! the file has room for before memory is set aside for it, so a damaged file costs an error and never a panic; the
//! error says where. Layout: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod quantization;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

pub use quantization::GgmlType;

const MAGIC: &[u8; 4] = b"GGUF";
const ALIGNMENT: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;
/// ggml's own limit.
const MAX_DIMENSIONS: u32 = 4;

/// Why a file is not taken for a GGUF file.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file could not be read.
    #[error("cannot access `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The bytes at an offset are not what the format wants there.
    #[error("`{}`: at byte {offset}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// A tensor is not stored as its description says.
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
    /// A metadata value is missing or of another type.
    #[error("`{}`: metadata `{key}` {problem}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

/// A metadata value. Numbers are widened; arrays of numbers stay as they are stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// A float of either width.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A string.
    Text(String),
    /// An array of strings.
    Texts(Vec<String>),
    /// An array of anything else.
    Numbers(Numbers),
}

/// An array of numbers or truth values, as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    kind: Kind,
    bytes: Vec<u8>,
}

impl Numbers {
    /// The elements that are whole numbers from 0 up; all of them, or nothing.
    pub fn unsigned(&self) -> Option<Vec<u64>> {
        self.bytes.chunks_exact(self.kind.size()).map(|bytes| unsigned(&self.kind.value(bytes))).collect()
    }
}

/// One tensor's description.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Sizes, the slowest axis first: a matrix is `[rows, columns]` (in the file the order is the other way round).
    pub shape: Vec<usize>,
    /// The number format.
    pub kind: GgmlType,
    /// Where the values start in the file.
    pub offset: u64,
    /// Stored bytes.
    pub size: usize,
    /// Values.
    pub elements: usize,
}

/// An open file whose header has been read and checked.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Gguf {
    /// Reads and checks the header.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut header = Header { path, file: BufReader::new(file), offset: 0, length };
        header.read()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// The values of a tensor, the last axis fastest.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, GgufError> {
        let io = |source| GgufError::Io { path: self.path.clone(), source };
        let Some(info) = self.tensors.get(name) else {
            return Err(GgufError::Tensor {
                path: self.path.clone(),
                tensor: name.to_owned(),
                offset: 0,
                problem: "is not in the file".into(),
            });
        };
        let mut file = File::open(&self.path).map_err(io)?;
        file.seek(SeekFrom::Start(info.offset)).map_err(io)?;
        let mut bytes = vec![0; info.size];
        file.read_exact(&mut bytes).map_err(io)?;
        Ok(info.kind.dequantize(&bytes, info.elements))
    }

    /// A metadata value, if it is there.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A whole number from 0 up, if it is there.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(key, "is not a whole number from 0 up", unsigned)
    }

    /// A number, if it is there.
    pub fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "is not a number", |value| match value {
            Value::Float(value) => Some(*value),
            Value::Unsigned(value) => Some(*value as f64),
            Value::Signed(value) => Some(*value as f64),
            Value::Bool(_) | Value::Text(_) | Value::Texts(_) | Value::Numbers(_) => None,
        })
    }

    /// A truth value, if it is there.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "is neither true nor false", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// A string, if it is there.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "is not a string", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An array of strings, if it is there.
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.typed(key, "is not an array of strings", |value| match value {
            Value::Texts(texts) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// An array of whole numbers from 0 up, if it is there.
    pub fn unsigneds(&self, key: &str) -> Result<Option<Vec<u64>>, GgufError> {
        self.typed(key, "is not an array of whole numbers from 0 up", |value| match value {
            Value::Numbers(numbers) => numbers.unsigned(),
            _ => None,
        })
    }

    /// The error that a metadata value is not what a model needs.
    pub fn refuse(&self, key: &str, problem: impl Into<String>) -> GgufError {
        GgufError::Metadata { path: self.path.clone(), key: key.to_owned(), problem: problem.into() }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        problem: &str,
        get: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(value) => get(value).map(Some).ok_or_else(|| self.refuse(key, problem)),
        }
    }
}

fn unsigned(value: &Value) -> Option<u64> {
    match value {
        Value::Unsigned(value) => Some(*value),
        Value::Signed(value) => u64::try_from(*value).ok(),
        Value::Float(_) | Value::Bool(_) | Value::Text(_) | Value::Texts(_) | Value::Numbers(_) => None,
    }
}

/// The types of scalar metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    U64,
    I64,
    F64,
}

const STRING: u32 = 8;
const ARRAY: u32 = 9;

impl Kind {
    fn of(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Reads a value from exactly as many bytes as it has.
    fn value(self, bytes: &[u8]) -> Value {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(wide);
        // The shifts carry the sign of a narrow number to the top and back.
        let signed = |size: usize| {
            let shift = 64 - 8 * size;
            Value::Signed((bits as i64) << shift >> shift)
        };
        match self {
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => Value::Unsigned(bits),
            Self::I8 | Self::I16 | Self::I32 | Self::I64 => signed(self.size()),
            Self::F32 => Value::Float(f64::from(f32::from_bits(bits as u32))),
            Self::F64 => Value::Float(f64::from_bits(bits)),
            Self::Bool => Value::Bool(bits != 0),
        }
    }
}

struct Header<'a> {
    path: &'a Path,
    file: BufReader<File>,
    offset: u64,
    length: u64,
}

impl Header<'_> {
    fn read(&mut self) -> Result<Gguf, GgufError> {
        if self.take::<4>()? != *MAGIC {
            return Err(self.damaged(0, "it does not start with `GGUF`"));
        }
        match self.u32()? {
            2 | 3 => {}
            version if version.swap_bytes() == 3 => {
                return Err(self.damaged(4, "big-endian files are not supported"));
            }
            version => return Err(self.damaged(4, format!("version {version} is not supported, 3 is"))),
        }
        let (tensors, entries) = (self.u64()?, self.u64()?);
        let mut metadata = BTreeMap::new();
        for _ in 0..entries {
            let start = self.offset;
            let (key, value) = (self.string()?, self.u32()?);
            let value = self.value(value)?;
            if metadata.contains_key(&key) {
                return Err(self.damaged(start, format!("metadata `{key}` is there twice")));
            }
            metadata.insert(key, value);
        }
        let mut infos = BTreeMap::new();
        for _ in 0..tensors {
            let start = self.offset;
            let (name, info) = self.tensor()?;
            if infos.contains_key(&name) {
                return Err(self.damaged(start, format!("tensor `{name}` is there twice")));
            }
            infos.insert(name, info);
        }

        let alignment = match metadata.get(ALIGNMENT).map(unsigned) {
            None => DEFAULT_ALIGNMENT,
            Some(Some(alignment)) if alignment.is_power_of_two() => alignment,
            Some(_) => {
                return Err(GgufError::Metadata {
                    path: self.path.to_owned(),
                    key: ALIGNMENT.into(),
                    problem: "is not a power of two".into(),
                });
            }
        };
        let Some(data) = self.offset.checked_next_multiple_of(alignment) else {
            return Err(self.damaged(self.offset, "the alignment leads past the end of the file"));
        };
        self.place(&mut infos, data, alignment)?;
        Ok(Gguf { path: self.path.to_owned(), metadata, tensors: infos })
    }

    /// Turns offsets within the data into offsets within the file, and checks that tensors lie in it side by side.
    fn place(
        &self,
        infos: &mut BTreeMap<String, TensorInfo>,
        data: u64,
        alignment: u64,
    ) -> Result<(), GgufError> {
        let refuse = |name: &str, offset: u64, problem: String| GgufError::Tensor {
            path: self.path.to_owned(),
            tensor: name.to_owned(),
            offset,
            problem,
        };
        let mut places: Vec<(u64, u64, &str)> = Vec::with_capacity(infos.len());
        for (name, info) in infos.iter_mut() {
            if info.offset % alignment != 0 {
                let problem = format!("its place is not a multiple of {alignment}");
                return Err(refuse(name, info.offset, problem));
            }
            let start = data.saturating_add(info.offset);
            let end = start.saturating_add(info.size as u64);
            if end > self.length {
                let problem = format!("its {} bytes end past the file's {}", info.size, self.length);
                return Err(refuse(name, start, problem));
            }
            info.offset = start;
            places.push((start, end, name));
        }
        places.sort_unstable();
        for pair in places.windows(2) {
            let [(_, end, first), (start, _, second)] = pair else { continue };
            if start < end {
                return Err(refuse(second, *start, format!("it overlaps with `{first}`")));
            }
        }
        Ok(())
    }

    /// A tensor's description; its offset is still within the data.
    fn tensor(&mut self) -> Result<(String, TensorInfo), GgufError> {
        let name = self.string()?;
        let start = self.offset;
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(self.damaged(start, format!("tensor `{name}` has {dimensions} dimensions")));
        }
        let mut shape = Vec::new();
        let mut elements = Some(1usize);
        for _ in 0..dimensions {
            let size = self.u64()?;
            let size = usize::try_from(size).ok();
            elements = elements.zip(size).and_then(|(elements, size)| elements.checked_mul(size));
            shape.insert(0, size.unwrap_or(usize::MAX));
        }
        let id_at = self.offset;
        let id = self.u32()?;
        let offset = self.u64()?;
        let kind = GgmlType::of(id).map_err(|known| {
            let format = known.map_or_else(|| format!("number {id}"), |name| format!("`{name}`"));
            self.damaged(id_at, format!("tensor `{name}` has the unsupported number format {format}"))
        })?;
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(kind.block()) {
            let problem =
                format!("tensor `{name}` has rows of {row}, no multiple of the {} in a block", kind.block());
            return Err(self.damaged(start, problem));
        }
        let size = elements.and_then(|elements| (elements / kind.block()).checked_mul(kind.block_size()));
        let Some((elements, size)) = elements.zip(size) else {
            return Err(self.damaged(start, format!("tensor `{name}` is larger than any file")));
        };
        Ok((name, TensorInfo { shape, kind, offset, size, elements }))
    }

    fn value(&mut self, id: u32) -> Result<Value, GgufError> {
        let start = self.offset;
        match id {
            STRING => Ok(Value::Text(self.string()?)),
            ARRAY => {
                let (id, count) = (self.u32()?, self.u64()?);
                match Kind::of(id) {
                    Some(kind) => {
                        let size = count.checked_mul(kind.size() as u64);
                        let bytes = self.bytes(size.unwrap_or(u64::MAX))?;
                        Ok(Value::Numbers(Numbers { kind, bytes }))
                    }
                    None if id == STRING => {
                        let mut texts = Vec::new();
                        for _ in 0..count {
                            texts.push(self.string()?);
                        }
                        Ok(Value::Texts(texts))
                    }
                    None => Err(self.damaged(start, format!("an array of type {id} is not supported"))),
                }
            }
            _ => match Kind::of(id) {
                Some(kind) => {
                    let bytes = self.bytes(kind.size() as u64)?;
                    Ok(kind.value(&bytes))
                }
                None => Err(self.damaged(start, format!("there is no metadata type {id}"))),
            },
        }
    }

    fn string(&mut self) -> Result<String, GgufError> {
        let start = self.offset;
        let length = self.u64()?;
        let bytes = self.bytes(length)?;
        String::from_utf8(bytes).map_err(|_| self.damaged(start, "a string is not UTF-8"))
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        self.take().map(u64::from_le_bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, GgufError> {
        self.has_room(count)?;
        // The file has that many bytes left.
        let mut bytes = vec![0; count as usize];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), GgufError> {
        self.has_room(bytes.len() as u64)?;
        let io = |source| GgufError::Io { path: self.path.to_owned(), source };
        self.file.read_exact(bytes).map_err(io)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn has_room(&self, count: u64) -> Result<(), GgufError> {
        let left = self.length.saturating_sub(self.offset);
        if count > left {
            return Err(self.damaged(self.offset, format!("{count} bytes are needed, {left} are left")));
        }
        Ok(())
    }

    fn damaged(&self, offset: u64, problem: impl Into<String>) -> GgufError {
        GgufError::Damaged { path: self.path.to_owned(), offset, problem: problem.into() }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
