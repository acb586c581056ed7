//! Backends: which ones this build holds, which of them this machine can use, and how to open one.
//!
//! This is the only file of the project that names a backend. It never asks burn for a default device, because
//! that depends on which features were built.

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use burn::tensor::Device;
use burn::tensor::{Tensor, TensorData, activation};
use contract::Backend;

/// Every backend retort knows, built in or not.
pub const BACKENDS: [&str; 4] = ["flex", "wgpu", "tch", "cuda"];

/// Number formats that models compute in; checkpoints may hold others.
pub const DTYPES: [&str; 1] = ["f32"];

/// Why a backend cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No backend has this name.
    #[error("unknown backend `{name}`; there are `flex`, `wgpu`, `tch` and `cuda`")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// This build was made without it.
    #[error("backend `{name}` is not in this build")]
    NotBuilt {
        /// The backend.
        name: String,
    },
    /// It is in the build, but the machine lacks what it needs.
    #[error("backend `{name}` cannot run on this machine: {why}")]
    NotHere {
        /// The backend.
        name: String,
        /// What is missing.
        why: String,
    },
    /// The backend cannot compute in this number format.
    #[error("backend `{name}` cannot compute in `{dtype}`; use `f32`")]
    Dtype {
        /// The backend.
        name: String,
        /// The format asked for.
        dtype: String,
    },
}

impl DeviceError {
    /// What the user can do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Unknown { .. } => "`retort backends` lists what this build and machine can use".into(),
            Self::NotBuilt { name } => format!("rebuild with `--features {name}`, or use `--backend flex`"),
            Self::NotHere { .. } | Self::Dtype { .. } => {
                "`--backend flex` with dtype `f32` runs everywhere".into()
            }
        }
    }
}

impl From<DeviceError> for contract::StageError {
    fn from(error: DeviceError) -> Self {
        let help = error.help();
        Self::failed(error).with_help(help)
    }
}

/// What is known about one backend.
#[derive(Clone, Debug)]
pub struct BackendInfo {
    /// Its name in recipes.
    pub name: &'static str,
    /// Whether this build holds it.
    pub compiled: bool,
    /// Whether this machine can use it, or why not.
    pub available: Result<(), DeviceError>,
}

/// What a self-test found.
#[derive(Clone, Copy, Debug)]
pub struct SelfTest {
    /// The largest difference between a value or gradient computed on the device and the right one.
    pub max_error: f64,
}

/// Opens the device a cell computes on, without autodiff: training turns that on per module.
pub fn open(backend: &Backend) -> Result<Device, DeviceError> {
    let device = device(&backend.name, backend.device_index)?;
    if !DTYPES.contains(&backend.dtype.as_str()) {
        return Err(DeviceError::Dtype { name: backend.name.clone(), dtype: backend.dtype.clone() });
    }
    Ok(device)
}

/// Whether a device is flex, under autodiff or not.
pub(crate) fn is_flex(device: Device) -> bool {
    device.without_autodiff() == Device::flex()
}

/// Every backend, with what stands in its way.
pub fn list() -> Vec<BackendInfo> {
    let info = |name| {
        let available = device(name, 0).map(drop);
        BackendInfo { name, compiled: !matches!(available, Err(DeviceError::NotBuilt { .. })), available }
    };
    BACKENDS.into_iter().map(info).collect()
}

/// Computes a small matrix product, a softmax and their gradient on a backend, and compares with known values.
pub fn self_test(name: &str) -> Result<SelfTest, DeviceError> {
    let device = device(name, 0)?;
    let failed = |_| DeviceError::NotHere { name: name.to_owned(), why: "the self-test panicked".into() };
    catch_unwind(AssertUnwindSafe(|| SelfTest { max_error: softmax_error(&device) })).map_err(failed)
}

fn device(name: &str, index: usize) -> Result<Device, DeviceError> {
    match name {
        "flex" => Ok(Device::flex()),
        "wgpu" => accelerator::wgpu(index),
        "tch" => accelerator::tch(index),
        "cuda" => accelerator::cuda(index),
        other => Err(DeviceError::Unknown { name: other.to_owned() }),
    }
}

mod accelerator {
    #[cfg(any(feature = "wgpu", feature = "cuda", feature = "tch"))]
    use burn::tensor::DeviceType;

    use super::{Device, DeviceError};

    #[cfg(feature = "wgpu")]
    pub(super) fn wgpu(index: usize) -> Result<Device, DeviceError> {
        nth("wgpu", DeviceType::Wgpu, index)
    }

    #[cfg(feature = "cuda")]
    pub(super) fn cuda(index: usize) -> Result<Device, DeviceError> {
        nth("cuda", DeviceType::Cuda, index)
    }

    #[cfg(feature = "tch")]
    pub(super) fn tch(index: usize) -> Result<Device, DeviceError> {
        nth("tch", DeviceType::LibTorch, index)
    }

    /// Drivers report their absence by panicking; that is an answer, not a bug.
    #[cfg(any(feature = "wgpu", feature = "cuda", feature = "tch"))]
    fn nth(name: &str, kind: DeviceType, index: usize) -> Result<Device, DeviceError> {
        let not_here = |why: String| DeviceError::NotHere { name: name.to_owned(), why };
        let devices = std::panic::catch_unwind(|| Device::enumerate(kind).into_vec())
            .map_err(|_| not_here("its driver or library did not start".into()))?;
        let found = devices.len();
        devices
            .into_iter()
            .nth(index)
            .ok_or_else(|| not_here(format!("device {index} was asked for, {found} found")))
    }

    #[cfg(not(feature = "wgpu"))]
    pub(super) fn wgpu(_: usize) -> Result<Device, DeviceError> {
        Err(DeviceError::NotBuilt { name: "wgpu".into() })
    }

    #[cfg(not(feature = "cuda"))]
    pub(super) fn cuda(_: usize) -> Result<Device, DeviceError> {
        Err(DeviceError::NotBuilt { name: "cuda".into() })
    }

    #[cfg(not(feature = "tch"))]
    pub(super) fn tch(_: usize) -> Result<Device, DeviceError> {
        Err(DeviceError::NotBuilt { name: "tch".into() })
    }
}

/// `log softmax(x w)[0]` for x = (1, 2), w = ((0, 1), (1, 0)), and its gradient in x.
fn softmax_error(device: &Device) -> f64 {
    let x = Tensor::<2>::from_data([[1.0f32, 2.0]], device).autodiff().require_grad();
    let w = Tensor::<2>::from_data([[0.0f32, 1.0], [1.0, 0.0]], device);
    let y = activation::log_softmax(x.clone().matmul(w), 1).narrow(1, 0, 1);
    let gradients = y.backward();
    // The logits are (2, 1): log sigmoid(1), and its derivative sigmoid(-1) with either sign.
    let sigmoid = 1.0 / (1.0 + 1f64.exp());
    let mut error = difference(y.into_data(), &[(1.0 - sigmoid).ln()]);
    match x.grad(&gradients) {
        Some(gradient) => error = error.max(difference(gradient.into_data(), &[-sigmoid, sigmoid])),
        None => error = f64::INFINITY,
    }
    error
}

fn difference(found: TensorData, expected: &[f64]) -> f64 {
    found.iter::<f64>().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn flex_is_always_there_and_right() {
        assert!(open(&Backend::default()).is_ok());
        assert!(self_test("flex").unwrap().max_error < 1e-6);
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let unknown = open(&Backend { name: "gpu".into(), ..Backend::default() }).unwrap_err();
        assert_eq!(unknown, DeviceError::Unknown { name: "gpu".into() });
        let dtype = open(&Backend { dtype: "bf16".into(), ..Backend::default() }).unwrap_err();
        assert_eq!(dtype.to_string(), "backend `flex` cannot compute in `bf16`; use `f32`");
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_left_out_of_the_build_is_told_apart() {
        let error = open(&Backend { name: "cuda".into(), ..Backend::default() }).unwrap_err();
        assert_eq!(error, DeviceError::NotBuilt { name: "cuda".into() });
        assert!(error.help().contains("--features cuda"));
        let info = list().into_iter().find(|info| info.name == "cuda").unwrap();
        assert!(!info.compiled && info.available.is_err());
    }
}
